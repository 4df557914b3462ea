//! Probation as a pure machine: how the parts of the process fared before a change and how they fare since, and whether what
//! is worse is worse because of it. Who looks, and when, lives in `trial`; what follows from the verdict, in the transaction.
//!
//! What counts is a part (a worker, or a health contributor) that **was well before, or came with the change**, and is not
//! well now:
//!
//! | since the change it | the change is taken back |
//! |---|---|
//! | is unhealthy: given up, hung, a check that fails | at once |
//! | has failed [`FAILURES`] attempts, whatever it looks like in between | at once |
//! | is degraded at the end of the window, and has been for a third of it without a break | at the end |
//! | was degraded and got well again, or turned so only in the last third | no |
//!
//! What doesn't count:
//!
//! - A part that was not well before: an outside server that failed already is not the change's doing, whatever becomes of it.
//! - A worker that failed an attempt within one window before the change: it falters, and would have without it.
//! - A worker that somebody has paused.
//! - The last attempt of an instance that the change itself ended: attempts are counted from the commit.
//!
//! An outside server that fails for the first time within the window can't be told from one that the change has made
//! unreachable, so it counts; the reason names it, and whoever knows better asks for the change again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plba_contracts::health::Health;

use super::proving::TrialVerdict;

/// How many failed attempts of one worker are its failing, even if it is started again quickly.
pub(crate) const FAILURES: u64 = 2;

/// The share of the window for which a part must have been degraded at its end.
const DEGRADED_SHARE: u32 = 3;

/// How many parts a reason names.
const MAXIMUM_NAMED: usize = 3;

/// `worker` or `contributor`, and its name.
pub(crate) type PartName = (&'static str, String);

/// How all parts are at one moment.
pub(crate) type Picture = BTreeMap<PartName, Part>;

/// How one part is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Part {
    /// What it says, or is said of it.
    pub(crate) health: Health,
    /// Whether it rests because somebody wants it to.
    pub(crate) paused: bool,
    /// How many of its attempts have failed in this process.
    pub(crate) failures: u64,
    /// How long ago the last of them did, and how.
    pub(crate) last_failure: Option<(Duration, String)>,
}

/// One change on probation.
#[derive(Debug)]
pub(crate) struct Probation {
    window: Duration,
    began: Duration,
    /// Those that were there before.
    known: BTreeSet<PartName>,
    /// Those of them that were not well, and so don't count.
    excused: BTreeSet<PartName>,
    /// How many attempts had failed when it began.
    failures: BTreeMap<PartName, u64>,
    /// Since when those that are degraded are.
    degraded: BTreeMap<PartName, Duration>,
}

impl Probation {
    /// Begins at `now`, right after the commit: `before` is how all was before anything was put to work, `committed` how it is
    /// now.
    pub(crate) fn begin(before: &Picture, committed: &Picture, now: Duration, window: Duration) -> Self {
        let faltered = |part: &Part| matches!(part.last_failure, Some((ago, _)) if ago < window);
        let excused = before
            .iter()
            .filter(|(_, part)| part.health != Health::Ok || faltered(part));
        let failures = committed.iter().map(|(name, part)| (name.clone(), part.failures));
        Self {
            window,
            began: now,
            known: before.keys().cloned().collect(),
            excused: excused.map(|(name, _)| name.clone()).collect(),
            failures: failures.collect(),
            degraded: BTreeMap::new(),
        }
    }

    /// Looks at how all is now; gives the verdict once there is one.
    pub(crate) fn look(&mut self, now: Duration, picture: &Picture) -> Option<TrialVerdict> {
        let passed = now.saturating_sub(self.began);
        let over = passed >= self.window;
        let mut degraded = BTreeMap::new();
        let mut worse = Vec::new();
        for (name, part) in picture.iter().filter(|(name, part)| self.counts(name, part)) {
            let failed = part
                .failures
                .saturating_sub(self.failures.get(name).copied().unwrap_or(0));
            let is_degraded = matches!(part.health, Health::Degraded { .. });
            let from = self.degraded.get(name).copied().unwrap_or(now);
            let lasts = is_degraded && over && now.saturating_sub(from) >= self.window / DEGRADED_SHARE;
            if is_degraded {
                degraded.insert(name.clone(), from);
            }
            if failed >= FAILURES || lasts || !part.health.is_usable() {
                worse.push(self.told(name, part, failed));
            }
        }
        self.degraded = degraded;
        match worse.is_empty() {
            true => over.then_some(TrialVerdict::Passed),
            false => Some(TrialVerdict::Failed(reason(&worse, passed))),
        }
    }

    fn counts(&self, name: &PartName, part: &Part) -> bool {
        !part.paused && !self.excused.contains(name)
    }

    /// A clause about a part that is worse.
    fn told(&self, name: &PartName, part: &Part, failed: u64) -> String {
        let (kind, name_only) = name;
        let before = match self.known.contains(name) {
            true => "was well before",
            false => "came with the change",
        };
        let now = match (&part.health, &part.last_failure) {
            (Health::Unhealthy { reason }, _) => format!("is unhealthy: {reason}"),
            (_, Some((_, how))) if failed >= FAILURES => format!("failed {failed} times: {how}"),
            (health, _) => format!("is {}: {}", health.word(), health.reason().unwrap_or_default()),
        };
        format!("{kind} {name_only}, which {before}, {now}")
    }
}

fn reason(worse: &[String], passed: Duration) -> String {
    let named = worse.iter().take(MAXIMUM_NAMED).map(String::as_str);
    let mut reason = named.collect::<Vec<_>>().join("; ");
    if let Some(more @ 1..) = worse.len().checked_sub(MAXIMUM_NAMED) {
        reason += &format!("; and {more} more");
    }
    format!("within {:.1} s {reason}", passed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    fn name(name: &str) -> PartName {
        ("worker", name.to_owned())
    }

    fn part(health: Health) -> Part {
        Part {
            health,
            ..Part::default()
        }
    }

    fn well() -> Part {
        part(Health::Ok)
    }

    fn failed(times: u64, ago: u64) -> Part {
        Part {
            failures: times,
            last_failure: Some((Duration::from_secs(ago), "panicked: oh".to_owned())),
            ..well()
        }
    }

    fn picture(parts: &[(&str, Part)]) -> Picture {
        parts.iter().map(|(who, part)| (name(who), part.clone())).collect()
    }

    /// The verdict on one worker that was `before` and is, from each second on, as the last entry at or before it says; with
    /// the second of the verdict.
    fn verdict(before: Option<Part>, since: &[(u64, Part)]) -> (u64, TrialVerdict) {
        let before = before.map(|part| picture(&[("orders", part)])).unwrap_or_default();
        let at = |second: u64| {
            let latest = since.iter().rev().find(|(from, _)| *from <= second);
            latest
                .map(|(_, part)| picture(&[("orders", part.clone())]))
                .unwrap_or_default()
        };
        let began = Duration::from_secs(1_000);
        let mut probation = Probation::begin(&before, &at(0), began, WINDOW);
        let seconds = (0..=60).find_map(|second| {
            let verdict = probation.look(began + Duration::from_secs(second), &at(second));
            verdict.map(|verdict| (second, verdict))
        });
        seconds.unwrap()
    }

    #[track_caller]
    fn passes(before: Option<Part>, since: &[(u64, Part)]) {
        assert_eq!(verdict(before, since), (30, TrialVerdict::Passed));
    }

    #[track_caller]
    fn fails(second: u64, before: Option<Part>, since: &[(u64, Part)], reason: &str) {
        assert_eq!(
            verdict(before, since),
            (second, TrialVerdict::Failed(reason.to_owned()))
        );
    }

    #[test]
    fn what_was_well_and_is_unhealthy_takes_the_change_back_at_once() {
        let gone = part(Health::unhealthy("given up"));
        let reason = "within 4.0 s worker orders, which was well before, is unhealthy: given up";
        fails(4, Some(well()), &[(0, well()), (4, gone.clone())], reason);
        let reason = "within 0.0 s worker orders, which came with the change, is unhealthy: given up";
        fails(0, None, &[(0, gone)], reason);
    }

    #[test]
    fn what_failed_already_does_not_count_whatever_becomes_of_it() {
        let gone = || part(Health::unhealthy("no route to host"));
        passes(Some(gone()), &[(0, gone())]);
        passes(Some(gone()), &[(0, well()), (9, gone())]);
        passes(Some(part(Health::degraded("slow"))), &[(0, gone())]);
    }

    #[test]
    fn attempts_that_fail_again_take_it_back_though_it_looks_well_in_between() {
        let reason = "within 7.0 s worker orders, which was well before, failed 2 times: panicked: oh";
        let before = Some(failed(3, 31));
        fails(
            7,
            before,
            &[(0, failed(3, 31)), (2, failed(4, 0)), (7, failed(5, 0))],
            reason,
        );
        passes(Some(well()), &[(0, well()), (2, failed(1, 0))]);
    }

    #[test]
    fn what_the_change_itself_ended_is_no_failed_attempt() {
        passes(Some(well()), &[(0, failed(5, 0)), (1, failed(6, 0))]);
    }

    #[test]
    fn a_worker_that_faltered_before_falters_on_its_own_account() {
        passes(Some(failed(3, 20)), &[(0, failed(3, 20)), (2, failed(9, 0))]);
    }

    #[test]
    fn degraded_has_until_the_end_to_get_well() {
        let slow = || part(Health::degraded("slow"));
        let reason = "within 30.0 s worker orders, which was well before, is degraded: slow";
        fails(30, Some(well()), &[(0, well()), (20, slow())], reason);
        passes(Some(well()), &[(0, well()), (21, slow())]);
        passes(Some(well()), &[(0, slow()), (29, well())]);
        passes(Some(well()), &[(0, slow()), (22, well()), (23, slow())]);
        let paused = Part { paused: true, ..slow() };
        passes(Some(well()), &[(0, well()), (3, paused)]);
    }

    #[test]
    fn a_verdict_that_is_late_is_given_at_the_first_look() {
        let before = picture(&[("orders", well())]);
        let mut probation = Probation::begin(&before, &before, Duration::ZERO, WINDOW);
        let now = Duration::from_secs(90);
        assert_eq!(probation.look(now, &before), Some(TrialVerdict::Passed));
        let gone = picture(&[("orders", part(Health::unhealthy("gone")))]);
        assert!(matches!(probation.look(now, &gone), Some(TrialVerdict::Failed(_))));
    }

    #[test]
    fn a_reason_names_a_few_and_counts_the_rest() {
        let names = ["a", "b", "c", "d", "e"];
        let all = |health: &Health| picture(&names.map(|name| (name, part(health.clone()))));
        let mut probation = Probation::begin(&all(&Health::Ok), &all(&Health::Ok), Duration::ZERO, WINDOW);
        let Some(TrialVerdict::Failed(reason)) = probation.look(Duration::from_secs(1), &all(&Health::unhealthy("x")))
        else {
            panic!("it passed");
        };
        assert!(
            reason.contains("worker c, ") && !reason.contains("worker d"),
            "{reason}"
        );
        assert!(reason.ends_with("; and 2 more"), "{reason}");
    }
}
