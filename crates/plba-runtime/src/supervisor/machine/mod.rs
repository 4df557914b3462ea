//! The step machine: the whole of supervision as a pure function of events and time. No clock, no executor and no
//! randomness but a seed live here, so that schedules can be simulated by the million; carrying effects out is the
//! driver's.
//!
//! A slot moves through these states (`Slot` has one timer, whose meaning follows from the state):
//!
//! ```text
//!            dependencies ready        Ready            end asked for
//! Waiting ───────────────────► Starting ───► Running ─────────────────► Stopping
//!    ▲                             │ time-out   │                          │ 80 % of the window
//!    │                             ▼            │ Ended                    ▼
//!    │                          Dropped         │                        Forced
//!    │            pause over       │ Ended      ▼                          │ 90 %
//!    └───────────── BackingOff ◄───┴─── restart policy                     ▼
//!                                          │                            Dropped ──100 %──► Abandoned
//!                                          ▼                               │ Ended             │ Ended
//!                                  Finished, GivenUp                       └──► what `Then` says ◄┘
//!                                             │ cool-down, if any: Waiting
//! ```

mod commands;
pub(crate) mod graph;
mod group;
mod planted;
pub(crate) mod protocol;
#[cfg(test)]
mod simulation;
mod slot;
mod stopping;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::worker::RestartPolicy;

use self::planted::{Bug, planted};
use self::protocol::{Answer, Attempt, Effect, Event, Refusal, SlotFailure, SlotKey, Spec, Ticket, WorkerId};
use self::slot::{Slot, Then, Verdict, Wish};
use self::stopping::{Stopping, Turn};
use super::view::{AttemptEnd, SlotState};

/// How long ending an attempt may take outside a stop of the process: at a restart, a removal, a pause, a scale-down.
pub(crate) const DRAIN_WINDOW: Duration = Duration::from_secs(25);

/// How long an attempt that was dropped because its start took too long may take to be gone.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

/// Supervises definitions; see the module.
pub(crate) struct Machine {
    phase: Phase,
    /// Boxed: half of a tree's places are empty when keys come in order.
    members: BTreeMap<WorkerId, Box<Member>>,
    by_name: HashMap<Arc<str>, WorkerId>,
    timers: BTreeSet<(Duration, SlotKey)>,
    pending: BTreeMap<Ticket, Pending>,
    stopping: Option<Stopping>,
    /// Attempts that a stop has to wait for.
    live: usize,
    random: fastrand::Rng,
    next_worker: WorkerId,
    next_attempt: u64,
    effects: Vec<Effect>,
}

/// How many slots a worker may have.
pub(crate) const MAX_SLOTS: u32 = 65_536;

/// How far the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    /// Until every worker was ready once.
    Starting(Ticket),
    Running,
    /// The start failed; nothing is started any more.
    Halted,
    Stopping,
    Stopped,
}

/// One definition.
struct Member {
    spec: Spec,
    slots: Vec<Slot>,
    /// How many slots are wanted; those above are gone or going.
    wanted: u32,
    paused: bool,
    after: Vec<WorkerId>,
    dependents: Vec<WorkerId>,
    /// Every slot was ready once since the definition came or changed.
    ready: bool,
    /// Slots that were not.
    unready: usize,
    /// How many it waits for before it starts: dependencies that are not ready, and namesakes.
    waiting_on: usize,
    /// Removed workers of the same name that are not gone; it waits for them.
    namesakes: usize,
    live: usize,
    /// Its part in a stop or removal.
    turn: Option<Turn>,
}

/// A command that waits for its answer.
struct Pending {
    outstanding: usize,
    failures: Vec<SlotFailure>,
    overtaken: bool,
}

/// What became of a slot that a command watches.
enum Settled {
    Up,
    Down,
    Failed(Arc<str>),
    /// Its attempt does not let itself be ended.
    Stuck,
}

impl Machine {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            phase: Phase::New,
            members: BTreeMap::new(),
            by_name: HashMap::new(),
            timers: BTreeSet::new(),
            pending: BTreeMap::new(),
            stopping: None,
            live: 0,
            random: fastrand::Rng::with_seed(seed),
            next_worker: 0,
            next_attempt: 0,
            effects: Vec::new(),
        }
    }

    /// Takes note of what happened, and says what is to be done. Timers that are due come first.
    pub(crate) fn step(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        self.fire_timers(now);
        match event {
            Event::Start { ticket, specs } => self.command_start(ticket, specs, now),
            Event::Apply { ticket, change } => self.command_apply(ticket, change, now),
            Event::Restart { ticket, worker } => self.command_restart(ticket, &worker, now),
            Event::Scale { ticket, worker, slots } => self.command_scale(ticket, &worker, slots, now),
            Event::Pause { ticket, worker } => self.command_pause(ticket, &worker, now),
            Event::Resume { ticket, worker } => self.command_resume(ticket, &worker, now),
            Event::Stop { ticket, budget } => self.command_stop(ticket, budget, now),
            Event::Force => self.force_all(now),
            Event::Ready(attempt) => self.on_ready(attempt, now),
            Event::Ended(attempt, end) => self.on_ended(attempt, end, now),
            Event::Hung { key, incarnation } => self.on_hung(key, incarnation, now),
            Event::Tick => {}
        }
        self.fire_timers(now);
        std::mem::take(&mut self.effects)
    }

    /// When a timer is due next.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.timers.first().map(|(due, _)| *due)
    }

    fn may_start(&self) -> bool {
        matches!(self.phase, Phase::Starting(_) | Phase::Running)
            || planted(Bug::RestartAfterStop) && self.phase == Phase::Stopping
    }

    fn fire_timers(&mut self, now: Duration) {
        while let Some(&(due, key)) = self.timers.first() {
            if due > now {
                break;
            }
            self.set_timer(key, None);
            match self.slot(key).map(|slot| slot.state) {
                Some(SlotState::Starting) => self.start_timed_out(key, now),
                Some(SlotState::BackingOff) => self.begin_or_wait(key, now),
                Some(SlotState::GivenUp) => self.cooled_down(key, now),
                Some(SlotState::Stopping) => self.force(key),
                Some(SlotState::Forced) => self.drop_attempt(key),
                Some(SlotState::Dropped) => self.abandon(key, now),
                _ => {}
            }
        }
    }

    fn on_ready(&mut self, attempt: Attempt, now: Duration) {
        let Some(slot) = self.slot_of(attempt) else { return };
        // An attempt that was asked to stop while it started runs on as one that stops.
        if slot.state != SlotState::Starting {
            return;
        }
        slot.running_since = now;
        self.set_state(attempt.key, SlotState::Running, None);
        self.settle(attempt.key, &Settled::Up);
        self.mark_ready(attempt.key, now);
    }

    fn on_ended(&mut self, attempt: Attempt, end: AttemptEnd, now: Duration) {
        let Some(slot) = self.slot_of(attempt) else { return };
        let (state, then) = (slot.state, slot.then);
        let key = attempt.key;
        if state.is_live() || state == SlotState::Abandoned {
            let asked = state != SlotState::Starting && state != SlotState::Running;
            let end = match then {
                Then::Retry if asked => AttemptEnd::StartTimedOut(self.start_timeout(key)),
                Then::Replace if asked => AttemptEnd::Hung,
                _ => end,
            };
            self.effects.push(Effect::Ended { key, end: end.clone() });
            match state {
                SlotState::Starting | SlotState::Running => self.after_end(key, &end, now),
                _ if matches!(then, Then::Retry | Then::Replace) => self.after_end(key, &end, now),
                _ => {
                    // What an earlier command wanted to follow does not, once the worker is on its way out.
                    let turn = self.members.get(&key.worker).and_then(|member| member.turn.as_ref());
                    let then = turn.map_or(then, |turn| turn.then);
                    self.rest(key, then, now);
                }
            }
        }
    }

    /// An attempt ended though nobody asked it to: the restart policy decides.
    fn after_end(&mut self, key: SlotKey, end: &AttemptEnd, now: Duration) {
        let starting = self.may_start();
        let Some(member) = self.members.get_mut(&key.worker) else {
            return;
        };
        if let Some(turn) = member.turn.as_ref().filter(|_| !planted(Bug::RestartAfterStop)) {
            let then = turn.then;
            return self.rest(key, then, now);
        }
        let restart = member.spec.restart.clone();
        let Some(slot) = member.slots.get_mut(key.slot as usize) else {
            return;
        };
        let ran = (slot.state == SlotState::Running).then(|| now.saturating_sub(slot.running_since));
        let failed = end.is_failure();
        let verdict = match starting {
            true => slot.judge(&restart, failed, ran, now),
            false if failed => Verdict::GivenUp,
            false => Verdict::Finished,
        };
        match verdict {
            Verdict::Finished => self.set_state(key, SlotState::Finished, None),
            Verdict::GivenUp => {
                let again = restart
                    .cool_down
                    .filter(|_| starting && restart.policy != RestartPolicy::Never);
                let until = again.map(|pause| now.saturating_add(pause));
                self.set_state(key, SlotState::GivenUp, until);
            }
            Verdict::Again(pause) => {
                let spread = pause.as_secs_f64() * (0.8 + 0.4 * self.random.f64());
                let pause = Duration::try_from_secs_f64(spread).unwrap_or(Duration::MAX);
                let pause = pause.min(restart.maximum_delay);
                self.set_state(key, SlotState::BackingOff, Some(now.saturating_add(pause)));
            }
        }
        if failed {
            self.settle(key, &Settled::Failed(end.to_string().into()));
            if self.slot(key).is_some_and(|slot| slot.unready) {
                self.settle_blocked(key.worker);
            }
        } else {
            self.settle(key, &Settled::Up);
            self.mark_ready(key, now);
        }
        if matches!(verdict, Verdict::Again(_)) && self.may_start() {
            self.take_along(key, now);
        }
    }

    /// Long enough ago that it was given up: it is tried again, or rests if that is wanted by now.
    fn cooled_down(&mut self, key: SlotKey, now: Duration) {
        if let Some(slot) = self.slot(key) {
            slot.forgive();
        }
        match self.members.get(&key.worker).is_some_and(|member| member.paused) {
            true => self.set_state(key, SlotState::Paused, None),
            false => self.begin_or_wait(key, now),
        }
    }

    fn start_timed_out(&mut self, key: SlotKey, now: Duration) {
        let end = AttemptEnd::StartTimedOut(self.start_timeout(key));
        if let Some(slot) = self.slot(key) {
            slot.then = Then::Retry;
            (slot.asked_at, slot.from, slot.end) = (now, now, now.saturating_add(DROP_PATIENCE));
        }
        self.drop_attempt(key);
        // The answer does not wait for the attempt to be gone: whoever blocks a thread may never be.
        self.settle(key, &Settled::Failed(end.to_string().into()));
        self.settle_blocked(key.worker);
    }

    /// Lets the instance go, unless it is another one by now or is ending already.
    fn on_hung(&mut self, key: SlotKey, incarnation: u64, now: Duration) {
        let Some(slot) = self.slot(key) else { return };
        if slot.incarnation != incarnation || slot.state != SlotState::Running {
            return;
        }
        slot.then = Then::Replace;
        (slot.asked_at, slot.from, slot.end) = (now, now, now.saturating_add(DROP_PATIENCE * 2));
        self.force_until(key, now.saturating_add(DROP_PATIENCE));
    }

    fn start_timeout(&self, key: SlotKey) -> Duration {
        self.members
            .get(&key.worker)
            .map_or(Duration::ZERO, |member| member.spec.start_timeout)
    }

    /// Starts the slot, or lets it wait for what its worker waits for.
    fn begin_or_wait(&mut self, key: SlotKey, now: Duration) {
        let allowed = self.may_start();
        let Some(member) = self.members.get_mut(&key.worker) else {
            return;
        };
        if !allowed || member.waiting_on > 0 {
            self.set_state(key, SlotState::Waiting, None);
            return self.settle_if_held_up(key);
        }
        let timeout = member.spec.start_timeout;
        let Some(slot) = member.slots.get_mut(key.slot as usize) else {
            return;
        };
        self.next_attempt += 1;
        slot.attempt = self.next_attempt;
        slot.incarnation += 1;
        let (attempt, incarnation) = (
            Attempt {
                key,
                number: slot.attempt,
            },
            slot.incarnation,
        );
        self.set_state(key, SlotState::Starting, Some(now.saturating_add(timeout)));
        self.effects.push(Effect::Begin { attempt, incarnation });
    }

    /// The slot counts as ready; if it was the last of its worker, those who wait for the worker may start.
    fn mark_ready(&mut self, key: SlotKey, now: Duration) {
        let Some(member) = self.members.get_mut(&key.worker) else {
            return;
        };
        let Some(slot) = member.slots.get_mut(key.slot as usize) else {
            return;
        };
        if !std::mem::take(&mut slot.unready) {
            return;
        }
        member.unready -= 1;
        if member.unready == 0 && !member.ready {
            member.ready = true;
            for dependent in member.dependents.clone() {
                self.release(dependent, now);
            }
        }
    }

    /// One of the things that the worker waits for is there.
    fn release(&mut self, worker: WorkerId, now: Duration) {
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        member.waiting_on -= 1;
        if member.waiting_on > 0 || !self.may_start() {
            return;
        }
        for key in self.slots_in(worker, |state| state == SlotState::Waiting) {
            self.begin_or_wait(key, now);
        }
    }

    // === state, timers ===

    fn set_state(&mut self, key: SlotKey, state: SlotState, until: Option<Duration>) {
        let Some(member) = self.members.get_mut(&key.worker) else {
            return;
        };
        let Some(slot) = member.slots.get_mut(key.slot as usize) else {
            return;
        };
        let (was, is) = (slot.state.is_live(), state.is_live());
        slot.state = state;
        if is && !was {
            member.live += 1;
            self.live += 1;
        } else if was && !is {
            member.live -= 1;
            self.live -= 1;
        }
        self.set_timer(key, until);
        self.effects.push(Effect::State { key, state, until });
    }

    fn set_timer(&mut self, key: SlotKey, due: Option<Duration>) {
        let Some(slot) = self.slot(key) else { return };
        let old = std::mem::replace(&mut slot.timer, due);
        if let Some(old) = old {
            self.timers.remove(&(old, key));
        }
        if let Some(due) = due {
            self.timers.insert((due, key));
        }
    }

    fn slot(&mut self, key: SlotKey) -> Option<&mut Slot> {
        self.members.get_mut(&key.worker)?.slots.get_mut(key.slot as usize)
    }

    /// The slot, if the attempt is its current one.
    fn slot_of(&mut self, attempt: Attempt) -> Option<&mut Slot> {
        self.slot(attempt.key).filter(|slot| slot.attempt == attempt.number)
    }

    fn slots_in(&self, worker: WorkerId, wanted: impl Fn(SlotState) -> bool) -> Vec<SlotKey> {
        let Some(member) = self.members.get(&worker) else {
            return Vec::new();
        };
        let states = member.slots.iter().enumerate();
        let matching = states.filter(|(_, slot)| wanted(slot.state));
        matching
            .map(|(slot, _)| SlotKey {
                worker,
                slot: slot as u32,
            })
            .collect()
    }

    // === answers ===

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.effects.push(Effect::Answer { ticket, answer });
    }

    fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        self.answer(ticket, Answer::Refused(refusal));
    }

    /// From now on the command waits for these slots; with none, it is answered at once.
    fn watch(&mut self, ticket: Ticket, watched: &[(SlotKey, Wish)]) {
        let mut outstanding = 0;
        for (key, wish) in watched {
            if let Some(slot) = self.slot(*key) {
                slot.watchers.push((ticket, *wish));
                outstanding += 1;
            }
        }
        let pending = Pending {
            outstanding,
            failures: Vec::new(),
            overtaken: false,
        };
        self.pending.insert(ticket, pending);
        if outstanding == 0 {
            self.complete(ticket);
        }
    }

    /// Tells everyone who watches the slot what became of it.
    fn settle(&mut self, key: SlotKey, settled: &Settled) {
        let Some(member) = self.members.get_mut(&key.worker) else {
            return;
        };
        let name = Arc::clone(&member.spec.name);
        let Some(slot) = member.slots.get_mut(key.slot as usize) else {
            return;
        };
        for (ticket, wish) in std::mem::take(&mut slot.watchers) {
            let Some(pending) = self.pending.get_mut(&ticket) else {
                continue;
            };
            pending.outstanding -= 1;
            match (settled, wish) {
                (Settled::Up, Wish::Up) | (Settled::Down, Wish::Down) => {}
                // What was to go down and fell down by itself is down.
                (Settled::Failed(_), Wish::Down) => {}
                (Settled::Up, Wish::Down) | (Settled::Down, Wish::Up) => pending.overtaken = true,
                (Settled::Failed(cause), Wish::Up) => pending.failures.push(failure(&name, key, Arc::clone(cause))),
                (Settled::Stuck, _) => {
                    pending
                        .failures
                        .push(failure(&name, key, "its running attempt does not end".into()));
                }
            }
            let failed_start = !pending.failures.is_empty() && self.phase == Phase::Starting(ticket);
            if pending.outstanding == 0 || failed_start {
                self.complete(ticket);
            }
        }
    }

    /// Those who wait for a worker that did not start will not start for now.
    fn settle_blocked(&mut self, worker: WorkerId) {
        if self.pending.is_empty() {
            return;
        }
        let mut seen = BTreeSet::new();
        let mut blocked = vec![worker];
        while let Some(worker) = blocked.pop() {
            let Some(member) = self.members.get(&worker).filter(|member| !member.ready) else {
                continue;
            };
            let cause: Arc<str> = format!("waits for worker \"{}\", which did not start", member.spec.name).into();
            for dependent in member.dependents.clone() {
                if seen.insert(dependent) {
                    for key in self.slots_in(dependent, |state| state == SlotState::Waiting) {
                        self.settle(key, &Settled::Failed(Arc::clone(&cause)));
                    }
                    blocked.push(dependent);
                }
            }
        }
    }

    /// A command that watches a slot which has come to wait gets its answer now if what the slot waits for will not
    /// come about by itself.
    fn settle_if_held_up(&mut self, key: SlotKey) {
        let watched = self.slot(key).is_some_and(|slot| !slot.watchers.is_empty());
        if !self.may_start() || !watched {
            return;
        }
        let mut seen = BTreeSet::new();
        let mut path = vec![key.worker];
        while let Some(member) = path.pop().and_then(|worker| self.members.get(&worker)) {
            for dependency in &member.after {
                let Some(waited_for) = self.members.get(dependency).filter(|member| !member.ready) else {
                    continue;
                };
                let holds_up = |slot: &Slot| slot.unready && slot.state.does_not_start_by_itself();
                if waited_for.slots.iter().any(holds_up) {
                    let cause = format!("waits for worker \"{}\", which is not ready", waited_for.spec.name);
                    return self.settle(key, &Settled::Failed(cause.into()));
                }
                if seen.insert(*dependency) {
                    path.push(*dependency);
                }
            }
        }
    }

    fn complete(&mut self, ticket: Ticket) {
        let Some(pending) = self.pending.remove(&ticket) else {
            return;
        };
        let start = self.phase == Phase::Starting(ticket);
        let answer = if !pending.failures.is_empty() {
            Answer::Failed(pending.failures)
        } else if pending.overtaken {
            Answer::Overtaken
        } else {
            Answer::Done
        };
        if start {
            self.phase = match answer {
                Answer::Failed(_) => Phase::Halted,
                _ => Phase::Running,
            };
        }
        self.answer(ticket, answer);
        if self.phase == Phase::Halted {
            for overtaken in std::mem::take(&mut self.pending).into_keys() {
                self.refuse(overtaken, Refusal::Stopping);
            }
        }
    }
}

fn failure(name: &Arc<str>, key: SlotKey, cause: Arc<str>) -> SlotFailure {
    SlotFailure {
        worker: Arc::clone(name),
        slot: key.slot,
        cause,
    }
}
