//! What is kept and told of the configuration's changes: the history, the last good configuration, how things stand, and their
//! figures. It listens to the transaction and decides nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::clock::Clock;
use plba_contracts::health::Health;
use plba_contracts::metrics::{Counter, MetricError, MetricFamily, MetricKind, MetricSource, Metrics};
use tracing::warn;

use super::history::{self, History, HistoryEntry};
use super::last_good::{self, LastGood};
use super::outcome::{ChangeObserver, Conclusion, ReloadOutcome};
use super::standing::ConfigStanding;
use super::state_file::StateFile;
use crate::TARGET;
use crate::config::manager::ConfigurationManager;
use crate::config::settings::OnInvalidStart;
use crate::config::snapshot::Configuration;
use crate::config::start::StartDoubt;

/// Keeps what there is to tell of changes. Cheap to clone behind its `Arc`.
pub struct ConfigRecords {
    clock: Arc<dyn Clock>,
    application: String,
    /// The files and directories that are read.
    roots: Vec<PathBuf>,
    /// Not held: it holds those who observe it.
    manager: Weak<ConfigurationManager>,
    kept: Mutex<Kept>,
    history_file: StateFile,
    last_good_file: StateFile,
    changes: Counter,
}

struct Kept {
    standing: ConfigStanding,
    history: History,
    /// What stands in the file, or is about to.
    last_good: Option<LastGood>,
    /// Whether the configuration of the start is to become the last good one: not if it is that already, or was taken back.
    trusted: bool,
}

/// The start of a process, as far as its configuration goes.
pub(crate) struct ConfigStart<'a> {
    /// The state directory.
    pub(crate) directory: &'a Path,
    /// The application's name.
    pub(crate) application: &'a str,
    /// The configuration that it starts with, and whose changes are kept.
    pub(crate) manager: &'a Arc<ConfigurationManager>,
    /// What a person should know of it.
    pub(crate) doubt: Option<&'a StartDoubt>,
}

impl ConfigRecords {
    /// Goes on with what earlier processes have kept, and begins with this start. Reads small files.
    ///
    /// # Errors
    /// Somebody else has the name of a figure.
    pub(crate) fn begin(
        start: &ConfigStart<'_>,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Arc<Self>, MetricError> {
        let directory = start.directory;
        let mut history = History::read(directory).unwrap_or_else(|error| {
            let file = directory.join(history::FILE);
            warn!(target: TARGET, file = %file.display(), %error, "the history of the configuration begins anew");
            History::default()
        });
        let (generation, now) = (start.manager.current().generation, clock.now());
        let reason = start.doubt.map(|doubt| match doubt {
            StartDoubt::LastGood(wrong) => wrong.clone(),
            StartDoubt::TakenBack(when) => format!("it has failed before: {when}"),
        });
        history.add(HistoryEntry::started(now, generation, reason.as_deref()));
        let kept = Kept {
            standing: ConfigStanding::started(generation, now, start.doubt),
            history,
            last_good: LastGood::read(directory, start.application).ok(),
            trusted: start.doubt.is_none(),
        };
        let records = Arc::new(Self {
            clock,
            application: start.application.to_owned(),
            roots: start.manager.files().to_vec(),
            manager: Arc::downgrade(start.manager),
            history_file: StateFile::new(directory.join(history::FILE)),
            last_good_file: StateFile::new(directory.join(last_good::FILE)),
            changes: metrics.counter(
                "plba_config_changes_total",
                "Changes of the configuration that were asked for, by what became of them.",
                &["outcome"],
            )?,
            kept: Mutex::new(kept),
        });
        let source: Arc<dyn MetricSource> = Arc::<Self>::clone(&records);
        metrics.source("configuration", &source);
        records.history_file.put(records.kept().history.encoded());
        Ok(records)
    }

    /// How the configuration stands.
    pub fn standing(&self) -> ConfigStanding {
        let down = self.manager.upgrade().map(|manager| manager.providers_down());
        let mut standing = self.kept().standing.clone();
        standing.providers_down = down.unwrap_or_default().into_iter().collect();
        standing
    }

    /// The latest changes, the newest first.
    pub fn history(&self, most: usize) -> Vec<HistoryEntry> {
        self.kept().history.latest(most)
    }

    /// How the configuration is, as a part of the health report.
    pub(crate) fn health(&self) -> Health {
        self.standing().health()
    }

    /// Waits until all is on the disk, at most for so long.
    pub(crate) async fn settle(&self, limit: Duration) {
        tokio::join!(self.history_file.settle(limit), self.last_good_file.settle(limit));
    }

    fn keep(&self, configuration: &Configuration) {
        let settings = crate::blueprint::platform_of(configuration).map(|platform| platform.config.on_invalid_start);
        let policy = settings.unwrap_or(OnInvalidStart::Strict);
        let now = self.clock.now();
        let good = LastGood::of(configuration, &self.roots, &self.application, policy, now);
        let mut kept = self.kept();
        let trusted = std::mem::replace(&mut kept.trusted, true);
        if trusted && !kept.last_good.as_ref().is_some_and(|last| last.is_like(&good)) {
            self.write(&mut kept, good);
        }
    }

    fn write(&self, kept: &mut Kept, good: LastGood) {
        match good.encoded() {
            Ok(text) => {
                self.last_good_file.put(text);
                kept.last_good = Some(good);
            }
            Err(reason) => warn!(target: TARGET, reason, "the last good configuration can't be kept"),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ChangeObserver for ConfigRecords {
    async fn concluded(&self, conclusion: &Conclusion) {
        let word = match &conclusion.outcome {
            ReloadOutcome::Unchanged { .. } => "unchanged",
            ReloadOutcome::Applied { .. } => "applied",
            ReloadOutcome::Rejected { .. } => "rejected",
            ReloadOutcome::TakenBack { .. } => "taken_back",
        };
        self.changes.with(&[word]).add(1);
        let mut kept = self.kept();
        let now = self.clock.now();
        let Some(entry) = HistoryEntry::concluded(now, conclusion) else {
            return kept.standing.unchanged();
        };
        if let (ReloadOutcome::TakenBack { reason, .. }, Some(good)) = (&conclusion.outcome, &kept.last_good) {
            let good = good.instead_of(&conclusion.before, &self.roots, reason, now);
            self.write(&mut kept, good);
        }
        kept.standing.concluded(&conclusion.outcome, &entry);
        kept.history.add(entry);
        self.history_file.put(kept.history.encoded());
    }

    async fn proven(&self, configuration: &Arc<Configuration>) {
        self.keep(configuration);
        let mut kept = self.kept();
        kept.standing.prove(configuration.generation);
        kept.history.prove(configuration.generation);
        self.history_file.put(kept.history.encoded());
    }
}

impl MetricSource for ConfigRecords {
    fn collect(&self) -> Vec<MetricFamily> {
        let standing = self.standing();
        let gauge = |name, help, value: f64| MetricFamily::new(name, MetricKind::Gauge, help).with(&[], value);
        vec![
            gauge(
                "plba_config_ok",
                "Whether what is written is what runs: 0 while the latest change is refused or taken back, or the last good \
                 configuration runs.",
                if standing.problem.is_none() { 1.0 } else { 0.0 },
            ),
            gauge(
                "plba_config_generation",
                "Which configuration runs, counted from 1 by each process.",
                standing.generation as f64,
            ),
        ]
    }
}
