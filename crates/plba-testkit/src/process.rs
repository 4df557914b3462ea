//! A program as its users have it: in a process and a directory of its own, asked over its control plane and ended from
//! outside. Any application of the platform will do; what one of them does for its users is its own tests' affair.

#![allow(clippy::unwrap_used, reason = "for tests: a panic is the report")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything may take before a test gives up; far beyond what it does take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long an answer of the control plane may take.
const ANSWER: Duration = Duration::from_secs(15);

/// A program and a directory for it, which is removed at the end, unless the test fails.
#[derive(Debug)]
pub struct Home {
    program: PathBuf,
    path: PathBuf,
    settings: Vec<String>,
}

impl Home {
    /// A fresh directory for this program, whose name tells the test; `settings` go with every command, and so does a free
    /// port for the control plane.
    ///
    /// # Panics
    /// When the directory can't be made.
    pub fn new(program: impl Into<PathBuf>, name: &str, settings: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("plba-{name}-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Self {
            program: program.into(),
            path,
            settings,
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A command of the program that runs in the directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.path)
            .env_remove("RUST_LOG")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .args(["--set", "platform.control.listen=127.0.0.1:0"]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command.args(arguments);
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it can't be run.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command prints that has to succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that answers in JSON.
    ///
    /// # Panics
    /// When it does not succeed.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Starts the application.
    ///
    /// # Panics
    /// When it can't be run.
    pub fn start(&self, arguments: &[&str]) -> Application {
        self.start_in(arguments, &[])
    }

    /// Starts the application with these variables in its environment.
    ///
    /// # Panics
    /// When it can't be run.
    pub fn start_in(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Application {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            let keep = |line| kept.lock().unwrap().push(line);
            lines.map_while(Result::ok).for_each(keep);
        });
        Application {
            child,
            log,
            reader: Some(reader),
            home: self.path.clone(),
        }
    }

    /// What the latest stop reported.
    ///
    /// # Panics
    /// When there is no report.
    #[track_caller]
    pub fn stop_report(&self) -> Value {
        serde_json::from_slice(&fs::read(self.join("var/stop-report.json")).unwrap()).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A running process. Dropped, it is killed.
#[derive(Debug)]
pub struct Application {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    home: PathBuf,
}

impl Application {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits until `look` finds something, asking again and again.
    ///
    /// # Panics
    /// When it finds nothing within [`PATIENCE`], or the process ends meanwhile.
    #[track_caller]
    pub fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let limit = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
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
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_for_line(&mut self, part: &str) {
        self.wait(&format!("line with {part:?}"), |app| {
            let log = app.log.lock().unwrap();
            log.iter().any(|line| line.contains(part)).then_some(())
        });
    }

    /// Where its control plane listens.
    pub fn control(&self) -> Option<String> {
        let lock: Value = serde_json::from_slice(&fs::read(self.home.join("var/lock.json")).ok()?).ok()?;
        // A lock of a process before this one names another.
        (lock["pid"].as_u64()? == u64::from(self.child.id())).then_some(())?;
        let url = lock["control"].as_str()?;
        Some(url.split_once("://").map_or(url, |(_, address)| address).to_owned())
    }

    /// Asks a path of the control plane with the token; gives status and body.
    pub fn get(&self, path: &str) -> Option<(u16, Value)> {
        self.request(path, &format!("Authorization: Bearer {}\r\n", self.token()?))
    }

    /// Asks a path of the control plane with these header lines; gives status and body.
    pub fn request(&self, path: &str, headers: &str) -> Option<(u16, Value)> {
        self.send("GET", path, headers, "")
    }

    /// Asks for an action with the token; gives status and body.
    pub fn act(&self, action: &str, parameters: &Value) -> Option<(u16, Value)> {
        let body = parameters.to_string();
        let headers = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            self.token()?,
            body.len()
        );
        self.send("POST", &format!("/api/v1/actions/{action}"), &headers, &body)
    }

    /// The status that an open probe answers with.
    pub fn probe(&self, path: &str) -> Option<u16> {
        self.request(path, "").map(|(status, _)| status)
    }

    fn token(&self) -> Option<String> {
        let token = fs::read_to_string(self.home.join("var/control.token")).ok()?;
        Some(token.trim().to_owned())
    }

    /// What is no JSON is given as a text.
    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(self.control()?).ok()?;
        stream.set_read_timeout(Some(ANSWER)).ok()?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
        Some((status, body))
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When there is no such process any more.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, and for the last line of its log.
    ///
    /// # Panics
    /// When it does not end within [`PATIENCE`].
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let limit = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.reader.take().map(JoinHandle::join);
                return status;
            }
            assert!(
                Instant::now() < limit,
                "did not end within {PATIENCE:?}:\n{}",
                self.log()
            );
            pause(Duration::from_millis(10));
        }
    }

    /// Ends it as an operator would; gives the exit code.
    ///
    /// # Panics
    /// As [`end`](Self::end).
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.end().code()
    }

    /// Ends it as a power cut would.
    ///
    /// # Panics
    /// As [`signal`](Self::signal).
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The part with this name of a list, as the control plane gives lists.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let parts = list.as_array().unwrap_or_else(|| panic!("{list} is no list"));
    let part = parts.iter().find(|part| part["name"] == name);
    part.unwrap_or_else(|| panic!("no {name} in {list}"))
}

/// How many files a directory holds; none where there is no directory.
pub fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

/// Waits on a process or server outside, which no paused clock reaches.
pub fn pause(span: Duration) {
    let (_never, waiting) = std::sync::mpsc::channel::<()>();
    let _ = waiting.recv_timeout(span);
}
