//! The suite for task queues: the promises of the port, in groups. Each case is named after the promise it proves.
//!
//! An adapter runs it from one of its integration tests, with a fresh and empty queue for each case:
//!
//! ```ignore
//! #[test]
//! fn the_queue_keeps_the_promises_of_queues() {
//!     conformance::queue::queue(Time::Real, || async { fresh_queue_on_the_test_server().await });
//! }
//! ```
//!
//! - Time. A queue whose time can be moved by hand gives [`QueueUnderTest::advance`]; cases then move it instead of
//!   waiting, and the whole suite takes seconds. Moving it must also wake consumers that wait, as a timer of theirs would
//!   have. Leases of half a minute are right then. Without it, real time passes, and leases should be short (a second).
//! - Fewer at once. [`queue_part`] runs every *n*-th case, so that several tests share the suite and run side by side;
//!   `PLBA_CASE=text` in the environment runs only cases with that text in their names.
//! - Two processes. [`two_handles`] holds for queues that several processes share.
//! - Random sequences. [`model::queue`](super::model::queue) compares with a small model.

mod consuming;
mod dead;
mod effects;
mod ending;
mod exchanging;
mod expiry;
mod follow_ups;
mod gone;
mod handles;
mod keys;
mod leases;
mod letters;
mod listing;
mod ordered;
mod pauses;
mod priorities;
mod publishing;
mod replacing;
mod retention;
mod rules;
mod subject;
mod uniques;
mod with_ledger;

use std::any::Any;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::services::BoxFuture;
use plba_tasks::ledger::SourceLedger;
use plba_tasks::queue::{Delivery, TaskQueue};

use self::subject::Subject;
use super::{Case, Time, run};

/// Moves a queue's own time forward.
pub type Advance = Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// A fresh, empty queue and what the suite must know of it.
pub struct QueueUnderTest {
    /// The queue.
    pub queue: Arc<dyn TaskQueue>,
    /// How many tasks one named queue takes before publishers wait; `None` when it is not bounded. Between 4 and 1,000.
    pub capacity: Option<usize>,
    /// After how many crashes a task is dead.
    pub maximum_crashes: u32,
    /// Moves the queue's time, and wakes its consumers as their timers would; `None` when it lives in tokio's time.
    pub advance: Option<Advance>,
    /// What must live as long as the queue, such as a server.
    pub keep: Box<dyn Any + Send + Sync>,
}

const GROUPS: &[&[Case<Subject>]] = &[
    publishing::CASES,
    consuming::CASES,
    leases::CASES,
    ending::CASES,
    exchanging::CASES,
    follow_ups::CASES,
    effects::CASES,
    priorities::CASES,
    expiry::CASES,
    ordered::CASES,
    keys::CASES,
    uniques::CASES,
    replacing::CASES,
    rules::CASES,
    pauses::CASES,
    listing::CASES,
    dead::CASES,
    letters::CASES,
    retention::CASES,
];

/// How many cases [`queue`] runs.
pub fn count() -> usize {
    GROUPS.iter().map(|group| group.len()).sum()
}

/// Runs the suite against the queues that `make` makes, one for each case.
///
/// # Panics
/// With a report, when a promise is broken.
pub fn queue<Fut: Future<Output = QueueUnderTest>>(time: Time, make: impl Fn() -> Fut) {
    queue_part(time, 0, 1, make);
}

/// Runs every `parts`-th case, from the one with the number `part` on: tests that share the suite run side by side.
///
/// # Panics
/// With a report, when a promise is broken.
pub fn queue_part<Fut: Future<Output = QueueUnderTest>>(time: Time, part: usize, parts: usize, make: impl Fn() -> Fut) {
    let cases = GROUPS.iter().copied().flatten().skip(part).step_by(parts.max(1));
    run("the queue", time, cases, || async { Subject::new(make().await) });
}

/// Runs the suite for queues that keep a ledger in step, such as the one in memory.
///
/// # Panics
/// With a report, when a promise is broken.
pub fn queue_with_ledger<Fut>(time: Time, make: impl Fn() -> Fut)
where
    Fut: Future<Output = (QueueUnderTest, Arc<dyn SourceLedger>)>,
{
    run("the queue with a ledger", time, with_ledger::CASES, || async {
        let (queue, ledger) = make().await;
        (Subject::new(queue), ledger)
    });
}

/// Runs the suite for queues that processes share: `make` gives a fresh one, and a second handle on the same store, as
/// another process would open it. Their leases last at least ten seconds, so that a lease that is ended because its holder's
/// process is gone is told from one that ran out. Processes end in real time only: under paused time, in which a queue
/// lives within one process, their group is left out.
///
/// # Panics
/// With a report, when a promise is broken.
pub fn two_handles<Fut>(time: Time, make: impl Fn() -> Fut)
where
    Fut: Future<Output = (QueueUnderTest, Arc<dyn TaskQueue>)>,
{
    let gone = if time == Time::Real { gone::CASES } else { &[] };
    let cases = [handles::CASES, gone];
    run(
        "the queue with two handles",
        time,
        cases.into_iter().flatten(),
        || async {
            let (first, second) = make().await;
            handles::Two::new(first, second)
        },
    );
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.task.id.to_string()).collect()
}
