//! What a server keeps on disk, against what is asked of it; and confirmation by replicas.

use plba_redis::RedisTaskQueue;
use plba_tasks::queue::{Durability, PublishError, TaskQueue};
use plba_tasks::task::NewTask;
use plba_testkit::runtime;
use plba_testservers::{AppendOnly, RedisOptions, RedisServer, require};

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
