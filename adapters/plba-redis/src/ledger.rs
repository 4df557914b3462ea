//! The ledger of sources on Redis: shared by all processes that share the queue, so that a source's cursor follows a
//! take-over. Which entries this process has published is known to it alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use plba_tasks::intake::MAXIMUM_KEY;
use plba_tasks::ledger::{Counts, DeliveryEnd, EntryState, Known, LedgerError, LedgerStats, SourceLedger};
use plba_tasks::queue::{ConsumerId, Cursor, DeadLetter, DeadPage, Durability, Incarnation, Presence};
use plba_tasks::task::{AttemptEnd, EndedAttempt, Origin, QueueName, TaskId};
use redis::{Value, cmd};

use crate::check::check;
use crate::failure::Failure;
use crate::identity::{consumer_name, presence_of};
use crate::link::{Arguments, Link, OpenError, Shared};
use crate::record::json;
use crate::reply::{self, Parts};
use crate::script::Script;
use crate::settings::RedisSettings;

const MAXIMUM_CURSOR: usize = 64 * 1024;
const MAXIMUM_PAGE: usize = 1_000;
const MAXIMUM_SOURCE: usize = 200;
/// How many keys one call carries.
const CHUNK: usize = 1_000;

/// A ledger of sources on Redis. Open one per process: what an earlier one of the same process had in hand counts as
/// crashed.
pub struct RedisLedger {
    link: Link,
    durability: Durability,
    /// Who has a delivery in hand: this process, and this opening of the ledger.
    holder: String,
    published: Mutex<HashMap<String, HashSet<Arc<str>>>>,
}

impl RedisLedger {
    /// Opens the ledger, and counts deliveries as crashes whose process has ended.
    ///
    /// # Errors
    /// As [`RedisTaskQueue::open`](crate::RedisTaskQueue::open).
    pub async fn open(settings: RedisSettings) -> Result<Self, OpenError> {
        Self::open_with(Shared::new(settings, None)?, fastrand::u64(..)).await
    }

    pub(crate) async fn open_with(shared: Arc<Shared>, seed: u64) -> Result<Self, OpenError> {
        let link = Link::new(&shared);
        let durability = check(&link).await?;
        let incarnation = Incarnation::of_this_process(seed);
        let ledger = Self {
            link,
            durability,
            holder: consumer_name(&ConsumerId::new(incarnation, "ledger"), shared.settings.lease),
            published: Mutex::default(),
        };
        let error = |failure: Failure| OpenError {
            site: shared.settings.site.to_string(),
            reason: failure.sentence,
        };
        ledger.count_crashes().await.map_err(error)?;
        Ok(ledger)
    }

    /// Deliveries in the hands of processes that have ended, or of an earlier opening by this one.
    async fn count_crashes(&self) -> Result<(), Failure> {
        let own = self.own_process();
        for source in self.sources().await? {
            let mut hands = self.list("hands", &source, &[]).await?.into_iter();
            let mut crashed: Vec<Vec<u8>> = Vec::new();
            while let (Some(key), Some(holder)) = (hands.next(), hands.next()) {
                let (Some(key), Some(holder)) = (reply::bytes(key), reply::text(holder)) else {
                    continue;
                };
                let earlier = holder != self.holder && process_of(&holder) == own;
                let gone = || Presence::parse(presence_of(&holder)).is_some_and(|presence| presence.is_gone());
                if earlier || gone() {
                    crashed.extend([key, holder.into_bytes()]);
                }
            }
            for crashed in crashed.chunks(CHUNK) {
                let crashed: Vec<&[u8]> = crashed.iter().map(Vec::as_slice).collect();
                self.call("crashed", &source, &crashed).await?;
            }
        }
        Ok(())
    }

    fn own_process(&self) -> Option<(String, String)> {
        process_of(&self.holder)
    }

    async fn sources(&self) -> Result<Vec<String>, Failure> {
        let shared = &self.link.shared;
        let mut command = cmd("SMEMBERS");
        command.arg(shared.keys.ledger("sources"));
        let Value::Array(members) = self.link.ask(&command, shared.settings.response_timeout).await? else {
            return Err(Failure::answer("SMEMBERS"));
        };
        let mut sources: Vec<String> = members.into_iter().filter_map(reply::text).collect();
        sources.sort_unstable();
        Ok(sources)
    }

    async fn call<A: AsRef<[u8]>>(&self, verb: &str, source: &str, more: &[A]) -> Result<Value, Failure> {
        let shared = &self.link.shared;
        let name = |part: &str| shared.keys.ledger(part);
        let own = |part: &str| shared.keys.ledger(&format!("{part}:{source}"));
        let keys = [
            name("sources"),
            name("entries"),
            name("dead"),
            name("meta"),
            name("cursors"),
            name("deads"),
            own("open"),
            own("done"),
            own("settled"),
            own("hands"),
        ];
        let mut arguments = Arguments::default();
        arguments.push(shared.time_argument()).push(verb).push(source);
        for argument in more {
            arguments.push(argument);
        }
        self.link.call(Script::Ledger, &keys, &arguments).await
    }

    async fn list(&self, verb: &str, source: &str, more: &[&[u8]]) -> Result<Vec<Value>, Failure> {
        match self.call(verb, source, more).await? {
            Value::Array(values) => Ok(values),
            _ => Err(Failure::answer("the ledger")),
        }
    }

    async fn each(&self, verb: &str, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        fits(source, keys.iter())?;
        for keys in keys.chunks(CHUNK) {
            let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
            self.call(verb, source, &keys).await?;
        }
        Ok(())
    }

    fn publish<'a>(&self, source: &str, keys: impl IntoIterator<Item = &'a Arc<str>>) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let own = published.entry(source.to_owned()).or_default();
        own.extend(keys.into_iter().cloned());
    }

    fn unpublish<'a>(&self, source: &str, keys: impl IntoIterator<Item = &'a Arc<str>>) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = published.get_mut(source) {
            for key in keys {
                own.remove(key);
            }
        }
    }

    fn is_published(&self, source: &str, key: &str) -> bool {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.get(source).is_some_and(|own| own.contains(key))
    }

    /// Retries or drops the dead entries of tasks. A source's name may contain a slash, so every way to split an id is tried.
    async fn dead(&self, verb: &str, ids: &[TaskId]) -> Result<usize, LedgerError> {
        let mut count = 0;
        for id in ids {
            for (place, _) in id.as_str().match_indices('/') {
                let (source, key) = (&id.as_str()[..place], &id.as_str()[place + 1..]);
                let answer = self.call(verb, source, &[key]).await?;
                if reply::integer(&answer) == Some(1) {
                    self.unpublish(source, [&Arc::from(key)]);
                    count += 1;
                    break;
                }
            }
        }
        Ok(count)
    }
}

/// The incarnation without its epoch, and the machine: what is the same for two openings by one process.
fn process_of(holder: &str) -> Option<(String, String)> {
    let mut parts = holder.splitn(4, '|').skip(1);
    let (incarnation, machine) = (parts.next()?, parts.next()?);
    let (process, _) = incarnation.rsplit_once(':')?;
    Some((process.to_owned(), machine.to_owned()))
}

fn fits<'a>(source: &str, keys: impl Iterator<Item = &'a Arc<str>>) -> Result<(), LedgerError> {
    if source.is_empty() || source.len() > MAXIMUM_SOURCE {
        return Err(LedgerError::new(format!(
            "a source's name has 1 to {MAXIMUM_SOURCE} bytes, not {}",
            source.len()
        )));
    }
    match keys.into_iter().find(|key| key.len() > MAXIMUM_KEY) {
        Some(key) => Err(LedgerError::new(format!(
            "a key has at most {MAXIMUM_KEY} bytes, not {}",
            key.len()
        ))),
        None => Ok(()),
    }
}

impl From<Failure> for LedgerError {
    fn from(failure: Failure) -> Self {
        Self::new(failure)
    }
}

/// An entry as scripts give it: state, counts, history, queue, kind.
struct Entry {
    known: Known,
    queue: String,
    kind: String,
}

fn entry(value: Value) -> Result<Option<Entry>, Failure> {
    let mut parts = Parts::new("the ledger", value)?;
    let Ok(state) = parts.text() else { return Ok(None) };
    let state = match state.as_str() {
        "o" => EntryState::Open,
        "n" => EntryState::Done,
        "t" => EntryState::Settled,
        _ => EntryState::Dead,
    };
    let counts = counts(parts.value()?).unwrap_or_default();
    let history = parts.text()?;
    let history = history.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(Some(Entry {
        known: Known {
            state,
            counts,
            history: history.collect(),
            published: false,
        },
        queue: parts.text()?,
        kind: parts.text()?,
    }))
}

fn counts(value: Value) -> Option<Counts> {
    let Value::Array(counts) = value else { return None };
    let count = |place: usize| {
        counts
            .get(place)
            .and_then(reply::integer)
            .and_then(|count| u32::try_from(count).ok())
    };
    Some(Counts {
        deliveries: count(0)?,
        attempts: count(1)?,
        crashes: count(2)?,
    })
}

fn letter(source: &str, key: &str, entry: Entry) -> DeadLetter {
    let origin = Origin::new(source, key);
    let last = entry.known.history.last();
    DeadLetter {
        id: origin.task_id(),
        queue: QueueName::from(entry.queue.as_str()),
        kind: entry.kind,
        origin: Some(origin),
        died: last.map(|attempt| attempt.at).unwrap_or_default(),
        reason: last.map(|attempt| attempt.reason.clone()).unwrap_or_default(),
        deliveries: entry.known.counts.deliveries,
        history: entry.known.history,
    }
}

#[async_trait]
impl SourceLedger for RedisLedger {
    fn durability(&self) -> Durability {
        self.durability
    }

    async fn record_intake(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        self.each("intake", source, keys).await?;
        self.publish(source, keys);
        Ok(())
    }

    async fn count_deliveries(&self, origins: &[Origin]) -> Result<Vec<Option<Counts>>, LedgerError> {
        for origin in origins {
            fits(&origin.source, std::iter::once(&origin.key))?;
        }
        let mut all = vec![None; origins.len()];
        for (source, places) in by_source(origins) {
            for places in places.chunks(CHUNK) {
                let mut arguments = vec![self.holder.as_bytes()];
                arguments.extend(places.iter().map(|place| origins[*place].key.as_bytes()));
                let answers = self.list("deliver", source, &arguments).await?;
                for (place, answer) in places.iter().zip(answers) {
                    all[*place] = counts(answer);
                }
            }
            self.publish(source, places.iter().map(|place| &origins[*place].key));
        }
        Ok(all)
    }

    async fn record_ends(&self, ends: Vec<(Origin, DeliveryEnd)>) -> Result<(), LedgerError> {
        for (origin, _) in &ends {
            fits(&origin.source, std::iter::once(&origin.key))?;
        }
        let origins: Vec<Origin> = ends.iter().map(|(origin, _)| origin.clone()).collect();
        for (source, places) in by_source(&origins) {
            for chunk in places.chunks(CHUNK / 5) {
                let mut arguments: Vec<Vec<u8>> = Vec::with_capacity(chunk.len() * 5);
                for place in chunk {
                    let (origin, end) = &ends[*place];
                    arguments.push(origin.key.as_bytes().to_vec());
                    arguments.extend(end_arguments(end).map(String::into_bytes));
                }
                self.call("end", source, &arguments).await?;
            }
            let over = places
                .iter()
                .filter(|place| matches!(ends[**place].1, DeliveryEnd::Done | DeliveryEnd::Dead { .. }));
            self.unpublish(source, over.map(|place| &origins[*place].key));
        }
        Ok(())
    }

    async fn settle(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        self.each("settle", source, keys).await?;
        self.unpublish(source, keys);
        Ok(())
    }

    async fn forget(&self, source: &str, keys: &[Arc<str>]) -> Result<(), LedgerError> {
        self.each("forget", source, keys).await
    }

    async fn known(&self, source: &str, keys: &[Arc<str>]) -> Result<Vec<Option<Known>>, LedgerError> {
        fits(source, keys.iter())?;
        let mut all = Vec::with_capacity(keys.len());
        for keys in keys.chunks(CHUNK) {
            let arguments: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
            for (key, value) in keys.iter().zip(self.list("known", source, &arguments).await?) {
                let published = self.is_published(source, key);
                all.push(entry(value)?.map(|entry| Known {
                    published,
                    ..entry.known
                }));
            }
        }
        Ok(all)
    }

    async fn pending(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError> {
        fits(source, std::iter::empty())?;
        let mut pending = Vec::new();
        let mut from = 0;
        loop {
            let (first, last) = (from.to_string(), (from + CHUNK - 1).to_string());
            let page = self
                .list("order", source, &[b"o", first.as_bytes(), last.as_bytes()])
                .await?;
            let count = page.len();
            for key in page.into_iter().filter_map(reply::text) {
                if pending.len() >= limit {
                    return Ok(pending);
                }
                if !self.is_published(source, &key) {
                    pending.push(key.into());
                }
            }
            if count < CHUNK {
                return Ok(pending);
            }
            from += CHUNK;
        }
    }

    async fn unsettled(&self, source: &str, limit: usize) -> Result<Vec<Arc<str>>, LedgerError> {
        fits(source, std::iter::empty())?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        let last = (limit - 1).to_string();
        let page = self.list("order", source, &[b"n", b"0", last.as_bytes()]).await?;
        Ok(page.into_iter().filter_map(reply::text).map(Into::into).collect())
    }

    async fn cursor(&self, source: &str) -> Result<Option<String>, LedgerError> {
        fits(source, std::iter::empty())?;
        let mut found = self.list("cursor", source, &[]).await?;
        Ok(found.pop().and_then(reply::text))
    }

    async fn set_cursor(&self, source: &str, cursor: &str) -> Result<(), LedgerError> {
        fits(source, std::iter::empty())?;
        if cursor.len() > MAXIMUM_CURSOR {
            return Err(LedgerError::new(format!(
                "a cursor has at most {MAXIMUM_CURSOR} bytes, not {}",
                cursor.len()
            )));
        }
        self.call("set", source, &[cursor]).await?;
        Ok(())
    }

    async fn dead_letters(&self, cursor: Option<Cursor>, limit: usize) -> Result<DeadPage, LedgerError> {
        let limit = limit.clamp(1, MAXIMUM_PAGE);
        let after = cursor.map_or_else(|| "0".to_owned(), |cursor| cursor.0);
        let wanted = (limit + 1).to_string();
        let mut found = self.list("dead", "", &[after.as_bytes(), wanted.as_bytes()]).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let mut page = DeadPage::default();
        let mut last = String::new();
        for value in found {
            let mut parts = Parts::new("the ledger", value)?;
            last = parts.text()?;
            let (source, key) = (parts.text()?, parts.text()?);
            if let Some(entry) = entry(parts.value()?)? {
                page.letters.push(letter(&source, &key, entry));
            }
        }
        page.next = more.then_some(Cursor(last));
        Ok(page)
    }

    async fn retry_dead(&self, ids: &[TaskId]) -> Result<usize, LedgerError> {
        self.dead("retry", ids).await
    }

    async fn drop_dead(&self, ids: &[TaskId]) -> Result<usize, LedgerError> {
        self.dead("drop", ids).await
    }

    async fn stats(&self) -> Result<Vec<LedgerStats>, LedgerError> {
        let mut all = Vec::new();
        for source in self.sources().await? {
            let numbers = self.list("stats", &source, &[]).await?;
            let number = |place: usize| numbers.get(place).and_then(reply::integer).unwrap_or(0).unsigned_abs();
            all.push(LedgerStats {
                open: number(0),
                unsettled: number(1),
                settled: number(2),
                dead: number(3),
                source,
            });
        }
        Ok(all)
    }
}

/// How, the attempt as JSON, the queue and the kind.
fn end_arguments(end: &DeliveryEnd) -> [String; 4] {
    let none = String::new;
    let attempt = |attempt: &EndedAttempt| json(attempt);
    match end {
        DeliveryEnd::Released => ["released".into(), none(), none(), none()],
        DeliveryEnd::Failed(ended) => ["failed".into(), attempt(ended), none(), none()],
        DeliveryEnd::Done => ["done".into(), none(), none(), none()],
        DeliveryEnd::Dead {
            attempt: ended,
            queue,
            kind,
        } => {
            let crashed = ended.how == AttemptEnd::Crashed;
            let how = if crashed { "crashed" } else { "dead" };
            [how.into(), attempt(ended), queue.clone(), kind.clone()]
        }
    }
}

/// Where the origins of each source are, in order.
fn by_source(origins: &[Origin]) -> Vec<(&str, Vec<usize>)> {
    let mut sorted: Vec<(&str, Vec<usize>)> = Vec::new();
    for (place, origin) in origins.iter().enumerate() {
        match sorted.iter_mut().find(|(source, _)| *source == &*origin.source) {
            Some((_, places)) => places.push(place),
            None => sorted.push((&origin.source, vec![place])),
        }
    }
    sorted
}
