//! Processes that are killed with a task in hand and started again: how long it takes until the task is in hand again. For
//! queues that outlive processes, with leases that last far longer than that.
//!
//! An adapter gives a test that is a child's life, and one that kills such children:
//!
//! ```ignore
//! #[test]
//! fn child() {
//!     comeback::child(|location| async move { open(location).await });
//! }
//!
//! #[test]
//! fn failure_1_a_process_that_is_started_again_has_its_task_at_once() {
//!     comeback::killed_and_started_again("comeback::child", "redis://…?maximum_crashes=100");
//! }
//! ```

#![allow(clippy::unwrap_used, reason = "for tests: a panic is the report")]

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use plba_contracts::BoxError;
use plba_contracts::config::Location;
use plba_tasks::queue::{ConsumerId, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use rustix::process::{Pid, Signal, kill_process};

use crate::runtime;

const VARIABLE: &str = "PLBA_COMEBACK";

/// How often a process is killed.
const KILLS: u32 = 8;

/// Within what time the task is in hand again, the start of the process included.
pub const LIMIT: Duration = Duration::from_secs(2);

/// For how long it is watched that a process that is stopped keeps what it holds.
const WATCHED: Duration = Duration::from_secs(4);

/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The life of a child, for a test that does nothing else: publishes one task, unless it is there, takes it, says so, and
/// keeps it in hand until it is killed. Does nothing where it is no child.
///
/// # Panics
/// When the queue fails.
pub fn child<F, Fut>(open: F)
where
    F: FnOnce(Location) -> Fut,
    Fut: Future<Output = Result<Arc<dyn TaskQueue>, BoxError>>,
{
    let Ok(location) = std::env::var(VARIABLE) else { return };
    runtime::real(async {
        let queue = open(Location::from(&*location)).await.unwrap();
        let name = QueueName::from("orders");
        let task = NewTask::new(&name, "test", "").with_id("only");
        queue.publish(vec![task]).await.unwrap();
        let consumer = ConsumerId::new(Incarnation::of_this_process(fastrand::u64(..)), "comeback");
        let delivery = queue.consume(&name, &consumer, 1).await.unwrap().remove(0);
        let mut out = std::io::stdout().lock();
        writeln!(out, "\ntook {}", delivery.deliveries).unwrap();
        out.flush().unwrap();
        loop {
            tokio::time::sleep(queue.lease() / 3).await;
            let extended = queue.extend(std::slice::from_ref(&delivery.token)).await.unwrap();
            assert!(
                extended.iter().all(Result::is_ok),
                "the lease was taken from a process that is alive"
            );
        }
    });
}

/// A child, and what it says.
struct Life {
    child: Child,
    said: Receiver<String>,
    began: Instant,
}

impl Life {
    fn begin(test: &str, location: &str) -> Self {
        let began = Instant::now();
        let mut child = crate::child::command(test)
            .env(VARIABLE, location)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (sender, said) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok).filter(|line| line.starts_with("took ")) {
                // Nobody listens any more to one that was killed.
                let _ = sender.send(line);
            }
        });
        Self { child, said, began }
    }

    /// Waits until it has the task; gives the delivery's number.
    fn took(&self, limit: Duration) -> Option<u32> {
        let line = self.said.recv_timeout(limit).ok()?;
        line.trim_start_matches("took ").parse().ok()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ends it as `kill -9` does.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // Most have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills children with the task in hand, and starts them again: each has it within [`LIMIT`] of its start. One that is only
/// stopped keeps it, and once that one is killed, a process that waits has it as soon.
///
/// `test` is the full name of the test that calls [`child`]; the location allows for many crashes, and its lease lasts much
/// longer than the limit.
///
/// # Panics
/// When it takes longer, or a process that is alive loses the task.
pub fn killed_and_started_again(test: &str, location: &str) {
    let mut longest = Duration::ZERO;
    for delivery in 1..=KILLS {
        let mut life = Life::begin(test, location);
        assert_eq!(
            life.took(PATIENCE),
            Some(delivery),
            "a killed process's task comes again"
        );
        if delivery > 1 {
            longest = longest.max(life.began.elapsed());
        }
        life.kill();
    }
    eprintln!("{KILLS} processes killed; the next one had the task within {longest:?} of its start");
    assert!(
        longest < LIMIT,
        "a process that was started again had its task only after {longest:?}"
    );

    let mut stopped = Life::begin(test, location);
    assert_eq!(stopped.took(PATIENCE), Some(KILLS + 1));
    stopped.signal(Signal::STOP);
    let waiting = Life::begin(test, location);
    assert_eq!(
        waiting.took(WATCHED),
        None,
        "a process that is stopped keeps what it holds"
    );
    stopped.kill();
    let killed = Instant::now();
    assert_eq!(waiting.took(PATIENCE), Some(KILLS + 2));
    let waited = killed.elapsed();
    eprintln!("one that waited had the task {waited:?} after the other was killed");
    assert!(
        waited < LIMIT,
        "a process that waited had the task only after {waited:?}"
    );
}
