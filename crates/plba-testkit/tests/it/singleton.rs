//! Singleton workers on paused time: standing by, taking over, losing the lease, letting go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::clock::Clock;
use plba_contracts::health::Health;
use plba_contracts::lease::{Fence, FencingToken, Grant, Holding, Lease, LeaseError};
use plba_contracts::services::Services;
use plba_contracts::worker::{Exit, Running, StartError, Worker, WorkerContext, WorkerDefinition, WorkerStatus};
use plba_runtime::lease::InProcessLease;
use plba_runtime::singleton::{LeaseSource, Singleton, SingletonOptions};
use plba_runtime::worker;
use plba_testkit::clock::TokioClock;
use plba_testkit::runtime;
use plba_testkit::services::FixedServices;
use plba_testkit::worker::{Behaviour, FakeWorker, Supervised, context};
use tokio::time::{Instant, sleep, timeout};

const TTL: Duration = Duration::from_secs(30);

/// A store that can be cut off: it then never answers.
struct Cut {
    store: InProcessLease,
    cut: AtomicBool,
}

impl Cut {
    async fn reached(&self) {
        if self.cut.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Lease for Cut {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Grant>, LeaseError> {
        self.reached().await;
        self.store.acquire(name, holder, ttl).await
    }

    async fn renew(&self, name: &str, token: FencingToken, ttl: Duration) -> Result<Option<Grant>, LeaseError> {
        self.reached().await;
        self.store.renew(name, token, ttl).await
    }

    async fn release(&self, name: &str, token: FencingToken) -> Result<(), LeaseError> {
        self.reached().await;
        self.store.release(name, token).await
    }

    async fn holding(&self, name: &str) -> Result<Option<Holding>, LeaseError> {
        self.reached().await;
        self.store.holding(name).await
    }
}

/// Who acted, under which token, when.
type Acts = Arc<Mutex<Vec<(&'static str, u64, Duration)>>>;

/// Two instances and more that share a store, and what they did when.
struct Scene {
    clock: Arc<dyn Clock>,
    store: InProcessLease,
    lease: Arc<Cut>,
    acts: Acts,
}

impl Scene {
    fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
        let store = InProcessLease::new(Arc::clone(&clock));
        let (cut, acts) = (AtomicBool::new(false), Arc::default());
        Self {
            lease: Arc::new(Cut {
                store: store.clone(),
                cut,
            }),
            clock,
            store,
            acts,
        }
    }

    async fn start(&self, holder: &'static str, definition: impl Singleton) -> Supervised {
        let options = SingletonOptions {
            holder: Some(holder.into()),
            ..SingletonOptions::default()
        };
        let lease: Arc<dyn Lease> = Arc::clone(&self.lease) as _;
        let definition = definition.singleton_with(lease, options);
        let worker = definition.build.call(no_services()).await.unwrap();
        let context = context("invoices", Arc::clone(&self.clock));
        Supervised::start(worker, context).await.unwrap()
    }

    /// An instance that acts every second.
    async fn acts(&self, holder: &'static str) -> Supervised {
        let (acts, clock) = (Arc::clone(&self.acts), Arc::clone(&self.clock));
        let routine = worker::every_with("invoices", worker::secs(1), move |services: Services| {
            let (acts, clock) = (Arc::clone(&acts), Arc::clone(&clock));
            async move {
                let fence = services.get::<Fence>().await?;
                acts.lock().unwrap().push((holder, fence.token.0, clock.monotonic()));
                Ok(())
            }
        });
        self.start(holder, routine).await
    }

    /// Who acted in the last two seconds, and under which token.
    fn acting(&self) -> Option<(&'static str, u64)> {
        let now = self.clock.monotonic();
        let acts = self.acts.lock().unwrap();
        let last = acts.last().filter(|(.., at)| now - *at <= Duration::from_secs(2));
        last.map(|(holder, token, _)| (*holder, *token))
    }
}

/// A worker that nobody can ask to stop; it writes down when it last did something, in milliseconds.
struct Deaf(Arc<AtomicU64>, Instant);

#[async_trait]
impl Worker for Deaf {
    async fn start(self: Arc<Self>, _: WorkerContext) -> Result<Running, StartError> {
        Ok(Running::new(async move {
            loop {
                sleep(Duration::from_millis(100)).await;
                let now = u64::try_from(self.1.elapsed().as_millis()).unwrap();
                self.0.store(now, Ordering::Relaxed);
            }
        }))
    }

    fn stop(&self, _: bool) {}

    fn health(&self) -> Health {
        Health::Ok
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus::default()
    }
}

fn no_services() -> Services {
    FixedServices::new().handle()
}

fn note(instance: &Supervised) -> String {
    instance.worker.status().note.unwrap_or_default()
}

async fn secs(count: u64) {
    sleep(Duration::from_secs(count)).await;
}

#[test]
fn one_acts_and_the_other_stands_by_and_says_for_whom() {
    runtime::paused(async {
        let scene = Scene::new();
        let (first, second) = (scene.acts("a/1").await, scene.acts("b/2").await);
        secs(300).await;
        assert_eq!(scene.acting(), Some(("a/1", 1)));
        assert!(scene.acts.lock().unwrap().iter().all(|(holder, ..)| *holder == "a/1"));
        assert_eq!(note(&first), "acts under token 1");
        assert!(first.worker.status().succeeded >= 299);
        assert_eq!(note(&second), "stands by; held by a/1 since 2026-01-01T00:00:00Z");
        assert!(second.worker.health().reason().is_none());
        drop((first.stop(false).await, second.stop(false).await));
    });
}

#[test]
fn a_graceful_stop_lets_the_other_take_over_at_once() {
    runtime::paused(async {
        let scene = Scene::new();
        let (first, second) = (scene.acts("a/1").await, scene.acts("b/2").await);
        secs(10).await;
        assert!(matches!(first.stop(false).await, Exit::Stopped));
        secs(1).await;
        assert_eq!(scene.acting(), Some(("b/2", 2)));
        assert!(matches!(second.stop(true).await, Exit::Stopped));
        assert_eq!(scene.store.holding("invoices").await.unwrap(), None);
    });
}

#[test]
fn after_a_kill_the_other_takes_over_within_the_lease_and_a_second() {
    runtime::paused(async {
        let scene = Scene::new();
        let (first, second) = (scene.acts("a/1").await, scene.acts("b/2").await);
        secs(100).await;
        first.kill().await;
        let killed = scene.clock.monotonic();
        secs(31).await;
        assert_eq!(scene.acting(), Some(("b/2", 2)));
        let taken = scene.acts.lock().unwrap().iter().find(|act| act.1 == 2).unwrap().2;
        assert!(taken - killed <= TTL + Duration::from_secs(1), "{:?}", taken - killed);
        drop(second.stop(false).await);
    });
}

#[test]
fn a_holder_that_does_not_reach_the_store_ends_before_another_may_begin() {
    runtime::paused(async {
        let scene = Scene::new();
        let first = scene.acts("a/1").await;
        secs(100).await;
        scene.lease.cut.store(true, Ordering::Relaxed);
        secs(70).await;
        let last = scene.acts.lock().unwrap().last().unwrap().2;
        assert!(scene.store.holding("invoices").await.unwrap().is_none());
        assert!(last <= Duration::from_secs(100) + TTL, "{last:?}");
        assert!(note(&first).contains("does not answer"), "{}", note(&first));
        assert!(!first.worker.health().is_usable());

        scene.lease.cut.store(false, Ordering::Relaxed);
        secs(31).await;
        assert_eq!(scene.acting(), Some(("a/1", 2)), "it goes on under a new token");
        assert!(first.worker.health().reason().is_none());
        assert!(first.worker.status().succeeded >= 100, "what it did before counts on");
        drop(first.stop(false).await);
    });
}

#[test]
fn a_worker_that_ignores_its_stop_is_dropped_by_the_deadline() {
    runtime::paused(async {
        let scene = Scene::new();
        let beats = Arc::new(AtomicU64::new(0));
        let deaf = Arc::new(Deaf(Arc::clone(&beats), Instant::now()));
        let definition = WorkerDefinition::new("invoices", move |_| {
            let deaf: Arc<dyn Worker> = Arc::clone(&deaf) as _;
            async move { Ok(deaf) }
        });
        let first = scene.start("a/1", definition).await;
        secs(1).await;
        scene.lease.cut.store(true, Ordering::Relaxed);
        secs(100).await;
        let last = Duration::from_millis(beats.load(Ordering::Relaxed));
        assert!(last > Duration::from_secs(25) && last <= TTL, "{last:?}");
        first.kill().await;
    });
}

#[test]
fn a_lease_that_was_taken_away_ends_its_worker_at_the_next_renewal() {
    runtime::paused(async {
        let scene = Scene::new();
        let first = scene.acts("a/1").await;
        secs(3).await;
        scene.store.release("invoices", FencingToken(1)).await.unwrap();
        let thief = scene.store.acquire("invoices", "c/3", TTL).await.unwrap().unwrap();
        secs(10).await;
        assert!(note(&first).contains("held by c/3"), "{}", note(&first));
        let last = scene.acts.lock().unwrap().last().unwrap().2;
        assert!(last <= Duration::from_secs(10), "{last:?}");
        scene.store.release("invoices", thief.token).await.unwrap();
        secs(1).await;
        assert_eq!(scene.acting(), Some(("a/1", 3)));
        drop(first.stop(false).await);
    });
}

#[test]
fn whatever_way_a_worker_ends_its_lease_is_free_at_once() {
    for behaviour in [
        Behaviour::Finishes,
        Behaviour::Fails,
        Behaviour::Panics,
        Behaviour::RefusesToStart,
    ] {
        runtime::paused(async {
            let scene = Scene::new();
            let inner = behaviour.clone();
            let definition = WorkerDefinition::new("invoices", move |_| {
                let inner = inner.clone();
                async move { Ok(FakeWorker::new(inner) as Arc<dyn Worker>) }
            });
            let instance = scene.start("a/1", definition).await;
            let ended = tokio::spawn(instance.ended()).await;
            let expected = match &behaviour {
                Behaviour::Finishes => matches!(ended, Ok(Exit::Finished)),
                Behaviour::Panics => ended.is_err_and(|error| error.is_panic()),
                _ => matches!(ended, Ok(Exit::Failed(_))),
            };
            assert!(expected, "{behaviour:?}");
            assert_eq!(scene.store.holding("invoices").await.unwrap(), None, "{behaviour:?}");
        });
    }
}

#[test]
fn a_worker_that_cannot_be_built_fails_and_leaves_the_lease() {
    runtime::paused(async {
        let scene = Scene::new();
        let definition = WorkerDefinition::new("invoices", |_| async { Err("no such shelf".into()) });
        let instance = scene.start("a/1", definition).await;
        assert!(matches!(instance.ended().await, Exit::Failed(error) if error.to_string() == "no such shelf"));
        assert_eq!(scene.store.holding("invoices").await.unwrap(), None);
    });
}

#[test]
fn a_standby_stops_at_once_also_when_its_store_does_not_answer() {
    runtime::paused(async {
        let scene = Scene::new();
        let (first, second) = (scene.acts("a/1").await, scene.acts("b/2").await);
        secs(5).await;
        let stopping = Instant::now();
        assert!(matches!(second.stop(false).await, Exit::Stopped));
        assert!(stopping.elapsed() <= Duration::from_millis(1));

        scene.lease.cut.store(true, Ordering::Relaxed);
        let third = scene.acts("c/3").await;
        secs(5).await;
        assert!(timeout(Duration::from_millis(1), third.stop(true)).await.is_ok());
        first.kill().await;
    });
}

#[test]
fn the_store_may_be_a_service() {
    runtime::paused(async {
        let scene = Scene::new();
        let definition = worker::service("invoices", |stop| async move {
            stop.requested().await;
            Ok(())
        });
        let definition = definition.concurrency(4).singleton(LeaseSource::service());
        assert_eq!(definition.concurrency, 1);
        let services = FixedServices::new().with::<dyn Lease>(Arc::new(scene.store.clone()));
        let worker = definition.build.call(services.handle()).await.unwrap();
        let instance = Supervised::start(worker, context("invoices", scene.clock))
            .await
            .unwrap();
        secs(1).await;
        let holder = scene.store.holding("invoices").await.unwrap().unwrap().holder;
        assert!(holder.ends_with(&format!("/{}", std::process::id())), "{holder}");
        assert!(matches!(instance.stop(false).await, Exit::Stopped));
        let missing = definition.build.call(no_services()).await.err().unwrap().to_string();
        assert!(missing.contains("Lease is registered"), "{missing}");
    });
}
