//! Every scenario under many schedules. `PLBA_SCHEDULES` says how many of each kind, `PLBA_SCHEDULES_SEED` which;
//! `PLBA_SCHEDULE=SCENARIO:SCHEDULE` plays one again that has failed. And the test of the tester: planted races are found.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use plba_schedules::scenario::{Planted, Scenario};

/// How many schedules of each kind a scenario is played under where nobody says otherwise.
const SCHEDULES: usize = 500;

/// Within how many a planted race has to be found.
const ENOUGH: usize = 5_000;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn check(scenario: Scenario) {
    if let Ok(named) = env::var("PLBA_SCHEDULE") {
        let (name, schedule) = named.split_once(':').expect("PLBA_SCHEDULE is SCENARIO:SCHEDULE");
        let named =
            Scenario::by_name(name).unwrap_or_else(|| panic!("no scenario {name}; there are {:?}", Scenario::ALL));
        if named == scenario {
            scenario.replay(schedule);
        }
        return;
    }
    let seed = number("PLBA_SCHEDULES_SEED").unwrap_or(0);
    let schedules = number("PLBA_SCHEDULES").map_or(SCHEDULES, |schedules| schedules as usize);
    let began = std::time::Instant::now();
    scenario.play(seed, schedules, None);
    eprintln!(
        "{scenario:?}: 2 x {schedules} schedules from seed {seed} hold, in {:.1?}",
        began.elapsed()
    );
}

#[test]
fn commands_from_several_tasks_are_all_answered() {
    check(Scenario::Commands);
}

#[test]
fn a_stop_during_the_start_ends_both() {
    check(Scenario::StopWhileStarting);
}

#[test]
fn a_stop_overtakes_commands() {
    check(Scenario::StopBesideCommands);
}

#[test]
fn a_force_is_heard_at_any_moment() {
    check(Scenario::Force);
}

#[test]
fn reloads_beside_commands_are_all_answered() {
    check(Scenario::Reload);
}

#[test]
fn nothing_outlives_the_last_handle() {
    check(Scenario::LastHandle);
}

#[test]
fn whatever_times_out_when_everything_is_answered() {
    check(Scenario::Time);
}

/// Plays until the planted race is found, and checks what was found.
fn finds(scenario: Scenario, planted: Planted, expected: &str) {
    if env::var_os("PLBA_SCHEDULE").is_some() {
        return;
    }
    let played = catch_unwind(AssertUnwindSafe(|| scenario.play(1, ENOUGH, Some(planted))));
    let payload = played.expect_err("the race is not found");
    let text = payload.downcast_ref::<String>().map_or("", String::as_str);
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_stop_that_is_not_seen_when_the_worker_is_built_is_found() {
    finds(Scenario::StopWhileStarting, Planted::StopUnseenAtInstall, "deadlock");
}

#[test]
fn a_waker_that_is_left_too_late_is_found() {
    finds(Scenario::StopWhileStarting, Planted::WakerLeftTooLate, "deadlock");
}

#[test]
fn an_end_that_is_told_too_early_is_found() {
    finds(Scenario::Commands, Planted::EndToldTooEarly, "live, left behind");
}
