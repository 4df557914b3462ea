//! A source in tests: its upstream is a list of keys in memory that remembers what it was told, and outlives the source as a
//! mailbox outlives the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use plba_contracts::stop::StopSignal;
use plba_tasks::intake::{Arrival, Intake};
use plba_tasks::source::{SourceError, SourceStatus, TaskSource};
use plba_tasks::task::NewTask;
use tokio::sync::Notify;

/// What lies outside: keys with payloads, and which of them were told to be done.
#[derive(Default)]
pub struct Upstream {
    inner: Mutex<Inner>,
    arrived: Notify,
}

#[derive(Default)]
struct Inner {
    things: BTreeMap<String, String>,
    told: BTreeSet<String>,
    fetches: usize,
    failures: usize,
}

impl Upstream {
    /// Nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Something arrives.
    pub fn arrive(&self, key: &str, payload: &str) {
        self.lock().things.insert(key.to_owned(), payload.to_owned());
        self.arrived.notify_one();
    }

    /// The next `count` looks at it fail.
    pub fn fail(&self, count: usize) {
        self.lock().failures = count;
        self.arrived.notify_one();
    }

    /// The keys that were told to be done.
    pub fn told(&self) -> Vec<String> {
        self.lock().told.iter().cloned().collect()
    }

    /// How often a key was fetched, over all.
    pub fn fetches(&self) -> usize {
        self.lock().fetches
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> Result<Vec<String>, SourceError> {
        let mut inner = self.lock();
        if inner.failures > 0 {
            inner.failures -= 1;
            return Err(SourceError::transient("upstream does not answer"));
        }
        Ok(inner
            .things
            .keys()
            .filter(|key| !inner.told.contains(*key))
            .cloned()
            .collect())
    }

    fn fetch(&self, keys: &[Arc<str>], queue: &str) -> Vec<Arrival> {
        let mut inner = self.lock();
        inner.fetches += keys.len();
        let payload = |key: &Arc<str>| inner.things.get(&**key).cloned();
        let arrival = |key: &Arc<str>| {
            let task = NewTask::new(queue, "thing.arrived", payload(key)?);
            let key = Arc::clone(key);
            Some(Arrival { key, task })
        };
        keys.iter().filter_map(arrival).collect()
    }
}

/// A source on an [`Upstream`].
pub struct FakeSource {
    upstream: Arc<Upstream>,
    queue: String,
}

impl FakeSource {
    /// Publishes what is upstream to `queue`.
    pub fn new(upstream: Arc<Upstream>, queue: &str) -> Arc<Self> {
        let queue = queue.to_owned();
        Arc::new(Self { upstream, queue })
    }

    async fn publish(&self, intake: &Intake) -> Result<(), SourceError> {
        let pending = intake.pending(1_000).await?;
        intake.publish(self.upstream.fetch(&pending, &self.queue)).await?;
        let here: Vec<Arc<str>> = self.upstream.look()?.into_iter().map(Arc::from).collect();
        let known = intake.known(&here).await?;
        let unknown = here.into_iter().zip(known).filter(|(_, known)| known.is_none());
        let new: Vec<_> = unknown.map(|(key, _)| key).collect();
        intake.publish(self.upstream.fetch(&new, &self.queue)).await?;
        Ok(())
    }

    async fn tell(&self, intake: &Intake, keys: &[Arc<str>]) -> Result<(), SourceError> {
        self.upstream.lock().told.extend(keys.iter().map(|key| key.to_string()));
        Ok(intake.settle(keys).await?)
    }
}

#[async_trait]
impl TaskSource for FakeSource {
    async fn run(&self, intake: Intake, stop: StopSignal) -> Result<(), SourceError> {
        let unsettled = intake.unsettled(1_000).await?;
        self.tell(&intake, &unsettled).await?;
        loop {
            self.publish(&intake).await?;
            tokio::select! {
                biased;
                () = stop.requested() => return Ok(()),
                keys = intake.completions(100) => self.tell(&intake, &keys?).await?,
                () = self.upstream.arrived.notified() => {}
            }
        }
    }

    fn status(&self) -> SourceStatus {
        SourceStatus::default()
    }
}
