//! Reload as a transaction: all or nothing, with vetoes.

use std::sync::Arc;

use super::*;

fn write(directory: &Directory, text: &str) {
    fs::write(directory.path.join("bot.toml"), text).unwrap();
}

async fn manager(directory: &Directory) -> ConfigurationManager {
    ConfigurationManager::load(definitions(), directory.sources.clone())
        .await
        .unwrap()
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
    let outcome = manager.reload().await.unwrap();
    assert_eq!(
        outcome,
        PublishedReload {
            generation: 2,
            changed: vec!["bot".into()]
        }
    );
    assert_eq!(workers(&manager), 6);
    assert_eq!(before.typed::<Bot>("bot").unwrap().workers, 5);
    assert!(published.has_changed().unwrap());
    assert_eq!(published.borrow_and_update().generation(), 2);
    assert_eq!(
        manager.reload().await.unwrap(),
        PublishedReload {
            generation: 3,
            changed: vec![]
        }
    );
}

#[tokio::test]
async fn a_restored_configuration_differs_from_the_file_again() {
    let directory = Directory::new().file("bot.toml", "[bot]\nworkers = 5\n");
    let manager = manager(&directory).await;
    let before = manager.current();
    write(&directory, "[bot]\nworkers = 6\n");
    manager.reload().await.unwrap();
    manager.restore(Arc::clone(&before));
    assert!(Arc::ptr_eq(&before, &manager.current()));
    assert_eq!(
        manager.reload().await.unwrap(),
        PublishedReload {
            generation: 3,
            changed: vec!["bot".into()]
        }
    );
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
        let report = manager.reload().await.unwrap_err();
        assert!(
            report
                .to_string()
                .ends_with("1 fault in the configuration; the running configuration (generation 1) stays")
        );
        assert!(Arc::ptr_eq(&before, &manager.current()));
    }
    fs::remove_file(directory.path.join("bot.toml")).unwrap();
    assert!(manager.reload().await.is_err());
    write(&directory, "[bot]\nworkers = 7\n");
    assert_eq!(manager.reload().await.unwrap().generation, 2);
}

#[tokio::test]
async fn every_subscriber_may_veto() {
    let directory = Directory::new().file("bot.toml", "[bot]\nworkers = 5\n");
    let manager = manager(&directory).await;
    manager.on_reload("supervisor", |running, next| {
        let workers = |configuration: &Configuration| configuration.typed::<Bot>("bot").map(|bot| bot.workers);
        match workers(next)? < workers(running)? {
            true => Err("workers can't be taken away".into()),
            false => Ok(()),
        }
    });
    manager.on_reload("shop", |_, next| match next.typed::<Bot>("bot")?.workers {
        1 => panic!("one worker"),
        _ => Ok(()),
    });
    write(&directory, "[bot]\nworkers = 1\n");
    let report = manager.reload().await.unwrap_err().to_string();
    assert_eq!(
        report,
        "refused by supervisor: workers can't be taken away\n\nrefused by shop, which panicked\n\n2 faults in the configuration; \
         the running configuration (generation 1) stays"
    );
    assert_eq!(workers(&manager), 5);
    write(&directory, "[bot]\nworkers = 6\n");
    assert_eq!(manager.reload().await.unwrap().generation, 2);
}

#[tokio::test]
async fn simultaneous_reloads_follow_one_another() {
    let directory = Directory::new().file("bot.toml", "[bot]\nworkers = 5\n");
    let manager = manager(&directory).await;
    let (one, two, three) = tokio::join!(manager.reload(), manager.reload(), manager.reload());
    assert_eq!([one, two, three].map(|outcome| outcome.unwrap().generation), [2, 3, 4]);
}
