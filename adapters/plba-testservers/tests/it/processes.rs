//! What a server's processes leave behind: nothing. Also when the test process is killed, which is tried with another
//! one: this binary again, told by the environment to start a server and wait.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use plba_testservers::{PostgresServer, RedisServer, require};

/// Set in the process that is to be killed.
const VICTIM: &str = "PLBA_TESTSERVERS_VICTIM";

/// How long a guard may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The processes whose command line or, as PostgreSQL's do, working directory mentions the directory.
pub(crate) fn processes_of(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| {
            let command = fs::read(path.join("cmdline")).unwrap_or_default();
            let place = fs::read_link(path.join("cwd")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains(directory) || place.to_string_lossy().contains(directory)
        })
        .collect()
}

/// The directory of the server that this process belongs to.
pub(crate) fn directory_of(pid: u32) -> String {
    let place = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    let name = place
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .find(|part| part.starts_with("plba-"));
    name.expect("a server's directory")
}

/// The directories made by a test process: its servers', and those that servers are copied from.
fn directories_of(pid: u32) -> Vec<String> {
    let of = format!("-{pid}-");
    let names = [PathBuf::from("/tmp"), PathBuf::from("/dev/shm"), env::temp_dir()]
        .into_iter()
        .flat_map(|root| fs::read_dir(root).unwrap().flatten())
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let servers = ["plba-redis-", "plba-postgres-", "plba-initdb-"];
    names
        .filter(|name| name.contains(&of) && servers.iter().any(|server| name.starts_with(server)))
        .collect()
}

/// Not a test: what the killed process does. Says when its servers are there and waits to be killed.
#[tokio::test]
async fn victim() {
    if env::var_os(VICTIM).is_none() {
        return;
    }
    let alone = RedisServer::start().await.unwrap();
    let shared = RedisServer::shared().await.unwrap();
    let postgres = PostgresServer::start().await.unwrap();
    println!("victim ready");
    std::future::pending::<()>().await;
    drop((alone, shared, postgres));
}

#[tokio::test]
async fn servers_end_with_a_test_process_that_is_killed() {
    if require(RedisServer::shared().await).is_none() || require(PostgresServer::shared().await).is_none() {
        return;
    }
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "processes::victim"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.any(|line| line.contains("victim ready")));
    let directories = directories_of(victim.id());
    assert!(directories.len() >= 4, "{directories:?}");
    victim.kill().unwrap();
    victim.wait().unwrap();

    let begun = Instant::now();
    let left = || {
        let processes = directories.iter().any(|directory| !processes_of(directory).is_empty());
        processes || !directories_of(victim.id()).is_empty()
    };
    while left() {
        assert!(begun.elapsed() < PATIENCE, "left: {directories:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
