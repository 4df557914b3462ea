//! The end of a process: the signals that ask for it, the report on how it went, and the exit codes. The order in which
//! things stop is the manager's.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::worker::Fate;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::TARGET;
use crate::children::{ChildEnd, ChildStop};
use crate::state;
use crate::supervisor::{Fatal, StopOutcome, WorkerStop};

/// What the process exits with. The numbers are a promise to scripts and service managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// 0: it stopped when asked, and everything in hand was finished.
    Clean = 0,
    /// 1: it could not start.
    StartFailed = 1,
    /// 2: the configuration or the command line is wrong; nothing was started.
    Misconfigured = 2,
    /// 3: it stopped when asked, but some work in hand was interrupted.
    Forced = 3,
    /// 4: it stopped when asked, but some worker would not let go and was left behind.
    Abandoned = 4,
    /// A worker whose definition asks for it ended the process: it was given up, or hung. The exit code is the one that
    /// the definition names; 5 stands for it here.
    WorkerFailed = 5,
}

impl ExitReason {
    /// The exit code.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// How a stop went: on the log, in the state directory as `stop-report.json`, and as the exit code.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StopReport {
    /// The application.
    pub application: String,
    /// What asked for the stop, such as `SIGTERM`.
    pub cause: String,
    /// When it was asked for.
    #[schemars(with = "String")]
    pub asked: Timestamp,
    /// From the asking to the end, in seconds.
    #[serde(serialize_with = "crate::seconds::serialize")]
    #[schemars(with = "f64")]
    pub took: Duration,
    /// What there was to stop within, in seconds.
    #[serde(serialize_with = "crate::seconds::serialize")]
    #[schemars(with = "f64")]
    pub budget: Duration,
    /// How it ended.
    pub outcome: ExitReason,
    /// What the process exits with: the outcome's code, or the one that a worker's definition names.
    pub exit_code: u8,
    /// Each worker's instances, in the order in which they stopped.
    pub workers: Vec<WorkerStop>,
    /// Child processes that workers had left, or would not end by themselves.
    pub children: Vec<ChildStop>,
    /// Finished spans that were not exported in time.
    pub spans_lost: u64,
}

impl StopReport {
    /// The worst that happened to any worker.
    pub fn outcome_of(workers: &[WorkerStop]) -> ExitReason {
        let any = |kind| workers.iter().any(|stop| stop.how == kind);
        if any(StopOutcome::Abandoned) {
            ExitReason::Abandoned
        } else if any(StopOutcome::Forced) {
            ExitReason::Forced
        } else {
            ExitReason::Clean
        }
    }

    /// Tells the log, and leaves the report in the state directory as `stop-report.json`.
    pub fn tell(&self, directory: &Path) {
        for line in self.lines() {
            match self.outcome {
                ExitReason::Clean => info!(target: TARGET, "{line}"),
                _ => warn!(target: TARGET, "{line}"),
            }
        }
        let path = directory.join("stop-report.json");
        let written = serde_json::to_vec_pretty(self).map_err(std::io::Error::other);
        if let Err(error) = written.and_then(|text| state::write_public(&path, &text)) {
            warn!(target: TARGET, path = %path.display(), %error, "the stop report could not be written");
        }
    }

    /// The report for a person: one line when all went well, and one more for each instance that did not drain.
    pub fn lines(&self) -> Vec<String> {
        let count = |kind| self.workers.iter().filter(|stop| stop.how == kind).count();
        let (drained, forced, abandoned) = (
            count(StopOutcome::Drained),
            count(StopOutcome::Forced),
            count(StopOutcome::Abandoned),
        );
        let word = match self.outcome {
            ExitReason::Clean => "clean",
            ExitReason::Forced => "with interrupted work",
            ExitReason::Abandoned => "with abandoned workers",
            ExitReason::StartFailed | ExitReason::Misconfigured => "before it was ready",
            ExitReason::WorkerFailed => "on account of a worker",
        };
        let mut lines = vec![format!(
            "stopped {word} after {}: {drained} drained, {forced} forced, {abandoned} abandoned (asked by {}, budget {:.0} s)",
            seconds(self.took),
            self.cause,
            self.budget.as_secs_f64()
        )];
        lines.extend(
            self.workers
                .iter()
                .filter(|stop| stop.how != StopOutcome::Drained)
                .map(|stop| {
                    let held = stop.held.as_deref().map_or_else(
                        || "held nothing".to_owned(),
                        |held| format!("held {held}{}", became(stop.became)),
                    );
                    format!(
                        "  {}[{}] was {} after {}; {held}",
                        stop.worker,
                        stop.slot,
                        match stop.how {
                            StopOutcome::Drained => "drained",
                            StopOutcome::Forced => "forced",
                            StopOutcome::Abandoned => "abandoned",
                        },
                        seconds(stop.took)
                    )
                }),
        );
        lines.extend(self.children.iter().map(|child| {
            let ChildStop {
                worker,
                slot,
                pid,
                program,
                how,
            } = child;
            let how = match how {
                ChildEnd::Terminated => "ended when it was told to",
                ChildEnd::Killed => "was killed",
                ChildEnd::Survived => "was killed and is still there",
            };
            format!("  {worker}[{slot}] had left its child process {pid} ({program}), which {how}")
        }));
        lines
    }
}

fn became(fate: Option<Fate>) -> &'static str {
    match fate {
        Some(Fate::Released) => ", which was given back",
        Some(Fate::AfterLease) => ", which comes again when its lease has run out",
        Some(Fate::Unknown) => ", of which nothing more is known",
        None => "",
    }
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

/// What brought a process to its stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopCause {
    /// For people and the report, such as `SIGTERM`.
    pub text: String,
    /// The exit code that a worker's definition asks for, where one ended the process.
    pub exit_code: Option<u8>,
}

impl From<&str> for StopCause {
    fn from(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            exit_code: None,
        }
    }
}

impl From<Fatal> for StopCause {
    fn from(fatal: Fatal) -> Self {
        Self {
            text: format!("worker {}[{}] {}", fatal.worker, fatal.slot, fatal.cause),
            exit_code: Some(fatal.exit_code),
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM or SIGINT, with its name.
    Stop(&'static str),
    /// SIGHUP.
    Reload,
}

/// The signals a process listens to.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Listens from now on; the signals no longer end the process by themselves.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next thing that is asked for.
    ///
    /// # Cancel safety
    /// Safe: a signal that arrives while nobody waits is answered by the next call.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forced(became: Fate) -> WorkerStop {
        WorkerStop {
            worker: "orders".into(),
            slot: 0,
            how: StopOutcome::Forced,
            took: Duration::from_secs(2),
            held: Some("order 7".to_owned()),
            became: Some(became),
        }
    }

    #[test]
    fn the_report_says_what_became_of_what_a_forced_worker_had_in_hand() {
        for (fate, code, says) in [
            (Fate::Released, "released", "held order 7, which was given back"),
            (
                Fate::AfterLease,
                "after_lease",
                "held order 7, which comes again when its lease has run out",
            ),
            (Fate::Unknown, "unknown", "held order 7, of which nothing more is known"),
        ] {
            let workers = vec![forced(fate)];
            let report = StopReport {
                application: "test".to_owned(),
                cause: "SIGTERM".to_owned(),
                asked: Timestamp::UNIX_EPOCH,
                took: Duration::from_secs(2),
                budget: Duration::from_secs(25),
                outcome: StopReport::outcome_of(&workers),
                exit_code: ExitReason::Forced.code(),
                workers,
                children: Vec::new(),
                spans_lost: 0,
            };
            let lines = report.lines();
            assert!(lines[1].ends_with(says), "{lines:?}");
            let json = serde_json::to_value(&report).unwrap();
            assert_eq!(json["workers"][0]["became"], code, "{json}");
        }
    }
}
