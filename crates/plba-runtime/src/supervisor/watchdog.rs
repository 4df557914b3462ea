//! The stall watchdog: an operating-system thread that sees when the workers' executor runs nothing, and when an instance
//! is busy with one thing for too long. It tells; what follows is others' decision.
//!
//! It counts only time that it has itself seen pass: from one look to the next, no more than the interval it meant to wait.
//! A look that comes late says that the watchdog was starved or suspended, and then the workers were too: that time counts
//! for nobody, so a verdict comes later by just as much. How much that was in all is kept and told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::worker::Busy;

use super::board::{Board, Watched};
use super::event::{EventStream, SupervisorEvent};
use crate::sync::{self, Handle};
use crate::trace::innermost;

/// How often the watchdog looks.
#[derive(Clone, Debug)]
pub struct WatchdogOptions {
    /// From one look to the next; sooner where a worker's `stall_after` asks for it. Default: 1 s.
    pub look_every: Duration,
    /// How often the workers' executor has to show a sign of life. Default: 1 s.
    pub heartbeat: Duration,
    /// How long it may show none before it counts as stalled. Default: 5 s.
    pub stalled_after: Duration,
}

impl Default for WatchdogOptions {
    fn default() -> Self {
        Self {
            look_every: Duration::from_secs(1),
            heartbeat: Duration::from_secs(1),
            stalled_after: Duration::from_secs(5),
        }
    }
}

/// Instances are visited as often as the shortest `stall_after` goes into this many, because looking at a hundred
/// thousand of them takes time; but no less often than this, and always while one is hung.
const VISITS_IN_A_STALL: u32 = 60;
const MAXIMUM_VISIT: Duration = Duration::from_secs(5);

/// The shortest span from one look to the next.
const MINIMUM_LOOK: Duration = Duration::from_millis(20);

/// The running watchdog; it ends when this is dropped or told to quit.
pub(super) struct Watchdog(Arc<Shared>);

struct Shared {
    beats: AtomicU64,
    /// For how long the executor has been stalled, in milliseconds; 0 while it is not.
    stalled: AtomicU64,
    /// For how long in all the watchdog itself did not get to run when it wanted to, in microseconds.
    starved: AtomicU64,
    quit: Mutex<bool>,
    woken: Condvar,
}

/// A handle by which the driver lets the watchdog end.
#[derive(Clone)]
pub(super) struct Quit(Arc<Shared>);

impl Watchdog {
    pub(super) fn start(
        options: WatchdogOptions,
        clock: Arc<dyn Clock>,
        workers: &Handle,
        board: Arc<Board>,
        events: EventStream,
        on_hang: impl Fn(&Watched, &Busy) + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            beats: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            starved: AtomicU64::new(0),
            quit: Mutex::new(false),
            woken: Condvar::new(),
        });
        let beating = Arc::downgrade(&shared);
        let heartbeat = options.heartbeat;
        let life = async move {
            while let Some(shared) = beating.upgrade() {
                shared.beats.fetch_add(1, Ordering::Relaxed);
                if *shared.lock() {
                    break;
                }
                drop(shared);
                tokio::time::sleep(heartbeat).await;
            }
        };
        let thread = Arc::clone(&shared);
        let watch = move || thread.watch(&options, &*clock, &board, &events, on_hang);
        if let Err(error) = sync::watch(workers, "plba-watchdog", watch, life) {
            tracing::error!("no stall watchdog, because its thread could not be started: {error}");
        }
        Self(shared)
    }

    /// For how long the workers' executor has run nothing, once that is longer than it should be.
    pub(super) fn executor_stalled_for(&self) -> Option<Duration> {
        match self.0.stalled.load(Ordering::Relaxed) {
            0 => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }

    /// For how long in all the watchdog itself did not get to run when it wanted to.
    pub(super) fn starved_for(&self) -> Duration {
        Duration::from_micros(self.0.starved.load(Ordering::Relaxed))
    }

    pub(super) fn quitter(&self) -> Quit {
        Quit(Arc::clone(&self.0))
    }
}

impl Quit {
    pub(super) fn quit(&self) {
        *self.0.lock() = true;
        self.0.woken.notify_all();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.quitter().quit();
    }
}

impl Shared {
    fn watch(
        &self,
        options: &WatchdogOptions,
        clock: &dyn Clock,
        board: &Board,
        events: &EventStream,
        on_hang: impl Fn(&Watched, &Busy),
    ) {
        let mut observer = Observer::new(options.stalled_after, clock.monotonic());
        let mut interval = options.look_every;
        let (mut shortest, mut visits) = (None::<Duration>, Duration::ZERO);
        loop {
            let quit = self.lock();
            let woken = self.woken.wait_timeout_while(quit, interval, |quit| !*quit);
            if *woken.unwrap_or_else(PoisonError::into_inner).0 {
                self.stalled.store(0, Ordering::Relaxed);
                return;
            }
            let now = clock.monotonic();
            let beats = self.beats.load(Ordering::Relaxed);
            let look = Look {
                now,
                wall: clock.now(),
                interval,
                beats,
            };
            if let Some(event) = observer.look(&look) {
                events.emit(event);
            }
            if board.take_changed() || observer.unvisited >= visits {
                let (watched, found) = board.watched();
                shortest = found;
                observer.visit(&look, &watched, |event| events.emit(event), &on_hang);
                visits = observer.visits(shortest);
            }
            let starved = u64::try_from(observer.starved.as_micros()).unwrap_or(u64::MAX);
            self.starved.store(starved, Ordering::Relaxed);
            let stalled = observer
                .stalled_for()
                .map_or(0, |stalled| stalled.as_millis().max(1) as u64);
            self.stalled.store(stalled, Ordering::Relaxed);
            let wanted = shortest.map_or(options.look_every, |shortest| shortest / 4);
            interval = wanted.clamp(MINIMUM_LOOK.min(options.look_every), options.look_every);
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.quit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is to see at one look.
struct Look {
    now: Duration,
    wall: Timestamp,
    /// How long the watchdog meant to wait since the look before.
    interval: Duration,
    /// The signs of life that the executor has shown so far.
    beats: u64,
}

/// What the watchdog has seen, without thread and clock.
struct Observer {
    stalled_after: Duration,
    last_look: Duration,
    beats: u64,
    /// Time seen to pass since the last beat.
    silent: Duration,
    stalled: bool,
    /// Time in which the watchdog itself did not get to run, so that it counts for nobody.
    starved: Duration,
    /// Time seen to pass since instances were visited.
    unvisited: Duration,
    any_hung: bool,
    /// By record, slot and incarnation: since when it is busy, and how much of that was seen to pass.
    busy: HashMap<(usize, u32, u64), (Duration, Duration)>,
}

impl Observer {
    fn new(stalled_after: Duration, now: Duration) -> Self {
        Self {
            stalled_after,
            last_look: now,
            beats: 0,
            silent: Duration::ZERO,
            stalled: false,
            starved: Duration::ZERO,
            unvisited: Duration::ZERO,
            any_hung: false,
            busy: HashMap::new(),
        }
    }

    fn stalled_for(&self) -> Option<Duration> {
        self.stalled.then_some(self.silent)
    }

    /// Looks at the executor.
    fn look(&mut self, look: &Look) -> Option<SupervisorEvent> {
        let since_last = look.now.saturating_sub(self.last_look);
        let passed = since_last.min(look.interval);
        (self.last_look, self.starved) = (look.now, self.starved + (since_last - passed));
        self.unvisited += passed;
        self.look_at_executor(passed, look.beats)
    }

    /// How much time has to pass until instances are visited again.
    fn visits(&self, shortest: Option<Duration>) -> Duration {
        match shortest {
            Some(shortest) if !self.any_hung => (shortest / VISITS_IN_A_STALL).min(MAXIMUM_VISIT),
            _ => Duration::ZERO,
        }
    }

    /// Looks at the instances that are busy or marked.
    fn visit(
        &mut self,
        look: &Look,
        watched: &[Watched],
        mut emit: impl FnMut(SupervisorEvent),
        on_hang: impl Fn(&Watched, &Busy),
    ) {
        let (now, passed) = (look.now, std::mem::take(&mut self.unvisited));
        let mut busy = HashMap::with_capacity(watched.len());
        self.any_hung = false;
        for one in watched {
            let key = (Arc::as_ptr(&one.record) as usize, one.slot, one.incarnation);
            if let Some(current) = &one.busy {
                let seen = match self.busy.get(&key) {
                    Some((since, seen)) if *since == current.since => *seen + passed,
                    // It may have begun anywhere between the two visits.
                    _ => now.saturating_sub(current.since).min(passed),
                };
                busy.insert(key, (current.since, seen));
                if seen >= one.stall_after && one.record.mark_hung(one.slot, one.incarnation, true) {
                    let duration = now.saturating_sub(current.since);
                    emit(SupervisorEvent::Hung {
                        worker: one.record.name.to_string(),
                        slot: one.slot,
                        busy_with: current.what.as_ref().to_owned(),
                        span: one.span.as_ref().and_then(innermost),
                        since: look.wall.checked_sub(duration).unwrap_or(look.wall),
                        duration,
                    });
                    on_hang(one, current);
                }
                if seen >= one.stall_after {
                    self.any_hung = true;
                    continue;
                }
            }
            if one.record.is_hung(one.slot) && one.record.mark_hung(one.slot, one.incarnation, false) {
                emit(SupervisorEvent::Unhung {
                    worker: one.record.name.to_string(),
                    slot: one.slot,
                });
            }
        }
        self.busy = busy;
    }

    fn look_at_executor(&mut self, passed: Duration, beats: u64) -> Option<SupervisorEvent> {
        if beats == self.beats {
            self.silent += passed;
            let newly = self.silent >= self.stalled_after && !self.stalled;
            self.stalled |= newly;
            return newly.then_some(SupervisorEvent::ExecutorStalled { duration: self.silent });
        }
        (self.beats, self.silent) = (beats, Duration::ZERO);
        std::mem::take(&mut self.stalled).then_some(SupervisorEvent::ExecutorMoves)
    }
}

#[cfg(test)]
mod tests {
    use plba_contracts::worker::{Activity, HangPolicy, WorkerDefinition};

    use tokio::sync::mpsc;

    use super::super::board::{Recipe, Record};
    use super::super::instance::Instance;
    use super::super::machine::protocol::{Attempt, SlotKey, WorkerId};
    use super::*;
    use crate::clock::SystemClock;

    const SECOND: Duration = Duration::from_secs(1);

    fn looked(observer: &mut Observer, at: u64, beats: u64) -> Vec<SupervisorEvent> {
        looked_at(observer, SECOND * at as u32, beats, &[])
    }

    fn looked_at(observer: &mut Observer, now: Duration, beats: u64, watched: &[Watched]) -> Vec<SupervisorEvent> {
        let mut events = Vec::new();
        let look = Look {
            now,
            wall: Timestamp::UNIX_EPOCH + now,
            interval: SECOND,
            beats,
        };
        events.extend(observer.look(&look));
        observer.visit(&look, watched, |event| events.push(event), |_, _| ());
        events
    }

    /// An instance that has had the same thing in hand since the beginning, and hangs after ten seconds.
    fn busy() -> [Watched; 1] {
        let definition = WorkerDefinition::new("orders", |_| async { Err("is never built".into()) });
        let services = crate::services::ServiceContainer::new(Vec::new(), crate::services::Provided::default());
        let services = Arc::new(Arc::new(services.unwrap()).services());
        let (name, recipe) = ("orders".into(), Recipe::new(&definition, services));
        let record = Arc::new(Record::new(name, recipe));
        let activity = Activity::new(Arc::new(SystemClock::new()));
        let key = SlotKey { worker: 0, slot: 0 };
        let (attempt, reports) = (Attempt { key, number: 1 }, mpsc::unbounded_channel().0);
        let instance = Instance::new(attempt, activity, None, Arc::clone(&record), reports, Arc::default());
        record.begun(0, 1, Arc::new(instance), Timestamp::UNIX_EPOCH);
        [Watched {
            worker: WorkerId::default(),
            record,
            on_hang: HangPolicy::Report,
            slot: 0,
            incarnation: 1,
            busy: Some(Busy {
                what: "task 7".into(),
                since: Duration::ZERO,
            }),
            span: None,
            stall_after: SECOND * 10,
        }]
    }

    #[test]
    fn an_executor_without_a_beat_is_stalled_until_it_beats_again() {
        let mut observer = Observer::new(SECOND * 5, Duration::ZERO);
        for second in 1..=5 {
            assert_eq!(looked(&mut observer, second, second), []);
        }
        for second in 6..10 {
            assert_eq!(looked(&mut observer, second, 5), []);
        }
        assert_eq!(
            looked(&mut observer, 10, 5),
            [SupervisorEvent::ExecutorStalled { duration: SECOND * 5 }]
        );
        assert_eq!(looked(&mut observer, 11, 5), []);
        assert_eq!(observer.stalled_for(), Some(SECOND * 6));
        assert_eq!(looked(&mut observer, 12, 6), [SupervisorEvent::ExecutorMoves]);
        assert_eq!(observer.stalled_for(), None);
        assert_eq!(observer.starved, Duration::ZERO);
    }

    #[test]
    fn time_in_which_the_watchdog_itself_did_not_run_is_no_verdict() {
        let mut observer = Observer::new(SECOND * 5, Duration::ZERO);
        looked(&mut observer, 1, 1);
        // The process was suspended for ten minutes.
        assert_eq!(looked(&mut observer, 601, 1), []);
        assert_eq!(looked(&mut observer, 602, 1), []);
        assert_eq!(looked(&mut observer, 603, 2), []);
        assert_eq!(observer.stalled_for(), None);
        assert_eq!(observer.starved, SECOND * 599);
    }

    #[test]
    fn a_watchdog_that_is_starved_extends_its_verdict_by_what_it_did_not_see() {
        // It wants to look each second and gets to run every fourth: so do the workers, who have done a quarter as much.
        let (mut observer, watched) = (Observer::new(SECOND * 5, Duration::ZERO), busy());
        for look in 1..10 {
            assert_eq!(
                looked_at(&mut observer, SECOND * 4 * look, look.into(), &watched),
                [],
                "look {look}"
            );
        }
        // Ten seconds that it has seen pass, though forty have.
        let [
            SupervisorEvent::Hung {
                worker,
                busy_with,
                since,
                duration,
                ..
            },
        ] = &looked_at(&mut observer, SECOND * 40, 10, &watched)[..]
        else {
            panic!("no verdict after ten looks");
        };
        assert_eq!((worker.as_str(), busy_with.as_str()), ("orders", "task 7"));
        assert_eq!((*since, *duration), (Timestamp::UNIX_EPOCH, SECOND * 40));
        assert_eq!(observer.starved, SECOND * 30);
    }

    #[test]
    fn a_verdict_comes_within_two_intervals_of_a_watchdog_that_runs_when_it_wants_to() {
        for began in [0, 1, 500, 999] {
            let mut watched = busy();
            let began = Duration::from_millis(began);
            watched[0].busy = Some(Busy {
                what: "task 7".into(),
                since: began,
            });
            let mut observer = Observer::new(SECOND * 5, Duration::ZERO);
            // Every look is a little late, as they are.
            let late = Duration::from_millis(2);
            let verdict = (1..30)
                .map(|look| (SECOND + late) * look)
                .find(|now| !looked_at(&mut observer, *now, u64::from(now.subsec_nanos()), &watched).is_empty());
            let after = verdict.unwrap() - began;
            assert!(
                after >= SECOND * 10 && after <= SECOND * 12 + late * 12,
                "{began:?}: {after:?}"
            );
        }
    }
}
