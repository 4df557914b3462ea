//! Publishers that wait for space in the queue in memory.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::{ConsumerId, Delivery, Incarnation, TaskQueue};
use plba_tasks::task::NewTask;
use plba_testkit::clock::{START, TokioClock};
use plba_testkit::runtime::paused;
use tokio::time::{Instant, sleep, timeout};

fn room_for_one() -> InMemoryTaskQueue {
    let settings = MemorySettings {
        capacity: 1,
        ..MemorySettings::default()
    };
    InMemoryTaskQueue::new(settings, Arc::new(TokioClock::new())).unwrap()
}

fn task(id: &str) -> NewTask {
    NewTask::new("orders", "order", "").with_id(id)
}

async fn one(queue: &InMemoryTaskQueue) -> Delivery {
    let consumer = ConsumerId::new(Incarnation::of_this_process(3), "test");
    queue.consume(&"orders".into(), &consumer, 1).await.unwrap().remove(0)
}

#[test]
fn delay_and_expiry_of_what_waited_for_space_count_from_its_publication() {
    paused(async {
        let queue = room_for_one();
        queue.publish(vec![task("a")]).await.unwrap();
        let first = one(&queue).await;
        let later = task("b")
            .after(Duration::from_secs(60))
            .expires_after(Duration::from_secs(90));
        let publisher = queue.clone();
        let waiting = tokio::spawn(async move { publisher.publish(vec![later]).await.unwrap() });
        sleep(Duration::from_secs(20)).await;
        queue
            .ack(vec![plba_tasks::queue::Completion {
                token: first.token,
                then: Vec::new(),
            }])
            .await
            .unwrap();
        waiting.await.unwrap();
        let began = Instant::now();
        let second = one(&queue).await;
        assert_eq!(began.elapsed().as_secs(), 60);
        let after = |seconds| START + SignedDuration::from_secs(seconds);
        assert_eq!(
            (second.task.published, second.task.expires),
            (after(20), Some(after(110)))
        );
    });
}

#[test]
fn of_two_publishers_that_wait_the_second_goes_on_when_the_first_has_gone() {
    paused(async {
        let queue = room_for_one();
        queue.publish(vec![task("a")]).await.unwrap();
        let publish = |id: &'static str| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.publish(vec![task(id)]).await.unwrap() })
        };
        let (first, second) = (publish("b"), publish("c"));
        sleep(Duration::from_secs(1)).await;
        let delivery = one(&queue).await;
        // It is told of the space, and gone before it can use it.
        queue
            .ack(vec![plba_tasks::queue::Completion {
                token: delivery.token,
                then: Vec::new(),
            }])
            .await
            .unwrap();
        first.abort();
        let published = timeout(Duration::from_secs(1), second).await;
        assert_eq!(published.expect("there is space").unwrap()[0].as_str(), "c");
    });
}
