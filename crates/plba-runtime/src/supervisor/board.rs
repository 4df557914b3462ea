//! What the supervisor remembers of each worker, to be read at any time from any thread: states, exits, and totals that
//! outlive instances. It is written by the driver, the watchdog and ending attempts; decisions are not made from it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::health::{Criticality, Health};
use plba_contracts::services::{Build, ServiceKey, Services};
use plba_contracts::worker::{Busy, HangPolicy, Worker, WorkerDefinition, WorkerStatus};

use super::few::{Few, OneOrMore};
use super::instance::Instance;
use super::machine::protocol::{SlotKey, WorkerId};
use super::roster::Roster;
use super::view::{AttemptEnd, BusyView, ExitView, SlotState, SlotView, WorkerView};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::trace::innermost;

/// All workers.
pub(super) struct Board {
    roster: Mutex<Roster<Arc<Record>>>,
    /// Whether definitions came or changed since the watchdog asked.
    changed: AtomicBool,
}

/// What instances are built by and how they are looked at: what of a definition is not the machine's.
pub(super) struct Recipe {
    build: Build<Arc<dyn Worker>>,
    services: Arc<Services>,
    stall_after: Duration,
    criticality: Criticality,
    liveness: bool,
    pub(super) on_hang: HangPolicy,
    exit_when_given_up: Option<u8>,
}

impl Recipe {
    pub(super) fn new(definition: &WorkerDefinition, services: Arc<Services>) -> Self {
        Self {
            build: definition.build.clone(),
            services,
            stall_after: definition.stall_after,
            criticality: definition.criticality,
            liveness: definition.liveness,
            on_hang: definition.on_hang,
            exit_when_given_up: definition.exit_when_given_up,
        }
    }
}

/// One worker.
pub(super) struct Record {
    pub(super) name: Arc<str>,
    inner: Mutex<Inner>,
}

struct Inner {
    recipe: Recipe,
    /// Nothing, for as long as no instance has gone that had done something.
    totals: Option<Box<WorkerStatus>>,
    restarts: u64,
    /// What instances by this recipe have asked for.
    asked_for: Few<ServiceKey>,
    slots: OneOrMore<SlotRecord>,
}

struct SlotRecord {
    state: SlotState,
    hung: bool,
    since: Timestamp,
    until: Option<Timestamp>,
    incarnation: u64,
    last_exit: Option<Box<ExitView>>,
    instance: Option<Arc<Instance>>,
}

/// An instance as the watchdog sees it.
pub(super) struct Watched {
    pub(super) worker: WorkerId,
    pub(super) record: Arc<Record>,
    pub(super) on_hang: HangPolicy,
    pub(super) slot: u32,
    pub(super) incarnation: u64,
    pub(super) busy: Option<Busy>,
    pub(super) span: Option<tracing::Id>,
    pub(super) stall_after: Duration,
}

/// What a move of a slot is told with.
pub(super) struct Moved {
    pub(super) incarnation: u64,
    /// How the latest attempt ended, where that brought it here.
    pub(super) cause: Option<AttemptEnd>,
    /// The exit code with which the process is to end, because the worker was given up.
    pub(super) exit_code: Option<u8>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            roster: Mutex::new(Roster::default()),
            changed: AtomicBool::new(true),
        }
    }
}

impl Board {
    pub(super) fn reserve(&self, more: usize) {
        self.lock().reserve(more);
    }

    pub(super) fn insert(&self, worker: WorkerId, record: Record) {
        self.lock().insert(worker, Arc::new(record));
        self.note_change();
    }

    pub(super) fn note_change(&self) {
        self.changed.store(true, Ordering::Release);
    }

    pub(super) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    pub(super) fn remove(&self, worker: WorkerId) -> Option<Arc<Record>> {
        self.lock().remove(worker)
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<Arc<Record>> {
        self.lock().get(worker).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// All workers by name. The lock is held only while the references are copied.
    pub(super) fn views(&self, clock: &dyn Clock) -> Vec<WorkerView> {
        let mut views: Vec<WorkerView> = self.records().iter().map(|(_, record)| record.view(clock)).collect();
        views.sort_by(|one, other| one.name.cmp(&other.name));
        views
    }

    /// All instances that exist, by slot.
    pub(super) fn instances(&self) -> Vec<(SlotKey, Arc<Record>, Arc<Instance>)> {
        let mut instances = Vec::new();
        for (worker, record) in self.records() {
            let inner = record.lock();
            for (slot, state) in inner.slots.iter().enumerate() {
                let slot = slot as u32;
                if let Some(instance) = &state.instance {
                    let key = SlotKey { worker, slot };
                    instances.push((key, Arc::clone(&record), Arc::clone(instance)));
                }
            }
        }
        instances
    }

    /// Instances that are busy or still marked as hung, and the shortest span after which any counts as hung.
    pub(super) fn watched(&self) -> (Vec<Watched>, Option<Duration>) {
        let mut watched = Vec::new();
        let mut shortest: Option<Duration> = None;
        for (worker, record) in self.records() {
            let inner = record.lock();
            let (stall_after, on_hang) = (inner.recipe.stall_after, inner.recipe.on_hang);
            shortest = Some(shortest.map_or(stall_after, |old| old.min(stall_after)));
            for (slot, state) in inner.slots.iter().enumerate() {
                let busy = state.instance.as_ref().and_then(|instance| instance.activity.current());
                // The idle ones are not worth a visit unless they are still marked.
                if busy.is_some() || state.hung {
                    watched.push(Watched {
                        worker,
                        record: Arc::clone(&record),
                        on_hang,
                        slot: slot as u32,
                        incarnation: state.incarnation,
                        busy,
                        span: state.instance.as_ref().and_then(|instance| instance.span.clone()),
                        stall_after,
                    });
                }
            }
        }
        (watched, shortest)
    }

    pub(super) fn set_stall_after(&self, name: &str, stall_after: Duration) -> bool {
        let records = self.records();
        let found = records.iter().find(|(_, record)| *record.name == *name);
        if let Some((_, record)) = found {
            record.lock().recipe.stall_after = stall_after;
            self.note_change();
        }
        found.is_some()
    }

    /// What each worker's instances have asked for, by name.
    pub(super) fn asked_for(&self) -> Vec<(Arc<str>, Vec<ServiceKey>)> {
        let asked = |(_, record): (WorkerId, Arc<Record>)| {
            let keys = record.lock().asked_for.to_vec();
            (Arc::clone(&record.name), keys)
        };
        self.records().into_iter().map(asked).collect()
    }

    fn records(&self) -> Vec<(WorkerId, Arc<Record>)> {
        let roster = self.lock();
        roster
            .iter()
            .map(|(worker, record)| (worker, Arc::clone(record)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Roster<Arc<Record>>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    /// A worker with this many slots for now.
    pub(super) fn new(name: Arc<str>, recipe: Recipe) -> Self {
        Self {
            name,
            inner: Mutex::new(Inner {
                recipe,
                totals: None,
                restarts: 0,
                asked_for: Few::default(),
                slots: OneOrMore::default(),
            }),
        }
    }

    /// Instances built from now on are built by this.
    pub(super) fn replace(&self, recipe: Recipe) {
        let mut inner = self.lock();
        let former = (
            std::mem::replace(&mut inner.recipe, recipe),
            std::mem::take(&mut inner.asked_for),
        );
        drop(inner);
        drop(former);
    }

    /// An instance has asked for this service.
    pub(super) fn asked_for(&self, key: &ServiceKey) {
        let mut inner = self.lock();
        if !inner.asked_for.contains(key) {
            inner.asked_for.push(key.clone());
        }
    }

    /// The slot is in another state.
    pub(super) fn moved(&self, slot: u32, state: SlotState, now: Timestamp, until: Option<Timestamp>) -> Moved {
        let mut inner = self.lock();
        let exit_code = inner.recipe.exit_when_given_up;
        let record = inner.slot(slot, now);
        (record.state, record.since, record.until) = (state, now, until);
        let caused = matches!(state, SlotState::BackingOff | SlotState::GivenUp | SlotState::Finished);
        let exit = record.last_exit.as_ref().filter(|_| caused);
        Moved {
            // Its attempt begins right after this.
            incarnation: record.incarnation + u64::from(state == SlotState::Starting),
            cause: exit.map(|exit| exit.end.clone()),
            exit_code: exit_code.filter(|_| state == SlotState::GivenUp),
        }
    }

    /// Another attempt begins; gives what it is built by.
    pub(super) fn begun(
        &self,
        slot: u32,
        incarnation: u64,
        instance: Arc<Instance>,
        now: Timestamp,
    ) -> (Build<Arc<dyn Worker>>, Arc<Services>) {
        let mut inner = self.lock();
        inner.restarts += u64::from(incarnation > 1);
        let record = inner.slot(slot, now);
        (record.incarnation, record.hung) = (incarnation, false);
        record.instance = Some(instance);
        (inner.recipe.build.clone(), Arc::clone(&inner.recipe.services))
    }

    /// The instance of this attempt, unless it is gone.
    pub(super) fn instance(&self, slot: u32, attempt: u64) -> Option<Arc<Instance>> {
        let inner = self.lock();
        let instance = inner.slots.get(slot as usize)?.instance.as_ref();
        instance.filter(|instance| instance.attempt.number == attempt).cloned()
    }

    /// The slot's attempt is over; gives its incarnation.
    pub(super) fn ended(&self, slot: u32, end: AttemptEnd, now: Timestamp) -> u64 {
        let mut inner = self.lock();
        let record = inner.slot(slot, now);
        record.last_exit = Some(Box::new(ExitView { at: now, end }));
        record.hung = false;
        record.incarnation
    }

    /// Keeps what an instance has done, now that it goes.
    pub(super) fn absorb(&self, slot: u32, attempt: u64, status: WorkerStatus) {
        let mut inner = self.lock();
        let ends = |instance: &mut Arc<Instance>| instance.attempt.number == attempt;
        let record = inner.slots.get_mut(slot as usize);
        let gone = record.and_then(|record| record.instance.take_if(ends));
        if status != WorkerStatus::default() {
            let totals = inner.totals.get_or_insert_default();
            add(totals, status);
            totals.note = None;
        }
        drop(inner);
        drop(gone);
    }

    /// Marks a slot as hung or not; false if another attempt runs there by now.
    pub(super) fn mark_hung(&self, slot: u32, incarnation: u64, hung: bool) -> bool {
        let mut inner = self.lock();
        match inner.slots.get_mut(slot as usize) {
            Some(record) if record.incarnation == incarnation && record.hung != hung => {
                record.hung = hung && record.instance.is_some();
                record.hung == hung
            }
            _ => false,
        }
    }

    pub(super) fn is_hung(&self, slot: u32) -> bool {
        self.lock().slots.get(slot as usize).is_some_and(|record| record.hung)
    }

    fn view(&self, clock: &dyn Clock) -> WorkerView {
        let (mut view, instances) = {
            let inner = self.lock();
            let instances: Vec<Option<Arc<Instance>>> = inner.slots.iter().map(|slot| slot.instance.clone()).collect();
            (inner.view(&self.name, clock), instances)
        };
        // Foreign code is asked without a lock: it may be slow, and it may ask the supervisor in turn.
        let several = view.slots.iter().filter(|slot| slot.state != SlotState::Gone).count() > 1;
        let mut health = Health::Ok;
        for (slot, instance) in view.slots.iter().zip(instances) {
            let mut own = supervisors_view(slot);
            if let Some(instance) = instance {
                own = own.worse(instance.health().unwrap_or_default());
                add(&mut view.status, instance.status());
            }
            health = health.worse(if several { in_slot(slot.slot, own) } else { own });
        }
        view.health = health;
        view.slots.retain(|slot| slot.state != SlotState::Gone);
        view
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The slot's record, made if need be with all before it.
    fn slot(&mut self, slot: u32, now: Timestamp) -> &mut SlotRecord {
        let index = slot as usize;
        let waits = || SlotRecord {
            state: SlotState::Waiting,
            hung: false,
            since: now,
            until: None,
            incarnation: 0,
            last_exit: None,
            instance: None,
        };
        self.slots.get_or_push(index, waits)
    }

    fn view(&self, name: &str, clock: &dyn Clock) -> WorkerView {
        let now = clock.monotonic();
        let states = self.slots.iter().map(|slot| slot.state);
        let slots = self.slots.iter().enumerate().map(|(number, slot)| {
            let busy = slot.instance.as_ref().and_then(|instance| instance.activity.current());
            SlotView {
                slot: number as u32,
                state: slot.state,
                since: slot.since,
                until: slot.until,
                incarnation: slot.incarnation,
                busy: busy.map(|busy| {
                    let duration = now.saturating_sub(busy.since);
                    let span = slot.instance.as_ref().filter(|_| slot.hung);
                    BusyView {
                        what: busy.what.as_ref().to_owned(),
                        since: moment_before(clock, duration),
                        span: span.and_then(|instance| innermost(instance.span.as_ref()?)),
                        duration,
                    }
                }),
                hung: slot.hung,
                last_exit: slot.last_exit.as_deref().cloned(),
            }
        });
        WorkerView {
            name: name.to_owned(),
            state: states.max_by_key(|state| state.urgency()).unwrap_or(SlotState::Waiting),
            health: Health::Ok,
            criticality: self.recipe.criticality,
            liveness: self.recipe.liveness,
            status: self.totals.as_deref().cloned().unwrap_or_default(),
            restarts: self.restarts,
            slots: slots.collect(),
        }
    }
}

/// What the supervisor itself thinks of a slot.
fn supervisors_view(slot: &SlotView) -> Health {
    let last = match &slot.last_exit {
        Some(exit) => format!("attempt {} {} at {}", slot.incarnation, exit.end, at(exit.at)),
        None => "it never ran".to_owned(),
    };
    if let (true, Some(busy)) = (slot.hung, &slot.busy) {
        let span = busy
            .span
            .as_ref()
            .map(|span| format!(", in span {span}"))
            .unwrap_or_default();
        return Health::unhealthy(format!("hung: busy with {}{span} for {:.0?}", busy.what, busy.duration));
    }
    match slot.state {
        SlotState::BackingOff => Health::degraded(format!("starts again soon: {last}")),
        SlotState::GivenUp => {
            let next = slot.until.map(|until| format!(", tried again at {}", at(until)));
            let next = next.unwrap_or_default();
            Health::unhealthy(format!("given up since {}{next}: {last}", at(slot.since)))
        }
        SlotState::Abandoned => Health::unhealthy(format!("does not end since {}", at(slot.since))),
        SlotState::Paused => Health::degraded(match slot.until {
            Some(until) => format!("paused until {}", at(until)),
            None => format!("paused since {}", at(slot.since)),
        }),
        SlotState::Waiting => Health::degraded("waits for the workers that it starts after"),
        SlotState::Starting if slot.incarnation > 1 => Health::degraded("is starting again"),
        SlotState::Starting => Health::degraded("is starting"),
        SlotState::Forced | SlotState::Dropped => Health::degraded("is being forced to stop"),
        SlotState::Running | SlotState::Stopping | SlotState::Finished | SlotState::Stopped | SlotState::Gone => {
            Health::Ok
        }
    }
}

/// The time of day that long ago.
pub(super) fn moment_before(clock: &dyn Clock, duration: Duration) -> Timestamp {
    let now = clock.now();
    now.checked_sub(duration).unwrap_or(now)
}

/// To the second, which is what an operator can use.
fn at(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn in_slot(slot: u32, health: Health) -> Health {
    match health {
        Health::Ok => Health::Ok,
        Health::Degraded { reason } => Health::degraded(format!("slot {slot}: {reason}")),
        Health::Unhealthy { reason } => Health::unhealthy(format!("slot {slot}: {reason}")),
    }
}

fn add(total: &mut WorkerStatus, one: WorkerStatus) {
    total.succeeded = total.succeeded.saturating_add(one.succeeded);
    total.failed = total.failed.saturating_add(one.failed);
    total.last_success = total.last_success.max(one.last_success);
    total.last_error = one.last_error.or_else(|| total.last_error.take());
    total.note = one.note.or_else(|| total.note.take());
}
