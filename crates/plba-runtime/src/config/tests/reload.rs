//! Reload as a transaction: what it publishes, and that nothing changes when it is refused. Parts that follow, and
//! probation, are tested in `change`.

use plba_contracts::config::Live;

use super::*;
use crate::config::change::Stage;

fn write(directory: &Directory, text: &str) {
    fs::write(directory.path.join("bot.toml"), text).unwrap();
}

async fn manager(directory: &Directory) -> Arc<ConfigurationManager> {
    let manager = ConfigurationManager::load(definitions(), directory.sources.clone()).await;
    Arc::new(manager.unwrap())
}

fn workers(manager: &ConfigurationManager) -> u32 {
    manager.current().typed::<Bot>("bot").unwrap().workers
}

#[tokio::test]
async fn a_good_file_is_published_with_the_next_generation() {
    let directory = Directory::new().file("bot.toml", "[bot]\nworkers = 5\n");
    let manager = manager(&directory).await;
    let mut published = manager.subscribe();
    let before = manager.current();
    write(&directory, "# moved\n[bot]\nworkers = 6\n[platform]\nname = \"\"\n");
    let ReloadOutcome::Applied {
        generation,
        changed,
        diff,
    } = reload(&manager).await
    else {
        panic!("it is another configuration")
    };
    assert_eq!((generation, changed), (2, vec!["bot".to_owned()]));
    let keys: Vec<_> = diff.changes.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(keys, ["bot.workers"]);
    assert_eq!(workers(&manager), 6);
    assert_eq!(before.typed::<Bot>("bot").unwrap().workers, 5);
    assert!(published.has_changed().unwrap());
    assert_eq!(published.borrow_and_update().generation(), 2);
}

#[tokio::test]
async fn the_same_values_elsewhere_are_no_new_generation_but_new_origins() {
    let directory = Directory::new().file("bot.toml", "[bot]\nworkers = 5\n");
    let manager = manager(&directory).await;
    write(&directory, "# moved\n\n[bot]\nworkers = 5\n");
    assert_eq!(reload(&manager).await, ReloadOutcome::Unchanged { generation: 1 });
    let explained = manager.current().explain("bot.workers").unwrap().to_string();
    assert!(explained.contains("bot.toml:4:11"), "{explained}");
}

#[tokio::test]
async fn a_bad_file_changes_nothing() {
    let directory = Directory::new().file("bot.toml", "[bot]\nworkers = 5\n");
    let manager = manager(&directory).await;
    let before = manager.current();
    for broken in [
        "",
        "[bot]\nworkers = ",
        "[bot]\nworkers = 0",
        "[bto]\nworkers = 1",
        "[bot]\nworkers = '5'",
    ] {
        write(&directory, broken);
        let ReloadOutcome::Rejected {
            generation,
            stage,
            reason,
            faults,
        } = reload(&manager).await
        else {
            panic!("{broken:?} is wrong")
        };
        assert_eq!((generation, stage, faults.len()), (1, Stage::Check, 1));
        let end = "1 fault in the configuration; the running configuration (generation 1) stays";
        assert!(reason.ends_with(end), "{reason}");
        assert!(Arc::ptr_eq(&before, &manager.current()));
    }
    fs::remove_file(directory.path.join("bot.toml")).unwrap();
    assert!(reload(&manager).await.is_rejected());
    assert!(manager.read().await.is_err());
    write(&directory, "[bot]\nworkers = 7\n");
    assert_eq!(manager.read().await.unwrap().typed::<Bot>("bot").unwrap().workers, 7);
    assert_eq!(workers(&manager), 5, "what is only read is not published");
    assert!(matches!(
        reload(&manager).await,
        ReloadOutcome::Applied { generation: 2, .. }
    ));
}

#[tokio::test]
async fn who_follows_a_section_hears_of_that_one_only() {
    let directory = Directory::new().file("bot.toml", "[bot]\nworkers = 5\n[platform]\nname = \"a\"\n");
    let manager = manager(&directory).await;
    let mut bot = Live::<Bot>::new(manager.published(), "bot").unwrap();
    let mut process = Live::<Process>::new(manager.published(), "platform").unwrap();
    write(&directory, "[bot]\nworkers = 5\n[platform]\nname = \"b\"\n");
    reload(&manager).await;
    assert_eq!(process.changed().await.name, "b");
    {
        let heard = bot.changed();
        tokio::pin!(heard);
        assert!(futures_util::poll!(&mut heard).is_pending(), "its section is the same");
        write(&directory, "[bot]\nworkers = 6\n[platform]\nname = \"b\"\n");
        reload(&manager).await;
        assert_eq!(heard.await.workers, 6);
    }
    let missed = bot.changed();
    drop(missed);
    write(&directory, "[bot]\nworkers = 7\n[platform]\nname = \"b\"\n");
    reload(&manager).await;
    assert_eq!(bot.changed().await.workers, 7, "a dropped wait has lost nothing");
    assert_eq!(bot.current().workers, 7);
    assert!(
        Live::<Process>::new(manager.published(), "bot").is_err(),
        "of another type"
    );
}

#[tokio::test]
async fn who_is_made_of_the_next_configuration_sees_it_before_the_others_do() {
    let directory = Directory::new().file("bot.toml", "[bot]\nworkers = 5\n");
    let manager = manager(&directory).await;
    let old = Live::<Bot>::new(manager.published(), "bot").unwrap();
    write(&directory, "[bot]\nworkers = 6\n");
    let next = Arc::new(manager.read().await.unwrap());
    let mut new = Live::<Bot>::new(manager.published_with(&next), "bot").unwrap();
    assert_eq!((old.current().workers, new.current().workers), (5, 6));
    reload(&manager).await;
    assert_eq!((old.current().workers, new.changed().await.workers), (6, 6));
    write(&directory, "[bot]\nworkers = 7\n");
    let heard = tokio::spawn(async move { new.changed().await.workers });
    reload(&manager).await;
    assert_eq!(heard.await.unwrap(), 7);
}

/// What two modules read of one generation always belongs together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sections_are_never_read_torn() {
    const CHANGES: u32 = 100;
    let text = |count: u32| format!("[bot]\nworkers = {count}\n[platform]\nlimit = {count}.0\n");
    let directory = Directory::new().file("bot.toml", text(1));
    let manager = manager(&directory).await;
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let bot = Live::<Bot>::new(manager.published(), "bot").unwrap();
            let process = Live::<Process>::new(manager.published(), "platform").unwrap();
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let (mut reads, mut seen) = (0_u64, std::collections::BTreeSet::new());
                while !over.load(Ordering::Relaxed) {
                    let generation = bot.generation();
                    let workers = bot.of(generation.as_ref()).workers;
                    let limit = process.of(generation.as_ref()).limit;
                    assert_eq!(
                        limit,
                        Some(f64::from(workers)),
                        "torn in generation {}",
                        generation.number()
                    );
                    reads += 1;
                    seen.insert(workers);
                }
                (reads, seen.len())
            })
        })
        .collect();
    for count in 2..=CHANGES {
        write(&directory, &text(count % 60 + 1));
        assert!(!reload(&manager).await.is_rejected());
    }
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        let (reads, seen) = reader.join().unwrap();
        println!("{reads} reads, none torn, over {seen} generations");
        assert!(reads > 0 && seen > 1);
    }
}
