//! A thousand changes that fail at a random stage: after each, everything is as it was.

use std::collections::BTreeMap;

use super::*;
use crate::config::Configuration;
use crate::config::change::{ChangeObserver, Proposal, Refusal};
use crate::config::overrides::{FILE, OverrideChange, OverrideKeeper};
use crate::logging::{LogLevel, LoggingHandle};

const ATTEMPTS: u32 = 1_000;

/// Every place where a change can fail, with the stage.
const FAULTS: [(&str, Stage); 19] = [
    ("syntax", Stage::Check),
    ("unknown key", Stage::Check),
    ("wrong type", Stage::Check),
    ("missing file", Stage::Check),
    ("validate", Stage::Check),
    ("no such worker", Stage::Prepare),
    ("assemble", Stage::Prepare),
    ("assemble panics", Stage::Prepare),
    ("refuse", Stage::Prepare),
    ("refuse by panic", Stage::Prepare),
    ("hang", Stage::Prepare),
    ("service", Stage::Apply),
    ("service panics", Stage::Apply),
    ("worker", Stage::Apply),
    ("start", Stage::Apply),
    ("never starts", Stage::Apply),
    ("health", Stage::Apply),
    ("endpoint", Stage::Apply),
    ("last part", Stage::Apply),
];

/// A part that comes after all others and fails when it is told to.
struct Last(Arc<Mutex<bool>>);

#[async_trait]
impl LivePart for Last {
    fn name(&self) -> &str {
        "the last part"
    }

    async fn prepare(&mut self, _: &Proposal) -> Result<(), Refusal> {
        Ok(())
    }

    async fn apply(&mut self, _: &Proposal) -> Result<(), String> {
        match *self.0.lock().unwrap() {
            true => Err("it has had enough".into()),
            false => Ok(()),
        }
    }

    async fn undo(&mut self, _: &Proposal) -> Result<(), String> {
        unreachable!("nobody comes after the last")
    }
}

/// Whatever a failed change could leave behind.
#[derive(Debug, PartialEq)]
struct State {
    generation: u64,
    shown: String,
    overrides: usize,
    overrides_file: Option<Vec<u8>>,
    levels: (LogLevel, BTreeMap<String, LogLevel>),
    /// By name: state, instances, health.
    workers: Vec<(String, String, usize, Health)>,
    present: Vec<String>,
    health: Vec<String>,
}

struct Looks {
    configuration: Arc<ConfigurationManager>,
    logging: Arc<LoggingHandle>,
    supervisor: WorkerSupervisor,
    health: HealthRegistry,
    present: Present,
    directory: PathBuf,
}

impl Looks {
    fn now(&self) -> (Arc<Configuration>, State) {
        let current = self.configuration.current();
        let workers = self.supervisor.snapshot().into_iter();
        let worker = |worker: crate::supervisor::WorkerView| {
            (
                worker.name,
                format!("{:?}", worker.state),
                worker.slots.len(),
                worker.health,
            )
        };
        let mut present = self.present.lock().unwrap().clone();
        present.sort();
        let state = State {
            generation: current.generation(),
            shown: current.show().to_string(),
            overrides: current.overrides().len(),
            overrides_file: fs::read(self.directory.join(FILE)).ok(),
            levels: self.logging.levels(),
            workers: workers.map(worker).collect(),
            present,
            health: self.health.report().parts.into_iter().map(|part| part.name).collect(),
        };
        (current, state)
    }
}

/// A configuration with something of everything, which differs from one to the next.
fn text(random: &mut fastrand::Rng, fault: &str) -> String {
    let level = random.choice(["warn", "info", "debug", "error"]).unwrap();
    let (count, other) = (random.u32(1..4), random.u32(1..3));
    let (bread, meat) = (random.u32(..), random.u32(..));
    let (bad, good) = match random.bool() {
        true => ("bakery", "butchery"),
        false => ("butchery", "bakery"),
    };
    let extra = match fault {
        "syntax" => "[bakery\n",
        "unknown key" => "[platform.loging]\nlevel = 'info'\n",
        "wrong type" => "[platform.config]\nprobation = 7\n",
        "no such worker" => "[platform.workers.nobody]\nconcurrency = 2\n",
        _ => "",
    };
    format!(
        "[platform.logging]\nlevel = '{level}'\n[platform.workers.bakery-seller]\nconcurrency = {count}\n\
         [platform.workers.butchery-seller]\nconcurrency = {other}\n[{bad}]\nstock = '{bread}'\nfault = '{fault}'\n\
         [{good}]\nstock = '{meat}'\n{extra}"
    )
}

#[tokio::test(start_paused = true)]
async fn a_thousand_changes_that_fail_at_a_random_stage_leave_everything_as_it_was() {
    let seed = std::env::var("PLBA_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("PLBA_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut town = Town::start(&text(&mut random, "")).await;
    let looks = Looks {
        configuration: Arc::clone(&town.followers.configuration),
        logging: Arc::clone(&town.followers.logging),
        supervisor: town.supervisor.clone(),
        health: town.health.clone(),
        present: Arc::clone(&town.present),
        directory: town.directory.clone(),
    };
    let (manager, directory) = (Arc::clone(&looks.configuration), town.directory.clone());
    let keeper = OverrideKeeper::begin(&manager, &directory);
    let keeper = Arc::new(keeper.unwrap().0);
    manager.observe(Arc::clone(&keeper) as Arc<dyn ChangeObserver>);
    let file = directory.join("town.toml");
    let last_fails = Arc::new(Mutex::new(false));
    let last = Box::new(Last(Arc::clone(&last_fails)));
    let clock = Arc::clone(&town.clock);
    let mut transactions = Town::transactions(&town.followers, &mut town.modules, &clock, vec![last]);

    let (mut same, mut stages, mut good) = (0, BTreeMap::<String, u32>::new(), fs::read_to_string(&file).unwrap());
    for attempt in 0..ATTEMPTS {
        // What runs is something else from time to time.
        if attempt % 25 == 0 {
            good = text(&mut random, "");
            fs::write(&file, &good).unwrap();
            let applied = transactions.reload(vec![Trigger::Signal]).await.outcome;
            assert!(!applied.is_rejected(), "seed {seed}, attempt {attempt}: {applied:?}");
        }
        let (configuration, before) = looks.now();
        let (fault, stage) = *random.choice(&FAULTS).unwrap();
        let outcome = if random.u8(..8) == 0 {
            // The same, by an override.
            let values = vec![
                ("bakery.fault".to_owned(), fault.into()),
                ("bakery.stock".to_owned(), "x".into()),
            ];
            let change = OverrideChange::Set {
                values,
                until: None,
                why: None,
            };
            override_by(&keeper, &change, &mut transactions, &last_fails, fault).await
        } else {
            match fault {
                "missing file" => fs::remove_file(&file).unwrap(),
                fault => fs::write(&file, text(&mut random, fault)).unwrap(),
            }
            *last_fails.lock().unwrap() = fault == "last part";
            let outcome = transactions.reload(vec![Trigger::Signal]).await.outcome;
            let ReloadOutcome::Rejected {
                stage: refused, reason, ..
            } = &outcome
            else {
                panic!("seed {seed}, attempt {attempt}: {fault} did not fail: {outcome:?}");
            };
            assert_eq!(*refused, stage, "seed {seed}, attempt {attempt}: {fault}: {reason}");
            *stages.entry(format!("{refused:?}")).or_default() += 1;
            true
        };
        *last_fails.lock().unwrap() = false;
        fs::write(&file, &good).unwrap();
        let (after_configuration, after) = looks.now();
        assert!(
            outcome,
            "seed {seed}, attempt {attempt}: an override that fails ({fault}) was taken"
        );
        assert_eq!(after, before, "seed {seed}, attempt {attempt}: {fault}");
        same += u32::from(Arc::ptr_eq(&configuration, &after_configuration));
    }
    println!("{same} of {ATTEMPTS} the same; refused by file at {stages:?}");
    assert_eq!(same, ATTEMPTS, "seed {seed}");
    assert_eq!(stages.len(), 3, "every stage was met: {stages:?}");
    drop(transactions);
    town.modules.close().await;
}

/// Sets overrides that fail, where they can by an override; whether they were refused.
async fn override_by(
    keeper: &OverrideKeeper,
    change: &OverrideChange,
    transactions: &mut Transactions<'_>,
    last_fails: &Mutex<bool>,
    fault: &str,
) -> bool {
    // What only a file can have, the last part stands for.
    let by_file = [
        "syntax",
        "unknown key",
        "wrong type",
        "missing file",
        "no such worker",
        "last part",
    ];
    *last_fails.lock().unwrap() = by_file.contains(&fault);
    let changing = keeper.change(change, "anna");
    let carrying_out = async {
        if let Due::Reload(request) = transactions.next().await {
            let outcome = transactions.reload(request.triggers.clone()).await.outcome;
            request.answer(&outcome);
        }
    };
    let (changed, ()) = tokio::join!(changing, carrying_out);
    changed.is_err()
}
