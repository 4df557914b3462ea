//! Random schedules: which commands are given, when instances report, and what workers there are.

use super::*;

impl World {
    pub(super) fn pause(&mut self) -> Duration {
        Duration::from_millis([0, 10, 1_000, 15_000, 70_000][self.random.usize(0..5)])
    }

    pub(super) fn later_randomly(&mut self, report: Report) {
        let after = [0, 0, 10, 1_000, 8_000, 30_000][self.random.usize(0..6)];
        self.later(after, report);
    }

    pub(super) fn later(&mut self, millis: u64, report: Report) {
        self.order += 1;
        let at = self.now + Duration::from_millis(millis);
        self.queue.push(Reverse((at, self.order, report)));
    }

    pub(super) fn ticket(&mut self, kind: &'static str) -> Ticket {
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, kind);
        self.next_ticket
    }

    pub(super) fn spec(&mut self, number: usize) -> Spec {
        let below = self.wanted.keys().cloned().collect::<Vec<_>>();
        let mut after: Vec<String> = (0..number).map(|number| format!("w{number}")).collect();
        after.retain(|name| self.random.u8(0..3) == 0 && (self.next_ticket == 0 || below.contains(name)));
        let policies = [
            RestartPolicy::Permanent,
            RestartPolicy::Permanent,
            RestartPolicy::Transient,
            RestartPolicy::Never,
        ];
        let intensity = self.random.u32(0..6);
        let seconds = |seconds| Duration::from_secs(seconds);
        let (maximum_delay, within) = [(seconds(30), seconds(60)), (seconds(4), seconds(6))][self.random.usize(0..2)];
        let groups = [GroupPolicy::OneForOne, GroupPolicy::OneForAll, GroupPolicy::RestForOne];
        let group = (self.random.u8(0..3) == 0).then(|| {
            let name = self.random.choice(["even", "odd"]).unwrap().to_owned();
            let policy = groups[self.random.usize(0..3)];
            Box::new(Group { name, policy })
        });
        Spec {
            name: format!("w{number}").into(),
            group,
            slots: self.random.u32(1..4),
            recipe: 0,
            restart: Arc::new(Restart {
                policy: policies[self.random.usize(0..4)],
                maximum_delay,
                intensity,
                within,
                cool_down: [None, None, Some(seconds(5)), Some(seconds(50))][self.random.usize(0..4)],
                ..Restart::default()
            }),
            start_timeout: Duration::from_secs(10),
            after: after.into(),
        }
    }

    pub(super) fn command(&mut self) -> Option<Event> {
        let names: Vec<String> = self.wanted.keys().cloned().collect();
        if names.is_empty() {
            return None;
        }
        let worker = names[self.random.usize(0..names.len())].clone();
        let open = self.stop_by.is_none() && !self.halted;
        Some(match self.random.u8(0..15) {
            0 | 1 => {
                if open {
                    let worker = self.worker(&worker).unwrap();
                    self.forget(|key| key.worker == worker);
                    self.rests.remove(&worker);
                }
                Event::Restart {
                    ticket: self.ticket("restart"),
                    worker,
                }
            }
            2..5 => self.scale(worker, open),
            5 | 6 => self.rest(worker, open),
            7 => {
                if open {
                    self.rests.remove(&self.worker(&worker).unwrap());
                }
                Event::Resume {
                    ticket: self.ticket("resume"),
                    worker,
                }
            }
            8 => Event::Force,
            9 if self.random.bool() => {
                self.stop(&mut Seen::default());
                return None;
            }
            10 | 11 => {
                let alive: Vec<SlotKey> = self.alive.keys().copied().collect();
                let key = self.random.choice(alive)?;
                let incarnation = self.alive[&key].incarnation;
                Event::Hung { key, incarnation }
            }
            14 => self.judge(worker, open),
            _ => return self.apply(open),
        })
    }

    /// Other rules for the ends to come. How earlier ends are counted stays, and no fewer of them are put up with, so that the
    /// oracle can go by all that it has seen.
    fn judge(&mut self, worker: String, open: bool) -> Event {
        let (now, then) = (self.spec(0).restart, Arc::clone(&self.wanted[&worker].restart));
        let restart = Restart {
            intensity: now.intensity.max(then.intensity),
            maximum_delay: now.maximum_delay,
            cool_down: now.cool_down,
            ..(*then).clone()
        };
        if open {
            let id = self.worker(&worker).unwrap();
            self.known.get_mut(&id).unwrap().restart = restart.clone();
            self.wanted.get_mut(&worker).unwrap().restart = Arc::new(restart.clone());
        }
        Event::Judge {
            ticket: self.ticket("judge"),
            worker,
            restart: Arc::new(restart),
        }
    }

    pub(super) fn rest(&mut self, worker: String, open: bool) -> Event {
        let millis = [None, None, Some(0), Some(1), Some(5_000), Some(60_000)][self.random.usize(0..6)];
        let until = millis.map(|millis| self.now + Duration::from_millis(millis));
        if open {
            self.rests.insert(self.worker(&worker).unwrap(), until);
        }
        Event::Pause {
            ticket: self.ticket("pause"),
            worker,
            until,
        }
    }

    pub(super) fn scale(&mut self, worker: String, open: bool) -> Event {
        let slots = self.random.u32(1..5);
        let ticket = self.ticket("scale");
        if open {
            let before = std::mem::replace(&mut self.wanted.get_mut(&worker).unwrap().slots, slots);
            // An earlier answer speaks of the moment at which it was asked.
            self.scaled_down.retain(|_, (name, _)| *name != worker);
            if slots < before {
                self.scaled_down.insert(ticket, (worker.clone(), slots));
            }
            let id = self.worker(&worker).unwrap();
            let known = self.known.get_mut(&id).unwrap();
            known.fewest = known.fewest.min(slots);
            // What comes back comes back without its past.
            self.forget(|key| key.worker == id && key.slot >= before);
        }
        Event::Scale { ticket, worker, slots }
    }

    pub(super) fn apply(&mut self, open: bool) -> Option<Event> {
        if !open {
            return None;
        }
        let mut change = Change::default();
        let names: Vec<String> = self.wanted.keys().cloned().collect();
        for name in &names {
            let needed = self.wanted.iter().any(|(_, spec)| spec.after.contains(name));
            let number: usize = name[1..].parse().unwrap();
            match self.random.u8(0..6) {
                0 if !needed && names.len() > 1 => change.removed.push(name.clone()),
                1 => {
                    let mut spec = self.spec(number);
                    let mut after = spec.after.into_vec();
                    after.retain(|name| !change.removed.contains(name));
                    spec.after = after.into();
                    change.changed.push(spec);
                }
                _ => {}
            }
        }
        // Only what nobody wants may go, so the changed ones are looked at as they will be.
        for spec in &change.changed {
            change.removed.retain(|name| !spec.after.contains(name));
        }
        for name in &change.removed {
            self.scaled_down.retain(|_, (scaled, _)| scaled != name);
            self.wanted.remove(name);
        }
        for spec in &change.changed {
            self.scaled_down.retain(|_, (name, _)| *name != *spec.name);
            self.wanted.insert(spec.name.to_string(), spec.clone());
        }
        let number = self.random.usize(0..7);
        let name = format!("w{number}");
        if self.random.bool() && !self.wanted.contains_key(&name) {
            let spec = self.spec(number);
            self.wanted.insert(name, spec.clone());
            change.added.push(spec);
        }
        Some(Event::Apply {
            ticket: self.ticket("apply"),
            change,
        })
    }

    pub(super) fn stop(&mut self, seen: &mut Seen) {
        let budget = Duration::from_millis([0, 1, 1_000, 25_000, 25_000][self.random.usize(0..5)]);
        let by = self.now + budget;
        self.stop_by = Some(self.stop_by.map_or(by, |old| old.min(by)));
        let ticket = self.ticket("stop");
        self.step(Event::Stop { ticket, budget }, seen);
    }

    pub(super) fn worker(&self, name: &str) -> Option<WorkerId> {
        let named = self.known.iter().rfind(|(_, known)| known.name == name);
        named.map(|(worker, _)| *worker)
    }
}
