//! What a torture found, in figures: for people as a table, for machines as JSON.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::judge::Verdict;

/// The variable that names the file to which the figures are written as JSON besides.
pub(super) const VARIABLE: &str = "PLBA_TORTURE_REPORT";

/// What a run of random kills found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The backend.
    pub backend: &'static str,
    /// What all that is random followed.
    pub seed: u64,
    /// How often a child was killed.
    pub kills: u64,
    /// How often the server was killed.
    pub server_kills: u64,
    /// How long it took.
    pub took: Duration,
    /// What the ledger tells.
    pub verdict: Verdict,
}

/// The longest that a task in the hands of a killed process may take to be handed out again, beyond the lease. Suspects
/// wait for one another besides.
pub(super) const RECOVERY: Duration = Duration::from_secs(5);

/// The longest from the start of a process to its first task.
pub(super) const RESTART: Duration = Duration::from_secs(2);

impl Report {
    /// Everything that must not be, in sentences; empty when all is well.
    pub fn faults(&self, lease: Duration) -> Vec<String> {
        let mut faults = self.verdict.faults();
        if self.verdict.worst_wait > lease + RECOVERY {
            faults.push(format!(
                "a task was handed out again only {:?} after its holder's death, with nothing in its way",
                self.verdict.worst_wait
            ));
        }
        if self.verdict.worst_restart > RESTART {
            faults.push(format!(
                "a process had its first task only {:?} after its start",
                self.verdict.worst_restart
            ));
        }
        faults
    }

    /// As one JSON object.
    pub fn json(&self) -> Value {
        let verdict = &self.verdict;
        json!({
            "backend": self.backend,
            "seed": self.seed,
            "kills": self.kills,
            "own_deaths": verdict.killings.saturating_sub(self.kills),
            "server_kills": self.server_kills,
            "seconds": self.took.as_secs_f64(),
            "tasks": verdict.tasks,
            "acked": verdict.acked,
            "dead": verdict.dead,
            "lost": verdict.lost.len(),
            "violations": verdict.violations,
            "handed_out_again": verdict.repeated,
            "duplicates": verdict.duplicates,
            "recoveries": verdict.recoveries,
            "worst_recovery_seconds": verdict.worst_recovery.as_secs_f64(),
            "worst_wait_seconds": verdict.worst_wait.as_secs_f64(),
            "worst_restart_seconds": verdict.worst_restart.as_secs_f64(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = &self.verdict;
        let mut row = |name: &str, value: String| writeln!(out, "  {name:<44} {value:>12}");
        row("backend", self.backend.to_owned())?;
        row("seed", self.seed.to_string())?;
        row("tasks", verdict.tasks.to_string())?;
        row("kills", self.kills.to_string())?;
        row(
            "deaths by their own task besides",
            verdict.killings.saturating_sub(self.kills).to_string(),
        )?;
        row("server kills", self.server_kills.to_string())?;
        row("lost", verdict.lost.len().to_string())?;
        row("violations", verdict.violation_count.to_string())?;
        row("handed out again (not acked yet)", verdict.repeated.to_string())?;
        row(
            "duplicates (carried out to the end again)",
            verdict.duplicates.to_string(),
        )?;
        row("dead letters", verdict.dead.to_string())?;
        row("recoveries", verdict.recoveries.to_string())?;
        row(
            "worst recovery",
            format!("{:.3} s", verdict.worst_recovery.as_secs_f64()),
        )?;
        row(
            "  of that not behind other suspects",
            format!("{:.3} s", verdict.worst_wait.as_secs_f64()),
        )?;
        row("worst restart", format!("{:.3} s", verdict.worst_restart.as_secs_f64()))?;
        row("took", format!("{:.1} s", self.took.as_secs_f64()))
    }
}
