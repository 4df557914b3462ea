//! Failure 1: a process that is killed and started again has its task within two seconds, whatever the lease.

use std::sync::Arc;

use plba_redis::{RedisSettings, RedisTaskQueue};
use plba_tasks::queue::TaskQueue;
use plba_testkit::{comeback, runtime};
use plba_testservers::{RedisServer, require};

#[test]
fn child() {
    comeback::child(|location| async move {
        let queue = RedisTaskQueue::open(RedisSettings::read(&location)?).await?;
        Ok(Arc::new(queue) as Arc<dyn TaskQueue>)
    });
}

#[test]
fn failure_1_a_process_that_is_started_again_has_its_task_within_two_seconds() {
    if let Some(server) = require(runtime::real(RedisServer::start())) {
        let location = format!("{}?lease=30&maximum_crashes=100", server.url());
        comeback::killed_and_started_again("comeback::child", &location);
    }
}
