//! Random schedules against the step machine: instances that are slow, fail, hang or don't let go, and commands in any
//! order, with what must hold checked after each step. Here live the simulated world and how a step is taken in it; how
//! many schedules are run, and what is told of them, lives in `runs`.

mod bugs;
mod cases;
mod oracles;
mod runs;
mod schedule;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::worker::{Group, GroupPolicy, Restart, RestartPolicy};

use self::runs::Seen;
use super::Machine;
use super::protocol::{Answer, Attempt, Change, Effect, Event, Refusal, SlotKey, Spec, Ticket, WorkerId};
use crate::supervisor::view::{AttemptEnd, SlotState, StopOutcome};

/// What the oracles know of one definition.
#[derive(Default)]
struct Known {
    name: String,
    after: Vec<String>,
    /// The same as they were when it was defined: a name may pass to another worker later.
    linked: Option<Vec<WorkerId>>,
    restart: Restart,
    group: Option<Group>,
    /// Its attempts fail soon, one after the other.
    loops: bool,
    /// The fewest slots wanted since it was defined, and those that were ready since.
    fewest: u32,
    ready: BTreeSet<u32>,
}

#[derive(Default)]
struct Instance {
    number: u64,
    incarnation: u64,
    abandoned: bool,
}

struct World {
    machine: Machine<Vec<Effect>>,
    random: fastrand::Rng,
    now: Duration,
    queue: BinaryHeap<Reverse<(Duration, u64, Report)>>,
    order: u64,
    tickets: BTreeMap<Ticket, &'static str>,
    scaled_down: BTreeMap<Ticket, (String, u32)>,
    next_ticket: Ticket,
    known: BTreeMap<WorkerId, Known>,
    /// What the last accepted commands want, by name.
    wanted: BTreeMap<String, Spec>,
    alive: BTreeMap<SlotKey, Instance>,
    /// Until when, where it is tried again.
    given_up: BTreeMap<SlotKey, Option<Duration>>,
    ends: BTreeMap<SlotKey, Vec<Duration>>,
    /// Pauses since the series began, and since when the attempt runs.
    streak: BTreeMap<SlotKey, i32>,
    running_since: BTreeMap<SlotKey, Duration>,
    state: BTreeMap<SlotKey, SlotState>,
    /// Workers that an operator lets rest, and until when.
    rests: BTreeMap<WorkerId, Option<Duration>>,
    /// Slots that were about to restart in this step, with what was alive of their groups.
    failed: Vec<(SlotKey, Vec<SlotKey>)>,
    halted: bool,
    stop_by: Option<Duration>,
    stopped: bool,
    steps: u64,
    /// What happened, line by line, where somebody wants to read it.
    trace: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Report {
    Ready(Attempt),
    Ended(Attempt, u8),
}

impl World {
    fn new(seed: u64, traced: bool) -> Self {
        Self {
            machine: Machine::new(seed, Vec::new()),
            random: fastrand::Rng::with_seed(seed ^ 0x5eed),
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            order: 0,
            tickets: BTreeMap::new(),
            scaled_down: BTreeMap::new(),
            next_ticket: 0,
            known: BTreeMap::new(),
            wanted: BTreeMap::new(),
            alive: BTreeMap::new(),
            given_up: BTreeMap::new(),
            ends: BTreeMap::new(),
            streak: BTreeMap::new(),
            running_since: BTreeMap::new(),
            state: BTreeMap::new(),
            rests: BTreeMap::new(),
            failed: Vec::new(),
            halted: false,
            stop_by: None,
            stopped: false,
            steps: 0,
            trace: traced.then(Vec::new),
        }
    }

    fn run(&mut self, seen: &mut Seen) {
        let specs: Vec<Spec> = (0..self.random.usize(1..6)).map(|number| self.spec(number)).collect();
        for spec in &specs {
            self.wanted.insert(spec.name.to_string(), spec.clone());
        }
        let ticket = self.ticket("start");
        self.step(Event::Start { ticket, specs }, seen);
        let commands = self.random.usize(0..8);
        for _ in 0..commands {
            let pause = self.pause();
            self.advance(self.now + pause, seen);
            if let Some(command) = self.command() {
                self.step(command, seen);
            }
        }
        let pause = self.pause();
        self.advance(self.now + pause, seen);
        if self.random.bool() {
            // Left alone, everything is answered, whatever hangs.
            self.advance(self.now + Duration::from_secs(400), seen);
            assert!(self.tickets.is_empty(), "still without an answer: {:?}", self.tickets);
        }
        self.stop(seen);
        // Everything that can still happen happens; nothing may start any more.
        self.advance(self.now + Duration::from_secs(200), seen);
        assert!(self.stopped, "the stop was not answered");
        assert!(self.tickets.is_empty(), "without an answer: {:?}", self.tickets);
    }

    /// Lets time pass, with all that happens by itself.
    fn advance(&mut self, until: Duration, seen: &mut Seen) {
        loop {
            let report = self.queue.peek().map(|Reverse((at, ..))| *at);
            let timer = self.machine.next_deadline();
            let next = [report, timer].into_iter().flatten().min().filter(|at| *at <= until);
            let Some(at) = next else { break };
            self.now = self.now.max(at);
            if report == Some(at) {
                let Some(Reverse((_, _, report))) = self.queue.pop() else {
                    break;
                };
                let event = self.happens(report);
                if let Some(event) = event {
                    self.step(event, seen);
                }
            } else {
                self.step(Event::Tick, seen);
            }
        }
        self.now = until;
    }

    fn happens(&mut self, report: Report) -> Option<Event> {
        let (Report::Ready(attempt) | Report::Ended(attempt, _)) = report;
        let instance = self
            .alive
            .get(&attempt.key)
            .filter(|instance| instance.number == attempt.number);
        let current = instance.is_some();
        match report {
            // An attempt that is gone says nothing; now and then one reports twice or late all the same.
            _ if !current && self.random.u8(..) > 8 => None,
            Report::Ready(attempt) => Some(Event::Ready(attempt)),
            Report::Ended(attempt, kind) => Some(Event::Ended(attempt, end(kind))),
        }
    }

    fn step(&mut self, event: Event, seen: &mut Seen) {
        self.steps += 1;
        self.say(|now| format!("{now:?} {event:?}"));
        let over = match &event {
            Event::Ended(attempt, _) => Some(*attempt),
            _ => None,
        };
        let effects = self.machine.step(event, self.now);
        for effect in effects {
            self.say(|_| format!("    {effect:?}"));
            // Timers that are due come before the report, and may still speak to the attempt.
            if matches!(effect, Effect::Ended { .. }) {
                self.buried(over);
            }
            self.carry_out(effect, seen);
        }
        self.buried(over);
        self.link();
        self.taken_along();
        self.rested();
        if let Some(by) = self.stop_by.filter(|_| !self.stopped) {
            assert!(self.now <= by, "the stop takes longer than its budget");
        }
        if self.stopped {
            assert_eq!(self.machine.next_deadline(), None, "a timer outlives the stop");
        }
    }

    fn link(&mut self) {
        let unlinked = self.known.iter().filter(|(_, known)| known.linked.is_none());
        let linked: Vec<(WorkerId, Vec<WorkerId>)> = unlinked
            .map(|(worker, known)| {
                (
                    *worker,
                    known.after.iter().filter_map(|name| self.worker(name)).collect(),
                )
            })
            .collect();
        for (worker, after) in linked {
            self.known.get_mut(&worker).unwrap().linked = Some(after);
        }
    }

    fn buried(&mut self, over: Option<Attempt>) {
        let Some(attempt) = over else { return };
        if self
            .alive
            .get(&attempt.key)
            .is_some_and(|instance| instance.number == attempt.number)
        {
            self.alive.remove(&attempt.key);
        }
    }

    fn say(&mut self, line: impl FnOnce(Duration) -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line(self.now));
        }
    }

    // === effects and oracles ===

    fn carry_out(&mut self, effect: Effect, seen: &mut Seen) {
        match effect {
            Effect::Added { worker, name, .. } => self.defined(worker, &name),
            Effect::Changed { worker, .. } => {
                let name = self.known[&worker].name.clone();
                self.defined(worker, &name);
                self.forget(|key| key.worker == worker);
                self.rests.remove(&worker);
            }
            Effect::Removed { worker } => {
                let left = self.alive.keys().any(|key| key.worker == worker);
                assert!(!left, "removed while an instance lives");
            }
            Effect::Begin { attempt, incarnation } => self.begins(attempt, incarnation),
            Effect::Signal { attempt, force } => self.signalled(attempt, force),
            Effect::Drop { attempt } => {
                let after = [0, 0, 1, 3_000, 60_000][self.random.usize(0..5)];
                self.later(after, Report::Ended(attempt, 6));
            }
            Effect::State { key, state, until } => self.moved(key, state, until, seen),
            Effect::Ended { key, end } => {
                if end == AttemptEnd::Hung {
                    seen.note("hung");
                }
                self.ends.entry(key).or_default().push(self.now);
                let ran = self.running_since.remove(&key).map(|since| self.now - since);
                let asked = self.state[&key] != SlotState::Running;
                if !asked && ran.is_some_and(|ran| ran >= self.known[&key.worker].restart.within) {
                    self.streak.remove(&key);
                }
            }
            Effect::Answer { ticket, answer } => self.answered(ticket, &answer, seen),
        }
    }
}

fn end(kind: u8) -> AttemptEnd {
    match kind {
        0 => AttemptEnd::Finished,
        1 => AttemptEnd::Stopped,
        2 => AttemptEnd::Failed("no".into()),
        3 => AttemptEnd::Panicked("boom".into()),
        4 => AttemptEnd::NotStarted("no".into()),
        _ => AttemptEnd::Dropped,
    }
}

/// A spec for hand-written schedules.
fn plain(name: &str, after: &[&str]) -> Spec {
    Spec {
        name: name.into(),
        slots: 1,
        recipe: 0,
        restart: Arc::default(),
        start_timeout: Duration::from_secs(30),
        group: None,
        after: after.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn attempts(effects: &[Effect]) -> Vec<Attempt> {
    let begun = effects.iter().filter_map(|effect| match effect {
        Effect::Begin { attempt, .. } => Some(*attempt),
        _ => None,
    });
    begun.collect()
}
