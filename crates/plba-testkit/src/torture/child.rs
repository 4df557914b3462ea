//! A tortured process: workers and a producer on one queue, as an application has them, until it is killed. A worker that
//! panics is started again, as a supervisor would.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::BoxError;
use plba_contracts::clock::Clock;
use plba_contracts::config::Location;
use plba_contracts::worker::Worker;
use plba_tasks::handler::TaskHandler;
use plba_tasks::queue::{Cursor, DeadFilter, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_tasks::worker::TaskWorker;

use super::machine::MachineClock;
use super::orders::{Orders, Produce};
use super::record::{Event, Recorder};
use super::watched::WatchedQueue;
use super::workload::{self, QUEUE, Workload, attempts};
use crate::decorator::Decorated;
use crate::failpoint::{Armed, FailingHandler, FailingQueue};
use crate::worker::context;

/// How many workers a child has.
const WORKERS: u32 = 2;

/// What a child is before the next try, when something failed.
const PAUSE: Duration = Duration::from_millis(20);

/// The body of the test that is a child's whole life: carries out the orders in the environment. Without orders it does
/// nothing, which is how it runs among the other tests.
///
/// # Panics
/// When the queue can't be opened within half a minute.
pub fn child<F, Fut>(open: F)
where
    F: Fn(Location, Arc<dyn Clock>) -> Fut,
    Fut: Future<Output = Result<Arc<dyn TaskQueue>, BoxError>>,
{
    let Some(orders) = Orders::of_this_process() else {
        return;
    };
    // Two threads: a handler that blocks one leaves the other.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let queue = opened(&open, &Location::from(orders.location.as_str())).await;
        Child::new(orders, queue).live().await;
    });
    // A blocked thread must not keep the process.
    runtime.shutdown_background();
}

async fn opened<F, Fut>(open: &F, location: &Location) -> Arc<dyn TaskQueue>
where
    F: Fn(Location, Arc<dyn Clock>) -> Fut,
    Fut: Future<Output = Result<Arc<dyn TaskQueue>, BoxError>>,
{
    let began = tokio::time::Instant::now();
    loop {
        match open(location.clone(), Arc::new(MachineClock)).await {
            Ok(queue) => return queue,
            // A server that is being started again; a supervisor would try again as well.
            Err(error) if began.elapsed() > Duration::from_secs(30) => {
                panic!("{location}: {}", plba_contracts::describe(error.as_ref()))
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

struct Child {
    orders: Orders,
    recorder: Arc<Recorder>,
    queue: Arc<dyn TaskQueue>,
    handler: Arc<dyn TaskHandler>,
}

impl Child {
    fn new(orders: Orders, queue: Arc<dyn TaskQueue>) -> Arc<Self> {
        let recorder = Arc::new(Recorder::open(&orders.ledger).unwrap());
        let lease = queue.lease();
        let mut handler: Arc<dyn TaskHandler> = Arc::new(Workload {
            recorder: Arc::clone(&recorder),
            lease,
        });
        let mut queue: Arc<dyn TaskQueue> = Arc::new(Decorated(WatchedQueue {
            inner: queue,
            recorder: Arc::clone(&recorder),
            planted: orders.planted,
        }));
        if let Some(point) = orders.failpoint {
            let told = Arc::clone(&recorder);
            // Once, whatever is hit first.
            let armed = Armed::new(point, 1, move || told.write(&Event::Hit));
            queue = FailingQueue::around(queue, Arc::clone(&armed));
            handler = Arc::new(FailingHandler::new(handler, armed));
        }
        Arc::new(Self {
            orders,
            recorder,
            queue,
            handler,
        })
    }

    /// Lives until it is killed or has drained the queue.
    async fn live(self: Arc<Self>) {
        self.recorder.write(&Event::Ready);
        for slot in 0..WORKERS {
            let child = Arc::clone(&self);
            tokio::spawn(again(move || Arc::clone(&child).work(slot)));
        }
        let child = Arc::clone(&self);
        tokio::spawn(again(move || Arc::clone(&child).recover()));
        let child = Arc::clone(&self);
        again(move || Arc::clone(&child).produce()).await;
        if self.orders.drain {
            self.drained().await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// A worker, until it fails.
    async fn work(self: Arc<Self>, slot: u32) -> bool {
        let seed = self.orders.seed.wrapping_add(u64::from(slot));
        let worker = Arc::new(TaskWorker::new(
            Arc::clone(&self.queue),
            QueueName::from(QUEUE),
            Arc::clone(&self.handler),
            None,
            workload::settings(self.queue.lease(), seed),
        ));
        let mut context = context("torture", Arc::new(MachineClock));
        context.slot = slot;
        if let Ok(running) = worker.start(context).await {
            drop(running.into_future().await);
        }
        false
    }

    async fn recover(self: Arc<Self>) -> bool {
        let mut cursor: Option<Cursor> = None;
        loop {
            cursor = match self.queue.recover(cursor, 10).await {
                Ok(recovery) => recovery.next,
                Err(_) => None,
            };
            tokio::time::sleep(PAUSE * 5).await;
        }
    }

    /// Publishes what it has to; says whether it is done.
    async fn produce(self: Arc<Self>) -> bool {
        let mut random = fastrand::Rng::with_seed(self.orders.seed);
        for id in &self.orders.again {
            self.publish(vec![workload::task(id)]).await;
        }
        match self.orders.produce {
            Produce::Nothing => true,
            Produce::Sample => {
                let tasks: Vec<NewTask> = workload::sample(self.orders.number)
                    .iter()
                    .map(|id| workload::task(id))
                    .collect();
                for some in tasks.chunks(7) {
                    self.publish(some.to_vec()).await;
                }
                true
            }
            Produce::Endless => {
                let mut index = 0;
                loop {
                    let count = random.u64(1..=8);
                    let id = |index| workload::task(&workload::random_id(self.orders.number, index, &mut random));
                    self.publish((index..index + count).map(id).collect()).await;
                    index += count;
                }
            }
        }
    }

    /// Publishes for as long as it takes, with the same ids.
    async fn publish(&self, tasks: Vec<NewTask>) {
        while self.queue.publish(tasks.clone()).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until nothing waits and nothing is in hand, and then writes down who is dead.
    async fn drained(&self) {
        loop {
            if let Ok(stats) = self.queue.stats().await
                && stats
                    .iter()
                    .all(|queue| queue.ready + queue.delayed + queue.held + queue.leased == 0)
                && let Some(dead) = self.dead().await
            {
                self.recorder.write_all(&dead);
                self.recorder.write(&Event::Drained);
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn dead(&self) -> Option<Vec<Event>> {
        let (mut dead, mut cursor) = (Vec::new(), None);
        loop {
            let page = self
                .queue
                .dead_letters(&DeadFilter::default(), cursor, 1_000)
                .await
                .ok()?;
            dead.extend(page.letters.iter().map(|letter| {
                let (ended, crashed) = attempts(&letter.history);
                Event::Dead(letter.id.to_string(), ended, crashed)
            }));
            cursor = page.next;
            if cursor.is_none() {
                return Some(dead);
            }
        }
    }
}

/// Runs something until it says that it is done; starts it again when it panics or gives up.
async fn again<Fut>(start: impl Fn() -> Fut)
where
    Fut: Future<Output = bool> + Send + 'static,
{
    while !matches!(tokio::spawn(start()).await, Ok(true)) {
        tokio::time::sleep(PAUSE).await;
    }
}
