//! Traces that the judge must find fault with, and such that it must not.

use super::*;

const LEASE: Duration = Duration::from_secs(1);

/// Judges lines given as `MILLISECONDS PROCESS EVENT`, one after the other, separated by `;`.
fn judge(lines: &str) -> Verdict {
    judged(Judge::new(LEASE), lines)
}

fn judged(mut judge: Judge, lines: &str) -> Verdict {
    for line in lines.split(';').map(str::trim) {
        let (milliseconds, rest) = line.split_once(' ').unwrap();
        judge.read(&format!("{milliseconds}000 {rest}"));
    }
    judge.verdict()
}

#[track_caller]
fn check(lines: &str, fault: &str) {
    let verdict = judge(&format!("{lines}; 90000 9 drained"));
    let told = verdict.faults().join("\n");
    assert!(
        told.contains(fault) && (told.is_empty() == fault.is_empty()),
        "{told}\n{verdict:?}"
    );
}

const PUBLISHED: &str = "0 1 publishing 1.0.good; 1 1 published 1.0.good";

#[test]
fn a_task_that_is_acked_is_well() {
    let lines = "2 2 took 1.0.good 7 1; 3 2 ending 1.0.good 7 ack ; 4 2 ended 1.0.good 7 ack done";
    check(&format!("{PUBLISHED}; {lines}"), "");
}

#[test]
fn a_task_that_vanished_is_lost() {
    check(PUBLISHED, "1 tasks are lost: 1.0.good");
    check(&format!("{PUBLISHED}; 2 2 took 1.0.good 7 1"), "1 tasks are lost");
    // Nobody was promised anything.
    check("0 1 publishing 1.0.good", "");
}

#[test]
fn a_follow_up_of_a_confirmed_ack_that_vanished_is_lost() {
    let ending = "2 2 took 1.0.chain 7 1; 3 2 ending 1.0.chain 7 ack 1.0.chain.then";
    let published = "0 1 publishing 1.0.chain; 1 1 published 1.0.chain";
    check(
        &format!("{published}; {ending}; 4 2 ended 1.0.chain 7 ack done"),
        "1 tasks are lost: 1.0.chain.then",
    );
    check(&format!("{published}; {ending}; 4 2 ended 1.0.chain 7 ack unknown"), "");
}

#[test]
fn nobody_gets_a_task_after_its_ack_unless_it_was_published_again() {
    let acked = "2 2 took 1.0.good 7 1; 3 2 ending 1.0.good 7 ack ; 4 2 ended 1.0.good 7 ack done";
    let again = "6 2 took 1.0.good 8 2";
    check(&format!("{PUBLISHED}; {acked}; {again}"), "after its ack was confirmed");
    check(&format!("{PUBLISHED}; 1 1 publishing 1.0.good; {acked}; {again}"), "");
}

#[test]
fn two_never_hold_a_task_at_once() {
    let first = format!("{PUBLISHED}; 10 2 took 1.0.good 7 1");
    let end = "ending 1.0.good 8 ack ; 5001 3 ended 1.0.good 8 ack done";
    check(
        &format!("{first}; 300 3 took 1.0.good 8 2; 5000 3 {end}"),
        "while process 2 held it",
    );
    check(&format!("{first}; 1010 3 took 1.0.good 8 2; 5000 3 {end}"), "");
    let extended = "900 2 extending 1.0.good 7; 901 2 extended 1.0.good 7 done";
    check(
        &format!("{first}; {extended}; 1100 3 took 1.0.good 8 2; 5000 3 {end}"),
        "while process 2 held it",
    );
    let late = first.replace("10 2 took", "30 2 took");
    check(
        &format!("0 9 spawned 2; 20 9 killing 2; {late}; 300 3 took 1.0.good 8 2; 5000 3 {end}"),
        "",
    );
    check(
        &format!("0 9 spawned 2; {first}; 20 9 killing 2; 300 3 took 1.0.good 8 2; 5000 3 {end}"),
        "",
    );
}

#[test]
fn a_process_with_the_number_of_a_dead_one_lives() {
    let dead = "0 9 spawned 2; 1 9 killing 2";
    let told = "5 2 ready; 6 9 spawned 2; 10 2 took 1.0.good 7 1; 300 3 took 1.0.good 8 2";
    let end = "5000 3 ending 1.0.good 8 ack ";
    check(
        &format!("{dead}; {PUBLISHED}; {told}; {end}"),
        "while process 2 held it",
    );
}

#[test]
fn a_process_that_worked_before_its_parent_wrote_it_down_is_freed_by_its_death() {
    let told = "5 2 ready; 10 2 took 1.0.good 7 1; 11 9 spawned 2; 12 9 killing 2; 40 3 took 1.0.good 8 2";
    check(&format!("{PUBLISHED}; {told}; 5000 3 ending 1.0.good 8 ack "), "");
}

#[test]
fn a_stale_token_ends_nothing() {
    let lines = "10 2 took 1.0.good 7 1; 2000 3 took 1.0.good 8 2; 2001 2 ending 1.0.good 7 ack ";
    check(
        &format!("{PUBLISHED}; {lines}; 2002 2 ended 1.0.good 7 ack done"),
        "with a token that was no longer good",
    );
    check(&format!("{PUBLISHED}; {lines}; 2002 2 ended 1.0.good 7 ack lost"), "");
}

#[test]
fn a_lease_is_not_taken_away_before_its_time() {
    let lines = "10 2 took 1.0.good 7 1; 20 2 ending 1.0.good 7 ack ";
    check(
        &format!("{PUBLISHED}; {lines}; 21 2 ended 1.0.good 7 ack lost"),
        "before its lease ran out",
    );
    let unsure = "21 2 ended 1.0.good 7 ack unknown; 22 2 ending 1.0.good 7 ack ; 23 2 ended 1.0.good 7 ack lost";
    check(&format!("{PUBLISHED}; {lines}; {unsure}"), "");
    // An ending whose future was dropped has no answer.
    let extended = "21 2 extending 1.0.good 7; 22 2 extended 1.0.good 7 lost";
    check(&format!("{PUBLISHED}; {lines}; {extended}"), "");
    let taken = format!("{PUBLISHED}; 10 2 took 1.0.good 7 1; {extended}; 50 2 ending 1.0.good 7 ack ");
    check(&taken, "before its lease ran out");
    check(&format!("{PUBLISHED}; {lines}; 1040 2 ended 1.0.good 7 ack lost"), "");
}

#[test]
fn deliveries_are_counted_upwards() {
    let lines = "10 2 took 1.0.good 7 2; 2000 3 took 1.0.good 8 2; 2001 3 ending 1.0.good 8 ack ";
    check(&format!("{PUBLISHED}; {lines}"), "as delivery 2 after delivery 2");
}

#[test]
fn a_server_that_forgets_leases_may_give_them_anew_once_and_nothing_else() {
    let killed = "100 9 server killed; 400 9 server up";
    let first = format!("{PUBLISHED}; 10 2 took 1.0.good 7 1; {killed}");
    let again = "910 3 took 1.0.good 8 1; 911 3 ending 1.0.good 8 ack ; 912 3 ended 1.0.good 8 ack done";
    check(
        &format!("{first}; 450 3 took 1.0.good 8 1; 9000 3 ending 1.0.good 8 ack "),
        "while process 2 held it",
    );
    let allows = |lines: &str, fault: &str| {
        let judge = Judge::new(LEASE).forgetting_leases();
        let verdict = judged(judge, &format!("{lines}; 90000 9 drained"));
        let told = verdict.faults().join("\n");
        assert!(told.contains(fault) && (told.is_empty() == fault.is_empty()), "{told}");
    };
    allows(&format!("{first}; {again}"), "");
    allows(
        &format!("{first}; 405 2 extending 1.0.good 7; 406 2 extended 1.0.good 7 lost; {again}"),
        "",
    );
    allows(
        &format!("{first}; {again}; 913 2 ending 1.0.good 7 ack ; 914 2 ended 1.0.good 7 ack done"),
        "with a token that was no longer good",
    );
    let twice = "910 3 took 1.0.good 8 1; 911 4 took 1.0.good 9 1; 5000 4 ending 1.0.good 9 ack ";
    allows(&format!("{first}; {twice}"), "as delivery 1 after delivery 1");
    allows(&first, "1 tasks are lost");
}

#[test]
fn what_always_fails_dies_after_its_attempts_and_what_kills_after_its_crashes() {
    let arrived = |kind: &str| format!("0 1 publishing 1.0.{kind}; 1 1 published 1.0.{kind}");
    check(&format!("{}; 9 9 dead 1.0.poison 3 1", arrived("poison")), "");
    check(
        &format!("{}; 9 9 dead 1.0.poison 2 1", arrived("poison")),
        "after 2 attempts and 1 crashes",
    );
    check(&format!("{}; 9 9 dead 1.0.deadly 0 5", arrived("deadly")), "");
    check(&format!("{}; 9 9 dead 1.0.deadly 0 6", arrived("deadly")), "6 crashes");
    let acked = "2 2 took 1.0.deadly 7 1; 3 2 ending 1.0.deadly 7 ack ; 4 2 ended 1.0.deadly 7 ack done";
    check(&format!("{}; {acked}", arrived("deadly")), "no dead letter though");
    check(
        &format!("{}; 9 9 dead 1.0.good 0 1", arrived("good")),
        "after 0 attempts and 1 crashes",
    );
}

#[test]
fn recovery_and_restart_are_the_longest_ones() {
    let verdict = judge(&format!(
        "0 9 spawned 2; {PUBLISHED}; 250 2 took 1.0.good 7 1; 300 9 killing 2; 1700 3 took 1.0.good 8 2; \
         1701 3 ending 1.0.good 8 ack ; 2000 9 drained"
    ));
    assert_eq!(verdict.worst_recovery, Duration::from_millis(1_400));
    assert_eq!(verdict.worst_restart, Duration::from_millis(250));
    assert_eq!((verdict.recoveries, verdict.killings), (1, 1));
    assert_eq!(verdict.worst_wait, verdict.worst_recovery);
    assert!(verdict.faults().is_empty(), "{verdict:?}");
}

#[test]
fn suspects_wait_for_one_another_and_others_do_not() {
    let other = PUBLISHED.replace("1.0.good", "1.1.good");
    let once = format!(
        "0 9 spawned 2; {PUBLISHED}; {other}; 250 2 took 1.0.good 7 1; 250 2 took 1.1.good 8 1; 300 9 killing 2; \
         1400 3 took 1.0.good 9 2"
    );
    let verdict = judge(&format!(
        "{once}; 1400 3 took 1.1.good 10 2; 1500 9 killing 3; 1600 4 took 1.0.good 11 3; \
         6399 4 ending 1.0.good 11 ack ; 6400 4 ended 1.0.good 11 ack done; \
         6410 4 took 1.1.good 12 3; 6420 4 ending 1.1.good 12 ack ; 7000 9 drained"
    ));
    assert_eq!(verdict.worst_recovery, Duration::from_millis(4_910));
    assert_eq!(verdict.worst_wait, Duration::from_millis(1_100));
    let verdict = judge(&format!(
        "{once}; 6399 3 ending 1.0.good 9 ack ; 6400 3 ended 1.0.good 9 ack done; \
         6410 3 took 1.1.good 10 2; 6420 3 ending 1.1.good 10 ack ; 7000 9 drained"
    ));
    assert_eq!(verdict.worst_wait, Duration::from_millis(6_110));
}

#[test]
fn a_ledger_that_ends_too_early_or_says_nonsense_is_a_fault() {
    assert!(judge("0 1 ready").faults()[0].contains("drained"));
    check("0 1 nonsense", "1 lines of the ledger");
}
