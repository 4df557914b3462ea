//! The ledger of sources on Redis: shared by all processes that share the queue, so that a source's cursor follows a
//! take-over. Here: how it is opened, and how its script is called. The port's verbs are in `port`.

mod crashes;
mod entry;
mod port;
mod published;

use std::sync::Arc;

use plba_tasks::ledger::LedgerError;
use plba_tasks::queue::{ConsumerId, Durability, Incarnation};
use plba_tasks::task::{QueueName, TaskId};
use redis::{Value, cmd};

use self::port::fits;
use self::published::Published;
use crate::check::check;
use crate::failure::Failure;
use crate::identity::consumer_name;
use crate::link::{Arguments, Link, OpenError, Shared};
use crate::reply;
use crate::script::Script;
use crate::settings::RedisSettings;

/// How many keys one call carries.
const CHUNK: usize = 1_000;

/// A ledger of sources on Redis. Open one per process: what an earlier one of the same process had in hand counts as
/// crashed.
pub struct RedisLedger {
    link: Link,
    durability: Durability,
    /// Who has a delivery in hand: this process, and this opening of the ledger.
    holder: String,
    published: Published,
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
            published: Published::default(),
        };
        let error = |failure: Failure| OpenError {
            site: shared.settings.site.to_string(),
            reason: failure.sentence,
        };
        ledger.count_crashes().await.map_err(error)?;
        Ok(ledger)
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

    /// Retries or drops the dead entries of tasks. A source's name may contain a slash, so every way to split an id is tried.
    async fn dead(&self, verb: &str, queue: &QueueName, ids: &[TaskId]) -> Result<usize, LedgerError> {
        let mut count = 0;
        for id in ids {
            for (place, _) in id.as_str().match_indices('/') {
                let (source, key) = (&id.as_str()[..place], &id.as_str()[place + 1..]);
                let answer = self.call(verb, source, &[key, queue.as_str()]).await?;
                if reply::integer(&answer) == Some(1) {
                    self.published.remove(source, [&Arc::from(key)]);
                    count += 1;
                    break;
                }
            }
        }
        Ok(count)
    }
}

impl From<Failure> for LedgerError {
    fn from(failure: Failure) -> Self {
        Self::new(failure)
    }
}
