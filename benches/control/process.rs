//! The process that is asked: this bench again, told by a variable to be an application whose workers do nothing, or block
//! every thread of their executor.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use plba::prelude::*;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// The variable by which the child is told what to run.
const LOAD: &str = "PLBA_BENCH_CONTROL";

/// What a worker says on standard output when it has work in hand from which it never comes back.
const CAUGHT: &str = "caught";

/// What the process has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Workers that wait.
    Idle,
    /// As many workers as the executor has threads, each in a `loop {}`.
    Blocked,
}

/// The load that this process is to run, if it is a child.
pub(crate) fn asked_for() -> Option<Load> {
    match std::env::var(LOAD).ok()?.as_str() {
        "blocked" => Some(Load::Blocked),
        _ => Some(Load::Idle),
    }
}

/// How many threads the workers' executor has: one for each core, and two at least.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// Runs the application until it is killed.
pub(crate) fn run_here(load: Load) -> ExitCode {
    std::thread::spawn(take_turns);
    plba::app("control-bench", move |app| {
        // More instances than threads: one that waits behind another on its thread may never come to its turn.
        let instances = u32::try_from(threads() * 4).unwrap_or(u32::MAX);
        app.worker(worker::service("waits", move |stop: StopSignal| wait(load, stop)).concurrency(instances));
        Ok(())
    })
    .run()
}

/// How many instances may let themselves be caught.
static TURNS: Semaphore = Semaphore::const_new(0);

/// Waits for the stop; or, once it is its turn, never lets go of its thread again.
async fn wait(load: Load, stop: StopSignal) -> Result<(), worker::RoutineError> {
    if load == Load::Idle {
        say_caught();
        stop.requested().await;
        return Ok(());
    }
    let _turn = TURNS.acquire().await;
    say_caught();
    loop {
        std::hint::spin_loop();
    }
}

/// Gives an instance its turn every now and then. Not from within: a caught thread may have been the one that wakes others.
fn take_turns() {
    loop {
        pause(Duration::from_millis(200));
        TURNS.add_permits(1);
    }
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn say_caught() {
    println!("{CAUGHT}");
}

/// A running child, killed at the end.
pub(crate) struct Process {
    child: Child,
    address: String,
    token: String,
    _directory: TempDir,
}

impl Process {
    /// Starts a process and waits until as many workers as the executor has threads are at it.
    pub(crate) fn start(load: Load) -> io::Result<Self> {
        let directory = TempDir::new()?;
        let mut child = Command::new(std::env::current_exe()?)
            .current_dir(directory.path())
            .env(LOAD, if load == Load::Blocked { "blocked" } else { "idle" })
            .args(["--set", "platform.control.listen=127.0.0.1:0"])
            // It is to answer 200 for as long as the bench takes.
            .args(["--set", "platform.health.stall_limit=1h"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("no standard output"))?;
        let caught = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .filter(|line| line == CAUGHT);
        let count = caught.take(threads()).count();
        let state = directory.path().join("var");
        let process = Self {
            address: address(&state)?,
            token: std::fs::read_to_string(state.join("control.token"))?.trim().to_owned(),
            child,
            _directory: directory,
        };
        if count < threads() {
            return Err(io::Error::other("the process ended before its workers were at it"));
        }
        Ok(process)
    }

    /// Asks once, on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> io::Result<()> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            self.token
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.starts_with("HTTP/1.1 200 ") {
            true => Ok(()),
            false => Err(io::Error::other(format!("{path} answered {answer}"))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the control plane listens, once the lock of the state directory says so.
fn address(state: &Path) -> io::Result<String> {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        let lock = std::fs::read(state.join("lock.json")).unwrap_or_default();
        let lock: Value = serde_json::from_slice(&lock).unwrap_or_default();
        if let Some(address) = lock["control"].as_str() {
            return Ok(address.trim_start_matches("http://").to_owned());
        }
        if Instant::now() > limit {
            return Err(io::Error::other("the process opened no control plane within 30 s"));
        }
        pause(Duration::from_millis(20));
    }
}

/// Waits where there is nothing to wait for: on a process outside, or between two requests.
pub(crate) fn pause(span: Duration) {
    let (_never, waiting) = std::sync::mpsc::channel::<()>();
    let _ = waiting.recv_timeout(span);
}
