//! What a server keeps on disk, against what is asked of it; and confirmation by replicas.

use plba_redis::{RedisLease, RedisLedger, RedisTaskQueue};
use plba_tasks::queue::{Durability, PublishError, TaskQueue};
use plba_tasks::task::NewTask;
use plba_testkit::complaints::Complaints;
use plba_testkit::runtime;
use plba_testservers::{AppendOnly, RedisOptions, RedisServer, require};
use tracing::Level;

use crate::place::on;

#[test]
fn the_durability_is_what_the_server_is_set_to() {
    runtime::real(async {
        for (append_only, durability, refused) in [
            (AppendOnly::Off, Durability::Volatile, "process_crash"),
            (AppendOnly::EverySecond, Durability::ProcessCrash, "os_crash"),
            (AppendOnly::Always, Durability::OsCrash, "replicated"),
        ] {
            let options = RedisOptions {
                append_only,
                in_memory: true,
                ..RedisOptions::default()
            };
            let Some(server) = require(RedisServer::start_with(options).await) else {
                return;
            };
            let queue = RedisTaskQueue::open(on(&server.url(), "")).await.unwrap();
            assert_eq!(queue.durability(), durability);
            let wanted = on(&server.url(), &format!("durability={refused}"));
            let error = RedisTaskQueue::open(wanted).await.err().unwrap().to_string();
            assert!(error.contains(refused), "{error}");
        }
    });
}

#[test]
fn a_server_that_keeps_nothing_is_told_of_once() {
    runtime::real(async {
        let start = || {
            RedisServer::start_with(RedisOptions {
                append_only: AppendOnly::Off,
                in_memory: true,
                ..RedisOptions::default()
            })
        };
        let (Some(first), Some(second)) = (require(start().await), require(start().await)) else {
            return;
        };
        let told = Complaints::new();
        let warnings = || told.said(Level::WARN, "Redis keeps nothing on disk");
        for (server, expected) in [(&first, 1), (&second, 2)] {
            let settings = on(&server.url(), "");
            RedisTaskQueue::open(settings.clone()).await.unwrap();
            RedisLedger::open(settings.clone()).await.unwrap();
            RedisLease::open(settings).await.unwrap();
            assert_eq!(warnings(), expected);
        }
    });
}

#[test]
fn failure_20_a_publish_that_too_few_replicas_confirm_is_unknown() {
    runtime::real(async {
        let Some(server) = require(RedisServer::shared().await) else {
            return;
        };
        let settings = on(&server.url(), "wait_replicas=1&wait_timeout=0.1");
        let queue = RedisTaskQueue::open(settings).await.unwrap();
        let error = queue
            .publish(vec![NewTask::new("orders", "test", "")])
            .await
            .unwrap_err();
        assert!(matches!(error, PublishError::Unknown { .. }), "{error}");
        assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
        assert_eq!(queue.status().unconfirmed, 1);
    });
}
