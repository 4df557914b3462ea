//! Singleton workers under random faults: four processes share a slow store that loses answers; they crash, are stopped,
//! and are paused for longer than their lease, with clocks that go on meanwhile (SIGSTOP) or stand still (a suspended
//! machine). Each run is its seed: `PLBA_SEED=17` runs that one alone.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::lease::{Fence, FencingToken, Grant, Holding, Lease, LeaseError};
use plba_contracts::services::Services;
use plba_contracts::worker::Worker;
use plba_runtime::lease::InProcessLease;
use plba_runtime::singleton::{Singleton, SingletonOptions};
use plba_runtime::worker;
use plba_testkit::clock::TokioClock;
use plba_testkit::runtime;
use plba_testkit::services::FixedServices;
use plba_testkit::worker::context;
use tokio::task::LocalSet;
use tokio::time::sleep;

const TTL: Duration = Duration::from_secs(6);
const PROCESSES: u64 = 4;
const FAULTS: Duration = Duration::from_secs(400);

type Random = Arc<Mutex<fastrand::Rng>>;

fn between(random: &Random, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.lock().unwrap().u64(from..=to))
}

/// A store behind a slow network that may lose the question or the answer.
struct Distant {
    store: InProcessLease,
    random: Random,
    calm: Arc<AtomicU64>,
    newest: Arc<AtomicU64>,
}

impl Distant {
    async fn way(&self, name: &str) -> Result<(), LeaseError> {
        let dice = self.random.lock().unwrap().u32(0..100);
        let (delay, lost) = match dice {
            _ if self.calm.load(Ordering::Relaxed) == 1 => (between(&self.random, 1, 20), false),
            0..80 => (between(&self.random, 1, 50), false),
            80..90 => (between(&self.random, 50, 7000), false),
            90..96 => (between(&self.random, 1, 50), true),
            _ => (Duration::from_secs(60), true),
        };
        sleep(delay).await;
        if lost {
            return Err(LeaseError::Unavailable {
                name: name.into(),
                source: "the network lost it".into(),
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Lease for Distant {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Grant>, LeaseError> {
        self.way(name).await?;
        let grant = self.store.acquire(name, holder, ttl).await?;
        if let Some(grant) = grant {
            self.newest.store(grant.token.0, Ordering::Relaxed);
        }
        self.way(name).await?;
        Ok(grant)
    }

    async fn renew(&self, name: &str, token: FencingToken, ttl: Duration) -> Result<Option<Grant>, LeaseError> {
        self.way(name).await?;
        let grant = self.store.renew(name, token, ttl).await?;
        self.way(name).await?;
        Ok(grant)
    }

    async fn release(&self, name: &str, token: FencingToken) -> Result<(), LeaseError> {
        self.way(name).await?;
        self.store.release(name, token).await?;
        self.way(name).await
    }

    async fn holding(&self, name: &str) -> Result<Option<Holding>, LeaseError> {
        self.store.holding(name).await
    }
}

/// What the workers write to: it takes the newest token only.
#[derive(Default)]
struct Resource {
    newest: Arc<AtomicU64>,
    accepted: Mutex<Vec<(Duration, u64)>>,
    refused: AtomicU64,
}

impl Resource {
    fn write(&self, token: FencingToken, now: Duration) {
        let mut accepted = self.accepted.lock().unwrap();
        if token.0 == self.newest.load(Ordering::Relaxed) {
            assert!(
                accepted.last().is_none_or(|(_, last)| *last <= token.0),
                "an older token was taken"
            );
            accepted.push((now, token.0));
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The clock of a machine that may be suspended: it stands still meanwhile.
struct MachineClock {
    real: TokioClock,
    lost: AtomicU64,
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        self.real.now()
    }

    fn monotonic(&self) -> Duration {
        let lost = Duration::from_micros(self.lost.load(Ordering::Relaxed));
        self.real.monotonic().saturating_sub(lost)
    }
}

/// Whether a process is paused; nothing of it is polled then.
#[derive(Default)]
struct Pause {
    paused: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Pause {
    fn set(&self, paused: bool) {
        self.paused.set(paused);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn around<T>(&self, mut process: Pin<Box<dyn Future<Output = T> + Send>>) -> T {
        poll_fn(|context| {
            if self.paused.get() {
                *self.waker.borrow_mut() = Some(context.waker().clone());
                return Poll::Pending;
            }
            process.as_mut().poll(context)
        })
        .await
    }
}

/// What the processes of one run share.
struct World {
    lease: Arc<Distant>,
    resource: Arc<Resource>,
    random: Random,
    real: TokioClock,
    suspends: bool,
}

impl World {
    /// One life of a process: built, run, and ended in one way or another.
    async fn live(&self, holder: String) {
        let clock = Arc::new(MachineClock {
            real: self.real,
            lost: AtomicU64::new(0),
        });
        let instance = self.instance(holder).await;
        let running = Arc::clone(&instance)
            .start(context("acts", Arc::clone(&clock) as _))
            .await
            .unwrap();
        let pause = Rc::new(Pause::default());
        let process = {
            let pause = Rc::clone(&pause);
            tokio::task::spawn_local(async move { pause.around(running.into_future()).await })
        };
        while self.lease.calm.load(Ordering::Relaxed) == 0 {
            sleep(between(&self.random, 100, 30_000)).await;
            let dice = self.random.lock().unwrap().u32(0..10);
            match dice {
                0..2 => {
                    process.abort();
                    return;
                }
                2..4 => {
                    instance.stop(false);
                    let _ = process.await;
                    return;
                }
                4..8 => {
                    pause.set(true);
                    let length = between(&self.random, 10, 20_000);
                    sleep(length).await;
                    if self.suspends {
                        let length = u64::try_from(length.as_micros()).unwrap();
                        clock.lost.fetch_add(length, Ordering::Relaxed);
                    }
                    pause.set(false);
                }
                _ => {}
            }
        }
        let _ = process.await;
    }

    async fn instance(&self, holder: String) -> Arc<dyn Worker> {
        let (resource, random, real) = (Arc::clone(&self.resource), Arc::clone(&self.random), self.real);
        let routine = worker::service_with("acts", move |services: Services, stop| {
            let (resource, random) = (Arc::clone(&resource), Arc::clone(&random));
            async move {
                let fence = services.get::<Fence>().await?;
                // It may be slow to hear of a stop, but writes without a break.
                while !stop.is_requested() {
                    sleep(between(&random, 1, 300)).await;
                    resource.write(fence.token, real.monotonic());
                }
                Ok(())
            }
        });
        let options = SingletonOptions {
            ttl: TTL,
            holder: Some(holder),
            ..SingletonOptions::default()
        };
        let definition = routine.singleton_with(Arc::clone(&self.lease) as Arc<dyn Lease>, options);
        definition.build.call(FixedServices::new().handle()).await.unwrap()
    }
}

/// What a run came to.
#[derive(Debug, PartialEq)]
struct Outcome {
    accepted: Vec<(Duration, u64)>,
    refused: u64,
}

fn run(seed: u64, suspends: bool) -> Outcome {
    runtime::paused(async {
        let real = TokioClock::new();
        let random: Random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
        let resource = Arc::new(Resource::default());
        let lease = Arc::new(Distant {
            store: InProcessLease::new(Arc::new(real)),
            random: Arc::clone(&random),
            calm: Arc::default(),
            newest: Arc::clone(&resource.newest),
        });
        let world = Rc::new(World {
            lease: Arc::clone(&lease),
            resource: Arc::clone(&resource),
            random,
            real,
            suspends,
        });
        let processes = LocalSet::new();
        for number in 0..PROCESSES {
            let world = Rc::clone(&world);
            processes.spawn_local(async move {
                for life in 0.. {
                    world.live(format!("host-{number}/{life}")).await;
                    sleep(between(&world.random, 10, 3000)).await;
                }
            });
        }
        let end = processes.run_until(async {
            sleep(FAULTS).await;
            lease.calm.store(1, Ordering::Relaxed);
            sleep(Duration::from_secs(120)).await;
            real.monotonic()
        });
        let end = end.await;
        let accepted = std::mem::take(&mut *resource.accepted.lock().unwrap());
        // In the calm at the end, everybody has long been back, and one of them acts all the time.
        let last: Vec<u64> = accepted
            .iter()
            .filter(|(at, _)| *at + Duration::from_secs(30) > end)
            .map(|(_, token)| *token)
            .collect();
        assert!(
            last.len() > 50 && last.iter().all(|token| *token == last[0]),
            "{last:?}"
        );
        Outcome {
            accepted,
            refused: resource.refused.load(Ordering::Relaxed),
        }
    })
}

/// Runs seeds, and gives how many writes were taken, by how many holders, and how many were refused.
#[expect(clippy::print_stdout, reason = "a failing random test prints its seed")]
fn seeds(count: u64, suspends: bool) -> (usize, u64, u64) {
    let one = std::env::var("PLBA_SEED")
        .ok()
        .and_then(|seed| seed.parse::<u64>().ok());
    let (mut accepted, mut holders, mut refused) = (0, 0, 0);
    for seed in one.map_or(0..count, |seed| seed..seed + 1) {
        // Shown only if the test fails; the last one is the culprit.
        println!("PLBA_SEED={seed}");
        let outcome = run(seed, suspends);
        if !suspends {
            assert_eq!(outcome.refused, 0, "somebody acted who held the lease no more");
        }
        holders += outcome.accepted.last().map_or(0, |(_, token)| *token);
        accepted += outcome.accepted.len();
        refused += outcome.refused;
    }
    println!("{accepted} writes by {holders} holders, {refused} refused");
    (accepted, holders, refused)
}

#[test]
fn nobody_ever_acts_without_the_lease_whatever_is_paused_lost_or_killed() {
    let (accepted, holders, _) = seeds(30, false);
    assert!(accepted > 0 && holders > 0);
}

#[test]
fn what_a_suspended_machine_still_writes_is_refused() {
    let (_, holders, refused) = seeds(30, true);
    assert!(holders > 0);
    assert!(
        refused > 0 || std::env::var("PLBA_SEED").is_ok(),
        "the rare case was never reached"
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert_eq!(run(3, true), run(3, true));
}
