//! The peer: a loop over a bounded channel that calls the same handler, with nothing around it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plba_benches::load::{CAPACITY, Count, QUEUE, payload};
use plba_contracts::clock::Clock;
use plba_contracts::stop::StopHandle;
use plba_runtime::clock::SystemClock;
use plba_tasks::handler::{TaskContext, TaskHandler};
use plba_tasks::task::{Headers, Priority, Task};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

/// From the first task sent to the last one handled.
pub(crate) async fn run(workers: u32, tasks: usize) -> Duration {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let count = Count::down_from(tasks);
    let mut loops = JoinSet::new();
    if workers == 1 {
        loops.spawn(alone(receiver, Arc::clone(&count) as Arc<dyn TaskHandler>));
    } else {
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..workers {
            loops.spawn(shared(
                Arc::clone(&receiver),
                Arc::clone(&count) as Arc<dyn TaskHandler>,
            ));
        }
    }
    let began = Instant::now();
    let producer = tokio::spawn(produce(sender, tasks));
    count.finished().await;
    let took = began.elapsed();
    producer.await.expect("sending does not panic");
    loops.join_all().await;
    took
}

async fn produce(sender: mpsc::Sender<Task>, tasks: usize) {
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
        published: SystemClock::new().now(),
        expires: None,
    };
    for _ in 0..tasks {
        sender.send(task.clone()).await.expect("a loop receives");
    }
}

async fn alone(mut receiver: mpsc::Receiver<Task>, handler: Arc<dyn TaskHandler>) {
    let context = context();
    while let Some(task) = receiver.recv().await {
        handler.handle(&task, &context).await.expect("the handler succeeds");
    }
}

async fn shared(receiver: Arc<Mutex<mpsc::Receiver<Task>>>, handler: Arc<dyn TaskHandler>) {
    let context = context();
    loop {
        let received = receiver.lock().await.recv().await;
        let Some(task) = received else { return };
        handler.handle(&task, &context).await.expect("the handler succeeds");
    }
}

fn context() -> TaskContext {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    TaskContext {
        attempt: 1,
        deliveries: 1,
        waited: Duration::ZERO,
        worker: "bench".into(),
        stop: StopHandle::new().signal(),
        clock,
    }
}
