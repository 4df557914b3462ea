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
//!                                             │ cool-down, if any: Waiting          Paused
//!                                                                                     │ its end, if any: Waiting
//! ```

mod answers;
mod attempt;
mod commands;
mod definitions;
mod ending;
pub(crate) mod graph;
mod group;
mod member;
mod planted;
pub(crate) mod protocol;
#[cfg(test)]
mod simulation;
mod slot;
mod stopping;
mod timers;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use self::answers::Pending;
use self::member::Member;
use self::planted::{Bug, planted};
use self::protocol::{Attempt, Effect, Event, Sink, SlotKey, Ticket, WorkerId};
use self::slot::Slot;
use self::stopping::Stopping;
use self::timers::Timers;
use super::roster::Roster;
use super::view::SlotState;

/// How long ending an attempt may take outside a stop of the process: at a restart, a removal, a pause, a scale-down.
pub(crate) const DRAIN_WINDOW: Duration = Duration::from_secs(25);

/// Supervises definitions; see the module.
pub(crate) struct Machine<S> {
    /// Where effects go.
    pub(crate) sink: S,
    phase: Phase,
    members: Roster<Box<Member>>,
    by_name: HashMap<Arc<str>, WorkerId>,
    timers: Timers,
    pending: BTreeMap<Ticket, Pending>,
    stopping: Option<Stopping>,
    /// Attempts that a stop has to wait for.
    live: usize,
    random: fastrand::Rng,
    next_worker: WorkerId,
    next_attempt: u64,
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

impl<S: Sink> Machine<S> {
    pub(crate) fn new(seed: u64, sink: S) -> Self {
        Self {
            sink,
            phase: Phase::New,
            members: Roster::default(),
            by_name: HashMap::new(),
            timers: Timers::default(),
            pending: BTreeMap::new(),
            stopping: None,
            live: 0,
            random: fastrand::Rng::with_seed(seed),
            next_worker: 0,
            next_attempt: 0,
        }
    }

    /// Takes note of what happened, and says what is to be done, effect by effect, so that a step that concerns very many
    /// workers keeps no list of them. Timers that are due come first.
    pub(crate) fn handle(&mut self, event: Event, now: Duration) {
        self.fire_timers(now);
        match event {
            Event::Start { ticket, specs } => self.command_start(ticket, specs, now),
            Event::Apply { ticket, change } => self.command_apply(ticket, change, now),
            Event::Restart { ticket, worker } => self.command_restart(ticket, &worker, now),
            Event::Scale { ticket, worker, slots } => self.command_scale(ticket, &worker, slots, now),
            Event::Judge {
                ticket,
                worker,
                restart,
            } => self.command_judge(ticket, &worker, restart),
            Event::Pause { ticket, worker, until } => self.command_pause(ticket, &worker, until, now),
            Event::Resume { ticket, worker } => self.command_resume(ticket, &worker, now),
            Event::Stop { ticket, budget } => self.command_stop(ticket, budget, now),
            Event::Force => self.force_all(now),
            Event::Ready(attempt) => self.on_ready(attempt, now),
            Event::Ended(attempt, end) => self.on_ended(attempt, end, now),
            Event::Hung { key, incarnation } => self.on_hung(key, incarnation, now),
            Event::Tick => {}
        }
        self.fire_timers(now);
    }

    /// When a timer is due next.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.timers.next()
    }

    fn may_start(&self) -> bool {
        matches!(self.phase, Phase::Starting(_) | Phase::Running)
            || planted(Bug::RestartAfterStop) && self.phase == Phase::Stopping
    }

    fn fire_timers(&mut self, now: Duration) {
        while let Some((due, key)) = self.timers.pop(now) {
            let armed = self.slot(key).filter(|slot| slot.timer == Some(due));
            let state = armed.map(|slot| slot.state);
            if state.is_some() {
                self.set_timer(key, None);
            }
            match state {
                Some(SlotState::Starting) => self.start_timed_out(key, now),
                Some(SlotState::BackingOff) => self.begin_or_wait(key, now),
                Some(SlotState::Paused) => self.begin_or_wait(key, now),
                Some(SlotState::GivenUp) => self.cooled_down(key, now),
                Some(SlotState::Stopping) => self.force(key),
                Some(SlotState::Forced) => self.drop_attempt(key),
                Some(SlotState::Dropped) => self.abandon(key, now),
                _ => {}
            }
        }
    }

    fn set_state(&mut self, key: SlotKey, state: SlotState, until: Option<Duration>) {
        let Some(member) = self.members.get_mut(key.worker) else {
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
        self.sink.carry_out(Effect::State { key, state, until });
    }

    fn set_timer(&mut self, key: SlotKey, due: Option<Duration>) {
        let Some(slot) = self.slot(key) else { return };
        let old = std::mem::replace(&mut slot.timer, due);
        if let Some(old) = old {
            self.timers.disarm(old);
        }
        if let Some(due) = due {
            self.timers.arm(due, key);
        }
    }

    fn slot(&mut self, key: SlotKey) -> Option<&mut Slot> {
        self.members.get_mut(key.worker)?.slots.get_mut(key.slot as usize)
    }

    /// The slot, if the attempt is its current one.
    fn slot_of(&mut self, attempt: Attempt) -> Option<&mut Slot> {
        self.slot(attempt.key).filter(|slot| slot.attempt == attempt.number)
    }

    fn slots_in(&self, worker: WorkerId, wanted: impl Fn(SlotState) -> bool) -> Vec<SlotKey> {
        let Some(member) = self.members.get(worker) else {
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
}

#[cfg(test)]
impl Machine<Vec<Effect>> {
    /// As [`handle`](Self::handle), and gives all that is to be done.
    fn step(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        self.handle(event, now);
        std::mem::take(&mut self.sink)
    }
}
