//! Failure 1: a process that is killed and started again has its task within two seconds, whatever the lease.

use std::sync::Arc;
use std::time::Instant;

use plba_sql::sqlite::{SqliteSettings, SqliteTaskQueue};
use plba_tasks::queue::TaskQueue;
use plba_testkit::comeback;

use super::ground::Ground;
use super::killed::TimeOfDay;

#[test]
fn child() {
    comeback::child(|location| async move {
        let clock = Arc::new(TimeOfDay(Instant::now()));
        let queue = SqliteTaskQueue::open(SqliteSettings::read(&location)?, clock).await?;
        Ok(Arc::new(queue) as Arc<dyn TaskQueue>)
    });
}

#[test]
fn failure_1_a_process_that_is_started_again_has_its_task_within_two_seconds() {
    let ground = Ground::new();
    let location = format!("sqlite:{}?lease=30&maximum_crashes=100", ground.path.display());
    comeback::killed_and_started_again("sqlite::comeback::child", &location);
}
