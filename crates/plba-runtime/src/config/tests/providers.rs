//! Providers that are down, slow, broken or talkative while the process runs.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::config::{ConfigProvider, ProvidedValue};
use tokio::time::Instant;

use super::*;
use crate::config::change::follow_providers;

/// How a table answers.
#[derive(Clone, Copy, PartialEq)]
enum Answers {
    Workers(u32),
    Fails,
    Panics,
    Never,
}

struct Table {
    answers: Mutex<Answers>,
    /// Says all the time that it has changed.
    talkative: bool,
}

#[async_trait]
impl ConfigProvider for Table {
    fn name(&self) -> &str {
        "table"
    }

    async fn load(&self) -> Result<Vec<ProvidedValue>, BoxError> {
        let answers = *self.answers.lock().unwrap();
        match answers {
            Answers::Workers(workers) => Ok(vec![ProvidedValue {
                path: vec!["bot".into(), "workers".into()],
                value: workers.into(),
                place: "row 1".into(),
            }]),
            Answers::Fails => Err("connection refused".into()),
            Answers::Panics => panic!("the table has fallen over"),
            Answers::Never => std::future::pending().await,
        }
    }

    async fn changed(&self) {
        if !self.talkative {
            std::future::pending().await
        }
    }
}

async fn with(table: &Arc<Table>) -> (Directory, Arc<ConfigurationManager>) {
    let mut directory = Directory::new().file("bot.toml", "[bot]\npace = 'slow'\n");
    directory
        .sources
        .providers
        .push(Arc::clone(table) as Arc<dyn ConfigProvider>);
    let manager = ConfigurationManager::load(definitions(), directory.sources.clone()).await;
    (directory, Arc::new(manager.unwrap()))
}

fn table(talkative: bool) -> Arc<Table> {
    let answers = Mutex::new(Answers::Workers(6));
    Arc::new(Table { answers, talkative })
}

#[tokio::test(start_paused = true)]
async fn one_that_is_down_is_stood_in_for_by_what_it_gave_last() {
    let table = table(false);
    let (directory, manager) = with(&table).await;
    let bot = || manager.current().typed::<Bot>("bot").unwrap();
    for (answers, reason) in [
        (Answers::Fails, "can't be read: connection refused"),
        (Answers::Panics, "can't be read: panic: the table has fallen over"),
        (Answers::Never, "no answer within 10 s"),
    ] {
        *table.answers.lock().unwrap() = answers;
        fs::write(directory.path.join("bot.toml"), "[bot]\npace = 'fast'\n").unwrap();
        assert!(!reload(&manager).await.is_rejected());
        assert!(matches!(bot().pace, Pace::Fast), "the file counts");
        assert_eq!(bot().workers, 6, "and so does what the table gave");
        assert_eq!(manager.providers_down(), [("table".to_owned(), reason.to_owned())]);
        fs::write(directory.path.join("bot.toml"), "[bot]\npace = 'slow'\n").unwrap();
        assert!(!reload(&manager).await.is_rejected());
        assert_eq!(bot().workers, 6, "however often it is down");
    }
    *table.answers.lock().unwrap() = Answers::Workers(7);
    assert!(!reload(&manager).await.is_rejected());
    assert_eq!((bot().workers, manager.providers_down()), (7, Vec::new()));
}

#[tokio::test]
async fn one_that_is_down_at_the_start_is_a_fault() {
    let table = table(false);
    *table.answers.lock().unwrap() = Answers::Panics;
    let mut directory = Directory::new();
    directory.sources.providers.push(table);
    let report = ConfigurationManager::load(definitions(), directory.sources.clone())
        .await
        .unwrap_err();
    assert!(report.to_string().contains("can't be read: panic"), "{report}");
}

/// Carries out what is asked for; gives how often something was asked for within a minute.
async fn reloads_in_a_minute(manager: &Arc<ConfigurationManager>) -> u32 {
    let count = AtomicU32::new(0);
    let serve = async {
        loop {
            let request = manager.requests().next().await;
            assert_eq!(request.triggers, [Trigger::Provider { name: "table".into() }]);
            count.fetch_add(1, Ordering::Relaxed);
            let outcome = reload(manager).await;
            request.answer(&outcome);
        }
    };
    let began = Instant::now();
    tokio::select! {
        never = follow_providers(Arc::clone(manager)) => match never {},
        () = serve => unreachable!(),
        () = tokio::time::sleep_until(began + Duration::from_secs(60)) => count.load(Ordering::Relaxed),
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_down_is_asked_again_and_a_talkative_one_does_not_keep_the_process_busy() {
    let quiet = table(false);
    let (_directory, manager) = with(&quiet).await;
    assert_eq!(reloads_in_a_minute(&manager).await, 0);
    *quiet.answers.lock().unwrap() = Answers::Fails;
    reload(&manager).await;
    let reloads = reloads_in_a_minute(&manager).await;
    assert!((1..=2).contains(&reloads), "{reloads}");
    *quiet.answers.lock().unwrap() = Answers::Workers(9);
    let reloads = reloads_in_a_minute(&manager).await;
    assert_eq!(
        (reloads, manager.providers_down()),
        (1, Vec::new()),
        "it answers, so it is left alone"
    );
    assert_eq!(manager.current().typed::<Bot>("bot").unwrap().workers, 9);

    let talkative = table(true);
    let (_directory, manager) = with(&talkative).await;
    let reloads = reloads_in_a_minute(&manager).await;
    assert!((30..=61).contains(&reloads), "{reloads}");
}
