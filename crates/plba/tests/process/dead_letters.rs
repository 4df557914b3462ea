//! Work that is given up: dead letters with their history, listed, retried and dropped, running and not running; and work
//! that takes the process with it.

use rustix::process::Signal;
use serde_json::Value;

use crate::application::{Application, Home, drop_work, example, lies_there};

fn letters(home: &Home) -> Vec<Value> {
    home.ask(&["dead", "list"])["letters"].as_array().unwrap().clone()
}

fn letter(home: &Home, id: &str) -> Option<Value> {
    letters(home).into_iter().find(|letter| letter["id"] == id)
}

/// Waits until this work is dead with so many entries in its history.
fn wait_for_letter(home: &Home, app: &mut Application, id: &str, entries: usize) -> Value {
    app.wait(&format!("{id} to be dead after {entries}"), |_| {
        letter(home, id).filter(|letter| letter["history"].as_array().map(Vec::len) == Some(entries))
    })
}

#[test]
fn dead_letters_are_listed_retried_and_dropped_running_and_not_running() {
    let home = example("faults", "dead", &["faults.attempts=2"]);
    drop_work(&home, &["fails.1", "panics.1"]);
    let mut app = home.start(&[]);
    let fails = wait_for_letter(&home, &mut app, "spool/fails.1", 2);
    let panics = wait_for_letter(&home, &mut app, "spool/panics.1", 2);
    assert_eq!(
        (&fails["deliveries"], &fails["queue"]),
        (&2.into(), &"fails".into()),
        "{fails}"
    );
    for (letter, says) in [
        (&fails, "the warehouse does not answer"),
        (&panics, "the parcel is empty"),
    ] {
        assert!(letter["reason"].as_str().unwrap().contains(says), "{letter}");
        for attempt in letter["history"].as_array().unwrap() {
            assert!(
                attempt["reason"].as_str().unwrap().contains(says) && attempt["at"].is_string(),
                "{letter}"
            );
        }
    }
    assert!(home.text(&["dead", "list"]).contains("spool/fails.1"));
    assert!(lies_there(&home, "fails.1"), "work that is given up keeps its file");

    // Running: retried, it fails as before, on top of its history.
    assert_eq!(home.ask(&["dead", "retry", "spool/fails.1"])["count"], 1);
    wait_for_letter(&home, &mut app, "spool/fails.1", 4);
    assert_eq!(home.ask(&["dead", "drop", "spool/panics.1"])["count"], 1);
    assert_eq!(letter(&home, "spool/panics.1"), None);
    assert_eq!(app.stop(), Some(0), "{}", app.log());

    // Not running: the same commands, on what the state directory keeps.
    assert_eq!(
        letters(&home).len(),
        1,
        "the dropped one is not there, the other one is"
    );
    let unknown = home.run(&["dead", "retry", "spool/panics.1"]);
    let told = String::from_utf8_lossy(&unknown.stderr);
    assert!(
        unknown.status.code() == Some(1) && told.contains("no dead letter has the id spool/panics.1"),
        "{told}"
    );
    assert_eq!(home.ask(&["dead", "retry", "spool/fails.1"])["count"], 1);
    assert!(letters(&home).is_empty(), "it waits for the next start");
    let mut app = home.start(&[]);
    wait_for_letter(&home, &mut app, "spool/fails.1", 6);
    assert_eq!(app.stop(), Some(0), "{}", app.log());
    assert_eq!(home.ask(&["dead", "drop", "--all"])["count"], 1);
    assert!(letters(&home).is_empty());

    // What was dropped is not taken in again, though its file still lies there.
    let mut app = home.start(&[]);
    drop_work(&home, &["good.1"]);
    app.wait("good.1", |_| (!lies_there(&home, "good.1")).then_some(()));
    assert!(lies_there(&home, "fails.1") && lies_there(&home, "panics.1"));
    assert!(
        !app.log().contains("fails.1") && !app.log().contains("panics.1"),
        "{}",
        app.log()
    );
}

#[test]
fn work_that_kills_its_process_ends_as_a_dead_letter_and_not_as_a_crash_loop() {
    const CRASHES: usize = 3;
    let home = example("faults", "crash", &["faults.crashes=3"]);
    drop_work(&home, &["aborts.1"]);
    for crash in 1..=CRASHES {
        let mut app = home.start(&[]);
        let ended = app.end();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(
            ended.signal(),
            Some(Signal::ABORT.as_raw()),
            "crash {crash}: {ended:?}\n{}",
            app.log()
        );
    }
    drop_work(&home, &["good.1"]);
    let mut app = home.start(&[]);
    app.wait("good.1", |_| (!lies_there(&home, "good.1")).then_some(()));
    let dead = wait_for_letter(&home, &mut app, "spool/aborts.1", 1);
    assert_eq!(dead["history"][0]["how"], "crashed", "{dead}");
    assert!(dead["reason"].as_str().unwrap().starts_with("3 processes"), "{dead}");
    assert!(
        !app.log().contains("task=spool/aborts.1"),
        "it is not handed out again:\n{}",
        app.log()
    );
    assert_eq!(app.stop(), Some(0), "{}", app.log());
    assert_eq!(letters(&home).len(), 1, "it is kept");
}
