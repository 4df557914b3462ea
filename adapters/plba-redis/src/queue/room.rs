//! What one process knows of a named queue: its keys, its rules, who waits for it, and the ear that listens to its bell.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use plba_tasks::queue::QueueRules;
use plba_tasks::queue::presence::Watch;
use plba_tasks::task::QueueName;
use redis::{Value, cmd};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::keys::Keys;
use crate::link::{Arguments, Link, Shared};
use crate::record::milliseconds;

/// How long the ear waits for one ring.
const LISTEN: Duration = Duration::from_secs(5);
/// A bell that can't be listened to is tried again after this.
const DEAF: Duration = Duration::from_millis(200);
/// Leases that ran out are looked for at least this often while somebody consumes.
const SWEEP: Duration = Duration::from_secs(1);

/// What one process knows of a named queue.
pub(super) struct Room {
    pub(super) name: QueueName,
    /// What scripts are given: the backend's two keys, and the queue's.
    keys: Vec<String>,
    bell: String,
    settings: RwLock<Rules>,
    /// Something may be ready.
    pub(super) ready: Notify,
    waiting: AtomicUsize,
    /// Somebody began to wait, so that there is something to listen for.
    wanted: Arc<Notify>,
    ear: Mutex<Option<AbortHandle>>,
    /// The group that tokens were given under, as far as is known.
    generation: Mutex<String>,
    began: Instant,
    swept: AtomicU64,
    /// Until when exchanges are the script's business, in milliseconds since the beginning.
    resting: AtomicU64,
    reaped: Watch,
    /// Whether somebody is looking for processes that ended.
    pub(super) reaping: AtomicBool,
    /// Held by the one publisher of this process that waits for space; the others wait for it in order.
    pub(super) gate: tokio::sync::Mutex<()>,
    /// How many publishers wait.
    pub(super) publishers: AtomicUsize,
}

#[derive(Default)]
struct Rules {
    text: String,
    /// `l` when the queue as a whole is limited, `k` when its keys have a rate.
    flags: &'static str,
}

impl Room {
    pub(super) fn new(name: QueueName, shared: &Shared) -> Self {
        let room = Self {
            keys: keys(&shared.keys, &[&name]),
            bell: shared.keys.bell(&name),
            name,
            settings: RwLock::default(),
            ready: Notify::new(),
            waiting: AtomicUsize::new(0),
            wanted: Arc::default(),
            ear: Mutex::new(None),
            generation: Mutex::default(),
            began: Instant::now(),
            swept: AtomicU64::new(0),
            resting: AtomicU64::new(0),
            reaped: Watch::default(),
            reaping: AtomicBool::new(false),
            gate: tokio::sync::Mutex::default(),
            publishers: AtomicUsize::new(0),
        };
        room.set_rules(shared, &QueueRules::default());
        room
    }

    fn set_rules(&self, shared: &Shared, rules: &QueueRules) {
        let settings = &shared.settings;
        let base = format!("{} {}", settings.lease.as_millis(), settings.maximum_crashes);
        self.write_rules(&base, rules);
    }

    fn write_rules(&self, base: &str, rules: &QueueRules) {
        let rate = |rate: Option<plba_tasks::queue::Rate>| {
            rate.map_or_else(
                || "0 0".to_owned(),
                |rate| format!("{} {}", rate.count, milliseconds(rate.per)),
            )
        };
        let limit = |limit: Option<u32>| limit.unwrap_or(0);
        let text = format!(
            "{base} {} {} {} {} {} {}",
            rules.dead_limit,
            milliseconds(rules.dead_age),
            limit(rules.concurrency),
            rate(rules.rate),
            limit(rules.key_concurrency),
            rate(rules.key_rate)
        );
        let flags = match (
            rules.concurrency.is_some() || rules.rate.is_some(),
            rules.key_rate.is_some(),
        ) {
            (false, false) => "",
            (true, false) => "l",
            (false, true) => "k",
            (true, true) => "lk",
        };
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Rules { text, flags };
    }

    pub(super) fn govern(&self, rules: QueueRules) {
        let base = {
            let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
            let mut parts = settings.text.splitn(3, ' ');
            format!(
                "{} {}",
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or_default()
            )
        };
        self.write_rules(&base, &rules);
        self.ready.notify_waiters();
    }

    pub(super) fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The arguments that every script begins with: the time, and the queue's settings.
    pub(super) fn arguments(&self, shared: &Shared) -> Arguments {
        let mut arguments = Arguments::default();
        arguments.push(shared.time_argument());
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        arguments.push(&settings.text);
        arguments
    }

    /// What kinds of limits there are, for scripts.
    pub(super) fn flags(&self) -> &'static str {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).flags
    }

    /// Whether it is time to look for leases that ran out. Only one caller is told so.
    pub(super) fn sweep_is_due(&self) -> bool {
        self.is_due(&self.swept, SWEEP)
    }

    /// Whether an exchange may do without the script: no sweep is due, and none was of another kind just before.
    pub(super) fn is_native(&self) -> bool {
        let now = self.began.elapsed().as_millis() as u64;
        now < self.swept.load(Relaxed) && now >= self.resting.load(Relaxed)
    }

    /// An exchange was something for the script.
    pub(super) fn rest(&self) {
        let until = self.began.elapsed() + super::native::REST;
        self.resting.store(until.as_millis() as u64, Relaxed);
    }

    /// Whether it is time to look for processes that ended. Only one caller is told so.
    pub(super) fn reap_is_due(&self) -> bool {
        self.reaped.is_due()
    }

    fn is_due(&self, last: &AtomicU64, every: Duration) -> bool {
        let now = self.began.elapsed().as_millis() as u64 + every.as_millis() as u64;
        let before = last.load(Relaxed);
        now >= before + every.as_millis() as u64 && last.compare_exchange(before, now, SeqCst, Relaxed).is_ok()
    }

    /// The group is this one. Tells whether another one was known before: then the queue's data, or its group, were gone.
    pub(super) fn learn_generation(&self, generation: &str) -> bool {
        if generation.is_empty() {
            return false;
        }
        let mut known = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == generation {
            return false;
        }
        let lost = !known.is_empty();
        generation.clone_into(&mut known);
        lost
    }

    /// Counts a consumer that is about to look and then to wait, and sees that the bell is listened to.
    pub(super) fn enlist(self: &Arc<Self>, shared: &Arc<Shared>) -> Waiting {
        self.waiting.fetch_add(1, SeqCst);
        let mut ear = self.ear.lock().unwrap_or_else(PoisonError::into_inner);
        if ear.as_ref().is_none_or(AbortHandle::is_finished) {
            let listening = listen(
                Arc::downgrade(self),
                Arc::clone(&self.wanted),
                Link::new(shared),
                self.bell.clone(),
            );
            *ear = Some(tokio::spawn(listening).abort_handle());
        }
        drop(ear);
        self.wanted.notify_one();
        Waiting(Arc::clone(self))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(ear) = self.ear.lock().unwrap_or_else(PoisonError::into_inner).take() {
            ear.abort();
        }
    }
}

/// A consumer that waits.
pub(super) struct Waiting(Arc<Room>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

/// What a script is given for queues.
pub(super) fn keys(names: &Keys, queues: &[&QueueName]) -> Vec<String> {
    let mut keys = Vec::with_capacity(2 + queues.len() * crate::keys::COUNT);
    keys.push(names.meta());
    keys.push(names.queues());
    for queue in queues {
        keys.extend(names.block(queue));
    }
    keys
}

/// Waits for the bell on a connection of its own, as long as somebody waits for tasks, and wakes one of them.
async fn listen(room: Weak<Room>, wanted: Arc<Notify>, link: Link, bell: String) {
    let limit = LISTEN + link.shared.settings.response_timeout;
    let mut wait = cmd("BLPOP");
    wait.arg(&bell).arg(LISTEN.as_secs());
    let mut ring = cmd("RPUSH");
    ring.arg(&bell).arg("1");
    loop {
        let Some(here) = room.upgrade() else { return };
        let waiting = here.waiting.load(SeqCst);
        drop(here);
        if waiting == 0 {
            wanted.notified().await;
            continue;
        }
        let rung = link.ask(&wait, limit).await;
        let Some(here) = room.upgrade() else { return };
        match rung {
            Ok(Value::Array(_)) if here.waiting.load(SeqCst) > 0 => here.ready.notify_one(),
            // Nobody of this process waits any more: it rang for somebody else.
            Ok(Value::Array(_)) => {
                let _ = link.ask(&ring, limit).await;
            }
            Ok(_) => {}
            // What rang meanwhile was not heard.
            Err(_) => {
                here.ready.notify_one();
                drop(here);
                tokio::time::sleep(DEAF).await;
            }
        }
    }
}

/// A publisher of this process that waits for space in some queues.
pub(super) struct Queueing<'a>(pub(super) &'a [Arc<Room>]);

impl<'a> Queueing<'a> {
    pub(super) fn new(rooms: &'a [Arc<Room>]) -> Self {
        for room in rooms {
            room.publishers.fetch_add(1, SeqCst);
        }
        Self(rooms)
    }
}

impl Drop for Queueing<'_> {
    fn drop(&mut self) {
        for room in self.0 {
            room.publishers.fetch_sub(1, SeqCst);
        }
    }
}
