//! A running bot: started, watched, asked and ended by its process id. Everything it keeps lies in a directory of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything may take before a test gives up; far beyond what it does take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory for one bot, removed at the end.
pub(crate) struct Home {
    path: PathBuf,
}

impl Home {
    /// A fresh directory whose name tells the test.
    pub(crate) fn new(test: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mail-order-bot-{test}-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A command of the bot that runs in this directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mail-order-bot"));
        command
            .current_dir(&self.path)
            .args(["--set", "platform.control.listen=127.0.0.1:0"])
            .args(arguments);
        command.env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that answers in JSON.
    #[track_caller]
    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// All orders, however many.
    pub(crate) fn orders(&self, arguments: &[&str]) -> Vec<Value> {
        let mut orders: Vec<Value> = Vec::new();
        loop {
            let before = orders.last().map(|order| order["id"].to_string());
            let page = match &before {
                None => vec!["orders", "--limit", "1000"],
                Some(before) => vec!["orders", "--limit", "1000", "--before", before],
            };
            let Value::Array(page) = self.ask(&[&page, arguments].concat()) else {
                panic!("orders are a list")
            };
            if page.is_empty() {
                return orders;
            }
            orders.extend(page);
        }
    }

    /// How many replies lie in the outbox.
    pub(crate) fn replies(&self) -> usize {
        ["new", "cur"]
            .iter()
            .map(|part| count(&self.join("var/outbox").join(part)))
            .sum()
    }

    /// Starts the bot.
    pub(crate) fn start(&self, arguments: &[&str]) -> Bot {
        let mut child = self
            .command(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| kept.lock().unwrap().push(line))
        });
        Bot {
            child,
            log,
            reader: Some(reader),
            home: self.path.clone(),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// How many files a directory holds.
pub(crate) fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

/// A bot's process. Dropped, it is killed.
pub(crate) struct Bot {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    home: PathBuf,
}

impl Bot {
    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits until `holds`, asking again and again.
    #[track_caller]
    pub(crate) fn wait(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let limit = Instant::now() + PATIENCE;
        while !holds() {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "ended ({ended:?}) while waiting for {what}:\n{}",
                self.log()
            );
            assert!(Instant::now() < limit, "no {what} within {PATIENCE:?}:\n{}", self.log());
            pause(Duration::from_millis(20));
        }
    }

    /// Waits until it says so on its log.
    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, part: &str) {
        let log = Arc::clone(&self.log);
        self.wait(&format!("line with {part:?}"), || {
            log.lock().unwrap().iter().any(|line| line.contains(part))
        });
    }

    /// Where its control plane listens.
    pub(crate) fn control(&self) -> Option<String> {
        let lock: Value = serde_json::from_slice(&fs::read(self.home.join("var/lock.json")).ok()?).ok()?;
        Some(lock["control"].as_str()?.trim_start_matches("http://").to_owned())
    }

    /// Asks a path of the control plane; gives status and body.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        use std::io::{Read, Write};
        let token = fs::read_to_string(self.home.join("var/control.token")).ok()?;
        let mut stream = std::net::TcpStream::connect(self.control()?).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(15))).ok()?;
        let token = token.trim();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned())
            .unwrap_or_default();
        Some((status, body))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end, and for the last line of its log; gives the exit code, `None` for a signal.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Option<i32> {
        let limit = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.reader.take().map(JoinHandle::join);
                return status.code();
            }
            assert!(
                Instant::now() < limit,
                "did not end within {PATIENCE:?}:\n{}",
                self.log()
            );
            pause(Duration::from_millis(10));
        }
    }

    /// Ends it as an operator would, and expects a clean end.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        let code = self.end();
        assert_eq!(code, Some(0), "{}", self.log());
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits on a process or server outside, which no paused clock reaches.
pub(crate) fn pause(span: Duration) {
    let (_never, waiting) = std::sync::mpsc::channel::<()>();
    let _ = waiting.recv_timeout(span);
}
