//! Results: one line for people, and one JSON line for `cargo xtask bench` in the file that `PLBA_BENCH_RESULTS` names.

use std::fs::OpenOptions;
use std::io::{self, Write};

use serde_json::json;

/// The variable that names the file for results.
pub const RESULTS: &str = "PLBA_BENCH_RESULTS";

/// Which way a figure should move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Good {
    /// More is better.
    High,
    /// Less is better.
    Low,
}

/// One figure beside its peer's.
#[derive(Clone, Debug)]
pub struct Figure<'a> {
    /// What was measured, such as `queue, 1 worker`.
    pub name: &'a str,
    /// plba's figure.
    pub value: f64,
    /// Of what.
    pub unit: &'a str,
    /// Which way it should move.
    pub good: Good,
    /// What it is measured beside.
    pub peer: &'a str,
    /// The peer's figure.
    pub peer_value: f64,
    /// plba's figure in terms of the peer's, as measured in pairs.
    pub ratio: f64,
    /// What was asked of it.
    pub goal: Option<Goal>,
}

/// What is asked of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The ratio to the peer is at least this.
    RatioAtLeast(f64),
    /// The figure itself is below this.
    Below(f64),
}

impl Figure<'_> {
    /// Prints the figure and adds it to the results.
    ///
    /// # Errors
    /// The file for results can't be written.
    pub fn report(&self) -> io::Result<()> {
        self.print();
        append(&self.json())
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit_with_direction(),
            "peer": self.peer,
            "peer_value": rounded(self.peer_value),
            "ratio": rounded(self.ratio),
            "goal": self.goal.map(|goal| self.told(goal)),
        })
    }

    /// A goal and whether it was reached, for people.
    fn told(&self, goal: Goal) -> String {
        let (reached, goal) = match goal {
            Goal::RatioAtLeast(ratio) => (self.ratio >= ratio, format!("ratio at least {ratio}")),
            Goal::Below(value) => (self.value < value, format!("below {value}")),
        };
        format!("{goal}: {}", if reached { "reached" } else { "missed" })
    }

    fn unit_with_direction(&self) -> String {
        let direction = match self.good {
            Good::High => "more is better",
            Good::Low => "less is better",
        };
        format!("{} ({direction})", self.unit)
    }

    #[expect(clippy::print_stdout, reason = "a bench speaks to whoever runs it")]
    fn print(&self) {
        println!(
            "  {}: {} {}; {}: {}; ratio {}",
            self.name,
            Short(self.value),
            self.unit_with_direction(),
            self.peer,
            Short(self.peer_value),
            Short(self.ratio)
        );
    }
}

/// Reports a peer beside which nothing could be measured: its figures are missing, and why is said in the place of a goal.
///
/// # Errors
/// The file for results can't be written.
#[expect(clippy::print_stdout, reason = "a bench speaks to whoever runs it")]
pub fn not_run(name: &str, peer: &str, reason: &str) -> io::Result<()> {
    println!("  {name}: {peer}: not run: {reason}");
    append(&json!({
        "name": name,
        "value": null,
        "unit": "",
        "peer": peer,
        "peer_value": null,
        "ratio": null,
        "goal": format!("not run: {reason}"),
    }))
}

fn append(result: &serde_json::Value) -> io::Result<()> {
    let Some(path) = std::env::var_os(RESULTS) else {
        return Ok(());
    };
    let mut line = result.to_string();
    line.push('\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(line.as_bytes())
}

/// A figure with as many digits as mean something.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.abs() {
            large if large >= 100.0 => write!(out, "{:.0}", self.0),
            medium if medium >= 1.0 => write!(out, "{:.2}", self.0),
            _ => write!(out, "{:.3}", self.0),
        }
    }
}

/// Three places behind the point: what follows is noise.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_which_way_is_better() {
        let figure = Figure {
            name: "queue, 1 worker",
            value: 612.34567,
            unit: "ns a task",
            good: Good::Low,
            peer: "bare loop",
            peer_value: 300.0,
            ratio: 2.041_15,
            goal: Some(Goal::Below(1_000.0)),
        };
        let expected = r#"{"name":"queue, 1 worker","value":612.346,"unit":"ns a task (less is better)","peer":"bare loop","peer_value":300.0,"ratio":2.041,"goal":"below 1000: reached"}"#;
        assert_eq!(figure.json().to_string(), expected);
        assert_eq!(Short(612.34567).to_string(), "612");
        assert_eq!(figure.told(Goal::RatioAtLeast(2.1)), "ratio at least 2.1: missed");
    }
}
