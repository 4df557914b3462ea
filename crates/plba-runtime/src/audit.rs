//! The audit log: every action of the control plane, refused and failed ones too, as one JSON object a line in the state
//! directory and as an event on the log. Who may act is decided in `control`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use plba_contracts::control::{Caller, ControlError, Parameters};
use serde::Serialize;
use tracing::{info, warn};

/// Past this size the file is put aside as `audit.1.jsonl`, which replaces the one put aside before.
const MAXIMUM_BYTES: u64 = 10 * 1024 * 1024;

/// Records actions. A record that can't be written is reported on the log and does not stop the action.
pub struct AuditLog {
    file: Option<Mutex<AuditFile>>,
}

struct AuditFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

#[derive(Serialize)]
struct Record<'a> {
    at: Timestamp,
    who: &'a Caller,
    action: &'a str,
    parameters: &'a Parameters,
    outcome: &'static str,
    error: Option<String>,
}

impl AuditLog {
    /// Appends to `audit.jsonl` in this directory, which only this user may read.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn open(directory: &Path) -> std::io::Result<Self> {
        let path = directory.join("audit.jsonl");
        let file = append(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            file: Some(Mutex::new(AuditFile { path, file, bytes })),
        })
    }

    /// Records on the log only.
    pub fn to_log_only() -> Self {
        Self { file: None }
    }

    /// Records one action and how it ended.
    pub fn record(
        &self,
        at: Timestamp,
        who: &Caller,
        action: &str,
        parameters: &Parameters,
        error: Option<&ControlError>,
    ) {
        let outcome = match error {
            None => "done",
            Some(ControlError::Forbidden { .. }) => "refused",
            Some(_) => "failed",
        };
        info!(target: "plba::audit", who = who.name, action, outcome, "action");
        let Some(file) = &self.file else { return };
        let record = Record {
            at,
            who,
            action,
            parameters,
            outcome,
            error: error.map(ToString::to_string),
        };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write(&record) {
            warn!(file = %file.path.display(), %error, "an action could not be recorded");
        }
    }
}

impl AuditFile {
    fn write(&mut self, record: &Record<'_>) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        if self.bytes + line.len() as u64 > MAXIMUM_BYTES {
            fs::rename(&self.path, self.path.with_extension("1.jsonl"))?;
            self.file = append(&self.path)?;
            self.bytes = 0;
        }
        self.file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}
