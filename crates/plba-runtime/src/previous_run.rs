//! How the run before this one ended, read from the journal that it left in the state directory. Who writes the journal
//! is `run_journal`; what becomes of interrupted work is told by whoever keeps the work.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run_journal::{Entry, MOST_BYTES, VERSION};
use crate::supervisor::RecordedEvent;

/// How many events of the last run are told.
const EVENTS: usize = 20;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    /// It stopped when asked, and everything in hand was finished.
    Clean,
    /// It stopped when asked, but some work in hand was interrupted.
    Forced,
    /// It stopped when asked, but some worker would not let go and was left behind.
    Abandoned,
    /// It could not start.
    StartFailed,
    /// A worker whose definition asks for it ended the process.
    WorkerFailed,
    /// A panic ended the process.
    Crashed,
    /// It ended without a word: it was killed, ran out of memory, or native code aborted it. The service manager knows
    /// which.
    Killed,
    /// It ended without a word, and the machine has been started since, or is another one.
    MachineDown,
}

/// Something that was in hand when a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InHand {
    /// The worker that had it.
    pub worker: String,
    /// What, such as a task's id.
    pub what: String,
}

/// The run before this one.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PreviousRun {
    /// How it ended.
    pub how: RunEnd,
    /// When; for one that ended without a word, when it was last seen alive, which is at most some seconds before.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// What asked for its end, or what it said last.
    pub cause: Option<String>,
    /// How many things were in hand, as last looked at; a run that ended without a word may have begun one since.
    pub in_hand_count: usize,
    /// The first hundred of them.
    pub in_hand: Vec<InHand>,
    /// Its process.
    pub pid: u32,
    /// When it started.
    #[schemars(with = "String")]
    pub started: Timestamp,
    /// What its supervisor saw and did last, the newest first.
    pub events: Vec<RecordedEvent>,
}

impl PreviousRun {
    /// Reads the journal that the last run left at this path; `None` when there is none that this program can read.
    /// `machine` names the running start of the machine, where the system tells it.
    pub(crate) fn read(path: &Path, machine: Option<&str>) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let touched = file.metadata().and_then(|data| data.modified()).ok();
        let touched = touched.and_then(|time| Timestamp::try_from(time).ok());
        let mut bytes = Vec::new();
        Read::by_ref(&mut file)
            .take(2 * MOST_BYTES)
            .read_to_end(&mut bytes)
            .ok()?;
        Self::from_bytes(&bytes, touched, machine)
    }

    fn from_bytes(bytes: &[u8], touched: Option<Timestamp>, machine: Option<&str>) -> Option<Self> {
        // A line that was torn by the end, or by a full disk, is no entry.
        let mut entries = bytes
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
        let Some(Entry::Began(began)) = entries.next() else {
            return None;
        };
        if began.version > VERSION {
            return None;
        }
        let other_machine = began.machine.is_some() && machine.is_some() && began.machine.as_deref() != machine;
        let mut run = Self {
            how: if other_machine {
                RunEnd::MachineDown
            } else {
                RunEnd::Killed
            },
            at: touched.map_or(began.at, |touched| touched.max(began.at)),
            cause: None,
            in_hand_count: 0,
            in_hand: Vec::new(),
            pid: began.pid,
            started: began.at,
            events: Vec::new(),
        };
        let mut events = VecDeque::new();
        let mut panicked = None;
        let mut ended = None;
        for entry in entries {
            // Whoever writes anything after a panic has survived it.
            panicked = None;
            match entry {
                Entry::Saw { event } => {
                    if events.len() == EVENTS {
                        events.pop_back();
                    }
                    events.push_front(event);
                }
                Entry::InHand { count, things, .. } => (run.in_hand_count, run.in_hand) = (count, things),
                Entry::Panicked { at, message } => panicked = Some((at, message)),
                Entry::Ended { at, how, cause } => ended = Some((at, how, cause)),
                Entry::Began(_) | Entry::Alive { .. } => {}
            }
        }
        run.events = events.into();
        if let Some((at, message)) = panicked {
            (run.how, run.at, run.cause) = (RunEnd::Crashed, at, Some(message));
        }
        if let Some(ended) = ended {
            (run.at, run.how, run.cause) = ended;
        }
        Some(run)
    }
}

/// One calm sentence.
impl fmt::Display for PreviousRun {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.strftime("%Y-%m-%dT%H:%M:%SZ");
        match self.how {
            RunEnd::Clean => write!(out, "the last run stopped clean at {at}")?,
            RunEnd::Forced => write!(out, "the last run stopped at {at} and interrupted work")?,
            RunEnd::Abandoned => write!(out, "the last run stopped at {at} and left workers behind")?,
            RunEnd::StartFailed => write!(out, "the last run could not start at {at}")?,
            RunEnd::WorkerFailed => write!(out, "the last run was ended at {at} on account of a worker")?,
            RunEnd::Crashed => write!(out, "the last run crashed at {at}")?,
            RunEnd::Killed => write!(out, "the last run was killed at {at}")?,
            RunEnd::MachineDown => write!(out, "the machine of the last run went down at {at}")?,
        }
        match (self.in_hand_count, self.how) {
            (0, RunEnd::Killed | RunEnd::Crashed | RunEnd::MachineDown) => write!(out, " with nothing in hand")?,
            (0, _) => {}
            (1, _) => write!(out, " with 1 task in hand")?,
            (count, _) => write!(out, " with {count} tasks in hand")?,
        }
        match &self.cause {
            Some(cause) => write!(out, " ({cause})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: &str =
        r#"{"entry":"began","version":1,"application":"bot","pid":7,"at":"2026-11-22T01:00:00Z","machine":"m1"}"#;

    fn read(rest: &[&str]) -> PreviousRun {
        let text = [&[BEGAN], rest].concat().join("\n");
        let touched = "2026-11-22T02:00:00Z".parse().unwrap();
        PreviousRun::from_bytes(text.as_bytes(), Some(touched), Some("m1")).unwrap()
    }

    #[test]
    fn the_sentence_tells_how_when_and_with_what_in_hand() {
        let in_hand =
            r#"{"entry":"in_hand","at":"2026-11-22T01:30:00Z","count":2,"things":[{"worker":"w","what":"a"}]}"#;
        let panic = r#"{"entry":"panicked","at":"2026-11-22T01:31:00Z","message":"panic: oh"}"#;
        let alive = r#"{"entry":"alive","at":"2026-11-22T01:32:00Z"}"#;
        let ended = r#"{"entry":"ended","at":"2026-11-22T01:33:00Z","how":"clean","cause":"SIGTERM"}"#;
        let none = r#"{"entry":"in_hand","at":"2026-11-22T01:32:30Z","count":0,"things":[]}"#;
        for (rest, told) in [
            (
                &[][..],
                "the last run was killed at 2026-11-22T02:00:00Z with nothing in hand",
            ),
            (
                &[in_hand],
                "the last run was killed at 2026-11-22T02:00:00Z with 2 tasks in hand",
            ),
            (
                &[in_hand, panic],
                "the last run crashed at 2026-11-22T01:31:00Z with 2 tasks in hand (panic: oh)",
            ),
            (
                &[panic, alive],
                "the last run was killed at 2026-11-22T02:00:00Z with nothing in hand",
            ),
            (
                &[in_hand, none, ended],
                "the last run stopped clean at 2026-11-22T01:33:00Z (SIGTERM)",
            ),
            // Another thread may still have been writing.
            (
                &[ended, alive],
                "the last run stopped clean at 2026-11-22T01:33:00Z (SIGTERM)",
            ),
        ] {
            assert_eq!(read(rest).to_string(), told, "{rest:?}");
        }
    }

    #[test]
    fn what_is_torn_or_foreign_is_passed_over() {
        let run = read(&[
            "\u{0}\u{0}",
            r#"{"entry":"dreamt"}"#,
            r#"{"entry":"ended","at":"2026-11-"#,
        ]);
        assert_eq!(run.how, RunEnd::Killed);
        let newer = BEGAN.replace("\"version\":1", "\"version\":99");
        for bytes in [&b""[..], b"\xff\xff\n", b"{}\n", newer.as_bytes()] {
            assert_eq!(PreviousRun::from_bytes(bytes, None, None), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_machine_that_was_started_since_is_told_from_a_kill() {
        let run = |machine| PreviousRun::from_bytes(BEGAN.as_bytes(), None, machine).unwrap().how;
        assert_eq!(run(Some("m2")), RunEnd::MachineDown);
        assert_eq!((run(Some("m1")), run(None)), (RunEnd::Killed, RunEnd::Killed));
    }
}
