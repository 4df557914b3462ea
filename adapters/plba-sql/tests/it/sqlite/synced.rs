//! What waits for the disk in SQLite and what does not, counted where nobody can be mistaken: in the system calls.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use plba_sql::sqlite::{SqliteSettings, SqliteTaskQueue};
use plba_tasks::queue::{How, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::runtime;

use super::disk::can_trace;
use super::ground::{Ground, consumer, sound};
use super::killed::TimeOfDay;

const PLACE: &str = "PLBA_SQL_SYNCED";
const TASKS: usize = 30;
/// Opening and closing the file sync less often than that.
const OTHERS: usize = 25;

#[test]
fn child() {
    let Some(path) = std::env::var_os(PLACE) else { return };
    runtime::real(async {
        let settings = SqliteSettings::new(Path::new(&path));
        let queue = SqliteTaskQueue::open(settings, Arc::new(TimeOfDay(Instant::now())))
            .await
            .unwrap();
        let (name, who) = (QueueName::from("orders"), consumer());
        for _ in 0..TASKS {
            queue.publish(vec![NewTask::new(&name, "test", "")]).await.unwrap();
            let token = queue.consume(&name, &who, 1).await.unwrap().remove(0).token;
            queue
                .extend(std::slice::from_ref(&token))
                .await
                .unwrap()
                .remove(0)
                .unwrap();
            queue.end_one(token, How::ack(Vec::new())).await.unwrap();
        }
    });
}

#[test]
fn who_takes_or_extends_waits_for_no_disk_and_who_publishes_or_ends_does() {
    if !can_trace() {
        return;
    }
    let ground = Ground::new();
    let calls = ground.directory.path().join("calls");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(&calls);
    let status = strace
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "sqlite::synced::child", "--nocapture", "--test-threads", "1"])
        .env(PLACE, &ground.path)
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let calls = std::fs::read_to_string(calls).unwrap();
    let count = calls.lines().filter(|line| line.contains("sync(")).count();
    // One for each publish, and one for each end.
    assert!(
        (2 * TASKS..=2 * TASKS + OTHERS).contains(&count),
        "{count} calls:\n{calls}"
    );
    sound(&ground.path);
}
