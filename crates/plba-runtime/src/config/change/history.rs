//! What became of the latest changes of the configuration, over restarts: `config-history.jsonl` in the state directory, an
//! entry a line, the oldest first. Who tells of changes is the transaction; who shows them, the views.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::diff::ConfigDiff;
use super::outcome::{Conclusion, ReloadOutcome, Stage};
use super::trigger::Trigger;

/// The file in the state directory.
pub(crate) const FILE: &str = "config-history.jsonl";

/// How many entries are kept.
pub const MAXIMUM_ENTRIES: usize = 50;

/// How many changed keys of one entry are kept.
const MAXIMUM_KEPT_CHANGES: usize = 50;

/// How many characters of a reason are kept.
const MAXIMUM_REASON: usize = 4_000;

/// The version of an entry's form; those of a newer one are left out.
const VERSION: u32 = 1;

/// What no history is larger than: entries are bounded, and a character takes four bytes.
const MAXIMUM_BYTES: u64 = 64 * 1024 * 1024;

/// What became of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The process started with this configuration.
    Started,
    /// It was put to work.
    Applied,
    /// It was refused; what ran goes on running.
    Rejected,
    /// It was put to work, and failed its probation: what ran before it runs again.
    TakenBack,
}

/// One change, or a start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    version: u32,
    /// When it was over; of several that are the same, the latest.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// What became of it.
    pub what: ChangeKind,
    /// Which configuration ran afterwards, counted from 1 by each process.
    pub generation: u64,
    /// What asked for it, in words.
    pub triggers: Vec<String>,
    /// Why it was refused or taken back, or why the start took the last good one. May have many lines.
    pub reason: Option<String>,
    /// Where it was refused: `check`, `prepare`, `apply` or `probation`.
    pub stage: Option<String>,
    /// What changed, or was to change; keys that need a restart say so. Secrets are masked.
    pub diff: ConfigDiff,
    /// From its beginning to its end, in seconds.
    pub took: f64,
    /// How often the same happened in a row.
    pub times: u32,
    /// Whether it has passed its probation, or needed none.
    pub proven: bool,
}

impl HistoryEntry {
    /// The start of a process.
    pub(crate) fn started(at: Timestamp, generation: u64, reason: Option<&str>) -> Self {
        Self {
            version: VERSION,
            at,
            what: ChangeKind::Started,
            generation,
            triggers: vec![Trigger::Start.to_string()],
            reason: reason.map(clipped),
            stage: None,
            diff: ConfigDiff::default(),
            took: 0.0,
            times: 1,
            proven: false,
        }
    }

    /// The end of an attempt; nothing for one that found all as it was.
    pub(crate) fn concluded(at: Timestamp, conclusion: &Conclusion) -> Option<Self> {
        let (what, generation, reason, stage, diff) = match &conclusion.outcome {
            ReloadOutcome::Unchanged { .. } => return None,
            ReloadOutcome::Applied { generation, diff, .. } => {
                (ChangeKind::Applied, *generation, None, None, diff.clone())
            }
            ReloadOutcome::TakenBack {
                generation,
                reason,
                diff,
                ..
            } => {
                let stage = Some(word(Stage::Probation));
                (ChangeKind::TakenBack, *generation, Some(reason), stage, diff.clone())
            }
            ReloadOutcome::Rejected {
                generation,
                stage,
                reason,
                ..
            } => {
                let tried = conclusion.tried.as_ref();
                let diff = tried.map(|tried| ConfigDiff::between(&conclusion.before, tried));
                let (stage, diff) = (Some(word(*stage)), diff.unwrap_or_default());
                (ChangeKind::Rejected, *generation, Some(reason), stage, diff)
            }
        };
        Some(Self {
            version: VERSION,
            at,
            what,
            generation,
            triggers: conclusion.triggers.iter().map(ToString::to_string).collect(),
            reason: reason.map(clipped),
            stage: stage.map(str::to_owned),
            diff: shortened(diff),
            took: conclusion.took.as_secs_f64(),
            times: 1,
            // What runs again has proved itself before.
            proven: what == ChangeKind::TakenBack,
        })
    }

    /// Whether `next` only says the same once more, such as a file that is as broken as before, or a process that is started
    /// again and again.
    fn is_repeated_by(&self, next: &Self) -> bool {
        let repeats = matches!(next.what, ChangeKind::Started | ChangeKind::Rejected);
        repeats && (self.what, &self.reason, &self.diff) == (next.what, &next.reason, &next.diff)
    }
}

/// The latest changes, the oldest first; at most [`MAXIMUM_ENTRIES`].
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<HistoryEntry>);

impl History {
    /// Reads what earlier processes have kept. Lines that can't be read are left out.
    ///
    /// # Errors
    /// There is a file and it can't be read.
    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        let mut history = Self::default();
        let file = match File::open(directory.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(history),
            file => file?,
        };
        let mut text = Vec::new();
        file.take(MAXIMUM_BYTES).read_to_end(&mut text)?;
        let lines = text.split(|byte| *byte == b'\n');
        let entries = lines.filter_map(|line| serde_json::from_slice::<HistoryEntry>(line).ok());
        for entry in entries.filter(|entry| entry.version <= VERSION) {
            history.push(entry);
        }
        Ok(history)
    }

    /// Adds an entry; one that repeats the latest is counted there.
    pub(crate) fn add(&mut self, entry: HistoryEntry) {
        match self.0.back_mut() {
            Some(last) if last.is_repeated_by(&entry) => {
                let times = last.times.saturating_add(1);
                *last = HistoryEntry { times, ..entry };
            }
            _ => self.push(entry),
        }
    }

    /// The configuration that runs now has passed its probation.
    pub(crate) fn prove(&mut self, generation: u64) {
        let running = |entry: &&mut HistoryEntry| {
            entry.generation == generation && matches!(entry.what, ChangeKind::Started | ChangeKind::Applied)
        };
        if let Some(entry) = self.0.iter_mut().rev().find(running) {
            entry.proven = true;
        }
    }

    /// The newest first.
    pub(crate) fn latest(&self, most: usize) -> Vec<HistoryEntry> {
        self.0.iter().rev().take(most).cloned().collect()
    }

    /// As it is written.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for entry in &self.0 {
            // Only a path that is no text can't be written; what changed is then missing.
            let line = serde_json::to_vec(entry).or_else(|_| {
                let diff = ConfigDiff::default();
                serde_json::to_vec(&HistoryEntry { diff, ..entry.clone() })
            });
            text.extend(line.unwrap_or_default());
            text.push(b'\n');
        }
        text
    }

    fn push(&mut self, entry: HistoryEntry) {
        if self.0.len() == MAXIMUM_ENTRIES {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }
}

/// What the processes of this state directory have kept, the newest first. For when none runs.
///
/// # Errors
/// There is a file and it can't be read.
pub fn read_history(directory: &Path) -> io::Result<Vec<HistoryEntry>> {
    Ok(History::read(directory)?.latest(MAXIMUM_ENTRIES))
}

fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Check => "check",
        Stage::Prepare => "prepare",
        Stage::Apply => "apply",
        Stage::Probation => "probation",
    }
}

fn shortened(mut diff: ConfigDiff) -> ConfigDiff {
    diff.omitted += diff.changes.len().saturating_sub(MAXIMUM_KEPT_CHANGES);
    diff.changes.truncate(MAXIMUM_KEPT_CHANGES);
    diff
}

fn clipped(reason: impl AsRef<str>) -> String {
    let reason = reason.as_ref();
    match reason.char_indices().nth(MAXIMUM_REASON) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Started => "started",
            Self::Applied => "applied",
            Self::Rejected => "rejected",
            Self::TakenBack => "taken back",
        })
    }
}

impl fmt::Display for HistoryEntry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.0}  {}", self.at, self.what)?;
        match self.what {
            ChangeKind::Started | ChangeKind::Applied => write!(out, ": configuration {}", self.generation)?,
            ChangeKind::Rejected => write!(out, ": configuration {} stays", self.generation)?,
            ChangeKind::TakenBack => write!(out, ": configuration {} runs again", self.generation)?,
        }
        write!(out, " ({})", self.triggers.join(", "))?;
        if self.times > 1 {
            write!(out, ", {} times", self.times)?;
        }
        writeln!(out)?;
        let reason = self.reason.iter().flat_map(|reason| reason.lines());
        reason.into_iter().try_for_each(|line| writeln!(out, "    {line}"))?;
        let changes = self.diff.to_string();
        changes.lines().try_for_each(|line| writeln!(out, "    {line}"))
    }
}
