//! Networks and clocks that go wrong between a queue and its server: failures 22, 23 and 26 of the catalogue. Cuts are in
//! `torture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plba_redis::{RedisSettings, RedisTaskQueue, Site};
use plba_tasks::queue::{ConsumerId, Delivery, EndError, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::clock::ManualClock;
use plba_testkit::proxy::{Direction, FaultProxy};
use plba_testkit::{runtime, torture};
use plba_testservers::{RedisOptions, RedisServer, require};
use tokio::time::timeout;

use crate::place::{fresh, on};

fn orders() -> QueueName {
    QueueName::from("orders")
}

fn task(id: &str) -> NewTask {
    NewTask::new(orders(), "test", "").with_id(id)
}

fn consumer() -> ConsumerId {
    ConsumerId::new(Incarnation::of_this_process(5), "test")
}

async fn one(queue: &RedisTaskQueue, within: Duration) -> Delivery {
    let taken = timeout(within, queue.consume(&orders(), &consumer(), 1)).await;
    taken.expect("something is handed out in time").unwrap().remove(0)
}

/// A server, a queue that reaches it through a proxy, and one that does not need to.
async fn through_a_proxy(query: &str) -> Option<(RedisServer, FaultProxy, RedisTaskQueue, RedisTaskQueue)> {
    let options = RedisOptions {
        in_memory: true,
        ..RedisOptions::default()
    };
    let server = require(RedisServer::start_with(options).await)?;
    let proxy = FaultProxy::start(([127, 0, 0, 1], server.port()).into());
    let direct = on(&server.url(), query);
    let through = RedisSettings {
        site: Site::Server("127.0.0.1".into(), proxy.port()),
        ..direct.clone()
    };
    let through = RedisTaskQueue::open(through).await.unwrap();
    let direct = RedisTaskQueue::open(direct).await.unwrap();
    Some((server, proxy, through, direct))
}

#[test]
fn failure_22_a_server_that_is_stopped_for_less_than_half_a_lease_takes_no_lease() {
    runtime::real(async {
        let Some((server, _proxy, queue, _)) = through_a_proxy("lease=3&response_timeout=5").await else {
            return;
        };
        queue.publish(vec![task("a")]).await.unwrap();
        let held = one(&queue, Duration::from_secs(5)).await;
        server.pause();
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        server.resume();
        let extended = loop {
            match queue.extend(std::slice::from_ref(&held.token)).await {
                Ok(mut extended) => break extended.remove(0),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        extended.unwrap();
        queue.end_one(held.token, How::ack(Vec::new())).await.unwrap();
    });
}

#[test]
fn failure_23_a_half_open_connection_is_given_up_in_seconds_and_tasks_flow_again() {
    runtime::real(async {
        let query = "lease=30&response_timeout=0.5";
        let Some((_server, proxy, queue, direct)) = through_a_proxy(query).await else {
            return;
        };
        let queue = Arc::new(queue);
        let waiting = {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { queue.consume(&orders(), &consumer(), 1).await })
        };
        tokio::time::sleep(Duration::from_millis(300)).await;
        for direction in [Direction::ToServer, Direction::ToClient] {
            proxy.black_hole(direction);
        }
        let began = Instant::now();
        assert!(queue.publish(vec![task("into the hole")]).await.is_err());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        // The connections that are in the hole stay open, and will never answer.
        proxy.heal();
        direct.publish(vec![task("a")]).await.unwrap();
        // The one that waited may have been told of the hole; then it asks again, as workers do.
        let taken = match timeout(Duration::from_secs(12), waiting)
            .await
            .expect("it comes to an end")
        {
            Ok(Ok(taken)) => taken.into_iter().next().unwrap(),
            _ => one(&queue, Duration::from_secs(12)).await,
        };
        assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
        queue.end_one(taken.token, How::ack(Vec::new())).await.unwrap();
    });
}

#[test]
fn failure_26_a_clock_that_jumps_ahead_costs_a_repetition_and_no_more() {
    runtime::real(async {
        let Some(settings) = fresh().await else { return };
        let clock = Arc::new(ManualClock::new());
        let queue = RedisTaskQueue::open_with_clock(settings, Arc::clone(&clock) as _)
            .await
            .unwrap();
        queue.publish(vec![task("a")]).await.unwrap();
        let first = one(&queue, Duration::from_secs(5)).await;
        clock.advance(Duration::from_secs(3_600));
        // Its lease has run out by that clock, so it is handed out again; the fence tells the two apart.
        let second = one(&queue, Duration::from_secs(5)).await;
        assert_eq!(second.deliveries, 2);
        let late = queue.end_one(first.token, How::ack(Vec::new())).await;
        assert!(matches!(late, Err(EndError::LeaseLost)), "{late:?}");
        queue.end_one(second.token, How::ack(Vec::new())).await.unwrap();
    });
}

#[test]
fn failure_26_a_clock_that_is_set_back_takes_no_lease_and_stops_nothing() {
    runtime::real(async {
        let Some(settings) = fresh().await else { return };
        let clock = Arc::new(ManualClock::new());
        let lease = settings.lease;
        let queue = RedisTaskQueue::open_with_clock(settings, Arc::clone(&clock) as _)
            .await
            .unwrap();
        queue.publish(vec![task("held"), task("b")]).await.unwrap();
        let held = one(&queue, Duration::from_secs(5)).await;
        clock.set_back(Duration::from_secs(3_600));
        queue.publish(vec![task("c")]).await.unwrap();
        for _ in 0..2 {
            let next = one(&queue, Duration::from_secs(5)).await;
            assert_ne!(next.task.id, held.task.id);
            queue.end_one(next.token, How::ack(Vec::new())).await.unwrap();
        }
        let extended = queue.extend(std::slice::from_ref(&held.token)).await.unwrap().remove(0);
        extended.unwrap();
        // An extended lease is one of the new time: it ends in its time.
        clock.advance(lease + Duration::from_secs(1));
        let again = one(&queue, Duration::from_secs(5)).await;
        assert_eq!((again.task.id.as_str(), again.deliveries), ("held", 2));
        queue.end_one(again.token, How::ack(Vec::new())).await.unwrap();
    });
}

#[test]
fn what_is_looked_for_late_is_not_handed_out() {
    runtime::real(async {
        if let Some((_server, _proxy, queue, _)) = through_a_proxy("lease=2").await {
            torture::late(&queue).await;
        }
    });
}
