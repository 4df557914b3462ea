//! The test of the tester: classical bugs, planted one by one, are found by the random schedules.

use super::super::planted::Bug;
use super::runs::{SEEDS, run};

fn check(bug: Bug) {
    let found = run(SEEDS, Some(bug)).failing;
    let seed = found.unwrap_or_else(|| panic!("{bug:?} is not found by {SEEDS} seeds"));
    eprintln!("{bug:?} is found by seed {seed}");
}

#[test]
fn an_intensity_that_is_off_by_one_is_found() {
    check(Bug::IntensityOffByOne);
}

#[test]
fn a_restart_after_the_stop_is_found() {
    check(Bug::RestartAfterStop);
}

#[test]
fn a_stop_that_is_lost_during_a_start_is_found() {
    check(Bug::LostStopDuringStart);
}

#[test]
fn a_budget_that_is_waited_twice_is_found() {
    check(Bug::BudgetWaitedTwice);
}

#[test]
fn a_stop_in_the_wrong_order_is_found() {
    check(Bug::WrongReverseOrder);
}

#[test]
fn a_slot_that_a_scale_down_leaks_is_found() {
    check(Bug::LeakedSlotAfterScaleDown);
}

#[test]
fn a_slot_that_is_started_twice_is_found() {
    check(Bug::DoubleStart);
}

#[test]
fn a_pause_that_overflows_is_found() {
    check(Bug::BackOffOverflow);
}
