//! Probation as the transaction carries it out: who is told what, and which generation comes back. What counts as failing is
//! decided elsewhere; here it is told.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::*;
use crate::config::change::{ChangeObserver, Conclusion, Due, LivePart, Proposal, Proving, Stage, Trial, TrialVerdict};

/// Proves with what it is told; without it, when the window is over. Counts the pictures that were taken.
#[derive(Clone, Default)]
struct Told {
    verdict: Arc<Mutex<Option<TrialVerdict>>>,
    pictures: Arc<AtomicU32>,
}

impl Proving for Told {
    fn begin(&self) -> Box<dyn Trial> {
        self.pictures.fetch_add(1, Ordering::Relaxed);
        Box::new(self.clone())
    }
}

#[async_trait]
impl Trial for Told {
    async fn verdict(&mut self, window: Duration) -> TrialVerdict {
        if let Some(verdict) = self.verdict.lock().unwrap().take() {
            return verdict;
        }
        tokio::time::sleep(window).await;
        TrialVerdict::Passed
    }
}

/// Notes what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

#[async_trait]
impl ChangeObserver for Notes {
    async fn concluded(&self, conclusion: &Conclusion) {
        let outcome = match &conclusion.outcome {
            ReloadOutcome::Unchanged { generation } => format!("{generation} unchanged"),
            ReloadOutcome::Applied { generation, .. } => format!("{generation} applied"),
            ReloadOutcome::TakenBack {
                generation,
                failed,
                reason,
                ..
            } => format!("{failed} back to {generation}: {reason}"),
            ReloadOutcome::Rejected { generation, stage, .. } => format!("{generation} stays, {stage:?}"),
        };
        self.0.lock().unwrap().push(outcome);
    }

    async fn proven(&self, configuration: &Arc<Configuration>) {
        let proven = format!("{} proven", configuration.generation());
        self.0.lock().unwrap().push(proven);
    }
}

/// A part that counts where it is, and can be told to stay.
#[derive(Clone, Default)]
struct Follows {
    workers: Arc<AtomicU32>,
    stays: Arc<AtomicU32>,
}

#[async_trait]
impl LivePart for Follows {
    fn name(&self) -> &str {
        "shop"
    }

    async fn apply(&mut self, proposal: &Proposal) -> Result<(), String> {
        if self.stays.load(Ordering::Relaxed) > 0 {
            return Err("it stays".into());
        }
        self.follow(&proposal.next);
        Ok(())
    }

    async fn undo(&mut self, proposal: &Proposal) -> Result<(), String> {
        self.follow(&proposal.running);
        Ok(())
    }
}

impl Follows {
    fn follow(&self, configuration: &Configuration) {
        let workers = configuration.typed::<Bot>("bot").unwrap().workers;
        self.workers.store(workers, Ordering::Relaxed);
    }
}

struct Shop {
    directory: Directory,
    manager: Arc<ConfigurationManager>,
    told: Told,
    notes: Arc<Notes>,
    follows: Follows,
    transactions: Transactions<'static>,
}

impl Shop {
    async fn open() -> Self {
        let directory = Directory::new().file("bot.toml", "[bot]\nworkers = 5\n");
        let manager = ConfigurationManager::load(definitions(), directory.sources.clone()).await;
        let manager = Arc::new(manager.unwrap());
        let (told, notes, follows) = (Told::default(), Arc::new(Notes::default()), Follows::default());
        manager.prove_with(Arc::new(told.clone()));
        manager.observe(Arc::clone(&notes) as Arc<dyn ChangeObserver>);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let parts: Vec<Box<dyn LivePart>> = vec![Box::new(follows.clone())];
        Self {
            transactions: Transactions::new(Arc::clone(&manager), clock, parts),
            directory,
            manager,
            told,
            notes,
            follows,
        }
    }

    async fn change(&mut self, workers: u32, trigger: Trigger) -> ReloadOutcome {
        let text = format!("[bot]\nworkers = {workers}\n");
        fs::write(self.directory.path.join("bot.toml"), text).unwrap();
        self.transactions.reload(vec![trigger]).await.outcome
    }

    fn fails(&self) {
        *self.told.verdict.lock().unwrap() = Some(TrialVerdict::Failed("orders is unhealthy: no stock".into()));
    }

    fn workers(&self) -> (u32, u32) {
        let runs = self.manager.current().typed::<Bot>("bot").unwrap().workers;
        (runs, self.follows.workers.load(Ordering::Relaxed))
    }

    fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.0.lock().unwrap())
    }
}

fn provider() -> Trigger {
    Trigger::Provider { name: "table".into() }
}

#[tokio::test(start_paused = true)]
async fn what_passes_its_window_is_proven() {
    let mut shop = Shop::open().await;
    shop.change(6, Trigger::Signal).await;
    let began = Instant::now();
    assert!(matches!(shop.transactions.next().await, Due::Proof));
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(30) && took < Duration::from_secs(31),
        "{took:?}"
    );
    shop.transactions.prove().await;
    assert_eq!(shop.notes(), ["2 applied", "2 proven"]);
    assert_eq!(shop.told.pictures.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_taken_back_and_not_tried_again_by_itself() {
    let mut shop = Shop::open().await;
    shop.change(6, Trigger::Signal).await;
    assert_eq!(shop.workers(), (6, 6));
    shop.fails();
    let Due::Return(reason) = shop.transactions.next().await else {
        panic!("it has failed")
    };
    shop.transactions.take_back(reason).await;
    assert_eq!(shop.workers(), (5, 5));
    assert_eq!(shop.manager.current().generation(), 1);
    let refused = shop.change(6, provider()).await;
    let ReloadOutcome::Rejected {
        stage: Stage::Probation,
        reason,
        ..
    } = refused
    else {
        panic!("it was tried again: {refused:?}")
    };
    assert!(
        reason.contains("taken back as configuration 2: orders is unhealthy: no stock"),
        "{reason}"
    );
    // Something else is tried, and a person may try the same; numbers are not given twice.
    assert!(matches!(
        shop.change(7, provider()).await,
        ReloadOutcome::Applied { generation: 3, .. }
    ));
    shop.fails();
    shop.transactions.next().await;
    shop.transactions.take_back("again".into()).await;
    assert!(matches!(
        shop.change(7, Trigger::Signal).await,
        ReloadOutcome::Applied { generation: 4, .. }
    ));
    assert_eq!(
        shop.notes(),
        [
            "2 applied",
            "2 back to 1: orders is unhealthy: no stock",
            "1 stays, Probation",
            "3 applied",
            "3 back to 1: again",
            "4 applied"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn another_change_takes_the_probation_over_and_what_comes_back_is_what_worked() {
    let mut shop = Shop::open().await;
    shop.change(6, Trigger::Signal).await;
    let waited = tokio::time::timeout(Duration::from_secs(20), shop.transactions.next()).await;
    assert!(waited.is_err(), "its window is 30 s");
    shop.change(7, Trigger::Signal).await;
    let began = Instant::now();
    // A reload without a change, and one that is refused, leave the window as it is.
    let waited = tokio::time::timeout(Duration::from_secs(10), shop.transactions.next()).await;
    assert!(waited.is_err(), "it has a window of its own");
    shop.change(7, Trigger::Signal).await;
    shop.change(0, Trigger::Signal).await;
    shop.follows.stays.store(1, Ordering::Relaxed);
    shop.change(8, Trigger::Signal).await;
    shop.follows.stays.store(0, Ordering::Relaxed);
    assert!(matches!(shop.transactions.next().await, Due::Proof));
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(30) && took < Duration::from_secs(31),
        "{took:?}"
    );
    shop.transactions.take_back("at the last moment".into()).await;
    assert_eq!(shop.workers(), (5, 5));
    assert_eq!(
        shop.notes(),
        [
            "2 applied",
            "3 applied",
            "3 unchanged",
            "3 stays, Check",
            "3 stays, Apply",
            "3 back to 1: at the last moment"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_taken_back_goes_on_and_says_so() {
    let mut shop = Shop::open().await;
    shop.change(6, Trigger::Signal).await;
    shop.follows.stays.store(1, Ordering::Relaxed);
    let outcome = shop.transactions.take_back("no stock".into()).await.outcome;
    let ReloadOutcome::Rejected {
        generation: 2,
        stage: Stage::Probation,
        reason,
        ..
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        reason,
        "configuration 2 does not work (no stock), but configuration 1 can't be put back to work: it stays"
    );
    assert_eq!(shop.workers(), (6, 6));
}
