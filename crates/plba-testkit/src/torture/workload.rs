//! The tasks of the torture: each kind does one thing that a handler can do, and says which in its id, so that the judge
//! knows what must become of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plba_tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba_tasks::retry::RetryPolicy;
use plba_tasks::task::{AttemptEnd, EndedAttempt, NewTask, Priority, Task};
use plba_tasks::worker::TaskWorkerSettings;

use super::machine::die;
use super::record::{Event, Held, Recorder};

/// The queue that is tortured, and the one for follow-ups.
pub(super) const QUEUE: &str = "torture";

/// After how many failed attempts a task is dead.
pub(super) const ATTEMPTS: u32 = 3;

/// After how many crashes a task is dead: the default of every backend.
pub(super) const CRASHES: usize = 5;

/// What a task does; its id ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Is done within two milliseconds.
    Good,
    /// Is done, and has a follow-up.
    Chain,
    /// A follow-up.
    Then,
    /// Fails once.
    Flaky,
    /// Asks to come later, once.
    Snooze,
    /// Takes most of a lease, so that the lease is renewed.
    Slow,
    /// Waits for the tasks published before it with its key.
    Ordered,
    /// Is refused.
    Reject,
    /// Always fails.
    Poison,
    /// Ends its process.
    Deadly,
}

const KINDS: [(Kind, &str); 10] = [
    (Kind::Good, "good"),
    (Kind::Chain, "chain"),
    (Kind::Then, "then"),
    (Kind::Flaky, "flaky"),
    (Kind::Snooze, "snooze"),
    (Kind::Slow, "slow"),
    (Kind::Ordered, "ordered"),
    (Kind::Reject, "reject"),
    (Kind::Poison, "poison"),
    (Kind::Deadly, "deadly"),
];

/// What child number `n` publishes as a sample: enough that each failpoint is reached.
const SAMPLE: [Kind; 14] = [
    Kind::Good,
    Kind::Slow,
    Kind::Good,
    Kind::Flaky,
    Kind::Chain,
    Kind::Reject,
    Kind::Snooze,
    Kind::Ordered,
    Kind::Ordered,
    Kind::Poison,
    Kind::Good,
    Kind::Chain,
    Kind::Good,
    Kind::Good,
];

impl Kind {
    fn name(self) -> &'static str {
        KINDS
            .iter()
            .find(|(kind, _)| *kind == self)
            .map_or("", |(_, name)| name)
    }

    /// The kind of the task with this id.
    pub(super) fn of(id: &str) -> Option<Self> {
        let last = id.rsplit('.').next()?;
        KINDS.iter().find(|(_, name)| *name == last).map(|(kind, _)| *kind)
    }

    /// One of those that a busy queue holds, by their shares.
    fn random(random: &mut fastrand::Rng) -> Self {
        match random.u16(..10_000) {
            0..700 => Self::Chain,
            700..1_300 => Self::Flaky,
            1_300..1_700 => Self::Snooze,
            1_700..1_710 => Self::Slow,
            1_710..2_600 => Self::Ordered,
            2_600..2_700 => Self::Reject,
            2_700..2_740 => Self::Poison,
            2_740 => Self::Deadly,
            _ => Self::Good,
        }
    }
}

/// The ids of a sample, in order.
pub(super) fn sample(child: u64) -> Vec<String> {
    let id = |(index, kind): (usize, &Kind)| format!("{child}.{index}.{}", kind.name());
    SAMPLE.iter().enumerate().map(id).collect()
}

/// A random id.
pub(super) fn random_id(child: u64, index: u64, random: &mut fastrand::Rng) -> String {
    // The rare ones are there from the start, in however short a run.
    let kind = match (child, index) {
        (1, 3) => Kind::Deadly,
        (1, 5) => Kind::Poison,
        (1, 7) => Kind::Slow,
        _ => Kind::random(random),
    };
    format!("{child}.{index}.{}", kind.name())
}

/// The task with this id: always the same one, so that it can be published again.
pub(super) fn task(id: &str) -> NewTask {
    let number = id.split('.').nth(1).and_then(|number| number.parse::<u64>().ok());
    let number = number.unwrap_or(0);
    let task = NewTask::new(QUEUE, "torture", id.to_owned()).with_id(id);
    match Kind::of(id) {
        Some(Kind::Ordered) => task.in_order_of(format!("key{}", number % 4)),
        Some(Kind::Good) if number % 16 == 1 => task.after(Duration::from_millis(30)),
        Some(Kind::Good) if number % 16 == 2 => task.with_priority(Priority::High),
        _ => task,
    }
}

/// How tortured workers work: impatiently.
pub(super) fn settings(lease: Duration, seed: u64) -> TaskWorkerSettings {
    TaskWorkerSettings {
        timeout: lease * 2,
        retry: RetryPolicy {
            maximum_attempts: ATTEMPTS,
            unit: Duration::from_millis(20),
            exponent: 0,
            ..RetryPolicy::default()
        },
        batch: 4,
        seed: Some(seed),
        ..TaskWorkerSettings::default()
    }
}

/// Does what each kind says.
pub(super) struct Workload {
    pub(super) recorder: Arc<Recorder>,
    pub(super) lease: Duration,
}

#[async_trait]
impl TaskHandler for Workload {
    async fn handle(&self, task: &Task, context: &TaskContext) -> Result<Outcome, HandlerError> {
        let held = Held {
            id: task.id.to_string(),
            fence: u64::from(context.deliveries),
        };
        self.recorder.write(&Event::Began(held.clone()));
        if *task.payload != *task.id.as_str().as_bytes() {
            return Ok(Outcome::reject("its payload is another task's"));
        }
        let kind = Kind::of(task.id.as_str());
        match kind {
            Some(Kind::Flaky) if context.attempt == 1 => return Ok(Outcome::retry("the first time it fails")),
            Some(Kind::Poison) => return Ok(Outcome::retry("it always fails")),
            Some(Kind::Reject) => return Ok(Outcome::reject("it is refused")),
            Some(Kind::Snooze) if context.deliveries == 1 => {
                let delay = Duration::from_millis(20);
                return Ok(Outcome::Snooze { delay });
            }
            Some(Kind::Deadly) => {
                self.recorder.write(&Event::Killing(std::process::id()));
                die();
            }
            Some(Kind::Slow) => tokio::time::sleep(self.lease.mul_f64(0.6 + fastrand::f64() / 5.0)).await,
            _ => tokio::time::sleep(Duration::from_micros(fastrand::u64(..2_000))).await,
        }
        self.recorder.write(&Event::Handled(held));
        Ok(match kind {
            Some(Kind::Chain) => Outcome::done().then(self::task(&format!("{}.then", task.id))),
            _ => Outcome::done(),
        })
    }
}

/// What became of a dead letter's attempts: how many the handler ended, and how many crashed.
pub(super) fn attempts(history: &[EndedAttempt]) -> (usize, usize) {
    let count = |crashed: bool| {
        let ended = history.iter();
        ended
            .filter(|ended| (ended.how == AttemptEnd::Crashed) == crashed)
            .count()
    };
    (count(false), count(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_what_its_task_does() {
        for (kind, name) in KINDS {
            assert_eq!(Kind::of(&format!("1.2.{name}")), Some(kind));
        }
        assert_eq!(Kind::of("1.2.chain.then"), Some(Kind::Then));
        assert_eq!(Kind::of("1.2.nothing"), None);
        assert_eq!(task("1.6.ordered").key.as_deref(), Some("key2"));
        assert_eq!(task("1.6.ordered"), task("1.6.ordered"));
    }
}
