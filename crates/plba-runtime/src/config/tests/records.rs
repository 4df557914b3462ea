//! What is kept and told of changes: the history over restarts and within its limits, how things stand, and the last good
//! configuration as a start finds it again.

use std::time::Duration;

use jiff::Timestamp;
use plba_contracts::BoxError;
use plba_contracts::config::{ConfigProvider, ProvidedValue};
use plba_contracts::health::Health;
use plba_contracts::metrics::Metrics;
use serde_json::{Value, json};

use super::*;
use crate::config::change::{
    ChangeKind, ConfigRecords, ConfigStart, HistoryEntry, LastGood, MAXIMUM_ENTRIES, ReloadOutcome,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A table of settings; without any workers it is down.
struct Table(AtomicU32);

#[async_trait::async_trait]
impl ConfigProvider for Table {
    fn name(&self) -> &str {
        "settings table"
    }

    async fn load(&self) -> Result<Vec<ProvidedValue>, BoxError> {
        let workers = match self.0.load(Ordering::Relaxed) {
            0 => return Err("connection refused".into()),
            workers => workers,
        };
        let value = |key: &str, value: Value, place: &str| ProvidedValue {
            path: vec!["bot".to_owned(), key.to_owned()],
            value,
            place: place.to_owned(),
        };
        Ok(vec![
            value("workers", workers.into(), "row 17"),
            value("replies", json!({ "from": "shop@example.com", "copies": 2 }), "row 18"),
        ])
    }
}

struct Kept {
    directory: Directory,
    manager: Arc<ConfigurationManager>,
    records: Arc<ConfigRecords>,
}

/// A process that starts in this directory and keeps what happens.
async fn started(directory: Directory, doubt: Option<StartDoubt>) -> Kept {
    let manager = ConfigurationManager::load((directory.definitions)(), directory.sources.clone()).await;
    let manager = Arc::new(manager.unwrap_or_else(|report| panic!("{report}")));
    let start = ConfigStart {
        directory: &directory.path,
        application: "bot",
        manager: &manager,
        doubt: doubt.as_ref(),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let records = ConfigRecords::begin(&start, clock, &Metrics::default()).unwrap();
    manager.observe(Arc::<ConfigRecords>::clone(&records));
    Kept {
        directory,
        manager,
        records,
    }
}

impl Kept {
    async fn change(&self, text: &str) -> ReloadOutcome {
        fs::write(self.directory.path.join("bot.toml"), text).unwrap();
        reload(&self.manager).await
    }

    /// The process ends, and another one begins.
    async fn restarted(self) -> Self {
        self.records.settle(PATIENCE).await;
        started(self.directory, None).await
    }

    fn kinds(&self) -> Vec<(ChangeKind, u64, u32)> {
        let told = |entry: HistoryEntry| (entry.what, entry.generation, entry.times);
        self.records.history(usize::MAX).into_iter().map(told).collect()
    }
}

#[tokio::test]
async fn the_history_tells_what_became_of_each_change_over_restarts() {
    let directory = Directory::new().file("bot.toml", "[bot]\nworkers = 5\n");
    let kept = started(directory, None).await;
    kept.change("[bot]\nworkers = 6\npassword = 'hunter2'\n").await;
    kept.change("[bot]\nworkers = 0\npassword = 'hunter2'\n").await;
    kept.change("[bot]\nworkers = 0\npassword = 'hunter2'\n").await;
    kept.change("[bot]\nworkers = 6\npassword = 'hunter2'\n").await;
    kept.change("[bot]\nworkers = 7\npassword = 'hunter2'\n").await;
    let kept = kept.restarted().await.restarted().await;
    use ChangeKind::{Applied, Rejected, Started};
    assert_eq!(
        kept.kinds(),
        [
            (Started, 1, 2),
            (Applied, 3, 1),
            (Rejected, 2, 2),
            (Applied, 2, 1),
            (Started, 1, 1)
        ]
    );
    let history = kept.records.history(3);
    assert!(history[1].proven, "without a trial it needs no proof");
    assert_eq!(history[1].diff.to_string().lines().count(), 1, "{}", history[1]);
    assert_eq!(history[2].stage.as_deref(), Some("check"));
    let reason = history[2].reason.as_deref().unwrap();
    assert!(reason.contains("between 1 and 64 workers are possible"), "{reason}");
    let file = fs::read_to_string(kept.directory.path.join("config-history.jsonl")).unwrap();
    assert!(!file.contains("hunter2") && file.contains("bot.password"), "{file}");
}

#[tokio::test]
async fn the_history_has_limits_and_passes_over_what_it_cannot_read() {
    let directory = Directory::new().file("bot.toml", "[bot]\n");
    let kept = started(directory, None).await;
    for number in 0..MAXIMUM_ENTRIES as u64 + 10 {
        kept.change(&format!("[bot]\nworkers = {}\n", 10 + number % 50)).await;
    }
    let kept = kept.restarted().await;
    assert_eq!(kept.kinds().len(), MAXIMUM_ENTRIES);
    let path = kept.directory.path.join("config-history.jsonl");
    kept.records.settle(PATIENCE).await;
    let mut text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), MAXIMUM_ENTRIES);
    let newer = text.lines().next().unwrap().replace("\"version\":1", "\"version\":2");
    text.insert_str(0, &format!("{newer}\nnot json\n"));
    fs::write(&path, text).unwrap();
    let kept = kept.restarted().await;
    assert_eq!(kept.kinds().len(), MAXIMUM_ENTRIES);
    assert_eq!(kept.kinds()[0], (ChangeKind::Started, 1, 2));
}

#[tokio::test]
async fn a_refused_change_is_a_problem_until_what_is_written_runs() {
    let directory = Directory::new().file("bot.toml", "[bot]\nworkers = 5\n");
    let kept = started(directory, None).await;
    assert_eq!(kept.records.health(), Health::Ok);
    let outcome = kept.change("[bot]\nworkers = 0\nsorce = 'x'\n").await;
    assert!(outcome.is_rejected());
    let standing = kept.records.standing();
    let problem = kept.directory.relative(standing.problem.as_deref().unwrap());
    assert_eq!(
        problem,
        "the latest change was refused: bot.toml:2:11: bot.workers: between 1 and 64 workers are possible (and 1 more)"
    );
    assert_eq!(kept.records.health(), Health::degraded(standing.problem.unwrap()));
    assert_eq!((standing.generation, standing.last_accepted), (1, None));
    // The same as before is written again: nothing to do, and nothing wrong any more.
    kept.change("[bot]\nworkers = 5\n").await;
    assert_eq!(kept.records.health(), Health::Ok);
    assert!(kept.records.standing().last_rejected.is_some(), "it is still told");
    kept.change("[bot]\nworkers = 6\n").await;
    let standing = kept.records.standing();
    assert_eq!(
        (standing.generation, standing.proven, standing.problem),
        (2, true, None)
    );
    assert_eq!(standing.last_accepted.unwrap().triggers, ["SIGHUP"]);
}

#[tokio::test]
async fn a_provider_that_is_down_is_told_of() {
    let mut directory = Directory::new().file("bot.toml", "[bot]\n");
    let table = Arc::new(Table(AtomicU32::new(7)));
    directory.sources.providers = vec![Arc::<Table>::clone(&table)];
    let kept = started(directory, None).await;
    table.0.store(0, Ordering::Relaxed);
    kept.change("[bot]\npace = 'fast'\n").await;
    let told = "settings table is down, what it gave last counts: can't be read: connection refused";
    assert_eq!(kept.records.health(), Health::degraded(told));
    table.0.store(8, Ordering::Relaxed);
    kept.change("[bot]\npace = 'fast'\n").await;
    assert_eq!(kept.records.health(), Health::Ok);
}

#[tokio::test]
async fn the_last_good_configuration_brings_back_files_and_providers_with_their_places() {
    let mut directory = Directory::new()
        .file(
            "conf.d/bot.toml",
            "[bot]\nworkers = 5\nsource = 'maildir:inbox'\npassword = 'hunter2'\n",
        )
        .variable("PLBA__BOT__PACE", "fast");
    directory.sources.files = vec![directory.path.join("conf.d")];
    directory.sources.providers = vec![Arc::new(Table(AtomicU32::new(7)))];
    let kept = started(directory, None).await;
    let good = kept.manager.current();
    let mut transactions = Transactions::new(Arc::clone(&kept.manager), Arc::new(SystemClock::new()), Vec::new());
    transactions.prove().await;
    kept.records.settle(PATIENCE).await;

    let Kept { mut directory, .. } = kept;
    fs::write(directory.path.join("conf.d/bot.toml"), "[bot\n").unwrap();
    directory.sources.providers = vec![Arc::new(Table(AtomicU32::new(0)))];
    directory.sources.environment[0].1 = "slow".into();
    assert!(
        ConfigurationManager::load(definitions(), directory.sources.clone())
            .await
            .is_err()
    );
    let last = Arc::new(LastGood::read(&directory.path, "bot").unwrap());
    let manager = ConfigurationManager::load_kept(definitions(), directory.sources.clone(), last).await;
    let again = manager.unwrap_or_else(|report| panic!("{report}")).current();
    let changes = ConfigDiff::between(&good, &again);
    let changed: Vec<_> = changes.changes.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(changed, ["bot.pace"], "the environment is as it is now");
    let origin = |key: &str| again.explain(key).unwrap().origin.to_string();
    assert_eq!(origin("bot.workers"), "settings table: row 17");
    assert_eq!(origin("bot.replies.from"), "settings table: row 18");
    assert!(
        origin("bot.source").ends_with("conf.d/bot.toml:3:10"),
        "{}",
        origin("bot.source")
    );
    let bot = again.typed::<Bot>("bot").unwrap();
    assert_eq!(bot.password.as_ref().unwrap().expose(), "hunter2");
    assert_eq!(
        bot.source.path(),
        Some(directory.path.join("conf.d/inbox").to_str().unwrap())
    );
}

#[tokio::test]
async fn a_last_good_configuration_that_cannot_be_trusted_is_not_taken() {
    let kept = started(Directory::new().file("bot.toml", "[bot]\n"), None).await;
    let mut transactions = Transactions::new(Arc::clone(&kept.manager), Arc::new(SystemClock::new()), Vec::new());
    transactions.prove().await;
    kept.records.settle(PATIENCE).await;
    let directory = &kept.directory.path;
    LastGood::read(directory, "bot").unwrap();
    let refused = |application: &str| LastGood::read(directory, application).unwrap_err().to_string();
    assert!(refused("shop").ends_with("it is that of bot"), "{}", refused("shop"));
    let path = directory.join("config-last-good.json");
    let good = fs::read_to_string(&path).unwrap();
    for (text, reason) in [
        (
            good.replace("\"version\":1", "\"version\":2"),
            "a newer version of this program has written it",
        ),
        (good[..good.len() / 2].to_owned(), "EOF while parsing"),
        (" ".repeat(17 * 1024 * 1024), "it is not what this program writes"),
    ] {
        fs::write(&path, text).unwrap();
        assert!(refused("bot").contains(reason), "{}", refused("bot"));
    }
    fs::remove_file(&path).unwrap();
    assert!(refused("bot").starts_with("there is none yet"), "{}", refused("bot"));
}

#[tokio::test]
async fn an_entry_is_told_in_lines() {
    let kept = started(
        Directory::new().file("bot.toml", "[bot]\n"),
        Some(StartDoubt::LastGood("bot.toml:1:1: oh\n\n1 fault".into())),
    )
    .await;
    let problem = kept.records.standing().problem.unwrap();
    assert_eq!(
        problem,
        "the last good configuration runs, for what is written is wrong: bot.toml:1:1: oh"
    );
    kept.change("[bot]\nworkers = 9\n").await;
    let mut latest = kept.records.history(1);
    latest[0].at = Timestamp::UNIX_EPOCH;
    let told = kept.directory.relative(&latest[0].to_string());
    assert_eq!(
        told,
        "1970-01-01T00:00:00Z  applied: configuration 2 (SIGHUP)\n    bot.workers: 4 → 9  # bot.toml:2:11\n"
    );
    assert_eq!(kept.records.health(), Health::Ok);
}
