//! The source that publishes the ticks of one schedule, and keeps in the ledger how far it has come.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use plba_contracts::clock::Clock;
use plba_contracts::stop::StopSignal;

use super::board::{Entry, Progress};
use super::plan::{CLOCK_TOLERANCE, Tick, due, hold};
use super::{MISSED_TICKS, SCHEDULE, SCHEDULED_FOR, Schedule};
use crate::intake::{Arrival, Intake};
use crate::queue::Durability;
use crate::source::{SourceError, SourceStatus, TaskSource};
use crate::task::{NewTask, Origin};

/// How long is waited without a look at the clock, which somebody may have set.
const LOOK: Duration = Duration::from_secs(10);

/// How many ticks are published at a time.
const BATCH: usize = 500;

/// Publishes a task at every tick of a schedule. [`Schedules::workers`](super::Schedules::workers) makes the workers that
/// run them; tests may do so by hand.
pub struct ScheduleSource {
    entry: Arc<Entry>,
    clock: Arc<dyn Clock>,
}

impl ScheduleSource {
    pub(super) fn new(entry: Arc<Entry>, clock: Arc<dyn Clock>) -> Self {
        Self { entry, clock }
    }

    fn schedule(&self) -> &Schedule {
        &self.entry.schedule
    }

    /// Publishes what is due until there is nothing further, ever.
    async fn tick(&self, intake: &Intake) -> Result<(), SourceError> {
        let mut progress = self.begin(intake).await?;
        loop {
            if intake.durability() == Durability::Volatile {
                self.resume(intake).await?;
            }
            let now = self.clock.now();
            self.mind_the_clock(intake, &mut progress, now).await?;
            let mut found = due(self.schedule(), progress.through, now, BATCH);
            if found.through.is_some() && self.catch_up(intake, &mut progress).await? {
                // Another instance was here meanwhile.
                found = due(self.schedule(), progress.through, now, BATCH);
            }
            let Some(through) = found.through else {
                match self.schedule().expression.after(progress.through.max(now)) {
                    Some(next) => self.wait_for(next, now).await,
                    None => return Ok(()),
                }
                continue;
            };
            self.publish(intake, &found.ticks, now).await?;
            progress.through = through;
            progress.missed += found.missed;
            progress.last = found.ticks.last().map(|tick| tick.nominal).or(progress.last);
            self.save(intake, &progress).await?;
            self.entry.came_to(&progress, found.ticks.len() as u64, now);
            if found.missed > 0 {
                let (missed, made_up) = (found.missed, found.ticks.len());
                tracing::warn!(
                    schedule = self.schedule().name,
                    missed,
                    published = made_up,
                    "ticks were missed"
                );
            }
        }
    }

    /// How far the schedule has come; a new one begins now.
    async fn begin(&self, intake: &Intake) -> Result<Progress, SourceError> {
        if let Some(progress) = self.stored(intake).await? {
            self.entry.came_to(&progress, 0, self.clock.now());
            return Ok(progress);
        }
        let progress = Progress::from(self.clock.now());
        self.save(intake, &progress).await?;
        self.entry.came_to(&progress, 0, self.clock.now());
        Ok(progress)
    }

    async fn stored(&self, intake: &Intake) -> Result<Option<Progress>, SourceError> {
        let Some(text) = intake.cursor().await? else {
            return Ok(None);
        };
        Progress::read(&text).map(Some).map_err(SourceError::fatal)
    }

    /// Takes over how far another instance on the same ledger has come; says whether one has.
    async fn catch_up(&self, intake: &Intake, progress: &mut Progress) -> Result<bool, SourceError> {
        let stored = self.stored(intake).await?;
        let further = stored.filter(|stored| stored.through > progress.through);
        Ok(further.map(|further| *progress = further).is_some())
    }

    async fn save(&self, intake: &Intake, progress: &Progress) -> Result<(), SourceError> {
        Ok(intake.set_cursor(&progress.write()).await?)
    }

    /// Progress far ahead of the clock comes of a clock that was wrong: waiting for it could take years.
    async fn mind_the_clock(
        &self,
        intake: &Intake,
        progress: &mut Progress,
        now: Timestamp,
    ) -> Result<(), SourceError> {
        let ahead = progress.through.duration_since(now);
        if Duration::try_from(ahead).is_ok_and(|ahead| ahead > CLOCK_TOLERANCE) {
            let (schedule, through) = (&self.schedule().name, progress.through);
            tracing::warn!(schedule, %through, %now, "the schedule had come further than the clock, and goes on from now");
            progress.through = now;
            // Or what the ledger says would be taken for how far another instance has come.
            self.save(intake, progress).await?;
        }
        Ok(())
    }

    async fn wait_for(&self, next: Timestamp, now: Timestamp) {
        let left = Duration::try_from(next.duration_since(now)).unwrap_or_default();
        tokio::time::sleep(left.clamp(Duration::from_millis(1), LOOK)).await;
    }

    async fn publish(&self, intake: &Intake, ticks: &[Tick], now: Timestamp) -> Result<(), SourceError> {
        if ticks.is_empty() {
            return Ok(());
        }
        if intake.durability() == Durability::Volatile {
            let arrivals = ticks.iter().map(|tick| self.arrival(tick)).collect();
            intake.publish(arrivals).await?;
            return Ok(());
        }
        // The queue keeps the tasks by itself, so the ledger has no entries for them: how far the schedule has come will do.
        let task = |tick: &Tick| {
            let id = Origin::new(intake.source(), tick.nominal.to_string()).task_id();
            let hold = hold(self.schedule(), tick.nominal, now);
            self.task(tick).with_id(&id).unique_for(id.as_str(), hold)
        };
        intake.publish_unrecorded(ticks.iter().map(task).collect()).await?;
        Ok(())
    }

    fn arrival(&self, tick: &Tick) -> Arrival {
        Arrival {
            key: tick.nominal.to_string().into(),
            task: self.task(tick),
        }
    }

    fn task(&self, tick: &Tick) -> NewTask {
        let schedule = self.schedule();
        let mut task = schedule
            .task
            .clone()
            .with_header(SCHEDULE, &schedule.name)
            .with_header(SCHEDULED_FOR, tick.nominal.to_string());
        if tick.instead_of > 0 {
            task = task.with_header(MISSED_TICKS, tick.instead_of.to_string());
        }
        let delay = task.delay + jitter(schedule, tick.nominal);
        task.after(delay)
    }

    /// Ticks that were taken in by a queue that ended with its process, or whose dead letters were retried: once more.
    async fn resume(&self, intake: &Intake) -> Result<(), SourceError> {
        loop {
            let keys = intake.pending(BATCH).await?;
            if keys.is_empty() {
                return Ok(());
            }
            let (mut again, mut foreign) = (Vec::new(), Vec::new());
            for key in keys {
                match key.parse() {
                    Ok(nominal) => again.push(self.arrival(&Tick { nominal, instead_of: 0 })),
                    Err(_) => foreign.push(key),
                }
            }
            intake.publish(again).await?;
            intake.lost(&foreign).await?;
        }
    }

    /// Nobody upstream has to be told that a tick is done. What is settled is kept for as long as another instance may
    /// come upon the tick, and then forgotten.
    async fn settle(&self, intake: &Intake) -> Result<(), SourceError> {
        let mut keys = intake.unsettled(BATCH).await?;
        let mut settled: Vec<(Timestamp, Arc<str>)> = Vec::new();
        loop {
            if !keys.is_empty() {
                intake.settle(&keys).await?;
                self.entry.settled(keys.len() as u64);
                let now = self.clock.now();
                settled.extend(keys.drain(..).map(|key| (self.outdated(&key, now), key)));
                let over = settled.extract_if(.., |(until, _)| *until <= now);
                intake.forget(&over.map(|(_, key)| key).collect::<Vec<_>>()).await?;
            }
            keys = intake.completions(BATCH).await?;
        }
    }

    fn outdated(&self, key: &str, now: Timestamp) -> Timestamp {
        let nominal = key.parse().unwrap_or(now);
        let hold = SignedDuration::try_from(hold(self.schedule(), nominal, now)).unwrap_or(SignedDuration::MAX);
        now.checked_add(hold).unwrap_or(Timestamp::MAX)
    }
}

#[async_trait]
impl TaskSource for ScheduleSource {
    async fn run(&self, intake: Intake, stop: StopSignal) -> Result<(), SourceError> {
        let settling = async {
            if intake.durability() == Durability::Volatile {
                self.settle(&intake).await
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            biased;
            () = stop.requested() => Ok(()),
            ended = self.tick(&intake) => ended,
            ended = settling => ended,
        }
    }

    fn status(&self) -> SourceStatus {
        self.entry.status()
    }
}

/// The delay of one tick, between nothing and the schedule's jitter: by its name and nominal time, and so the same in
/// every instance and after every restart.
fn jitter(schedule: &Schedule, nominal: Timestamp) -> Duration {
    if schedule.jitter.is_zero() {
        return Duration::ZERO;
    }
    let mut hasher = DefaultHasher::new();
    (&schedule.name, nominal.as_second()).hash(&mut hasher);
    let share = fastrand::Rng::with_seed(hasher.finish()).f64();
    schedule.jitter.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::super::Expression;
    use super::*;

    #[test]
    fn jitter_is_spread_over_its_span_and_the_same_every_time() {
        let hourly = Expression::parse("0 * * * *", "UTC").unwrap();
        let mut schedule = Schedule::new("hourly", hourly.clone(), NewTask::new("q", "k", ""));
        schedule.jitter = Duration::from_secs(600);
        let times: Vec<_> = hourly.times_after(Timestamp::UNIX_EPOCH).take(500).collect();
        let delays: Vec<_> = times.iter().map(|time| jitter(&schedule, *time).as_secs()).collect();
        assert!(delays.iter().all(|delay| *delay < 600));
        for third in [0..200_u64, 200..400, 400..600] {
            let within = delays.iter().filter(|delay| third.contains(*delay)).count();
            assert!((100..250).contains(&within), "{within} of 500 in {third:?}");
        }
        assert_eq!(delays[7], jitter(&schedule, times[7]).as_secs());
    }
}
