//! What mail sources contribute to the control plane and the command line: `sources`, `source.dry-run`, `source.resync`.
//! They ask for the services `MailSources` and `dyn SourceLedger`, and work while nothing runs, too.

use std::sync::Arc;

use jiff::Timestamp;
use plba_contracts::BoxError;
use plba_contracts::control::{ControlError, Endpoint, Parameters};
use plba_contracts::health::Health;
use plba_contracts::services::Services;
use plba_tasks::ledger::{LedgerStats, SourceLedger};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::board::LastError;
use crate::imap::{ConnectionState, ConnectionStatus};
use crate::open::MailSource;
use crate::preview::Preview;
use crate::since::Since;
use crate::sources::{Again, MailSources};

/// A source as the view `sources` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceShown {
    /// Its name in the configuration.
    pub name: String,
    /// Account and folder, or the path.
    pub source: String,
    /// What its connection is doing; `closed` for one that another process runs, and nothing for a Maildir, which has none.
    pub state: Option<ConnectionState>,
    /// How it learns of new messages, and why not otherwise.
    pub mode: Option<String>,
    /// How it is.
    pub health: Health,
    /// When everything was last found in agreement: upstream, ledger and queue.
    #[schemars(with = "Option<String>")]
    pub last_reconcile: Option<Timestamp>,
    /// When the server last agreed to IDLE.
    #[schemars(with = "Option<String>")]
    pub last_idle: Option<Timestamp>,
    /// The folder's UIDVALIDITY; as the ledger has it where another process runs the source.
    pub uid_validity: Option<u32>,
    /// All messages up to this UID were taken in, or are out of scope.
    pub cursor: Option<u32>,
    /// Messages that were found upstream and are still to be taken in.
    pub waiting: u64,
    /// Messages that were taken in and are not carried out.
    pub open: u64,
    /// Messages that are carried out, of which upstream has yet to be told.
    pub untold: u64,
    /// Messages that are dead letters in the ledger.
    pub parked: u64,
    /// How many messages this process has taken in,
    pub published: u64,
    /// and of how many it has told upstream.
    pub settled: u64,
    /// How often it had to connect anew.
    pub reconnects: u64,
    /// The latest error, also when all has been well since.
    pub last_error: Option<LastError>,
}

/// The answer of `source.resync`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Resync {
    /// Account and folder, or the path.
    pub source: String,
    /// What is looked for again.
    pub again: String,
    /// Whether it was only asked what would happen.
    pub dry_run: bool,
    /// What would be taken in, for a dry run.
    pub found: Option<Preview>,
}

/// All of them.
pub fn endpoints() -> Vec<Endpoint> {
    let dry_run = "Tells what a first connection to the source would take in; changes nothing";
    let resync =
        "Looks through a source's folder again for messages that were missed; those in hand, done or dead are left out";
    vec![
        Endpoint::view::<Vec<SourceShown>, _, _>(
            "sources",
            "Lists the mail sources and how they are",
            |services, _| sources(services),
        ),
        of_one(Endpoint::view::<Preview, _, _>("source.dry-run", dry_run, preview)).first(),
        of_one(Endpoint::action::<Resync, _, _>("source.resync", resync, again))
            .parameter(
                "since",
                "which messages: unfinished (those without marks, which is the default), unseen, all, or a date",
            )
            .flag("dry-run", "only count them, changing nothing"),
    ]
}

fn of_one(endpoint: Endpoint) -> Endpoint {
    endpoint.parameter(
        "source",
        "the source's name, as `sources` lists it; needed where there are several",
    )
}

async fn sources(services: Services) -> Result<Vec<SourceShown>, ControlError> {
    let sources = services.get::<MailSources>().await.map_err(failed)?;
    let ledger = services.get::<dyn SourceLedger>().await.map_err(failed)?;
    let stats = ledger.stats().await.map_err(failed)?;
    let mut shown = Vec::new();
    for (name, source) in sources.iter() {
        let kept = ledger.cursor(source.name()).await.map_err(failed)?;
        let counts = stats.iter().find(|counts| counts.source == source.name());
        shown.push(SourceShown::of(name, source, kept.as_deref(), counts));
    }
    Ok(shown)
}

impl SourceShown {
    fn of(name: &str, source: &MailSource, kept: Option<&str>, counts: Option<&LedgerStats>) -> Self {
        let status = plba_tasks::source::TaskSource::status(source);
        let connection = source.connection();
        let has_one = connection.is_some();
        let count = |of: fn(&LedgerStats) -> u64| counts.map_or(0, of);
        let ConnectionStatus {
            state,
            mode,
            last_idle,
            reconnects,
            uid_validity,
            last_uid,
            waiting,
            ..
        } = connection.unwrap_or_default();
        let (kept_validity, kept_uid) = kept.map_or((None, None), place);
        SourceShown {
            name: name.to_owned(),
            source: source.name().to_owned(),
            state: has_one.then_some(state),
            mode,
            health: status.health,
            last_reconcile: status.last_success,
            last_idle,
            uid_validity: uid_validity.or(kept_validity),
            cursor: last_uid.or(kept_uid),
            waiting,
            open: count(|counts| counts.open),
            untold: count(|counts| counts.unsettled),
            parked: count(|counts| counts.dead),
            published: status.published,
            settled: status.settled,
            reconnects,
            last_error: source.last_error(),
        }
    }
}

/// What a kept cursor of an IMAP source tells.
fn place(cursor: &str) -> (Option<u32>, Option<u32>) {
    let Ok(cursor) = serde_json::from_str::<Value>(cursor) else {
        return (None, None);
    };
    let number = |name: &str| cursor.get(name)?.as_u64()?.try_into().ok();
    (number("uid_validity"), number("last"))
}

async fn preview(services: Services, parameters: Parameters) -> Result<Preview, ControlError> {
    chosen(&services, &parameters).await?.preview().await.map_err(failed)
}

async fn again(services: Services, parameters: Parameters) -> Result<Resync, ControlError> {
    let source = chosen(&services, &parameters).await?;
    let ledger: Arc<dyn SourceLedger> = services.get::<dyn SourceLedger>().await.map_err(failed)?;
    let again: Again = text(&parameters, "since")?
        .map_or(Ok(Again::default()), str::parse)
        .map_err(|error| ControlError::Invalid(format!("since: {error}")))?;
    if again == Again::Since(Since::Now) {
        return Err(ControlError::Invalid("since=now would look for nothing".into()));
    }
    let dry_run = is_set(&parameters, "dry-run")?;
    let found = match dry_run {
        true => Some(source.preview_again(ledger.as_ref(), again).await.map_err(failed)?),
        false => {
            source.resync(ledger.as_ref(), again).await.map_err(failed)?;
            None
        }
    };
    Ok(Resync {
        source: source.name().to_owned(),
        again: again.to_string(),
        dry_run,
        found,
    })
}

async fn chosen(services: &Services, parameters: &Parameters) -> Result<MailSource, ControlError> {
    let sources = services.get::<MailSources>().await.map_err(failed)?;
    let source = sources.get(text(parameters, "source")?);
    source
        .cloned()
        .map_err(|error| ControlError::Invalid(error.to_string()))
}

fn failed(error: impl Into<BoxError>) -> ControlError {
    ControlError::Failed(error.into())
}

fn text<'p>(parameters: &'p Parameters, name: &str) -> Result<Option<&'p str>, ControlError> {
    match parameters.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(other) => Err(ControlError::Invalid(format!("{name} is a text, not {other}"))),
    }
}

fn is_set(parameters: &Parameters, name: &str) -> Result<bool, ControlError> {
    match parameters.get(name) {
        None | Some(Value::Null | Value::Bool(false)) => Ok(false),
        Some(Value::Bool(true)) => Ok(true),
        Some(Value::String(word)) if word.is_empty() || word == "true" => Ok(true),
        Some(Value::String(word)) if word == "false" => Ok(false),
        Some(other) => Err(ControlError::Invalid(format!("{name} is true or false, not {other}"))),
    }
}
