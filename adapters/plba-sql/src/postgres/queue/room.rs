//! What this process knows of one named queue: who waits for it, how full it was, and from where on tasks are ready. All
//! of it may be forgotten: the truth is in the tables.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plba_tasks::task::QueueName;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::schema::Region;

/// After so long nobody is still committing what got an earlier place: what does is found by a look at everything.
const SETTLED: Duration = Duration::from_secs(1);
/// A look at everything comes at least so often.
const EVERYTHING: Duration = Duration::from_secs(1);
/// A look at everything that takes less costs nobody anything.
const CHEAP: Duration = Duration::from_millis(20);

/// A named queue, as this process knows it.
pub(super) struct Room {
    pub(super) name: QueueName,
    pub(super) number: i32,
    /// Something may be ready.
    pub(super) ready: Notify,
    /// There may be space.
    pub(super) space: Notify,
    /// Publishers that wait for space; newcomers queue up behind them.
    pub(super) waiting: AtomicUsize,
    /// Held by the one publisher that waits for space; the others wait for it in order.
    pub(super) gate: Arc<tokio::sync::Mutex<()>>,
    /// Held by the one consumer that looks for all that wait; the next one follows when it has found something.
    pub(super) lookout: tokio::sync::Mutex<()>,
    pub(super) counts: Counts,
    state: Mutex<State>,
}

/// What has happened since the backend was opened.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) published: AtomicU64,
    pub(super) acked: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// Adds to a count.
pub(super) fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

#[derive(Default)]
struct State {
    told: Option<Instant>,
    fill: Fill,
    seen: Seen,
    buried: u64,
}

/// How full the queue was when it was counted, and what came since.
#[derive(Default)]
struct Fill {
    counted: Option<(u64, u64)>,
    added: (u64, u64),
}

/// From where on a look goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Floors {
    /// For each priority.
    pub(super) places: Vec<i64>,
    /// Whether it goes over what was given back, too, which lies below.
    pub(super) backs: bool,
    /// Whether these are the places where everything begins.
    pub(super) everything: bool,
}

/// From which place on there may be ready tasks, for each priority. Without them every look would go over all that was
/// done since the last vacuum. What is given back lies below them, where few rows are: every look goes there as well.
struct Seen {
    settled: [i64; 3],
    coming: [i64; 3],
    newest: [i64; 3],
    since: Instant,
    looked: Option<Instant>,
    took: Duration,
}

const START: [i64; 3] = [Region::High.start(), Region::High.start() * 2, Region::High.start() * 3];

impl Default for Seen {
    fn default() -> Self {
        Self {
            settled: START,
            coming: START,
            newest: START,
            since: Instant::now(),
            looked: None,
            took: Duration::ZERO,
        }
    }
}

impl Room {
    pub(super) fn new(name: QueueName, number: i32) -> Self {
        Self {
            name,
            number,
            ready: Notify::new(),
            space: Notify::new(),
            waiting: AtomicUsize::new(0),
            gate: Arc::default(),
            lookout: tokio::sync::Mutex::default(),
            counts: Counts::default(),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Everything in there is a hint.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the table has to be told once more that consumers sleep here; what it is told holds for `span`.
    pub(super) fn must_tell(&self, span: Duration) -> bool {
        let mut state = self.lock();
        let now = Instant::now();
        let must = state.told.is_none_or(|told| now >= told + span / 2);
        if must {
            state.told = Some(now);
        }
        must
    }

    /// The table was not told.
    pub(super) fn not_told(&self) {
        self.lock().told = None;
    }

    /// Whether the table's tasks have to be counted before so many more are published.
    pub(super) fn must_count(&self, (count, bytes): (u64, u64), (capacity, room): (u64, u64)) -> bool {
        const ALWAYS: u64 = 10_000;
        let state = self.lock();
        let Some(counted) = state.fill.counted.filter(|_| capacity > ALWAYS) else {
            return true;
        };
        // Other processes may publish as much as this one, and three of them.
        state.fill.added.0 + count > capacity.saturating_sub(counted.0) / 4
            || state.fill.added.1 + bytes > room.saturating_sub(counted.1) / 4
    }

    /// The table's tasks were counted.
    pub(super) fn counted(&self, there: (u64, u64)) {
        self.lock().fill = Fill {
            counted: Some(there),
            added: (0, 0),
        };
    }

    /// So many more were published.
    pub(super) fn added(&self, count: u64, bytes: u64) {
        let mut state = self.lock();
        state.fill.added.0 += count;
        state.fill.added.1 += bytes;
    }

    /// From where on to look; `everything` for a consumer that found nothing.
    pub(super) fn floors(&self, everything: bool) -> Floors {
        let mut state = self.lock();
        let seen = &mut state.seen;
        // A look at everything may be slow while somebody keeps PostgreSQL from cleaning up: it takes at most a twentieth
        // of the time.
        let pause = EVERYTHING.max(seen.took * 20);
        let due = seen.looked.is_none_or(|looked| looked.elapsed() >= pause);
        let cheap = seen.took < CHEAP;
        let everything = due || (everything && cheap);
        if everything {
            seen.looked = Some(Instant::now());
        }
        Floors {
            places: if everything { START } else { seen.settled }.to_vec(),
            backs: !everything && cheap,
            everything,
        }
    }

    /// What a look took, and which places it found.
    pub(super) fn looked(&self, everything: bool, took: Duration, places: impl Iterator<Item = i64>) {
        let mut state = self.lock();
        let seen = &mut state.seen;
        if everything {
            seen.took = took;
        }
        for place in places {
            let region = place >> 58;
            if let Ok(index @ 1..=3) = usize::try_from(region) {
                seen.newest[index - 1] = seen.newest[index - 1].max(place);
            }
        }
        if seen.since.elapsed() >= SETTLED {
            seen.since = Instant::now();
            seen.settled = seen.coming;
            seen.coming = seen.newest;
        }
    }

    /// Nothing that was known may be true any more: the server was away.
    pub(super) fn forget(&self) {
        *self.lock() = State::default();
    }

    /// So many more are dead; true when it is time to look whether there are too many.
    pub(super) fn buried(&self, count: u64, limit: u64) -> bool {
        let mut state = self.lock();
        state.buried += count;
        let due = state.buried > limit / 100;
        if due {
            state.buried = 0;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Room {
        Room::new(QueueName::from("orders"), 1)
    }

    #[tokio::test(start_paused = true)]
    async fn floors_rise_only_to_what_was_seen_a_while_ago_and_everything_is_looked_at_now_and_then() {
        let room = room();
        let place = START[1] + 100;
        let everything = Floors {
            places: START.to_vec(),
            backs: false,
            everything: true,
        };
        let from = |places: [i64; 3]| Floors {
            places: places.to_vec(),
            backs: true,
            everything: false,
        };
        assert_eq!(room.floors(false), everything);
        room.looked(true, Duration::ZERO, [place].into_iter());
        assert_eq!(room.floors(false), from(START));
        for _ in 0..2 {
            tokio::time::advance(SETTLED).await;
            room.looked(false, Duration::ZERO, std::iter::empty());
        }
        assert_eq!(room.floors(false), everything, "everything is due");
        assert_eq!(room.floors(false), from([START[0], place, START[2]]));
        assert_eq!(room.floors(true), everything);
        room.looked(true, CHEAP, std::iter::empty());
        assert!(
            !room.floors(true).everything && !room.floors(false).backs,
            "what takes long is seldom done"
        );
    }

    #[test]
    fn small_queues_are_always_counted_and_large_ones_when_they_may_be_full() {
        let room = room();
        let large = (1_000_000, u64::MAX);
        assert!(room.must_count((1, 1), large));
        room.counted((0, 0));
        assert!(room.must_count((1, 1), (1_000, u64::MAX)));
        assert!(!room.must_count((1, 1), large));
        room.added(250_000, 0);
        assert!(room.must_count((1, 1), large));
    }
}
