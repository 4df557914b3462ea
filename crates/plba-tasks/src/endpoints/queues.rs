//! The view of queues, and the actions that pause and resume them.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use plba_contracts::clock::Clock;
use plba_contracts::config::TimeSpan;
use plba_contracts::control::{ControlError, Endpoint, Parameters};
use plba_contracts::services::Services;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parameters::{flag, invalid, moment, text, words};
use super::rates::{PerMinute, Rates};
use super::{failed, queue};
use crate::intake::is_note;
use crate::ledger::{LedgerStats, SourceLedger};
use crate::queue::{Durability, QueueStats, TaskQueue};
use crate::queue_rules::{QueueRulesConfig, QueuesConfig, RateText};
use crate::task::QueueName;

/// The answer of the view `queues`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct QueuesView {
    /// What the backend's tasks survive.
    pub durability: Durability,
    /// The named queues, as they are now.
    pub queues: Vec<QueueShown>,
    /// What has happened to them since the backend was opened.
    pub totals: Vec<QueueTotals>,
    /// The sources, as their ledger knows them.
    pub sources: Vec<LedgerStats>,
}

/// One named queue as it is now.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct QueueShown {
    /// Its name.
    pub queue: String,
    /// Tasks that are ready.
    pub ready: u64,
    /// Tasks that will be ready later.
    pub delayed: u64,
    /// Tasks that wait behind an earlier task of their key.
    pub held: u64,
    /// Tasks in the hands of consumers.
    pub leased: u64,
    /// Dead letters.
    pub dead: u64,
    /// For how many seconds the oldest ready task has been ready: how far the consumers are behind.
    pub lag_s: Option<f64>,
    /// Tasks published a minute, over the last minute or since it was first asked for.
    pub in_per_min: Option<f64>,
    /// Tasks done a minute.
    pub out_per_min: Option<f64>,
    /// Failed attempts a minute.
    pub failed_per_min: Option<f64>,
    /// Whether it is paused: `until resumed`, or until when.
    pub paused: Option<String>,
    /// Its rules, where they are configured.
    pub rules: Option<RulesShown>,
    /// Bytes of its tasks, but the dead.
    pub bytes: u64,
}

/// The rules of a queue, where they differ from those that every queue has.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RulesShown {
    /// How many of its tasks may be in hand at once.
    pub concurrency: Option<u32>,
    /// How many of its tasks are handed out in a span of time.
    pub rate: Option<RateText>,
    /// How many of its tasks with the same key may be in hand at once.
    pub key_concurrency: Option<u32>,
    /// How many of its tasks with the same key are handed out in a span of time.
    pub key_rate: Option<RateText>,
    /// For how long its dead letters are kept.
    pub dead_age: Option<TimeSpan>,
    /// How many dead letters are kept.
    pub dead_limit: Option<u64>,
}

impl From<&QueueRulesConfig> for RulesShown {
    fn from(rules: &QueueRulesConfig) -> Self {
        let default = QueueRulesConfig::default();
        Self {
            concurrency: rules.concurrency,
            rate: rules.rate,
            key_concurrency: rules.key_concurrency,
            key_rate: rules.key_rate,
            dead_age: Some(rules.dead_age).filter(|age| *age != default.dead_age),
            dead_limit: Some(rules.dead_limit).filter(|limit| *limit != default.dead_limit),
        }
    }
}

/// What has happened to one named queue since the backend was opened.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct QueueTotals {
    /// Its name.
    pub queue: String,
    /// Tasks published, follow-ups included.
    pub published: u64,
    /// Tasks done.
    pub acked: u64,
    /// Failed attempts.
    pub failed: u64,
    /// Leases that ran out.
    pub lost: u64,
    /// Tasks that expired.
    pub expired: u64,
    /// Dead letters that were too old, or too many, to be kept.
    pub dropped: u64,
}

/// The answer of the actions that pause and resume.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Paused {
    /// The queue.
    pub queue: String,
    /// Whether nothing is handed out from it now.
    pub paused: bool,
    /// Until when; without it, until it is resumed.
    #[schemars(with = "Option<String>")]
    pub until: Option<Timestamp>,
    /// What an operator should know.
    pub note: Option<String>,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    let rates = Arc::new(Rates::default());
    let view = "Shows every queue: tasks by state, lag, rates, pauses and rules";
    let pause = "Stops handing out a queue's tasks, in all processes; what is in hand goes on";
    let pause = Endpoint::action("queues.pause", pause, pause_queue)
        .words("queue", "the queue's name, as `queues` shows it")
        .parameter(
            "until",
            "a moment such as 2026-11-22T06:30:00Z; without it and --for: until resumed",
        )
        .parameter("for", "for how long, such as 10m or \"1h 30m\"")
        .flag("new", "pauses a queue that has never had a task");
    let resume = Endpoint::action("queues.resume", "Hands out a paused queue's tasks again", resume_queue)
        .words("queue", "the queue's name, as `queues` shows it")
        .flag("new", "resumes a queue that has never had a task");
    vec![
        Endpoint::view("queues", view, move |services, _| show(services, Arc::clone(&rates))),
        pause,
        resume,
    ]
}

async fn show(services: Services, rates: Arc<Rates>) -> Result<QueuesView, ControlError> {
    let queue = queue(&services).await?;
    let clock = services.get::<dyn Clock>().await.map_err(failed)?;
    let mut stats = queue.stats().await.map_err(failed)?;
    if let Some(wait) = rates.missing(clock.monotonic(), &stats) {
        rates.look(clock.monotonic(), &stats);
        tokio::time::sleep(wait).await;
        stats = queue.stats().await.map_err(failed)?;
    }
    let per_minute = rates.look(clock.monotonic(), &stats);
    let rules = services.get::<QueuesConfig>().await.ok();
    let shown = |stats: &QueueStats| {
        let rules = rules
            .as_ref()
            .and_then(|rules| rules.0.get(&stats.queue))
            .map(RulesShown::from);
        QueueShown::of(stats, per_minute.get(&stats.queue), rules)
    };
    // A program without sources has no ledger.
    let sources = match services.get::<dyn SourceLedger>().await {
        Ok(ledger) => ledger.stats().await.map_err(failed)?,
        Err(_) => Vec::new(),
    };
    let sources = sources.into_iter().filter(|source| !is_note(&source.source)).collect();
    Ok(QueuesView {
        durability: queue.durability(),
        queues: stats.iter().map(shown).collect(),
        totals: stats.into_iter().map(QueueTotals::from).collect(),
        sources,
    })
}

impl QueueShown {
    fn of(stats: &QueueStats, rates: Option<&PerMinute>, rules: Option<RulesShown>) -> Self {
        let paused = stats.paused.then(|| match stats.paused_until {
            Some(until) => format!("until {until:.0}"),
            None => "until resumed".to_owned(),
        });
        let tenths = |rate: f64| (rate * 10.0).round() / 10.0;
        Self {
            queue: stats.queue.clone(),
            ready: stats.ready,
            delayed: stats.delayed,
            held: stats.held,
            leased: stats.leased,
            dead: stats.dead,
            lag_s: stats.oldest.map(|oldest| oldest.as_millis() as f64 / 1_000.0),
            in_per_min: rates.map(|rates| tenths(rates.published)),
            out_per_min: rates.map(|rates| tenths(rates.done)),
            failed_per_min: rates.map(|rates| tenths(rates.failed)),
            paused,
            rules,
            bytes: stats.bytes,
        }
    }
}

impl From<QueueStats> for QueueTotals {
    fn from(stats: QueueStats) -> Self {
        Self {
            queue: stats.queue,
            published: stats.published,
            acked: stats.acked,
            failed: stats.failed,
            lost: stats.lost,
            expired: stats.expired,
            dropped: stats.dropped,
        }
    }
}

async fn pause_queue(services: Services, parameters: Parameters) -> Result<Paused, ControlError> {
    let queue = queue(&services).await?;
    let name = named(&services, queue.as_ref(), &parameters).await?;
    let until = until(&services, &parameters).await?;
    queue.pause(&name, until).await.map_err(failed)?;
    let volatile = queue.durability() == Durability::Volatile;
    Ok(Paused {
        queue: name.as_str().to_owned(),
        paused: true,
        until,
        note: volatile.then(|| "this queue ends with its process, and the pause with it".to_owned()),
    })
}

async fn resume_queue(services: Services, parameters: Parameters) -> Result<Paused, ControlError> {
    let queue = queue(&services).await?;
    let name = named(&services, queue.as_ref(), &parameters).await?;
    queue.resume(&name).await.map_err(failed)?;
    Ok(Paused {
        queue: name.as_str().to_owned(),
        paused: false,
        until: None,
        note: None,
    })
}

/// The one queue that was named. A misspelt name would be paused without any effect, so it has to be known.
async fn named(services: &Services, queue: &dyn TaskQueue, parameters: &Parameters) -> Result<QueueName, ControlError> {
    let words = words(parameters, "queue", "a queue's name")?;
    let [name] = words.as_slice() else {
        return Err(invalid("name one queue, as `queues` shows it"));
    };
    let mut known: Vec<String> = queue
        .stats()
        .await
        .map_err(failed)?
        .into_iter()
        .map(|stats| stats.queue)
        .collect();
    if let Ok(rules) = services.get::<QueuesConfig>().await {
        known.extend(rules.0.keys().cloned());
    }
    known.sort();
    known.dedup();
    if known.contains(name) || flag(parameters, "new")? {
        return Ok(QueueName::from(name.as_str()));
    }
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    Err(invalid(format!(
        "there is no queue \"{name}\" (known: {known}); one that has never had a task takes --new"
    )))
}

async fn until(services: &Services, parameters: &Parameters) -> Result<Option<Timestamp>, ControlError> {
    let now = services.get::<dyn Clock>().await.map_err(failed)?.now();
    let (until, span) = (moment(parameters, "until")?, text(parameters, "for")?);
    let until = match (until, span) {
        (Some(_), Some(_)) => return Err(invalid("either --until or --for will do, not both")),
        (None, Some(span)) => {
            let span: TimeSpan = serde_json::from_value(span.into()).map_err(|error| invalid(error.to_string()))?;
            let span = SignedDuration::try_from(Duration::from(span)).ok();
            Some(
                span.and_then(|span| now.checked_add(span).ok())
                    .ok_or_else(|| invalid("--for is too long"))?,
            )
        }
        (until, None) => until,
    };
    if until.is_some_and(|until| until <= now) {
        return Err(invalid(format!("that is over already: it is {now:.0} now")));
    }
    Ok(until)
}
