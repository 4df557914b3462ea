//! Those who are asked before a change: deadlines, reasons, and who is not asked.

use super::*;

fn text(fault: &str) -> String {
    format!("[platform.config]\nprepare_timeout = '7s'\n[bakery]\nstock = 'bread'\nfault = '{fault}'\n")
}

#[tokio::test(start_paused = true)]
async fn a_reload_whose_subscriber_hangs_ends_at_its_deadline() {
    let mut town = Town::start(&text("")).await;
    town.write(&text("hang"));
    let (clock, configuration) = (Arc::clone(&town.clock), Arc::clone(&town.followers.configuration));
    let before = configuration.current();
    let mut transactions = Town::transactions(&town.followers, &mut town.modules, &clock, Vec::new());
    let began = Instant::now();
    let conclusion = transactions.reload(vec![Trigger::Signal]).await;
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(7) && took < Duration::from_millis(7_100),
        "{took:?}"
    );
    let ReloadOutcome::Rejected { stage, reason, .. } = conclusion.outcome else {
        panic!("it hangs")
    };
    assert_eq!(stage, Stage::Prepare);
    let says = "refused by shopkeeper: no answer within 7s (platform.config.prepare_timeout)";
    assert!(reason.starts_with(says), "{reason}");
    assert!(Arc::ptr_eq(&before, &configuration.current()));
}

#[tokio::test(start_paused = true)]
async fn who_refuses_is_told_with_the_reason_and_who_is_not_concerned_is_not_asked() {
    let mut town = Town::start(&text("")).await;
    let clock = Arc::clone(&town.clock);
    let (file, present) = (town.directory.join("town.toml"), Arc::clone(&town.present));
    let mut transactions = Town::transactions(&town.followers, &mut town.modules, &clock, Vec::new());
    fs::write(&file, text("refuse")).unwrap();
    let ReloadOutcome::Rejected { reason, .. } = transactions.reload(vec![Trigger::Signal]).await.outcome else {
        panic!("it was refused")
    };
    assert!(reason.contains("refused by shopkeeper: not on a Sunday"), "{reason}");
    // The other shop's keeper would refuse nothing, and is the only one who is asked.
    fs::write(&file, format!("{}[butchery]\nstock = 'ham'\n", text(""))).unwrap();
    let outcome = transactions.reload(vec![Trigger::Signal]).await.outcome;
    assert!(
        matches!(outcome, ReloadOutcome::Applied { generation: 2, .. }),
        "{outcome:?}"
    );
    let mut now = present.lock().unwrap().clone();
    now.sort();
    assert_eq!(now, ["bakery sells bread", "butchery sells ham"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_a_reload_works_at_once() {
    let mut town = Town::start(&text("")).await;
    town.write(&text("never starts"));
    let (clock, configuration) = (Arc::clone(&town.clock), Arc::clone(&town.followers.configuration));
    let parts = town.followers.with(&mut town.modules, Handle::current());
    let mut reloader = Reloader::new(Arc::clone(&configuration), clock, parts, ServiceManager::default());
    let began = Instant::now();
    let asked = configuration.requests().ask_and_wait(Trigger::Signal);
    let stopped = async {
        // Signals are heard, so the process is as free as this to go on.
        tokio::select! {
            never = reloader.run() => match never {},
            () = tokio::time::sleep(Duration::from_secs(2)) => configuration.requests().close(),
        }
        drop(reloader);
    };
    let (asked, ()) = tokio::join!(asked, stopped);
    assert_eq!(asked, Err(crate::config::change::RequestError::Stopping));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
