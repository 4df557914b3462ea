//! In memory: beside a bare bounded channel whose worker catches panics, limits the time and reads the clock round the same
//! handler, and beside apalis. From the first task published to the last one carried out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::FutureExt;
use plba_benches::load::{CAPACITY, Count, QUEUE, payload};
use plba_benches::team::Team;
use plba_contracts::clock::Clock;
use plba_contracts::stop::StopHandle;
use plba_tasks::handler::{TaskContext, TaskHandler};
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::TaskQueue;
use plba_tasks::task::{Headers, NewTask, Priority, QueueName, Task};
use plba_tasks::worker::TaskWorkerSettings;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::Result;
use crate::contest::{Contest, Contestant, Rival};
use crate::guest::{Guests, Place};
use crate::ours;
use crate::seen::{Seen, per_second};

const TASKS: usize = 200_000;
/// How many tasks a producer publishes at once, as sources do.
const BATCH: usize = 64;

pub(crate) async fn run(guests: &Guests) -> Result<()> {
    let contest = Contest {
        name: "memory".to_owned(),
        ours: Box::new(Ours),
        rivals: vec![
            Rival::control(Guarded, 1.0, 0.7),
            Rival::peer(guests.guest("apalis-memory", "1.0", TASKS, Nowhere), 1.0),
        ],
    };
    contest.run().await
}

struct Nowhere;

#[async_trait]
impl Place for Nowhere {
    async fn make(&self) -> Result<(String, Box<dyn Send>)> {
        Ok(("-".to_owned(), Box::new(())))
    }
}

struct Ours;

fn open(capacity: usize) -> Result<Arc<dyn TaskQueue>> {
    let settings = MemorySettings {
        capacity,
        ..MemorySettings::default()
    };
    Ok(Arc::new(InMemoryTaskQueue::new(settings, ours::clock())?))
}

#[async_trait]
impl Contestant for Ours {
    fn name(&self) -> String {
        "plba".to_owned()
    }

    async fn pace(&self, workers: u32) -> Result<Seen> {
        let (queue, count) = (open(CAPACITY)?, Count::down_from(TASKS));
        let handler = Arc::clone(&count) as Arc<dyn TaskHandler>;
        let team = Team::start(workers, &queue, &ours::clock(), handler, &TaskWorkerSettings::default()).await;
        let began = Instant::now();
        let producing = tokio::spawn(async move {
            let (name, payload) = (QueueName::from(QUEUE), payload());
            for first in (0..TASKS).step_by(BATCH) {
                let make = |_| NewTask::new(&name, "bench", payload.clone());
                queue
                    .publish((first..TASKS.min(first + BATCH)).map(make).collect())
                    .await?;
            }
            Result::Ok(())
        });
        count.finished().await;
        let process = per_second(TASKS, began);
        producing.await??;
        team.stop().await;
        Ok(Seen {
            process: Some(process),
            ..Seen::default()
        })
    }

    async fn pickups(&self) -> Result<Seen> {
        ours::pickups(&open(CAPACITY)?).await
    }
}

/// The limit.
struct Guarded;

#[async_trait]
impl Contestant for Guarded {
    fn name(&self) -> String {
        "guarded channel".to_owned()
    }

    async fn pace(&self, workers: u32) -> Result<Seen> {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let (receiver, count) = (Arc::new(Mutex::new(receiver)), Count::down_from(TASKS));
        let mut loops = JoinSet::new();
        for _ in 0..workers {
            let handler = Arc::clone(&count) as Arc<dyn TaskHandler>;
            loops.spawn(guarded(Arc::clone(&receiver), handler, ours::clock()));
        }
        let began = Instant::now();
        tokio::spawn(produce(sender));
        count.finished().await;
        let process = per_second(TASKS, began);
        loops.join_all().await;
        Ok(Seen {
            process: Some(process),
            ..Seen::default()
        })
    }

    async fn pickups(&self) -> Result<Seen> {
        Ok(Seen::default())
    }
}

async fn produce(sender: mpsc::Sender<Task>) {
    let task = Task {
        id: QUEUE.into(),
        queue: QUEUE.into(),
        kind: "bench".into(),
        payload: payload(),
        headers: Headers::new(),
        origin: None,
        history: Vec::new(),
        priority: Priority::Normal,
        key: None,
        ordered: false,
        published: ours::clock().now(),
        expires: None,
    };
    for _ in 0..TASKS {
        if sender.send(task.clone()).await.is_err() {
            return;
        }
    }
}

async fn guarded(receiver: Arc<Mutex<mpsc::Receiver<Task>>>, handler: Arc<dyn TaskHandler>, clock: Arc<dyn Clock>) {
    let context = TaskContext {
        attempt: 1,
        deliveries: 1,
        waited: Duration::ZERO,
        worker: QUEUE.into(),
        stop: StopHandle::new().signal(),
        clock: Arc::clone(&clock),
    };
    loop {
        let received = receiver.lock().await.recv().await;
        let Some(task) = received else { return };
        let began = clock.monotonic();
        let handling = AssertUnwindSafe(handler.handle(&task, &context)).catch_unwind();
        let handled = tokio::time::timeout(Duration::from_secs(300), handling).await;
        std::hint::black_box((handled.is_ok(), clock.monotonic().saturating_sub(began)));
    }
}
