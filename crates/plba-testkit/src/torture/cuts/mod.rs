//! Every byte once: each exchange of a queue with its server is cut after 0, 1, 2 … bytes, in each direction, until it gets
//! through whole. After each cut the caller tries again, as it is told to, and then there must be neither more nor less
//! than if nothing had happened. What each verb has to leave behind is in `scenario`.

mod scenario;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use plba_contracts::services::BoxFuture;
use plba_tasks::queue::TaskQueue;

use self::scenario::Scenario;
use crate::proxy::{Direction, Ending, FaultProxy};

/// After so many uncut exchanges in a row everything has been cut.
const WHOLE: u32 = 3;

/// An exchange longer than this is none of a queue's.
const LONGEST: u64 = 20_000;

/// How a queue is reached: through a proxy, and past it.
pub struct Reach {
    /// The proxy before the server.
    pub proxy: FaultProxy,
    /// The queue through the proxy, on as few connections as may be, with crashes that kill no task and a lease of one
    /// second.
    pub through: Arc<dyn TaskQueue>,
    /// The same queue past the proxy.
    pub direct: Arc<dyn TaskQueue>,
}

/// The exchanges that are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Publishing a task with an id.
    Publish,
    /// Taking a task that is ready.
    Consume,
    /// Ending one and taking the next.
    Exchange,
    /// Ending a delivery well, with a follow-up.
    Ack,
    /// Ending one as a failed attempt.
    Nack,
    /// Ending one for good.
    Bury,
    /// Giving one back.
    Release,
    /// Renewing a lease.
    Extend,
}

impl Verb {
    const ALL: [Self; 8] = [
        Self::Publish,
        Self::Consume,
        Self::Exchange,
        Self::Ack,
        Self::Nack,
        Self::Bury,
        Self::Release,
        Self::Extend,
    ];
}

/// How one verb fared in one direction.
#[derive(Clone, Debug)]
pub struct CutReport {
    /// The verb.
    pub verb: Verb,
    /// Which way the bytes went that were cut.
    pub direction: Direction,
    /// How many bytes a whole exchange has, the shortest that was seen: a consumer that comes too early asks twice.
    pub bytes: u64,
    /// How many bytes lie between two cuts.
    pub apart: u64,
    /// How often it was cut.
    pub cuts: u64,
    /// How often the caller was told nothing was wrong, though it was cut.
    pub unnoticed: u64,
    /// How long it took.
    pub took: Duration,
    /// What was wrong afterwards, in sentences.
    pub faults: Vec<String>,
}

impl fmt::Display for CutReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "  {:<9} {:<9} {:>5} bytes, {:>5} cuts {} apart, {:>4} unnoticed, {:>3} faults, {:.1} s",
            format!("{:?}", self.verb),
            format!("{:?}", self.direction),
            self.bytes,
            self.cuts,
            self.apart,
            self.unnoticed,
            self.faults.len(),
            self.took.as_secs_f64()
        )
    }
}

/// Cuts every exchange after every byte in each direction, some exchanges at a time, each on what `reach` makes for it; of
/// publish, ack, nack and extend really every byte, of the others every `apart`th, unless `PLBA_CUTS=all` is in the
/// environment. Prints how many cuts there were. With `PLBA_CASE` in the environment, only those with that text in their names, such
/// as `Ack ToServer`.
///
/// # Panics
/// When a task was lost or was there twice after a cut, or when an exchange was not cut at every byte.
pub fn cuts(name: &str, apart: u64, reach: impl Fn() -> BoxFuture<'static, Reach> + Sync) -> Vec<CutReport> {
    let both = |verb| [(verb, Direction::ToServer), (verb, Direction::ToClient)];
    let chosen = std::env::var("PLBA_CASE").unwrap_or_default();
    let mut all: Vec<_> = Verb::ALL.into_iter().flat_map(both).collect();
    all.retain(|(verb, direction)| format!("{verb:?} {direction:?}").contains(&chosen));
    let everything = std::env::var("PLBA_CUTS").is_ok_and(|cuts| cuts == "all");
    let apart = |verb| {
        let asked_for = [Verb::Publish, Verb::Ack, Verb::Nack, Verb::Extend].contains(&verb);
        if everything || asked_for { 1 } else { apart.max(1) }
    };
    let (next, reports) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((verb, direction)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    let report = runtime.block_on(async { cut(reach().await, *verb, *direction, apart(*verb)).await });
                    eprintln!("{report}");
                    reports.lock().unwrap().push(report);
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    let total: u64 = reports.iter().map(|report| report.cuts).sum();
    eprintln!("{name}: {total} cuts");
    for report in &reports {
        let at = format!("{name}: {:?} {:?}", report.verb, report.direction);
        assert!(report.faults.is_empty(), "{at}: {}", report.faults.join("\n"));
        assert!(
            report.cuts * report.apart >= report.bytes && report.cuts > 0,
            "{at}: {report:?}"
        );
    }
    reports
}

async fn cut(reach: Reach, verb: Verb, direction: Direction, apart: u64) -> CutReport {
    let began = Instant::now();
    let mut scenario = Scenario::new(reach, verb);
    let (mut cuts, mut unnoticed, mut whole, mut after) = (0, 0, 0, 0);
    // Whole exchanges first: they make connections, and tell how long they are.
    scenario.clean(direction).await;
    let mut bytes = u64::MAX;
    for _ in 0..2 {
        bytes = bytes.min(scenario.clean(direction).await);
    }
    while whole < WHOLE && after < LONGEST && scenario.faults.len() < 10 {
        let ending = if after % 2 == 0 { Ending::Reset } else { Ending::Close };
        let outcome = scenario.run((direction, after, ending)).await;
        if outcome.cut {
            (cuts, whole) = (cuts + 1, 0);
            after += apart;
            unnoticed += u64::from(!outcome.noticed);
            // Who got an error tried again, so that there is a connection for the next exchange. The others make one.
            if !outcome.noticed || verb == Verb::Consume {
                scenario.clean(direction).await;
            }
        } else {
            whole += 1;
        }
    }
    bytes = bytes.min(scenario.clean(direction).await);
    let faults = scenario.end().await;
    CutReport {
        verb,
        direction,
        bytes,
        apart,
        cuts,
        unnoticed,
        took: began.elapsed(),
        faults,
    }
}
