//! Random schedules against the step machine: instances that are slow, fail, hang or don't let go, and commands in any
//! order, with what must hold checked after each step. A failing seed is printed and can be run alone, step by step, with
//! `PLBA_SIM_SEED`; `PLBA_SIM_SEEDS` says how many are run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::worker::{Restart, RestartPolicy};

use super::Machine;
use super::protocol::{Answer, Attempt, Change, Effect, Event, Refusal, SlotKey, Spec, Ticket, WorkerId};
use crate::supervisor::view::{AttemptEnd, SlotState, StopOutcome};

/// How many seeds run where `PLBA_SIM_SEEDS` does not say otherwise.
const SEEDS: u64 = 10_000;

#[test]
fn any_schedule_keeps_the_promises() {
    let mut seen = Seen::default();
    if let Ok(seed) = std::env::var("PLBA_SIM_SEED") {
        return World::new(seed.parse().unwrap(), true).run(&mut seen);
    }
    let seeds = std::env::var("PLBA_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let ran = std::panic::catch_unwind(|| {
            let mut seen = Seen::default();
            World::new(seed, false).run(&mut seen);
            seen
        });
        match ran {
            Ok(one) => seen.add(&one),
            Err(panic) => {
                eprintln!("the failing seed is {seed}; run it alone with PLBA_SIM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{seeds} seeds: {:?}", seen.0);
    for branch in [
        "GivenUp",
        "Abandoned",
        "Forced",
        "Finished",
        "Gone",
        "Paused",
        "Dropped",
        "overtaken",
        "failed",
        "drained",
    ] {
        assert!(
            seen.0.contains_key(branch),
            "no schedule reached {branch}, so nothing is known about it"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    let trace = |seed| {
        let mut world = World::new(seed, false);
        world.run(&mut Seen::default());
        world.trace
    };
    for seed in 0..50 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
}

/// What was reached, and how often.
#[derive(Default)]
struct Seen(BTreeMap<String, u64>);

impl Seen {
    fn note(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what.clone()).or_default() += count;
        }
    }
}

/// What the oracles know of one definition.
#[derive(Default)]
struct Known {
    name: String,
    after: Vec<String>,
    /// The same as they were when it was defined: a name may pass to another worker later.
    linked: Option<Vec<WorkerId>>,
    restart: Restart,
    /// The fewest slots wanted since it was defined, and those that were ready since.
    fewest: u32,
    ready: BTreeSet<u32>,
}

#[derive(Default)]
struct Instance {
    number: u64,
    abandoned: bool,
}

struct World {
    machine: Machine,
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
    given_up: BTreeSet<SlotKey>,
    ends: BTreeMap<SlotKey, Vec<Duration>>,
    state: BTreeMap<SlotKey, SlotState>,
    halted: bool,
    stop_by: Option<Duration>,
    stopped: bool,
    verbose: bool,
    trace: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Report {
    Ready(Attempt),
    Ended(Attempt, u8),
}

impl World {
    fn new(seed: u64, verbose: bool) -> Self {
        Self {
            machine: Machine::new(seed),
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
            given_up: BTreeSet::new(),
            ends: BTreeMap::new(),
            state: BTreeMap::new(),
            halted: false,
            stop_by: None,
            stopped: false,
            verbose,
            trace: Vec::new(),
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
        assert_eq!(self.machine.next_deadline(), None, "a timer outlives the stop");
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
        self.say(format!("{:?} {event:?}", self.now));
        let over = match &event {
            Event::Ended(attempt, _) => Some(*attempt),
            _ => None,
        };
        let effects = self.machine.step(event, self.now);
        for effect in effects {
            self.say(format!("    {effect:?}"));
            // Timers that are due come before the report, and may still speak to the attempt.
            if matches!(effect, Effect::Ended { .. }) {
                self.buried(over);
            }
            self.carry_out(effect, seen);
        }
        self.buried(over);
        self.link();
        if let Some(by) = self.stop_by.filter(|_| !self.stopped) {
            assert!(self.now <= by, "the stop takes longer than its budget");
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

    fn say(&mut self, line: String) {
        if self.verbose {
            eprintln!("{line}");
        }
        self.trace.push(line);
    }

    // === effects and oracles ===

    fn carry_out(&mut self, effect: Effect, seen: &mut Seen) {
        match effect {
            Effect::Added { worker, name } => self.defined(worker, &name),
            Effect::Changed { worker } => {
                let name = self.known[&worker].name.clone();
                self.defined(worker, &name);
                self.forget(|key| key.worker == worker);
            }
            Effect::Removed { worker } => {
                let left = self.alive.keys().any(|key| key.worker == worker);
                assert!(!left, "removed while an instance lives");
            }
            Effect::Begin { attempt, .. } => self.begins(attempt),
            Effect::Signal { attempt, force } => self.signalled(attempt, force),
            Effect::Drop { attempt } => {
                let after = [0, 0, 1, 3_000, 60_000][self.random.usize(0..5)];
                self.later(after, Report::Ended(attempt, 6));
            }
            Effect::State { key, state, until } => self.moved(key, state, until, seen),
            Effect::Ended { key, .. } => {
                self.ends.entry(key).or_default().push(self.now);
            }
            Effect::Answer { ticket, answer } => self.answered(ticket, &answer, seen),
        }
    }

    fn defined(&mut self, worker: WorkerId, name: &str) {
        let spec = &self.wanted[name];
        let known = Known {
            name: name.to_owned(),
            after: spec.after.clone(),
            linked: None,
            restart: spec.restart.clone(),
            fewest: spec.slots,
            ready: BTreeSet::new(),
        };
        self.known.insert(worker, known);
    }

    fn begins(&mut self, attempt: Attempt) {
        let key = attempt.key;
        assert!(!self.alive.contains_key(&key), "two instances of {key:?}");
        assert!(self.stop_by.is_none(), "a start after the stop");
        assert!(!self.halted, "a start after a failed start-up");
        assert!(!self.given_up.contains(&key), "given up, and started all the same");
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
                abandoned: false,
            },
        );
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

    fn signalled(&mut self, attempt: Attempt, force: bool) {
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

    fn moved(&mut self, key: SlotKey, state: SlotState, until: Option<Duration>, seen: &mut Seen) {
        seen.note(format!("{state:?}"));
        let restart = self.known[&key.worker].restart.clone();
        let within = |ends: &Vec<Duration>, now: Duration| ends.iter().filter(|at| now - **at < restart.within).count();
        let before = self.state.insert(key, state);
        let count = self.ends.get(&key).map_or(0, |ends| within(ends, self.now));
        match state {
            SlotState::Running => {
                self.known.get_mut(&key.worker).unwrap().ready.insert(key.slot);
            }
            SlotState::BackingOff => {
                assert!(count <= restart.intensity as usize, "one attempt too many: {count}");
                assert!(
                    until.unwrap() <= self.now + restart.maximum_delay,
                    "a pause beyond the limit"
                );
            }
            SlotState::GivenUp => {
                let enough = count == restart.intensity as usize + 1 || restart.policy == RestartPolicy::Never;
                assert!(enough || self.halted, "given up after {count} attempts");
                self.given_up.insert(key);
            }
            SlotState::Abandoned => {
                if let Some(instance) = self.alive.get_mut(&key) {
                    instance.abandoned = true;
                }
            }
            // Ends that were asked for don't count.
            SlotState::Gone => self.forget(|other| other == key),
            SlotState::Paused | SlotState::Stopped | SlotState::Starting | SlotState::Waiting
                if before.is_some_and(|state| state.is_ending() || state == SlotState::Abandoned) =>
            {
                self.ends.entry(key).or_default().pop();
            }
            _ => {}
        }
    }

    fn answered(&mut self, ticket: Ticket, answer: &Answer, seen: &mut Seen) {
        let kind = self.tickets.remove(&ticket);
        let kind = kind.unwrap_or_else(|| panic!("a second answer to ticket {ticket}"));
        match answer {
            Answer::Overtaken => seen.note("overtaken"),
            Answer::Failed(_) => seen.note("failed"),
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
                for stop in report {
                    seen.note(format!("{:?}", stop.how).to_lowercase());
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

    fn forget(&mut self, which: impl Fn(SlotKey) -> bool) {
        self.given_up.retain(|key| !which(*key));
        self.ends.retain(|key, _| !which(*key));
    }

    // === chance ===

    fn pause(&mut self) -> Duration {
        Duration::from_millis([0, 10, 1_000, 15_000, 70_000][self.random.usize(0..5)])
    }

    fn later_randomly(&mut self, report: Report) {
        let after = [0, 0, 10, 1_000, 8_000, 30_000][self.random.usize(0..6)];
        self.later(after, report);
    }

    fn later(&mut self, millis: u64, report: Report) {
        self.order += 1;
        let at = self.now + Duration::from_millis(millis);
        self.queue.push(Reverse((at, self.order, report)));
    }

    fn ticket(&mut self, kind: &'static str) -> Ticket {
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, kind);
        self.next_ticket
    }

    fn spec(&mut self, number: usize) -> Spec {
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
        Spec {
            name: format!("w{number}").into(),
            slots: self.random.u32(1..4),
            restart: Restart {
                policy: policies[self.random.usize(0..4)],
                intensity,
                ..Restart::default()
            },
            start_timeout: Duration::from_secs(10),
            after,
        }
    }

    fn command(&mut self) -> Option<Event> {
        let names: Vec<String> = self.wanted.keys().cloned().collect();
        if names.is_empty() {
            return None;
        }
        let worker = names[self.random.usize(0..names.len())].clone();
        let open = self.stop_by.is_none() && !self.halted;
        Some(match self.random.u8(0..12) {
            0 | 1 => {
                if open {
                    let worker = self.worker(&worker);
                    self.forget(|key| Some(key.worker) == worker);
                }
                Event::Restart {
                    ticket: self.ticket("restart"),
                    worker,
                }
            }
            2..5 => self.scale(worker, open),
            5 | 6 => Event::Pause {
                ticket: self.ticket("pause"),
                worker,
            },
            7 => Event::Resume {
                ticket: self.ticket("resume"),
                worker,
            },
            8 => Event::Force,
            9 if self.random.bool() => {
                self.stop(&mut Seen::default());
                return None;
            }
            _ => return self.apply(open),
        })
    }

    fn scale(&mut self, worker: String, open: bool) -> Event {
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

    fn apply(&mut self, open: bool) -> Option<Event> {
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
                    spec.after.retain(|name| !change.removed.contains(name));
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

    fn stop(&mut self, seen: &mut Seen) {
        let budget = Duration::from_millis([0, 1, 1_000, 25_000, 25_000][self.random.usize(0..5)]);
        let by = self.now + budget;
        self.stop_by = Some(self.stop_by.map_or(by, |old| old.min(by)));
        let ticket = self.ticket("stop");
        self.step(Event::Stop { ticket, budget }, seen);
    }

    fn worker(&self, name: &str) -> Option<WorkerId> {
        let named = self.known.iter().rfind(|(_, known)| known.name == name);
        named.map(|(worker, _)| *worker)
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
        restart: Restart::default(),
        start_timeout: Duration::from_secs(30),
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

#[test]
fn a_stop_while_workers_start_answers_both_commands() {
    let mut machine = Machine::new(1);
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
    let mut machine = Machine::new(1);
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
    let mut machine = Machine::new(1);
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
