//! Schedules that were once found wrong, or are too rare to be met by chance.

use super::*;

#[test]
fn a_stop_while_workers_start_answers_both_commands() {
    let mut machine = Machine::new(1, Vec::new());
    let specs = vec![plain("a", &[]), plain("b", &["a"])];
    let begun = machine.step(Event::Start { ticket: 1, specs }, Duration::ZERO);
    let [first] = attempts(&begun)[..] else {
        panic!("only a starts")
    };
    let budget = Duration::from_secs(10);
    let stop = machine.step(Event::Stop { ticket: 2, budget }, Duration::from_secs(1));
    let refused = stop.iter().any(|effect| {
        matches!(
            effect,
            Effect::Answer {
                ticket: 1,
                answer: Answer::Refused(Refusal::Stopping)
            }
        )
    });
    assert!(refused, "{stop:?}");
    assert!(
        stop.iter()
            .any(|effect| matches!(effect, Effect::Signal { force: false, .. })),
        "{stop:?}"
    );
    let ready = machine.step(Event::Ready(first), Duration::from_secs(2));
    assert!(attempts(&ready).is_empty(), "{ready:?}");
    let over = machine.step(Event::Ended(first, AttemptEnd::Stopped), Duration::from_secs(3));
    let [
        Effect::Ended { .. },
        Effect::State { .. },
        Effect::Answer {
            ticket: 2,
            answer: Answer::Stopped(report),
        },
    ] = &over[..]
    else {
        panic!("{over:?}")
    };
    assert_eq!(report.len(), 1);
    assert_eq!(
        (report[0].how, report[0].took),
        (StopOutcome::Drained, Duration::from_secs(2))
    );
}

#[test]
fn a_chain_of_workers_that_do_not_let_go_is_abandoned_within_the_budget() {
    let mut machine = Machine::new(1, Vec::new());
    let specs: Vec<Spec> = ["a", "b", "c"]
        .iter()
        .zip([&[][..], &["a"], &["b"]])
        .map(|(n, a)| plain(n, a))
        .collect();
    let mut effects = machine.step(Event::Start { ticket: 1, specs }, Duration::ZERO);
    while let [attempt] = attempts(&effects)[..] {
        effects = machine.step(Event::Ready(attempt), Duration::ZERO);
    }
    machine.step(
        Event::Stop {
            ticket: 2,
            budget: Duration::from_secs(30),
        },
        Duration::ZERO,
    );
    let mut answered = None;
    while let Some(at) = machine.next_deadline() {
        for effect in machine.step(Event::Tick, at) {
            if let Effect::Answer {
                answer: Answer::Stopped(report),
                ..
            } = effect
            {
                answered = Some((at, report.iter().map(|stop| Arc::clone(&stop.name)).collect::<Vec<_>>()));
            }
        }
    }
    let (at, names) = answered.unwrap();
    assert_eq!(at, Duration::from_secs(30));
    assert_eq!(names, ["c".into(), "b".into(), "a".into()]);
}

#[test]
fn a_removed_worker_is_not_started_again_by_an_earlier_restart() {
    let mut machine = Machine::new(1, Vec::new());
    let specs = vec![plain("a", &[]), plain("b", &["a"])];
    let start = machine.step(Event::Start { ticket: 1, specs }, Duration::ZERO);
    let [a] = attempts(&start)[..] else {
        panic!("only a starts")
    };
    let [b] = attempts(&machine.step(Event::Ready(a), Duration::ZERO))[..] else {
        panic!("b starts")
    };
    machine.step(Event::Ready(b), Duration::ZERO);
    let worker = "a".to_owned();
    machine.step(Event::Restart { ticket: 2, worker }, Duration::ZERO);
    let change = Change {
        removed: vec!["a".into(), "b".into()],
        ..Change::default()
    };
    machine.step(Event::Apply { ticket: 3, change }, Duration::ZERO);
    // b holds a up, so a has not been asked yet when its restart's end arrives.
    let ended = machine.step(Event::Ended(a, AttemptEnd::Stopped), Duration::ZERO);
    assert!(attempts(&ended).is_empty(), "{ended:?}");
    let last = machine.step(Event::Ended(b, AttemptEnd::Stopped), Duration::ZERO);
    let removed = last
        .iter()
        .filter(|effect| matches!(effect, Effect::Removed { .. }))
        .count();
    assert_eq!(removed, 2, "{last:?}");
    assert!(attempts(&last).is_empty(), "{last:?}");
}

#[test]
fn a_worker_that_was_given_up_is_tried_again_after_its_cool_down_unless_it_is_paused() {
    let secs = Duration::from_secs;
    for paused in [false, true] {
        let mut machine = Machine::new(1, Vec::new());
        let mut spec = plain("a", &[]);
        spec.restart = Arc::new(Restart {
            intensity: 0,
            cool_down: Some(secs(60)),
            ..Restart::default()
        });
        let specs = vec![spec];
        let [first] = attempts(&machine.step(Event::Start { ticket: 1, specs }, secs(0)))[..] else {
            panic!("a starts")
        };
        machine.step(Event::Ready(first), secs(0));
        machine.step(Event::Ended(first, AttemptEnd::Dropped), secs(1));
        assert_eq!(machine.next_deadline(), Some(secs(61)));
        if paused {
            let worker = "a".to_owned();
            let until = None;
            machine.step(
                Event::Pause {
                    ticket: 2,
                    worker,
                    until,
                },
                secs(2),
            );
        }
        let effects = machine.step(Event::Tick, secs(61));
        assert_eq!(attempts(&effects).len(), usize::from(!paused), "{effects:?}");
    }
}

/// Four workers of one group, of which the second fails: who is asked to stop, and who starts before it is ready again.
fn taken_along(policy: GroupPolicy) -> (Vec<WorkerId>, Vec<WorkerId>) {
    let mut machine = Machine::new(1, Vec::new());
    let mut specs = vec![plain("a", &[]), plain("b", &["a"]), plain("c", &["b"]), plain("d", &[])];
    for spec in &mut specs {
        let name = "all".to_owned();
        spec.group = Some(Box::new(Group { name, policy }));
    }
    let mut running = attempts(&machine.step(Event::Start { ticket: 1, specs }, Duration::ZERO));
    for number in 0..4 {
        let more = machine.step(Event::Ready(running[number]), Duration::ZERO);
        running.extend(attempts(&more));
    }
    let failed = *running.iter().find(|attempt| attempt.key.worker == 1).unwrap();
    let effects = machine.step(Event::Ended(failed, AttemptEnd::Dropped), Duration::from_secs(1));
    let asked = effects.iter().filter_map(|effect| match effect {
        Effect::Signal { attempt, force: false } => Some(*attempt),
        _ => None,
    });
    let asked: Vec<Attempt> = asked.collect();
    let mut begun = Vec::new();
    for attempt in &asked {
        let ended = machine.step(Event::Ended(*attempt, AttemptEnd::Stopped), Duration::from_secs(1));
        begun.extend(attempts(&ended).iter().map(|attempt| attempt.key.worker));
    }
    (asked.iter().map(|attempt| attempt.key.worker).collect(), begun)
}

#[test]
fn a_group_says_who_restarts_with_a_member_that_failed() {
    assert_eq!(taken_along(GroupPolicy::OneForOne), (vec![], vec![]));
    // c starts after b, which pauses; a and d wait for nobody.
    assert_eq!(taken_along(GroupPolicy::OneForAll), (vec![0, 2, 3], vec![0, 3]));
    assert_eq!(taken_along(GroupPolicy::RestForOne), (vec![2], vec![]));
}

#[test]
fn a_hung_instance_is_told_to_let_go_then_dropped_then_replaced() {
    let secs = Duration::from_secs;
    let mut machine = Machine::new(1, Vec::new());
    let specs = vec![plain("a", &[])];
    let [first] = attempts(&machine.step(Event::Start { ticket: 1, specs }, secs(0)))[..] else {
        panic!("a starts")
    };
    machine.step(Event::Ready(first), secs(0));
    let hung = |incarnation| Event::Hung {
        key: first.key,
        incarnation,
    };
    assert!(machine.step(hung(7), secs(1)).is_empty(), "another instance");
    let told = machine.step(hung(1), secs(1));
    let forced = |effect: &Effect| matches!(effect, Effect::Signal { force: true, .. });
    assert!(told.iter().any(forced), "{told:?}");
    let dropped = machine.step(Event::Tick, secs(6));
    assert!(
        dropped.iter().any(|effect| matches!(effect, Effect::Drop { .. })),
        "{dropped:?}"
    );
    let ended = machine.step(Event::Ended(first, AttemptEnd::Dropped), secs(6));
    let cause = |effect: &Effect| {
        matches!(
            effect,
            Effect::Ended {
                end: AttemptEnd::Hung,
                ..
            }
        )
    };
    assert!(ended.iter().any(cause), "{ended:?}");
    assert_eq!(attempts(&machine.step(Event::Tick, secs(8))).len(), 1);
}
