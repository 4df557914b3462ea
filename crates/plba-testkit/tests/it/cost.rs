//! The cost of one task through queue, worker and handler beside a bare channel with the same handler. No test: figures, to
//! be read by hand from a release build (`cargo test --release -p plba-testkit -- --ignored --nocapture cost`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use futures_util::FutureExt;
use plba_tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::TaskQueue;
use plba_tasks::task::{NewTask, Task};
use plba_tasks::worker::{TaskWorker, TaskWorkerSettings};
use plba_testkit::clock::TokioClock;
use plba_testkit::worker::{Supervised, context};

const COUNT: usize = 1_000_000;
const BATCH: usize = 64;

struct Counts(Arc<AtomicUsize>, Arc<tokio::sync::Notify>);

#[async_trait]
impl TaskHandler for Counts {
    async fn handle(&self, task: &Task, _: &TaskContext) -> Result<Outcome, HandlerError> {
        std::hint::black_box(&task.payload);
        if self.0.fetch_add(1, Ordering::Relaxed) + 1 == COUNT {
            self.1.notify_one();
        }
        Ok(Outcome::done())
    }
}

fn task() -> NewTask {
    NewTask::new("bench", "bench", bytes::Bytes::from_static(&[7; 256]))
}

/// A bounded channel, and the same handler with panics caught, a time-out and two clock reads.
async fn bare() -> f64 {
    let (count, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
    let handler: Arc<dyn TaskHandler> = Arc::new(Counts(Arc::clone(&count), Arc::clone(&done)));
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Task>(10_000);
    let clock: Arc<dyn plba_contracts::clock::Clock> = Arc::new(TokioClock::new());
    let for_handlers = TaskContext {
        attempt: 1,
        deliveries: 1,
        waited: std::time::Duration::ZERO,
        worker: "bare".into(),
        stop: plba_contracts::stop::StopSignal::default(),
        clock,
    };
    let began = Instant::now();
    let worker = tokio::spawn(async move {
        while let Some(task) = receiver.recv().await {
            let began = Instant::now();
            let handling = std::panic::AssertUnwindSafe(handler.handle(&task, &for_handlers)).catch_unwind();
            let handled = tokio::time::timeout(std::time::Duration::from_secs(300), handling).await;
            std::hint::black_box((handled.is_ok(), began.elapsed()));
        }
    });
    let id = plba_tasks::task::TaskId::from("same");
    let queue = plba_tasks::task::QueueName::from("bench");
    tokio::spawn(async move {
        for _ in 0..COUNT {
            let new = task();
            let task = Task {
                id: id.clone(),
                queue: queue.clone(),
                kind: new.kind,
                payload: new.payload,
                headers: new.headers,
                origin: None,
                history: Vec::new(),
                priority: new.priority,
                key: None,
                ordered: false,
                published: plba_testkit::clock::START,
                expires: None,
            };
            sender.send(task).await.unwrap();
        }
    });
    done.notified().await;
    let rate = COUNT as f64 / began.elapsed().as_secs_f64();
    worker.await.unwrap();
    rate
}

async fn queued(workers: usize) -> f64 {
    let (count, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
    let clock = Arc::new(TokioClock::new());
    let queue = Arc::new(InMemoryTaskQueue::new(MemorySettings::default(), clock.clone()).unwrap());
    let mut running = Vec::new();
    for _ in 0..workers {
        let handler = Arc::new(Counts(Arc::clone(&count), Arc::clone(&done)));
        let worker = TaskWorker::new(
            queue.clone(),
            "bench".into(),
            handler,
            None,
            TaskWorkerSettings::default(),
        );
        running.push(
            Supervised::start(Arc::new(worker), context("bench", clock.clone()))
                .await
                .unwrap(),
        );
    }
    let began = Instant::now();
    let publisher = queue.clone();
    tokio::spawn(async move {
        for _ in 0..COUNT / BATCH {
            publisher.publish((0..BATCH).map(|_| task()).collect()).await.unwrap();
        }
    });
    done.notified().await;
    let rate = COUNT as f64 / began.elapsed().as_secs_f64();
    for worker in running {
        worker.stop(false).await;
    }
    rate
}

/// Processor time of this process so far, in seconds: on a busy machine it says more than the time that passed.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |place: usize| -> f64 {
        let field = after_name.split_whitespace().nth(place);
        field.and_then(|field| field.parse().ok()).unwrap_or(0.0)
    };
    // Fields 14 and 15 of proc(5), user and system, in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}

#[test]
#[ignore = "figures, not a test"]
fn cost() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for round in 0..4 {
            let began = cpu();
            let bare = bare().await;
            let bare_cpu = cpu() - began;
            let one = queued(1).await;
            let one_cpu = cpu() - began - bare_cpu;
            let four = queued(4).await;
            let per_task = |seconds: f64| seconds * 1e9 / COUNT as f64;
            println!(
                "round {round}: processor time a task, producer included: bare {:.0} ns; 1 worker {:.0} ns ({:.2})",
                per_task(bare_cpu),
                per_task(one_cpu),
                bare_cpu / one_cpu
            );
            println!(
                "round {round}: bare {:.2} M/s; 1 worker {:.2} M/s ({:.2}); 4 workers {:.2} M/s ({:.2})",
                bare / 1e6,
                one / 1e6,
                one / bare,
                four / 1e6,
                four / bare
            );
        }
    });
}
