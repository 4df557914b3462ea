//! Probation on a real supervisor and health registry, in paused time: what takes a change back, what doesn't, and what
//! becomes of it when another reload is asked for meanwhile.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::health::{Criticality, Health, HealthContribution, HealthContributor};
use plba_contracts::worker::WorkerDefinition;
use tokio::time::Instant;

use super::*;
use crate::config::change::{Due, HealthProving, LivePart, Proposal, Refusal, Stage};
use crate::health::{HealthRegistry, PartHealth};
use crate::services::{Provided, ServiceContainer};
use crate::supervisor::tests::{TokioClock, services, supervisor};
use crate::supervisor::{DefinitionChange, SupervisorEvent, WorkerSupervisor};
use crate::worker::{RoutineError, service};

/// So many workers and the attempts fail, a second after they began.
const UNLUCKY: u32 = 13;

/// The default of `platform.config.probation`.
const WINDOW: Duration = Duration::from_secs(30);

fn orders(workers: u32) -> WorkerDefinition {
    let work = move |stop: plba_contracts::stop::StopSignal| async move {
        if workers == UNLUCKY {
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Err(RoutineError::new("thirteen of us").fatal());
        }
        stop.requested().await;
        Ok(())
    };
    service("orders", work).into()
}

/// The worker, as far as it follows the configuration.
struct Follows {
    supervisor: WorkerSupervisor,
    /// How long it takes to say what it thinks of a change, and whether it likes it.
    thinks: Duration,
    refuses: Arc<AtomicBool>,
}

impl Follows {
    async fn follow(&self, configuration: &Configuration) -> Result<(), String> {
        let bot = configuration.typed::<Bot>("bot").map_err(|error| error.to_string())?;
        let change = DefinitionChange {
            changed: vec![orders(bot.workers)],
            ..DefinitionChange::default()
        };
        let applied = self.supervisor.apply(change, services()).await;
        applied.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl LivePart for Follows {
    fn name(&self) -> &str {
        "orders"
    }

    async fn prepare(&mut self, _: &Proposal) -> Result<(), Refusal> {
        tokio::time::sleep(self.thinks).await;
        match self.refuses.load(Ordering::Relaxed) {
            true => Err("not today".to_owned().into()),
            false => Ok(()),
        }
    }

    async fn apply(&mut self, proposal: &Proposal) -> Result<(), String> {
        self.follow(&proposal.next).await
    }

    async fn undo(&mut self, proposal: &Proposal) -> Result<(), String> {
        self.follow(&proposal.running).await
    }
}

/// A server outside that answers, or not.
struct Outside(Arc<AtomicBool>);

#[async_trait]
impl HealthContributor for Outside {
    async fn check(&self) -> Health {
        match self.0.load(Ordering::Relaxed) {
            true => Health::Ok,
            false => Health::unhealthy("connection refused"),
        }
    }
}

/// A bot at work.
struct Shop {
    directory: Directory,
    transactions: Transactions<'static>,
    manager: Arc<ConfigurationManager>,
    supervisor: WorkerSupervisor,
    outside: Arc<AtomicBool>,
    refuses: Arc<AtomicBool>,
    /// How many attempts have failed in all.
    failures: Arc<AtomicU32>,
}

impl Shop {
    /// At work, beside a server that answers or not; changes take so long to be thought over.
    async fn open(answers: bool, thinks: Duration) -> Self {
        let directory = Directory::new().file("bot.toml", "[bot]\nworkers = 4\n");
        let manager = ConfigurationManager::load(definitions(), directory.sources.clone()).await;
        let manager = Arc::new(manager.unwrap());
        let (supervisor, clock) = (supervisor(), Arc::new(TokioClock(Instant::now())));
        let asked = supervisor.clone();
        let health = HealthRegistry::new(clock.clone(), move || {
            let told = |view: crate::supervisor::WorkerView| PartHealth {
                name: view.name,
                kind: "worker",
                health: view.health,
                criticality: Criticality::Critical,
            };
            asked.snapshot().into_iter().map(told).collect()
        });
        supervisor.start(vec![orders(4)], services()).await.unwrap();
        let outside = Arc::new(AtomicBool::new(answers));
        let checked = Arc::clone(&outside);
        let server = HealthContribution::new("mail server", move |_| {
            let checked = Arc::clone(&checked);
            async move { Ok(Arc::new(Outside(checked)) as Arc<dyn HealthContributor>) }
        });
        let none = Arc::new(ServiceContainer::new(Vec::new(), Provided::default()).unwrap());
        health.watch(vec![server], &none.services()).await.unwrap();
        manager.prove_with(Arc::new(HealthProving::new(clock.clone(), &supervisor, &health)));
        let (failures, refuses) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let counted = Arc::clone(&failures);
        supervisor.events().subscribe(move |recorded| {
            if matches!(&recorded.event, SupervisorEvent::Ended { end, .. } if end.is_failure()) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let follows = Follows {
            supervisor: supervisor.clone(),
            thinks,
            refuses: Arc::clone(&refuses),
        };
        Self {
            transactions: Transactions::new(Arc::clone(&manager), clock, vec![Box::new(follows)]),
            directory,
            manager,
            supervisor,
            outside,
            refuses,
            failures,
        }
    }

    async fn change(&mut self, text: &str) -> ReloadOutcome {
        fs::write(self.directory.path.join("bot.toml"), text).unwrap();
        self.transactions.reload(vec![Trigger::Signal]).await.outcome
    }

    #[track_caller]
    fn runs(&self, generation: u64, workers: u32) {
        let current = self.manager.current();
        let runs = (current.generation(), current.typed::<Bot>("bot").unwrap().workers);
        assert_eq!(runs, (generation, workers));
    }

    /// Waits for the verdict, takes back what failed, and gives the reason and the time it took.
    async fn failed(&mut self) -> (String, Duration) {
        let began = Instant::now();
        let Due::Return(reason) = self.transactions.next().await else {
            panic!("it passed");
        };
        let took = began.elapsed();
        let conclusion = self.transactions.take_back(reason.clone()).await;
        assert!(
            matches!(conclusion.outcome, ReloadOutcome::TakenBack { .. }),
            "{conclusion:?}"
        );
        (reason, took)
    }

    async fn passed(&mut self) -> Duration {
        let began = Instant::now();
        let due = self.transactions.next().await;
        assert!(matches!(due, Due::Proof), "{due:?}");
        self.transactions.prove().await;
        began.elapsed()
    }
}

async fn after(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_makes_a_worker_fail_is_taken_back_within_its_window() {
    let mut shop = Shop::open(true, Duration::ZERO).await;
    let applied = shop.change("[bot]\nworkers = 13\n").await;
    assert!(
        matches!(applied, ReloadOutcome::Applied { generation: 2, .. }),
        "{applied:?}"
    );
    shop.runs(2, UNLUCKY);
    let (reason, took) = shop.failed().await;
    assert!(took < WINDOW, "{took:?}");
    assert!(
        reason.contains("worker orders, which was well before, ") && reason.contains("thirteen of us"),
        "{reason}"
    );
    shop.runs(1, 4);
    after(60).await;
    let orders = &shop.supervisor.snapshot()[0];
    assert_eq!(
        (&orders.health, orders.slots.len()),
        (&Health::Ok, 1),
        "it works as before"
    );

    // What is written is still the same: not tried again by itself, but if somebody asks.
    let by_itself = shop
        .transactions
        .reload(vec![Trigger::File {
            path: "bot.toml".into(),
        }])
        .await
        .outcome;
    let ReloadOutcome::Rejected { stage, reason, .. } = by_itself else {
        panic!("{by_itself:?}");
    };
    assert!(
        stage == Stage::Probation && reason.contains("thirteen of us"),
        "{reason}"
    );
    let again = shop.change("[bot]\nworkers = 13\n").await;
    assert!(
        matches!(again, ReloadOutcome::Applied { generation: 3, .. }),
        "{again:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outside_server_that_failed_already_is_not_the_changes_doing() {
    let mut shop = Shop::open(false, Duration::ZERO).await;
    shop.change("[bot]\nworkers = 5\n").await;
    assert_eq!(shop.passed().await, WINDOW);
    shop.runs(2, 5);
    shop.outside.store(true, Ordering::Relaxed);
    after(11).await;
    shop.change("[bot]\nworkers = 6\n").await;
    shop.outside.store(false, Ordering::Relaxed);
    let (reason, took) = shop.failed().await;
    assert!(took < WINDOW, "{took:?}");
    assert!(
        reason.ends_with("contributor mail server, which was well before, is unhealthy: connection refused"),
        "{reason}"
    );
    shop.runs(2, 5);
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_probation_takes_it_over_and_what_comes_back_is_what_was_proven() {
    let mut shop = Shop::open(true, Duration::ZERO).await;
    shop.change("[bot]\nworkers = 5\n").await;
    after(20).await;
    shop.change("[bot]\nworkers = 6\n").await;
    shop.runs(3, 6);
    assert_eq!(shop.passed().await, WINDOW, "its own window begins anew");

    shop.change("[bot]\nworkers = 7\n").await;
    after(20).await;
    shop.change("[bot]\nworkers = 13\n").await;
    shop.failed().await;
    shop.runs(3, 6);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_the_first_change_broke_is_no_excuse_for_the_second() {
    let mut shop = Shop::open(true, Duration::ZERO).await;
    shop.change("[bot]\nworkers = 13\n").await;
    after(2).await;
    // Another value, and as unlucky.
    shop.change("[bot]\nworkers = 13\npace = 'fast'\n").await;
    let (reason, _) = shop.failed().await;
    assert!(reason.contains("worker orders, which was well before"), "{reason}");
    shop.runs(1, 4);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_is_refused_leaves_the_probation_as_it_is() {
    let mut shop = Shop::open(true, Duration::ZERO).await;
    shop.change("[bot]\nworkers = 5\n").await;
    let waits = shop.transactions.next();
    assert!(tokio::time::timeout(Duration::from_secs(20), waits).await.is_err());
    let refused = shop.change("[bot]\nworkers = 0\n").await;
    assert!(refused.is_rejected(), "{refused:?}");
    assert_eq!(
        shop.passed().await,
        Duration::from_secs(10),
        "what is left of the window"
    );
}

#[tokio::test(start_paused = true)]
async fn what_failed_before_a_reload_was_refused_is_not_forgotten() {
    let mut shop = Shop::open(true, Duration::ZERO).await;
    shop.change("[bot]\nworkers = 13\n").await;
    let failed = |shop: &Shop| shop.failures.load(Ordering::Relaxed);
    while failed(&shop) == 0 {
        let waits = shop.transactions.next();
        assert!(tokio::time::timeout(Duration::from_millis(100), waits).await.is_err());
    }
    assert!(shop.change("[bot]\nworkers = 0\n").await.is_rejected());
    shop.failed().await;
    assert_eq!(failed(&shop), 2, "the first counts, so the second is enough");
}

#[tokio::test(start_paused = true)]
async fn a_probation_that_is_over_while_a_reload_is_under_way_is_judged_when_that_has_ended() {
    for fails in [false, true] {
        let mut shop = Shop::open(true, Duration::from_secs(5)).await;
        shop.change("[bot]\nworkers = 5\n").await;
        let waits = shop.transactions.next();
        assert!(tokio::time::timeout(Duration::from_secs(28), waits).await.is_err());
        shop.outside.store(!fails, Ordering::Relaxed);
        after(1).await;
        shop.refuses.store(true, Ordering::Relaxed);
        let refused = shop.change("[bot]\nworkers = 6\n").await;
        assert!(refused.is_rejected(), "{refused:?}");
        shop.runs(2, 5);
        shop.refuses.store(false, Ordering::Relaxed);
        match fails {
            false => assert_eq!(shop.passed().await, Duration::ZERO),
            true => {
                // It was over, but not judged: the verdict counts, whatever else was asked for.
                after(10).await;
                assert_eq!(shop.failed().await.1, Duration::ZERO);
                shop.runs(1, 4);
            }
        }
    }
}
