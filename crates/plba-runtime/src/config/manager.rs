//! Loads the configuration, holds the current snapshot, and knows whom its changes concern. The stages of a change live in
//! `change`.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plba_contracts::config::{ConfigProvider, Published};
use plba_contracts::section::SectionDefinition;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::config::change::{Board, ChangeObserver, LastGood, Proving, ReloadRequests, Trial, Upcoming};
use crate::config::check::report::{ConfigFault, ConfigFaultKind, ConfigReport, Consequence, bare};
use crate::config::overrides::Overrides;
use crate::config::read::layers::ConfigurationSources;
use crate::config::read::reader::Reader;
use crate::config::read::watch::Watched;
use crate::config::settings::ConfigSettings;
use crate::config::snapshot::Configuration;

/// How long reading the sources may take in all, providers included: a file system may hang.
pub const READ_LIMIT: Duration = Duration::from_secs(30);

/// Owns the configuration of a process.
///
/// Needs a tokio runtime with time: sources are read on its blocking threads, so that a hanging file system can't stop
/// other work.
pub struct ConfigurationManager {
    reader: Arc<Reader>,
    board: Arc<Board>,
    /// The highest number that a configuration was put to work with, whatever became of it.
    latest: AtomicU64,
    /// Held while sources are read, also by a reading that nobody waits for any more.
    reading: Arc<Semaphore>,
    requests: ReloadRequests,
    observers: Mutex<Vec<Arc<dyn ChangeObserver>>>,
    proving: Mutex<Option<Arc<dyn Proving>>>,
    /// The last good configuration, if that is what it began with.
    kept: Option<Arc<LastGood>>,
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
        let first = reader.read(1, None).await;
        Self::beginning_with(reader, first)
    }

    /// As [`load`](Self::load), with what was kept of files and providers in their place. Reloads read them as they are.
    pub(crate) async fn load_kept(
        definitions: Vec<SectionDefinition>,
        sources: ConfigurationSources,
        kept: Arc<LastGood>,
    ) -> Result<Self, ConfigReport> {
        let reader = Arc::new(Reader::new(definitions, sources));
        let first = reader.read_kept(Arc::clone(&kept)).await;
        Ok(Self {
            kept: Some(kept),
            ..Self::beginning_with(reader, first)?
        })
    }

    fn beginning_with(
        reader: Arc<Reader>,
        first: Result<Configuration, Vec<ConfigFault>>,
    ) -> Result<Self, ConfigReport> {
        let first = first.map_err(|faults| ConfigReport::new(faults, Consequence::NothingStarted))?;
        Ok(Self {
            reader,
            board: Board::new(first),
            latest: AtomicU64::new(1),
            reading: Arc::new(Semaphore::new(1)),
            requests: ReloadRequests::default(),
            observers: Mutex::default(),
            proving: Mutex::default(),
            kept: None,
        })
    }

    /// The current snapshot.
    pub fn current(&self) -> Arc<Configuration> {
        self.board.current()
    }

    /// The files and directories that are read, for whoever watches them.
    pub fn files(&self) -> &[PathBuf] {
        &self.reader.sources.files
    }

    /// What is read from files by these settings.
    pub(in crate::config) fn watched(&self, settings: &ConfigSettings) -> Watched {
        Watched::of(&self.reader.sources, settings)
    }

    /// Sees every snapshot that is published from now on.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Configuration>> {
        self.board.subscribe()
    }

    /// Where modules see what is published.
    pub fn published(&self) -> Arc<dyn Published> {
        Arc::clone(&self.board) as Arc<dyn Published>
    }

    /// Where modules that are assembled from `next` see what is published: `next` even before it is.
    pub fn published_with(&self, next: &Arc<Configuration>) -> Arc<dyn Published> {
        Arc::new(Upcoming::new(Arc::clone(&self.board), Arc::clone(next)))
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

    /// The providers of the configuration that runs: that of the configured database, and the program's own.
    pub(super) fn providers(&self) -> Vec<Arc<dyn ConfigProvider>> {
        let current = self.current();
        let database = current.database().cloned();
        database
            .into_iter()
            .chain(self.reader.sources.providers.iter().cloned())
            .collect()
    }

    /// The providers that were down when they were asked last, by their names, each with why. What they gave before counts on.
    pub fn providers_down(&self) -> Vec<(String, String)> {
        self.reader.outages.list()
    }

    /// What all sources say now, read and checked as a reload would; nothing is asked, changed or published.
    ///
    /// # Errors
    /// All faults at once.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing behind but a reading that ends by itself.
    pub async fn read(&self) -> Result<Configuration, ConfigReport> {
        let running = self.current();
        let stays = Consequence::StaysRunning {
            generation: running.generation,
        };
        let read = self.read_after(&running).await;
        read.map_err(|faults| ConfigReport::new(faults, stays))
    }

    /// The next configuration, as its sources say now. Its number is the next one, unless it is not put to work.
    pub(super) async fn read_after(&self, running: &Arc<Configuration>) -> Result<Configuration, Vec<ConfigFault>> {
        let unreadable = |message: String| vec![bare(ConfigFaultKind::Unreadable, message)];
        let deadline = Instant::now() + READ_LIMIT;
        // Never closed, so a permit comes or the time is over.
        let Ok(Ok(permit)) = timeout_at(deadline, Arc::clone(&self.reading).acquire_owned()).await else {
            let message = "an earlier attempt to read the sources still hangs; see to the file system they lie on";
            return Err(unreadable(message.to_owned()));
        };
        let (reader, before) = (Arc::clone(&self.reader), Arc::clone(running));
        let number = self.latest.load(Ordering::Acquire) + 1;
        let reading = tokio::spawn(async move {
            let _permit = permit;
            let next = reader.read(number, Some(&before)).await?;
            Ok(next.keeping_sections_of(&before))
        });
        match timeout_at(deadline, reading).await {
            Ok(Ok(read)) => read,
            Ok(Err(broken)) => Err(unreadable(format!("the sources could not be read: {broken}"))),
            Err(_) => {
                let seconds = READ_LIMIT.as_secs();
                Err(unreadable(format!("the sources could not be read within {seconds} s")))
            }
        }
    }

    /// No other configuration gets this one's number from now on.
    pub(super) fn count(&self, configuration: &Configuration) {
        self.latest.fetch_max(configuration.generation, Ordering::AcqRel);
    }

    pub(super) fn publish(&self, configuration: Arc<Configuration>) {
        self.board.publish(configuration);
    }

    /// When and why this configuration was taken back by a process before this one, which is why this one began with the last
    /// good one.
    pub(super) fn took_back(&self, configuration: &Configuration) -> Option<String> {
        self.kept.as_ref()?.took_back(configuration, self.files())
    }

    pub(super) fn observers(&self) -> Vec<Arc<dyn ChangeObserver>> {
        lock(&self.observers).clone()
    }

    pub(super) fn begin_trial(&self) -> Option<Box<dyn Trial>> {
        let proving = lock(&self.proving).clone();
        proving.map(|proving| proving.begin())
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
