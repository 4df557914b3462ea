//! Several servers: sentinels that name another primary, a cluster of which one node has the queue, a replica, TLS.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::config::Location;
use plba_redis::{RedisLedger, RedisSettings, RedisTaskQueue};
use plba_tasks::ledger::{EntryState, SourceLedger};
use plba_tasks::queue::{ConsumerId, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, Origin, QueueName};
use plba_testkit::runtime;
use plba_testservers::{RedisCluster, RedisOptions, RedisSentinels, RedisServer, require};
use tokio::time::timeout;

use crate::place::on;

const PATIENCE: Duration = Duration::from_secs(40);

fn hosts(urls: &[String]) -> String {
    let hosts: Vec<_> = urls
        .iter()
        .map(|url| url.trim_start_matches("redis://").split('/').next().unwrap())
        .collect();
    hosts.join(",")
}

fn read(location: &str) -> RedisSettings {
    RedisSettings::read(&Location::from(location)).unwrap()
}

fn consumer() -> ConsumerId {
    ConsumerId::new(Incarnation::of_this_process(1), "test")
}

async fn once_through(queue: &RedisTaskQueue, id: &str) {
    let name = QueueName::from("orders");
    let through = async {
        // With one id, however often it is tried.
        while queue
            .publish(vec![NewTask::new(&name, "test", "").with_id(id)])
            .await
            .is_err()
        {}
        loop {
            if let Ok(mut taken) = queue.consume(&name, &consumer(), 1).await {
                let delivery = taken.remove(0);
                let found = delivery.task.id.as_str() == id;
                let _ended = queue.end_one(delivery.token, How::ack(Vec::new())).await;
                if found {
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, through).await.expect("tasks flow");
}

#[test]
fn failure_20_after_a_failover_the_new_primary_is_found_and_the_failover_counted() {
    runtime::real(async {
        let Some(sentinels) = require(RedisSentinels::start(RedisOptions::default()).await) else {
            return;
        };
        let (urls, name) = (sentinels.sentinel_urls(), sentinels.watched_name());
        let queue = RedisTaskQueue::open(read(&format!("redis+sentinel://{}/{name}?prefix=t", hosts(&urls))))
            .await
            .unwrap();
        once_through(&queue, "before").await;
        let primary = sentinels.primary().await.unwrap();
        primary.kill().await;
        once_through(&queue, "after").await;
        assert_eq!(queue.status().failovers, 1, "{:?}", queue.status());
    });
}

#[test]
fn failure_28_the_node_of_a_cluster_that_has_the_queue_is_found_from_any() {
    runtime::real(async {
        let Some(cluster) = require(RedisCluster::start(RedisOptions::default()).await) else {
            return;
        };
        for url in cluster.urls() {
            let location = format!("redis+cluster://{}?prefix=t", hosts(&[url]));
            let queue = RedisTaskQueue::open(read(&location)).await.unwrap();
            once_through(&queue, "a").await;
            // Follow-ups go to another queue in the same step, so in the same slot.
            let name = QueueName::from("orders");
            queue.publish(vec![NewTask::new(&name, "test", "")]).await.unwrap();
            let delivery = queue.consume(&name, &consumer(), 1).await.unwrap().remove(0);
            let then = vec![NewTask::new("replies", "test", "").with_priority(plba_tasks::task::Priority::High)];
            queue.end_one(delivery.token, How::ack(then)).await.unwrap();
            let reply = queue
                .consume(&"replies".into(), &consumer(), 1)
                .await
                .unwrap()
                .remove(0);
            queue.end_one(reply.token, How::ack(Vec::new())).await.unwrap();
            // So are the keys of the ledger, whose entry is settled when its dead letter is dropped.
            let ledger = RedisLedger::open(read(&location)).await.unwrap();
            let (origin, key) = (Origin::new("inbox", &*location), Arc::from(&*location));
            ledger.record_intake("inbox", &[Arc::clone(&key)]).await.unwrap();
            let mut task = NewTask::new(&name, "mail", "").with_id(origin.task_id());
            task.origin = Some(origin.clone());
            queue.publish(vec![task]).await.unwrap();
            let delivery = queue.consume(&name, &consumer(), 1).await.unwrap().remove(0);
            queue.bury(delivery.token, "nonsense".into()).await.unwrap();
            assert_eq!(queue.drop_dead(&name, &[origin.task_id()]).await.unwrap(), 1);
            let known = ledger.known("inbox", &[key]).await.unwrap().remove(0).unwrap();
            assert_eq!(known.state, EntryState::Settled);
        }
    });
}

#[test]
fn failure_28_a_replica_is_refused() {
    runtime::real(async {
        let Some(sentinels) = require(RedisSentinels::start(RedisOptions::default()).await) else {
            return;
        };
        let primary = sentinels.primary().await.unwrap().port();
        let replica = sentinels
            .servers()
            .iter()
            .find(|server| server.port() != primary)
            .unwrap();
        let refused = RedisTaskQueue::open(on(&replica.url(), ""))
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(refused.contains("read-only replica"), "{refused}");
    });
}

#[test]
fn failure_28_a_server_is_used_over_tls_only_with_an_authority_that_is_trusted() {
    runtime::real(async {
        let options = RedisOptions {
            tls: true,
            in_memory: true,
            ..RedisOptions::default()
        };
        let Some(server) = require(RedisServer::start_with(options).await) else {
            return;
        };
        let (url, ca) = (server.tls_url().unwrap(), server.ca_path().unwrap());
        let trusted = on(&url, &format!("ca={}&only_ca=true", ca.display()));
        once_through(&RedisTaskQueue::open(trusted).await.unwrap(), "a").await;
        let refused = RedisTaskQueue::open(on(&url, "")).await.err().unwrap().to_string();
        assert!(refused.contains("no TLS with"), "{refused}");
    });
}
