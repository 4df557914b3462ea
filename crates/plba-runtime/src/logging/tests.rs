//! Tests of logging: what lines look like, what a reload changes, and what happens when the disk is full.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::config::{Faults, FilePath};
use tracing::dispatcher::with_default;
use tracing::{debug, info, warn};

use super::*;

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        "2026-11-22T13:03:07.25Z".parse().unwrap()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn utc() -> LoggingConfig {
    LoggingConfig {
        time: LogTime::Utc,
        ..LoggingConfig::default()
    }
}

/// Logs under a configuration and returns what stood on the screen when the handle was gone.
fn screen(config: &LoggingConfig, terminal: bool, log: impl FnOnce(&LoggingHandle)) -> String {
    let screen = Screen::default();
    let (dispatch, handle) = build(
        config,
        Arc::new(Stopped),
        Vec::new(),
        Some((Box::new(screen.clone()), terminal)),
    )
    .unwrap();
    with_default(&dispatch, || log(&handle));
    drop(handle);
    screen.text()
}

#[test]
fn the_pretty_format_is_calm() {
    let text = screen(&utc(), false, |_| {
        info!(target: "plba_runtime::supervisor::step", worker = "orders", attempt = 1, "worker started");
        warn!(target: "hyper::proto", reason = "no route", "odd\u{1b}[2J\nforged line");
    });
    assert_eq!(
        text,
        "2026-11-22 13:03:07  INFO supervisor  worker started  worker=orders attempt=1\n\
         2026-11-22 13:03:07  WARN hyper  odd\\u{1b}[2J\n    forged line  reason=\"no route\"\n"
    );
}

#[test]
fn terminals_get_colours_unless_forbidden() {
    let log = |_: &LoggingHandle| info!("hello");
    let always = LoggingConfig {
        color: Color::Always,
        ..utc()
    };
    let never = LoggingConfig {
        color: Color::Never,
        ..utc()
    };
    assert!(screen(&always, false, log).contains("\u{1b}[32m INFO"));
    assert!(!screen(&never, true, log).contains('\u{1b}'));
}

#[test]
fn json_lines_are_json() {
    let config = LoggingConfig {
        format: LogFormat::Json,
        ..utc()
    };
    let text = screen(&config, false, |_| info!(worker = "orders", "worker started"));
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(line["timestamp"], "2026-11-22T13:03:07.250000Z");
    assert_eq!(
        (&line["message"], &line["worker"]),
        (&"worker started".into(), &"orders".into())
    );
}

#[test]
fn levels_go_by_target_and_follow_a_reload() {
    let mut config = utc();
    config.levels.insert("loud".into(), LogLevel::Debug);
    let text = screen(&config, false, |handle| {
        debug!(target: "loud::part", "one");
        debug!(target: "quiet", "two");
        let mut next = LoggingConfig {
            level: LogLevel::Debug,
            format: LogFormat::Json,
            ..utc()
        };
        next.levels.insert("loud".into(), LogLevel::Off);
        assert!(handle.reload(&next));
        assert_eq!(handle.levels(), (next.level, next.levels.clone()));
        debug!(target: "loud::part", "three");
        debug!(target: "quiet", "four");
        assert!(!handle.reload(&next));
    });
    let said: Vec<&str> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(said, ["one", "four"]);
}

struct Counting(Arc<Mutex<u32>>);

impl Layer<Registry> for Counting {
    fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, Registry>) {
        *self.0.lock().unwrap() += 1;
    }
}

#[test]
fn extra_layers_see_what_the_log_leaves_out() {
    let seen = Arc::new(Mutex::new(0));
    let extra: Vec<ExtraLayer> = vec![Box::new(Counting(Arc::clone(&seen)))];
    let (dispatch, handle) = build(&utc(), Arc::new(Stopped), extra, None).unwrap();
    with_default(&dispatch, || debug!("unheard"));
    drop(handle);
    assert_eq!(*seen.lock().unwrap(), 1);
}

#[test]
fn failure_42_a_full_disk_stops_nothing_and_is_counted() {
    let mut config = utc();
    // Every write to this device fails as on a full disk.
    config.file = LogFileConfig {
        path: Some("/dev/full".into()),
        rotation: Rotation::Never,
        ..LogFileConfig::default()
    };
    let (dispatch, handle) = build(&config, Arc::new(Stopped), Vec::new(), None).unwrap();
    with_default(&dispatch, || (0..3).for_each(|number| info!(number, "lost")));
    let outputs: Vec<_> = handle
        .outputs
        .iter()
        .map(|output| Arc::clone(&output.refused))
        .collect();
    drop(handle);
    assert_eq!(outputs[0].load(std::sync::atomic::Ordering::Relaxed), 3);
}

/// A stream that takes nothing until it is let go on, as a disk that hangs or a terminal that is stopped.
struct Stuck(Arc<Mutex<()>>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        drop(self.0.lock().unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn failure_42_an_output_that_hangs_holds_nobody_up() {
    const LINES: u32 = 40_000;
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    let stream: Box<dyn Write + Send> = Box::new(Stuck(Arc::clone(&gate)));
    let (dispatch, handle) = build(&utc(), Arc::new(Stopped), Vec::new(), Some((stream, false))).unwrap();
    let mut slow = 0;
    with_default(&dispatch, || {
        for number in 0..LINES {
            let began = std::time::Instant::now();
            info!(number, "said while nobody writes");
            slow += u32::from(began.elapsed() > Duration::from_millis(100));
        }
    });
    // One or two of them because the machine has something else to do, but not because of the log.
    assert!(slow < 5, "{slow} of {LINES} lines took more than 100 ms");
    let lost = handle.lost_lines();
    assert!(
        lost > 0 && lost < u64::from(LINES),
        "what does not fit is counted: {lost}"
    );
    drop(held);
}

#[test]
fn a_file_that_cannot_be_opened_is_one_clear_error() {
    let mut config = utc();
    config.file.path = Some("/dev/null/log/x.log".into());
    let error = build(&config, Arc::new(Stopped), Vec::new(), None)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with("the log file /dev/null/log/x.log can't be opened: "),
        "{error}"
    );
    assert!(
        error.ends_with("set platform.logging.file.path to a writable place"),
        "{error}"
    );
}

#[test]
fn a_rotated_file_carries_its_date_and_is_written_out_on_drop() {
    let directory = std::env::temp_dir().join(format!("plba-log-{}", std::process::id()));
    let mut config = utc();
    config.file.path = Some(FilePath(directory.join("bot.log")));
    let (dispatch, handle) = build(&config, Arc::new(Stopped), Vec::new(), None).unwrap();
    with_default(&dispatch, || info!("kept"));
    drop(handle);
    let files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let text = std::fs::read_to_string(&files[0]).unwrap();
    let name = files[0].file_name().unwrap().to_string_lossy().into_owned();
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(
        name.starts_with("bot.20") && name.ends_with(".log") && text.contains("\"kept\""),
        "{name}: {text}"
    );
}

#[test]
fn a_log_that_goes_nowhere_is_refused() {
    let mut config = LoggingConfig {
        output: LogOutput::None,
        ..utc()
    };
    config.file.max_files = 0;
    let mut faults = Faults::default();
    config.validate(&mut faults);
    let paths: Vec<String> = faults
        .into_vec()
        .into_iter()
        .map(|fault| fault.path.join("."))
        .collect();
    assert_eq!(paths, ["logging.file.max_files", "logging.output"]);
}
