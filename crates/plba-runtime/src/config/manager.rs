//! Loads the configuration, holds the current snapshot, and replaces it as a transaction. When to reload is decided by
//! whoever listens to signals; keeping the last good one on disk and probation are not here.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plba_contracts::BoxError;
use plba_contracts::section::SectionDefinition;
use tokio::sync::watch;

use crate::config::change::{ChangeObserver, Proving, ReloadRequests};
use crate::config::check::report::{ConfigFault, ConfigFaultKind, ConfigReport, Consequence, bare};
use crate::config::overrides::Overrides;
use crate::config::read::layers::ConfigurationSources;
use crate::config::read::reader::Reader;
use crate::config::snapshot::Configuration;

/// Looks at a new configuration before it is published: the running one, then the new one.
type Subscriber = Arc<dyn Fn(&Configuration, &Configuration) -> Result<(), BoxError> + Send + Sync>;

/// Owns the configuration of a process.
///
/// Needs a tokio runtime with time: sources are read on its blocking threads, so that a hanging file system can't stop
/// other work.
pub struct ConfigurationManager {
    reader: Arc<Reader>,
    current: watch::Sender<Arc<Configuration>>,
    subscribers: Mutex<Vec<(String, Subscriber)>>,
    requests: ReloadRequests,
    observers: Mutex<Vec<Arc<dyn ChangeObserver>>>,
    proving: Mutex<Option<Arc<dyn Proving>>>,
    /// The number of the latest snapshot that was published; held during a reload, so that there is one at a time.
    latest: tokio::sync::Mutex<u64>,
}

/// What a reload has published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedReload {
    /// The number of the new snapshot.
    pub generation: u64,
    /// The tables whose values have changed, in the order of their declaration.
    pub changed: Vec<String>,
}

impl ConfigurationManager {
    /// Reads and checks the first configuration. To check one without starting anything, load it and drop it.
    ///
    /// # Errors
    /// All faults of all sources and sections at once.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind.
    pub async fn load(
        definitions: Vec<SectionDefinition>,
        sources: ConfigurationSources,
    ) -> Result<Self, ConfigReport> {
        let reader = Arc::new(Reader::new(definitions, sources));
        let first = reader
            .read(1, None)
            .await
            .map_err(|faults| ConfigReport::new(faults, Consequence::NothingStarted))?;
        Ok(Self {
            reader,
            current: watch::Sender::new(Arc::new(first)),
            subscribers: Mutex::default(),
            requests: ReloadRequests::default(),
            observers: Mutex::default(),
            proving: Mutex::default(),
            latest: tokio::sync::Mutex::new(1),
        })
    }

    /// The current snapshot.
    pub fn current(&self) -> Arc<Configuration> {
        Arc::clone(&self.current.borrow())
    }

    /// The files and directories that are read, for whoever watches them.
    pub fn files(&self) -> &[PathBuf] {
        &self.reader.sources.files
    }

    /// Sees every snapshot that is published from now on.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Configuration>> {
        self.current.subscribe()
    }

    /// What an operator sets while the process runs.
    pub fn overrides(&self) -> &Overrides {
        &self.reader.sources.kept
    }

    /// Where reloads of this configuration are asked for.
    pub fn requests(&self) -> &ReloadRequests {
        &self.requests
    }

    /// From now on tells `observer` how changes end. Observers are told one after the other, in this order.
    pub fn observe(&self, observer: Arc<dyn ChangeObserver>) {
        lock(&self.observers).push(observer);
    }

    /// From now on changes are on probation before `proving`; without it there is none.
    pub fn prove_with(&self, proving: Arc<dyn Proving>) {
        *lock(&self.proving) = Some(proving);
    }

    /// Asks `subscriber` before a reload publishes: it gets the running and the new configuration, in this order.
    ///
    /// - **`Err`** or **panic**: a veto; the running configuration stays, and the report says who vetoed and why. An error
    ///   that is a [`ConfigReport`] tells its faults with their places instead.
    /// - **`Ok`**: no objection. Another may still veto, so act on the published snapshot, not here.
    ///
    /// Called on a blocking thread; its name stands in reports.
    pub fn on_reload(
        &self,
        name: impl Into<String>,
        subscriber: impl Fn(&Configuration, &Configuration) -> Result<(), BoxError> + Send + Sync + 'static,
    ) {
        lock(&self.subscribers).push((name.into(), Arc::new(subscriber)));
    }

    /// Reads everything again and, if nothing is wrong and nobody objects, publishes the next snapshot. Reloads that
    /// are asked for at the same time follow one another.
    ///
    /// # Errors
    /// All faults at once; the running configuration stays as it was.
    ///
    /// # Cancel safety
    /// A dropped call has published either all or nothing.
    pub async fn reload(&self) -> Result<PublishedReload, ConfigReport> {
        let mut latest = self.latest.lock().await;
        let running = self.current();
        let stays = Consequence::StaysRunning {
            generation: running.generation,
        };
        let refused = |faults| ConfigReport::new(faults, stays);
        let next = Arc::new(self.reader.read(*latest + 1, Some(&running)).await.map_err(refused)?);
        let vetoes = self.ask(&running, &next).await;
        if !vetoes.is_empty() {
            return Err(refused(vetoes));
        }
        let tables = self.reader.definitions.iter().map(|definition| &definition.table);
        let changed = tables
            .filter(|table| next.differs_in(&running, table))
            .cloned()
            .collect();
        let generation = next.generation;
        *latest = generation;
        self.current.send_replace(next);
        Ok(PublishedReload { generation, changed })
    }

    /// Publishes an earlier snapshot again, because the later one could not be put to work. Its number is not given to
    /// another one.
    pub fn restore(&self, earlier: Arc<Configuration>) {
        self.current.send_replace(earlier);
    }

    async fn ask(&self, running: &Arc<Configuration>, next: &Arc<Configuration>) -> Vec<ConfigFault> {
        let subscribers = lock(&self.subscribers).clone();
        let (running, next) = (Arc::clone(running), Arc::clone(next));
        let asked = tokio::task::spawn_blocking(move || {
            let vetoed = |message| vec![bare(ConfigFaultKind::Vetoed, message)];
            let vetoes = |(name, subscriber): &(String, Subscriber)| {
                let asked = catch_unwind(AssertUnwindSafe(|| subscriber(&running, &next)));
                match asked {
                    Ok(Ok(())) => Vec::new(),
                    Ok(Err(error)) => match error.downcast::<ConfigReport>() {
                        Ok(report) => report.faults,
                        Err(error) => vetoed(format!("refused by {name}: {error}")),
                    },
                    Err(_) => vetoed(format!("refused by {name}, which panicked")),
                }
            };
            subscribers.iter().flat_map(vetoes).collect()
        });
        asked
            .await
            .unwrap_or_else(|error| vec![bare(ConfigFaultKind::Vetoed, error.to_string())])
    }
}

// Each use is whole in itself, so a poisoned lock is as good as a sound one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for ConfigurationManager {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ConfigurationManager")
            .field("sources", &self.reader.sources)
            .finish_non_exhaustive()
    }
}
