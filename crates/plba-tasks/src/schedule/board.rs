//! All schedules of an application: the workers that run them, and how each stands, for the view of schedules.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::worker::WorkerDefinition;
use serde::{Deserialize, Serialize};

use super::{Schedule, ScheduleSource};
use crate::source::{SourceStatus, TaskSource};
use crate::source_worker::{SourceWorkerSettings, source_worker};

/// The schedules of an application. Registered as a service, it is what the view `schedules` asks.
#[derive(Default)]
pub struct Schedules(Vec<Arc<Entry>>);

/// A schedule and what is known of it in this process.
pub(super) struct Entry {
    pub(super) schedule: Schedule,
    standing: Mutex<(Option<Progress>, SourceStatus)>,
}

/// How far a schedule has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleStanding {
    /// The nominal time of the latest tick that was published.
    pub last: Option<Timestamp>,
    /// How many ticks came too late to be on time since the schedule began, made up for or not.
    pub missed: u64,
}

/// How far a schedule has come, as the ledger keeps it in the place of its source's cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    v: u32,
    /// Every nominal time up to here is dealt with.
    pub(super) through: Timestamp,
    pub(super) last: Option<Timestamp>,
    pub(super) missed: u64,
}

/// The version that is written, and the newest that is read.
const VERSION: u32 = 1;

impl Progress {
    pub(super) fn from(now: Timestamp) -> Self {
        Self {
            v: VERSION,
            through: now,
            last: None,
            missed: 0,
        }
    }

    pub(super) fn read(text: &str) -> Result<Self, String> {
        let unfit = |why: String| format!("how far the schedule has come can't be read from the ledger: {why}");
        let progress: Self = serde_json::from_str(text).map_err(|error| unfit(error.to_string()))?;
        if progress.v > VERSION {
            let found = progress.v;
            return Err(unfit(format!(
                "it has format {found}, and this program knows up to {VERSION}; use the newer program that wrote it"
            )));
        }
        Ok(progress)
    }

    pub(super) fn write(&self) -> String {
        // Numbers and times: there is nothing in it that can't be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Schedules {
    /// The schedules of an application.
    ///
    /// # Errors
    /// A schedule that can't be used, or two of one name; the sentence names it.
    pub fn new(schedules: impl IntoIterator<Item = Schedule>) -> Result<Self, String> {
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        for schedule in schedules {
            schedule
                .validate()
                .map_err(|fault| format!("schedule \"{}\": {fault}", schedule.name))?;
            if entries.iter().any(|entry| entry.schedule.name == schedule.name) {
                return Err(format!(
                    "there are two schedules \"{}\"; give one another name",
                    schedule.name
                ));
            }
            entries.push(Arc::new(Entry {
                schedule,
                standing: Mutex::default(),
            }));
        }
        Ok(Self(entries))
    }

    /// A worker `schedule-NAME` for each, to run after the workers that take its tasks. They ask for the services that
    /// every source asks for: `dyn TaskQueue`, `dyn SourceLedger` and `dyn Clock`.
    pub fn workers(&self) -> Vec<WorkerDefinition> {
        let worker = |entry: &Arc<Entry>| {
            let settings = SourceWorkerSettings {
                source: Some(entry.schedule.source_name()),
                ..SourceWorkerSettings::default()
            };
            let name = format!("schedule-{}", entry.schedule.name);
            let entry = Arc::clone(entry);
            source_worker(name, settings, move |services| {
                let entry = Arc::clone(&entry);
                async move {
                    let clock = services.get::<dyn Clock>().await?;
                    Ok(Arc::new(ScheduleSource::new(entry, clock)) as Arc<dyn TaskSource>)
                }
            })
        };
        self.0.iter().map(worker).collect()
    }

    /// The source of the schedule with this name, to be run by hand.
    pub fn source(&self, name: &str, clock: Arc<dyn Clock>) -> Option<ScheduleSource> {
        let entry = self.0.iter().find(|entry| entry.schedule.name == name)?;
        Some(ScheduleSource::new(Arc::clone(entry), clock))
    }

    /// The schedules, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Schedule> {
        self.0.iter().map(|entry| &entry.schedule)
    }

    /// How the schedule of this name stands, if it has run in this process.
    pub fn standing(&self, name: &str) -> Option<ScheduleStanding> {
        let entry = self.0.iter().find(|entry| entry.schedule.name == name)?;
        entry.lock().0.clone().map(ScheduleStanding::from)
    }
}

impl From<Progress> for ScheduleStanding {
    fn from(progress: Progress) -> Self {
        Self {
            last: progress.last,
            missed: progress.missed,
        }
    }
}

impl ScheduleStanding {
    /// Reads what the ledger keeps as the cursor of a schedule's source.
    ///
    /// # Errors
    /// It is none, or a newer program's.
    pub fn read(cursor: &str) -> Result<Self, String> {
        Progress::read(cursor).map(Self::from)
    }
}

impl Entry {
    pub(super) fn came_to(&self, progress: &Progress, published: u64, now: Timestamp) {
        let mut standing = self.lock();
        standing.0 = Some(progress.clone());
        standing.1.published += published;
        standing.1.last_success = Some(now);
        let next = self.schedule.expression.after(progress.through.max(now));
        standing.1.note = Some(match next {
            Some(next) => format!("next at {}", self.schedule.expression.local(next)),
            None => "there is no further tick".to_owned(),
        });
    }

    pub(super) fn settled(&self, count: u64) {
        self.lock().1.settled += count;
    }

    pub(super) fn status(&self) -> SourceStatus {
        self.lock().1.clone()
    }

    // Plain values: a panic can't leave them half-written.
    fn lock(&self) -> MutexGuard<'_, (Option<Progress>, SourceStatus)> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_as_it_was_written_and_a_newer_format_is_refused() {
        let progress = Progress {
            missed: 3,
            last: Some("2026-01-10T05:00:00Z".parse().unwrap()),
            ..Progress::from("2026-01-10T06:00:00Z".parse().unwrap())
        };
        assert_eq!(Progress::read(&progress.write()).unwrap(), progress);
        let newer = progress.write().replacen("\"v\":1", "\"v\":2", 1);
        assert!(Progress::read(&newer).unwrap_err().contains("format 2"), "{newer}");
        assert!(Progress::read("17").is_err());
    }
}
