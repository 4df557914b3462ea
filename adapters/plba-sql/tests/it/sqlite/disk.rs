//! Disks that are full, limits on the size of files, and disks that fail: failure 37. What was accepted stays, what was not
//! is told, the file stays sound, and it goes on by itself.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plba_sql::sqlite::{SqliteSettings, SqliteTaskQueue};
use plba_tasks::queue::{Ending, How, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::runtime;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{sleep, timeout};

use super::ground::{Ground, consumer, sound};
use super::killed::TimeOfDay;
use crate::mounted::Mounted;

/// The file of the child that meets a limit, and of the one whose disk fails.
const LIMITED: &str = "PLBA_SQL_LIMITED";
const FAILING: &str = "PLBA_SQL_FAILING";
/// How often the child with the failing disk publishes.
const PUBLISHES: usize = 40;

fn orders() -> QueueName {
    QueueName::from("orders")
}

async fn open(path: &Path) -> SqliteTaskQueue {
    let settings = SqliteSettings::new(path);
    SqliteTaskQueue::open(settings, Arc::new(TimeOfDay(Instant::now())))
        .await
        .unwrap()
}

fn task(number: usize, bytes: usize) -> NewTask {
    NewTask::new(orders(), "test", vec![7; bytes]).with_id(format!("{number}"))
}

/// Publishes until that fails; gives how often it did not, and what was said.
async fn fill(queue: &SqliteTaskQueue) -> (usize, String) {
    for published in 0..2_000 {
        if let Err(error) = queue.publish(vec![task(published, 20_000)]).await {
            return (published, plba_contracts::describe(&error));
        }
    }
    panic!("it is never full");
}

/// Carries out all there is; gives how many.
async fn drain(queue: &SqliteTaskQueue) -> usize {
    let (name, who, mut count) = (orders(), consumer(), 0);
    loop {
        let taken = queue.exchange(Vec::new(), &name, &who, 100).await.taken.unwrap();
        if taken.is_empty() {
            return count;
        }
        let ack = |delivery: plba_tasks::queue::Delivery| Ending {
            token: delivery.token,
            how: How::ack(Vec::new()),
        };
        for ended in queue.end(taken.into_iter().map(ack).collect()).await.unwrap() {
            ended.unwrap();
            count += 1;
        }
    }
}

/// Publishes until that succeeds.
async fn publish_in_the_end(queue: &SqliteTaskQueue, number: usize) {
    let publishing = async {
        while queue.publish(vec![task(number, 20_000)]).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), publishing)
        .await
        .expect("it goes on when there is space");
}

#[test]
fn failure_37_a_full_file_system_is_told_and_goes_on_when_it_has_space() {
    let Some(mounted) = Mounted::new(4) else { return };
    let path = mounted.path().join("queue.db");
    runtime::real(async {
        let queue = open(&path).await;
        let (published, said) = fill(&queue).await;
        assert!(
            published > 20 && said.contains("free some space"),
            "{published}: {said}"
        );
        // What is there can be seen.
        assert_eq!(queue.stats().await.unwrap()[0].ready, published as u64);
        mounted.grow(64);
        publish_in_the_end(&queue, published).await;
        assert_eq!(drain(&queue).await, published + 1);
    });
    sound(&path);
}

fn child(variable: &str, test: &str, path: &Path, command: &mut Command) -> Output {
    let output = command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(variable, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}: {}\n{}",
        output.status,
        said(&output.stdout),
        said(&output.stderr)
    );
    output
}

#[test]
fn limited_child() {
    let Some(path) = std::env::var_os(LIMITED) else { return };
    runtime::real(async {
        let queue = open(Path::new(&path)).await;
        let (published, said) = fill(&queue).await;
        assert!(
            published > 20 && said.contains("limit on file sizes"),
            "{published}: {said}"
        );
        assert_eq!(queue.stats().await.unwrap()[0].ready, published as u64);
        let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
        let lifted = Rlimit {
            current: maximum,
            maximum,
        };
        setrlimit(Resource::Fsize, lifted).unwrap();
        publish_in_the_end(&queue, published).await;
        assert_eq!(drain(&queue).await, published + 1);
    });
}

#[test]
fn failure_37_a_limit_on_file_sizes_is_told_and_goes_on_when_it_is_lifted() {
    let ground = Ground::new();
    // A shell says so, because it can ignore the signal that comes with it.
    let script = "trap '' XFSZ; ulimit -S -f 4000; exec \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]);
    child(LIMITED, "sqlite::disk::limited_child", &ground.path, &mut shell);
    sound(&ground.path);
}

/// Publishes, whatever is said, and prints what was accepted.
#[test]
fn failing_child() {
    let Some(path) = std::env::var_os(FAILING) else { return };
    runtime::real(async {
        let queue = open(Path::new(&path)).await;
        let mut refused = 0;
        for number in 0..PUBLISHES {
            match queue.publish(vec![task(number, 100)]).await {
                Ok(_) => println!("accepted {number}"),
                Err(error) => {
                    let said = plba_contracts::describe(&error);
                    assert!(said.contains("disk"), "{said}");
                    refused += 1;
                }
            }
        }
        println!("refused {refused}");
    });
}

/// Whether strace may look at processes here, and let their system calls fail.
pub(super) fn can_trace() -> bool {
    let tried = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "true"])
        .output();
    let can = tried.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("not run: strace is not there, or may not trace: {tried:?}");
    }
    can
}

/// Lets calls on the file and its log fail, and looks what is there afterwards.
fn fail(calls: &str, error: &str, when: &str) {
    let ground = Ground::new();
    // Made before, so that all that fails are publishes.
    runtime::real(async { drop(open(&ground.path).await) });
    let log = ground.directory.path().join("queue.db-wal");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-o", "/dev/null", "-P"])
        .arg(&ground.path)
        .arg("-P")
        .arg(&log)
        .args(["-e", &format!("inject={calls}:error={error}:when={when}")]);
    let output = child(FAILING, "sqlite::disk::failing_child", &ground.path, &mut strace);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = |word: &str| -> Vec<u64> {
        let lines = said.lines().filter_map(|line| line.split_once(word));
        lines.map(|(_, number)| number.trim().parse().unwrap()).collect()
    };
    let (accepted, refused) = (numbers("accepted "), numbers("refused ")[0]);
    assert!(refused > 0, "{calls} {error} {when}: nothing failed: {said}");
    assert!(
        accepted.len() > PUBLISHES / 2,
        "{calls} {error} {when}: it did not go on: {said}"
    );
    sound(&ground.path);
    runtime::real(async {
        let queue = open(&ground.path).await;
        let (name, who) = (orders(), consumer());
        let taken = queue.exchange(Vec::new(), &name, &who, 1_000).await.taken.unwrap();
        let there: Vec<u64> = taken
            .iter()
            .map(|delivery| delivery.task.id.as_str().parse().unwrap())
            .collect();
        let lost: Vec<&u64> = accepted.iter().filter(|number| !there.contains(number)).collect();
        assert!(
            lost.is_empty(),
            "{calls} {error} {when}: accepted, and not there: {lost:?}"
        );
    });
}

#[test]
fn failure_37_a_disk_that_does_not_sync_is_told_and_what_was_accepted_is_there() {
    if !can_trace() {
        return;
    }
    for when in ["3", "5..8"] {
        fail("fsync,fdatasync", "EIO", when);
    }
}

#[test]
fn failure_37_writes_that_fail_are_told_and_what_was_accepted_is_there() {
    if !can_trace() {
        return;
    }
    // Of the log's header, of the first page of a transaction, and of the later ones.
    for when in ["4", "9..11", "16", "23"] {
        fail("write,pwrite64", "ENOSPC", when);
    }
}
