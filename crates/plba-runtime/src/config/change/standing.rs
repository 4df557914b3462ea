//! How the configuration stands: which one runs, whether it is proven, and what is wrong with what is written instead. A pure
//! summary of what the transaction tells; history and last good are kept beside.

use std::collections::BTreeMap;

use jiff::Timestamp;
use plba_contracts::health::Health;
use schemars::JsonSchema;
use serde::Serialize;

use super::history::{ChangeKind, HistoryEntry};
use super::outcome::ReloadOutcome;
use crate::config::check::report::ConfigFault;
use crate::config::start::StartDoubt;

/// The name of the configuration among the parts of the health report.
pub(crate) const HEALTH_PART: &str = "configuration";

/// How many characters of a reason are told where only a line is wanted.
const MAXIMUM_LINE: usize = 300;

/// How the configuration stands.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ConfigStanding {
    /// Which configuration runs, counted from 1 by each process.
    pub generation: u64,
    /// Since when.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// Whether it has passed its probation, or needed none.
    pub proven: bool,
    /// What is wrong: the latest change was refused or taken back, or the process runs by the last good configuration.
    pub problem: Option<String>,
    /// Whether the process runs by the last good configuration, because what is written has been wrong since its start.
    pub last_good: bool,
    /// The providers that are down, by their names, each with what it said; what they gave last counts.
    pub providers_down: BTreeMap<String, String>,
    /// The latest change that was put to work.
    pub last_accepted: Option<LatestChange>,
    /// The latest change that was refused or taken back.
    pub last_rejected: Option<LatestChange>,
}

/// A change in a few words; the whole is in the history.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LatestChange {
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// What asked for it, in words.
    pub triggers: Vec<String>,
    /// Why it was refused or taken back, in a line.
    pub reason: Option<String>,
}

impl ConfigStanding {
    /// At the start.
    pub(crate) fn started(generation: u64, since: Timestamp, doubt: Option<&StartDoubt>) -> Self {
        let problem = doubt.map(|doubt| match doubt {
            StartDoubt::LastGood(wrong) => on_last_good(&line(wrong)),
            StartDoubt::TakenBack(when) => format!("the configuration has failed before: {}", line(when)),
        });
        Self {
            generation,
            since,
            proven: false,
            problem,
            last_good: matches!(doubt, Some(StartDoubt::LastGood(_))),
            providers_down: BTreeMap::new(),
            last_accepted: None,
            last_rejected: None,
        }
    }

    /// What is written is what runs.
    pub(crate) fn unchanged(&mut self) {
        self.problem = None;
        self.last_good = false;
    }

    /// An attempt is over, with this entry in the history.
    pub(crate) fn concluded(&mut self, outcome: &ReloadOutcome, entry: &HistoryEntry) {
        let latest = |reason: Option<String>| LatestChange {
            at: entry.at,
            triggers: entry.triggers.clone(),
            reason,
        };
        match (entry.what, outcome) {
            (ChangeKind::Rejected, ReloadOutcome::Rejected { reason, faults, .. }) => {
                let why = in_a_line(reason, faults);
                self.problem = Some(match self.last_good {
                    true => on_last_good(&why),
                    false => format!("the latest change was refused: {why}"),
                });
                self.last_rejected = Some(latest(Some(why)));
            }
            (ChangeKind::TakenBack, ReloadOutcome::TakenBack { reason, failed, .. }) => {
                self.runs(entry);
                self.problem = Some(format!("configuration {failed} was taken back: {}", line(reason)));
                self.last_rejected = Some(latest(Some(line(reason))));
            }
            _ => {
                self.runs(entry);
                self.problem = None;
                self.last_good = false;
                self.last_accepted = Some(latest(None));
            }
        }
    }

    /// This configuration has passed its probation.
    pub(crate) fn prove(&mut self, generation: u64) {
        self.proven |= self.generation == generation;
    }

    /// As a part of the health report.
    pub(crate) fn health(&self) -> Health {
        let down = self.providers_down.iter();
        let down = down.map(|(name, reason)| format!("{name} is down, what it gave last counts: {}", line(reason)));
        let reasons: Vec<String> = self.problem.iter().cloned().chain(down).collect();
        match reasons.is_empty() {
            true => Health::Ok,
            false => Health::degraded(reasons.join("; ")),
        }
    }

    fn runs(&mut self, entry: &HistoryEntry) {
        self.generation = entry.generation;
        self.since = entry.at;
        self.proven = entry.proven;
    }
}

fn on_last_good(why: &str) -> String {
    format!("the last good configuration runs, for what is written is wrong: {why}")
}

/// The first fault, with its place and how many more there are; or else the first line of the reason.
fn in_a_line(reason: &str, faults: &[ConfigFault]) -> String {
    let Some(first) = faults.first() else {
        return line(reason);
    };
    let place = first
        .origin
        .as_ref()
        .map(|origin| format!("{origin}: "))
        .unwrap_or_default();
    let key = match first.key.as_str() {
        "" => String::new(),
        key => format!("{key}: "),
    };
    let more = match faults.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    line(&format!("{place}{key}{}", first.message)) + &more
}

fn line(text: &str) -> String {
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    match line.char_indices().nth(MAXIMUM_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
