//! What must hold after every step: each promise of the machine, checked against what the world knows.

use super::*;

impl World {
    pub(super) fn defined(&mut self, worker: WorkerId, name: &str) {
        let spec = &self.wanted[name];
        let known = Known {
            name: name.to_owned(),
            after: spec.after.to_vec(),
            linked: None,
            restart: (*spec.restart).clone(),
            group: spec.group.as_deref().cloned(),
            loops: self.random.u8(0..6) == 0,
            fewest: spec.slots,
            ready: BTreeSet::new(),
        };
        self.known.insert(worker, known);
    }

    pub(super) fn begins(&mut self, attempt: Attempt, incarnation: u64) {
        let key = attempt.key;
        assert!(!self.alive.contains_key(&key), "two instances of {key:?}");
        assert!(self.stop_by.is_none(), "a start after the stop");
        assert!(!self.halted, "a start after a failed start-up");
        if let Some(until) = self.given_up.get(&key) {
            let over = until.is_some_and(|until| until <= self.now);
            assert!(over, "given up, and started all the same");
            self.forget(|other| other == key);
        }
        if let Some(until) = self.rests.get(&key.worker) {
            assert!(
                until.is_some_and(|until| until <= self.now),
                "paused, and started all the same"
            );
        }
        let known = &self.known[&key.worker];
        for other in self.known.iter().filter(|(other, _)| **other < key.worker) {
            let namesake = other.1.name == known.name && self.alive.keys().any(|key| key.worker == *other.0);
            assert!(!namesake, "an instance of a removed worker of the same name lives");
        }
        for name in &known.after {
            let dependency = self.known.values().rfind(|other| &other.name == name).unwrap();
            let ready = (0..dependency.fewest).all(|slot| dependency.ready.contains(&slot));
            assert!(ready, "{} starts before {name} is ready", known.name);
        }
        self.alive.insert(
            key,
            Instance {
                number: attempt.number,
                incarnation,
                abandoned: false,
            },
        );
        if known.loops {
            let after = [0, 1, 50][self.random.usize(0..3)];
            self.later(after, Report::Ready(attempt));
            return self.later(after, Report::Ended(attempt, 3));
        }
        match self.random.u8(0..20) {
            // Never ready: the start time-out has to end it.
            0 => {}
            1 | 2 => self.later_randomly(Report::Ended(attempt, 4)),
            _ => {
                let ready = [0, 0, 1, 50, 2_000][self.random.usize(0..5)];
                self.later(ready, Report::Ready(attempt));
                if self.random.u8(0..3) > 0 {
                    let after = ready + [1, 100, 5_000, 50_000, 500_000][self.random.usize(0..5)];
                    let kind = self.random.u8(0..4);
                    self.later(after, Report::Ended(attempt, kind));
                }
            }
        }
    }

    pub(super) fn signalled(&mut self, attempt: Attempt, force: bool) {
        let key = attempt.key;
        let alive = self
            .alive
            .get(&key)
            .is_some_and(|instance| instance.number == attempt.number);
        assert!(alive, "a signal to an attempt that is over");
        if self.stop_by.is_some() && !force {
            let mut above = vec![key.worker];
            while let Some(below) = above.pop() {
                for (worker, known) in &self.known {
                    if known.linked.as_ref().is_some_and(|linked| linked.contains(&below)) {
                        let mut instances = self.alive.iter().filter(|(key, _)| key.worker == *worker);
                        assert!(instances.all(|(_, one)| one.abandoned), "stopped before {}", known.name);
                        above.push(*worker);
                    }
                }
            }
        }
        if self.random.u8(0..4) > 0 {
            let end = Report::Ended(attempt, [1, 1, 1, 2][self.random.usize(0..4)]);
            self.later_randomly(end);
        }
    }

    pub(super) fn moved(&mut self, key: SlotKey, state: SlotState, until: Option<Duration>, seen: &mut Seen) {
        seen.note(state.word());
        let restart = self.known[&key.worker].restart.clone();
        let weight = |at: &Duration| 0.5f64.powf((self.now - *at).as_secs_f64() / restart.within.as_secs_f64());
        let before = self.state.insert(key, state);
        let count: f64 = self.ends.get(&key).map_or(0.0, |ends| ends.iter().map(weight).sum());
        let limit = f64::from(restart.intensity);
        match state {
            SlotState::Running => {
                self.known.get_mut(&key.worker).unwrap().ready.insert(key.slot);
                self.running_since.insert(key, self.now);
            }
            SlotState::BackingOff => {
                assert!(count <= limit + 1e-6, "one attempt too many: {count}");
                self.pauses(key, until.unwrap() - self.now, &restart);
                self.takes_along(key, seen);
            }
            SlotState::GivenUp => {
                let enough = count > limit - 1e-6 && count <= limit + 1.0 + 1e-6;
                let enough = enough || restart.policy == RestartPolicy::Never || self.halted;
                assert!(enough, "given up after {count} attempts");
                assert!(until.is_none() || until == restart.cool_down.map(|pause| self.now + pause));
                self.given_up.insert(key, until);
            }
            SlotState::Paused => {
                let wanted = self.rests.get(&key.worker).copied();
                assert_eq!(Some(until), wanted, "a pause that nobody wants so");
                self.not_counted(key, before);
            }
            SlotState::Starting | SlotState::Waiting
                if before == Some(SlotState::Paused) && self.rests.contains_key(&key.worker) =>
            {
                seen.note("pause over");
            }
            SlotState::Abandoned => {
                if let Some(instance) = self.alive.get_mut(&key) {
                    instance.abandoned = true;
                }
            }
            SlotState::Gone => self.forget(|other| other == key),
            SlotState::Stopped | SlotState::Starting | SlotState::Waiting => self.not_counted(key, before),
            _ => {}
        }
    }

    /// Ends that were asked for don't count.
    fn not_counted(&mut self, key: SlotKey, before: Option<SlotState>) {
        if before.is_some_and(|state| state.is_ending() || state == SlotState::Abandoned) {
            self.ends.entry(key).or_default().pop();
        }
    }

    /// A pause that is over keeps nobody.
    pub(super) fn rested(&self) {
        for (worker, until) in &self.rests {
            let over = until.is_some_and(|until| until <= self.now) && self.stop_by.is_none();
            let mut slots = self.state.iter().filter(|(key, _)| key.worker == *worker);
            let rests = slots.any(|(_, state)| *state == SlotState::Paused);
            assert!(
                !(over && rests),
                "{} rests on though its pause is over",
                self.known[worker].name
            );
        }
    }

    /// A slot is about to restart: what of its group has to go with it.
    fn takes_along(&mut self, key: SlotKey, seen: &mut Seen) {
        let Some(group) = self.known[&key.worker].group.clone() else {
            return;
        };
        // What is on its way out does not belong to it any more.
        let stays = |known: &Known| {
            let latest = self.known.values().rfind(|other| other.name == known.name);
            self.wanted.contains_key(&known.name) && latest.is_some_and(|other| std::ptr::eq(other, known))
        };
        let named = |known: &Known| known.group.as_ref().is_some_and(|other| other.name == group.name);
        let in_group = |known: &Known| named(known) && stays(known);
        let mut with: BTreeSet<WorkerId> = match group.policy {
            GroupPolicy::OneForOne => return,
            GroupPolicy::OneForAll => self.known.keys().copied().collect(),
            GroupPolicy::RestForOne => [key.worker].into(),
        };
        loop {
            let starts_after = |known: &Known| {
                let linked = known.linked.iter().flatten();
                linked.into_iter().any(|below| with.contains(below)) && in_group(known)
            };
            let more = self.known.iter().filter(|(_, known)| starts_after(known));
            let more: Vec<WorkerId> = more
                .map(|(worker, _)| *worker)
                .filter(|one| !with.contains(one))
                .collect();
            if more.is_empty() {
                break;
            }
            with.extend(more);
        }
        with.retain(|worker| in_group(&self.known[worker]));
        let runs = |key: &SlotKey| matches!(self.state.get(key), Some(SlotState::Running | SlotState::Starting));
        let alive = self
            .alive
            .keys()
            .filter(|other| with.contains(&other.worker) && **other != key);
        let alive: Vec<SlotKey> = alive.copied().filter(runs).collect();
        if !alive.is_empty() {
            seen.note(if group.policy == GroupPolicy::OneForAll {
                "one for all"
            } else {
                "rest for one"
            });
        }
        self.failed.push((key, alive));
        // What waits for them waits until they are ready again.
        for worker in with {
            let ready = &mut self.known.get_mut(&worker).unwrap().ready;
            ready.retain(|&slot| !self.state[&SlotKey { worker, slot }].restarts_with_its_group());
        }
    }

    pub(super) fn taken_along(&mut self) {
        for (key, others) in std::mem::take(&mut self.failed) {
            for other in others {
                let runs = matches!(self.state[&other], SlotState::Running | SlotState::Starting);
                assert!(
                    !runs || self.halted,
                    "{other:?} runs on though {key:?} of its group restarts"
                );
            }
        }
    }

    /// Pauses double from the first to the longest, give or take a fifth.
    fn pauses(&mut self, key: SlotKey, pause: Duration, restart: &Restart) {
        let streak = self.streak.entry(key).or_default();
        let doubled = restart.initial_delay.as_secs_f64() * 2f64.powi(*streak);
        *streak += 1;
        let most = restart.maximum_delay.as_secs_f64();
        let (pause, wanted) = (pause.as_secs_f64(), doubled.min(most));
        assert!(pause <= most, "a pause of {pause} s, beyond the limit");
        let fits = pause >= wanted * 0.79 && pause <= wanted * 1.21;
        assert!(
            fits,
            "a pause of {pause} s where it is {wanted} s after {streak} attempts"
        );
    }

    pub(super) fn answered(&mut self, ticket: Ticket, answer: &Answer, seen: &mut Seen) {
        let kind = self.tickets.remove(&ticket);
        let kind = kind.unwrap_or_else(|| panic!("a second answer to ticket {ticket}"));
        match answer {
            Answer::Overtaken => seen.note("answer: overtaken"),
            Answer::Failed(_) => seen.note("answer: failed"),
            Answer::Done | Answer::Refused(_) | Answer::Stopped(_) => {}
        }
        match (kind, answer) {
            ("start", Answer::Failed(_)) => self.halted = true,
            ("stop", Answer::Stopped(report)) => {
                self.stopped = true;
                for (key, instance) in &self.alive {
                    let named = report
                        .iter()
                        .any(|stop| stop.key == *key && stop.how == StopOutcome::Abandoned);
                    assert!(
                        named && instance.abandoned,
                        "{key:?} lives and the report does not say so"
                    );
                }
                for stop in report.iter() {
                    seen.note(match stop.how {
                        StopOutcome::Drained => "stop: drained",
                        StopOutcome::Forced => "stop: forced",
                        StopOutcome::Abandoned => "stop: abandoned",
                    });
                }
            }
            (_, Answer::Stopped(_)) | ("stop", _) => panic!("the answer {answer:?} to {kind}"),
            (_, Answer::Refused(Refusal::AlreadyStarted | Refusal::Graph(_) | Refusal::SlotCount)) => {
                panic!("{kind} refused: {answer:?}")
            }
            _ => {}
        }
        if let (Some((name, slots)), Answer::Done) = (self.scaled_down.remove(&ticket), answer) {
            let worker = self.known.iter().rfind(|(_, known)| known.name == name).unwrap().0;
            let left = self.alive.keys().any(|key| key.worker == *worker && key.slot >= slots);
            assert!(!left, "a slot of {name} lives after it was scaled to {slots}");
        }
    }

    pub(super) fn forget(&mut self, which: impl Fn(SlotKey) -> bool) {
        self.given_up.retain(|key, _| !which(*key));
        self.ends.retain(|key, _| !which(*key));
        self.streak.retain(|key, _| !which(*key));
    }
}
