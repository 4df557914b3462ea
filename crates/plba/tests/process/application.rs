//! A running example application: started, watched, asked and ended from outside. Everything it keeps lies in a directory
//! of its own.

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
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An example and a directory for it, which is removed at the end.
pub(crate) struct Home {
    example: &'static str,
    path: PathBuf,
    settings: Vec<String>,
}

impl Home {
    /// A fresh directory for this example, whose name tells the test; `settings` go with every command.
    pub(crate) fn new(example: &'static str, test: &str, settings: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("plba-{example}-{test}-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Self {
            example,
            path,
            settings,
        }
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command prints that has to succeed.
    #[track_caller]
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that answers in JSON.
    #[track_caller]
    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Starts the application.
    pub(crate) fn start(&self, arguments: &[&str]) -> Application {
        self.start_in(arguments, &[])
    }

    /// Starts the application with these variables in its environment.
    pub(crate) fn start_in(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Application {
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
    #[track_caller]
    pub(crate) fn stop_report(&self) -> Value {
        serde_json::from_slice(&fs::read(self.join("var/stop-report.json")).unwrap()).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(executable(self.example));
        command
            .current_dir(&self.path)
            .env_remove("RUST_LOG")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null());
        command.args(["--set", "platform.control.listen=127.0.0.1:0"]);
        self.settings.iter().for_each(|setting| {
            command.args(["--set", setting]);
        });
        command.args(arguments);
        command
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Where the executable of an application lies, which cargo need not have built.
pub(crate) fn application(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().join(name)
}

/// Cargo builds examples together with the tests, one directory beside them. What is no example is an application.
fn executable(example: &str) -> PathBuf {
    let path = Some(application("examples").join(example)).filter(|path| path.exists());
    let path = path.unwrap_or_else(|| application(example));
    assert!(
        path.exists(),
        "no {}; build it with `cargo build --examples`",
        path.display()
    );
    path
}

/// A running process. Dropped, it is killed.
pub(crate) struct Application {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    home: PathBuf,
}

impl Application {
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits until `look` finds something, asking again and again.
    #[track_caller]
    pub(crate) fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
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
    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, part: &str) {
        self.wait(&format!("line with {part:?}"), |app| {
            app.log().contains(part).then_some(())
        });
    }

    /// Asks a path of the control plane with the token; gives status and body.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, Value)> {
        let token = fs::read_to_string(self.home.join("var/control.token")).ok()?;
        self.request(path, &format!("Authorization: Bearer {}\r\n", token.trim()))
    }

    /// Asks a path of the control plane with these header lines; gives status and body.
    pub(crate) fn request(&self, path: &str, headers: &str) -> Option<(u16, Value)> {
        self.send("GET", path, headers, "")
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(self.control()?).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(15))).ok()?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((
            status,
            serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())),
        ))
    }

    /// Asks for an action with the token; gives status and body.
    pub(crate) fn act(&self, action: &str, parameters: &Value) -> Option<(u16, Value)> {
        let token = fs::read_to_string(self.home.join("var/control.token")).ok()?;
        let body = parameters.to_string();
        let headers = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            token.trim(),
            body.len()
        );
        self.send("POST", &format!("/api/v1/actions/{action}"), &headers, &body)
    }

    /// The status that an open probe answers with.
    pub(crate) fn probe(&self, path: &str) -> Option<u16> {
        self.request(path, "").map(|(status, _)| status)
    }

    fn control(&self) -> Option<String> {
        let lock: Value = serde_json::from_slice(&fs::read(self.home.join("var/lock.json")).ok()?).ok()?;
        // A lock of a process before this one names another.
        (lock["pid"].as_u64()? == u64::from(self.child.id())).then_some(())?;
        Some(lock["control"].as_str()?.trim_start_matches("http://").to_owned())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end, and for the last line of its log.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
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
    #[track_caller]
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.end().code()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Drops work into the spool of `faults`.
pub(crate) fn drop_work(home: &Home, names: &[&str]) {
    let spool = home.join("var/spool");
    fs::create_dir_all(&spool).unwrap();
    names.iter().for_each(|name| fs::write(spool.join(name), "").unwrap());
}

/// Whether a piece of work still lies in the spool.
pub(crate) fn lies_there(home: &Home, name: &str) -> bool {
    home.join("var/spool").join(name).exists()
}

/// The part with this name of a list.
#[track_caller]
pub(crate) fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let parts = list.as_array().unwrap_or_else(|| panic!("{list} is no list"));
    let part = parts.iter().find(|part| part["name"] == name);
    part.unwrap_or_else(|| panic!("no {name} in {list}"))
}

/// Waits on a process outside, which no paused clock reaches.
pub(crate) fn pause(span: Duration) {
    let (_never, waiting) = std::sync::mpsc::channel::<()>();
    let _ = waiting.recv_timeout(span);
}

/// The example's source.
pub(crate) fn source(example: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(example)
        .with_extension("rs");
    fs::read_to_string(path).unwrap()
}
