//! The timeline of a start: which step and which worker took how long. What is done in each step is the manager's; a slow
//! one is told on the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plba_contracts::clock::Clock;
use schemars::JsonSchema;
use serde::Serialize;
use tracing::info;

use crate::TARGET;
use crate::supervisor::{EventStream, SlotState, SupervisorEvent};

/// From when on a step is told on the log.
const SLOW: Duration = Duration::from_secs(5);

/// How many workers the timeline names; those that come later are left out.
const WORKERS: usize = 1_000;

/// A step of the start.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct StartupStep {
    /// `platform`, or `worker`.
    pub kind: StepKind,
    /// Its name, such as `configuration`, or the worker's.
    pub name: String,
    /// When it began, in seconds since the process started.
    pub began: f64,
    /// How long it took, in seconds; empty while it is under way, or where it came to nothing.
    pub took: Option<f64>,
}

/// Whose step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// The platform's; these follow each other.
    Platform,
    /// A worker's first instance, from being built to being ready. Workers start beside each other, within the
    /// platform's step `workers`.
    Worker,
}

/// What a start has done so far. Clones share it.
#[derive(Clone)]
pub struct Timeline {
    clock: Arc<dyn Clock>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    steps: Vec<Step>,
    /// Where each worker's step is.
    workers: HashMap<String, usize>,
    complete: bool,
}

struct Step {
    kind: StepKind,
    name: String,
    began: Duration,
    took: Option<Duration>,
}

impl Timeline {
    /// A timeline that begins when `clock` does.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let inner = Arc::default();
        Self { clock, inner }
    }

    /// The platform's next step begins, and the one before it is over.
    pub fn step(&self, name: &str) {
        let now = self.clock.monotonic();
        let mut inner = self.lock();
        if !inner.complete {
            inner.end_platform_step(now);
            inner.begin(StepKind::Platform, name, now);
        }
    }

    /// The last step is over, and with it the start; nothing is added from now on.
    pub fn complete(&self) {
        let now = self.clock.monotonic();
        let mut inner = self.lock();
        inner.end_platform_step(now);
        inner.complete = true;
        let slow = |step: &&Step| step.took.is_some_and(|took| took >= SLOW);
        for step in inner.steps.iter().filter(slow) {
            let (kind, took) = (step.kind.word(), step.took.unwrap_or_default());
            info!(target: TARGET, "slow start: {kind} {} took {took:.1?}", step.name);
        }
    }

    /// From now on learns from these events how long each worker takes.
    pub fn follow(&self, events: &EventStream) {
        let timeline = self.clone();
        events.subscribe(move |event| timeline.saw(&event.event));
    }

    /// The steps so far, in the order in which they began.
    pub fn steps(&self) -> Vec<StartupStep> {
        let told = |step: &Step| StartupStep {
            kind: step.kind,
            name: step.name.clone(),
            began: step.began.as_secs_f64(),
            took: step.took.map(|took| took.as_secs_f64()),
        };
        self.lock().steps.iter().map(told).collect()
    }

    fn saw(&self, event: &SupervisorEvent) {
        let SupervisorEvent::Moved {
            worker, slot: 0, state, ..
        } = event
        else {
            return;
        };
        let now = self.clock.monotonic();
        let mut inner = self.lock();
        if inner.complete {
            return;
        }
        match state {
            SlotState::Starting if inner.workers.len() < WORKERS && !inner.workers.contains_key(worker) => {
                let place = inner.steps.len();
                inner.workers.insert(worker.clone(), place);
                inner.begin(StepKind::Worker, worker, now);
            }
            // A worker that did not start at once is through only when it runs.
            SlotState::Running => {
                let place = inner.workers.get(worker).copied();
                if let Some(step) = place.and_then(|place| inner.steps.get_mut(place)) {
                    step.took.get_or_insert(now.saturating_sub(step.began));
                }
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn begin(&mut self, kind: StepKind, name: &str, began: Duration) {
        let name = name.to_owned();
        self.steps.push(Step {
            kind,
            name,
            began,
            took: None,
        });
    }

    fn end_platform_step(&mut self, now: Duration) {
        let mut steps = self.steps.iter_mut().rev();
        if let Some(step) = steps.find(|step| step.kind == StepKind::Platform) {
            step.took.get_or_insert(now.saturating_sub(step.began));
        }
    }
}

impl StepKind {
    fn word(self) -> &'static str {
        match self {
            Self::Platform => "step",
            Self::Worker => "worker",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use jiff::Timestamp;

    use super::*;

    /// Goes on only when it is told to.
    #[derive(Default)]
    struct HandClock(AtomicU64);

    impl Clock for HandClock {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::SeqCst))
        }
    }

    fn moved(worker: &str, state: SlotState) -> SupervisorEvent {
        SupervisorEvent::Moved {
            worker: worker.into(),
            slot: 0,
            state,
            incarnation: 1,
            lasts: None,
            cause: None,
        }
    }

    #[test]
    fn steps_follow_each_other_and_workers_lie_within_them() {
        let clock = Arc::new(HandClock::default());
        let timeline = Timeline::new(clock.clone());
        let after = |seconds| clock.0.fetch_add(seconds, Ordering::SeqCst);
        timeline.step("configuration");
        after(1);
        timeline.step("modules");
        for worker in ["a", "b", "never"] {
            timeline.saw(&moved(worker, SlotState::Starting));
        }
        after(2);
        timeline.saw(&moved("a", SlotState::Running));
        after(1);
        timeline.saw(&moved("b", SlotState::BackingOff));
        timeline.saw(&moved("b", SlotState::Starting));
        timeline.saw(&moved("b", SlotState::Running));
        timeline.complete();
        timeline.saw(&moved("late", SlotState::Starting));
        let steps = timeline.steps();
        let told: Vec<_> = steps
            .iter()
            .map(|step| (step.name.as_str(), step.began, step.took))
            .collect();
        let expected = [
            ("configuration", 0.0, Some(1.0)),
            ("modules", 1.0, Some(3.0)),
            ("a", 1.0, Some(2.0)),
            ("b", 1.0, Some(3.0)),
            ("never", 1.0, None),
        ];
        assert_eq!(told, expected);
    }
}
