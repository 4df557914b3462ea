//! Processes on one file that are killed at every failpoint and at random moments: failure 1, and 38 for the file.

use std::sync::Arc;
use std::time::Duration;

use plba_sql::sqlite::{SqliteSettings, SqliteTaskQueue};
use plba_tasks::queue::TaskQueue;
use plba_testkit::directory::Directory;
use plba_testkit::runtime;
use plba_testkit::torture::{self, Kills, Place, Planted, Subject};

use super::ground::{Ground, sound};

/// A place that looks, at its end, whether the file is sound.
struct File(Directory);

impl Drop for File {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            sound(&self.0.path().join("queue.db"));
        }
    }
}

fn subject() -> Subject {
    Subject::new("sqlite", "sqlite::torture::child", || {
        let file = File(Directory::new());
        let path = file.0.path().join("queue.db");
        // Small bounds, so that publishers wait for consumers, and short leases.
        Place::new(format!("sqlite:{}?lease=1&capacity=300", path.display()), file)
    })
}

#[test]
fn child() {
    torture::child(|location, clock| async move {
        let queue = SqliteTaskQueue::open(SqliteSettings::read(&location)?, clock).await?;
        Ok(Arc::new(queue) as Arc<dyn TaskQueue>)
    });
}

#[test]
fn failure_1_every_failpoint_is_hit_once_and_nothing_is_lost() {
    torture::sites(&subject());
}

#[test]
fn failures_1_and_38_kills_at_random_moments_lose_nothing_and_leave_the_file_sound() {
    torture::kills(&subject(), &Kills::from_environment(100), None);
}

/// A planted fault has to be told of, or the torture finds none.
fn is_found(planted: Planted, told: &str) {
    let plan = Kills {
        kills: 25,
        ..Kills::from_environment(25)
    };
    let found = std::panic::catch_unwind(|| torture::kills(&subject().with(planted), &plan, None));
    let panic = found.expect_err("the fault was not found");
    let report = panic.downcast_ref::<String>().unwrap();
    assert!(report.contains(told), "{report}");
}

#[test]
fn the_torture_finds_a_backend_that_acks_before_the_handler_has_run() {
    is_found(Planted::AcksFirst, "tasks are lost");
}

#[test]
fn the_torture_finds_a_backend_that_nacks_in_two_steps() {
    is_found(Planted::NacksInTwoSteps, "tasks are lost");
}

#[test]
fn what_is_looked_for_late_is_not_handed_out() {
    runtime::real(async {
        let ground = Ground::new();
        let mut settings = ground.settings();
        settings.lease = Duration::from_secs(2);
        torture::late(&ground.open_with(settings).await).await;
    });
}
