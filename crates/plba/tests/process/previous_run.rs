//! What a start knows of the run before it: how it ended, when, and what was in hand.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::application::{Application, Home, drop_work, example};

fn ready(home: &Home) -> Application {
    let mut app = home.start(&[]);
    app.wait("ready", |app| (app.probe("/readyz") == Some(200)).then_some(()));
    app
}

fn previous(home: &Home) -> Value {
    home.ask(&["status"])["previous_run"].clone()
}

#[test]
fn a_start_tells_whether_the_last_run_was_clean_killed_or_forced_and_what_it_had_in_hand() {
    let home = example("faults", "previous", &["platform.stop_budget=2s"]);
    let mut first = ready(&home);
    assert_eq!(previous(&home), Value::Null);
    assert!(!first.log().contains("the last run"), "{}", first.log());
    assert_eq!(first.stop(), Some(0), "{}", first.log());

    let mut second = ready(&home);
    let clean = previous(&home);
    assert_eq!(
        (&clean["how"], &clean["cause"]),
        (&json!("clean"), &json!("SIGTERM")),
        "{clean}"
    );
    assert_eq!(clean["events"][0]["event"], "stop_ended", "{clean}");
    second.wait_for_line("the last run stopped clean at");
    drop_work(&home, &["hangs.1"]);
    let journal = home.join("var/run.jsonl");
    second.wait("the journal to name what is in hand", |_| {
        let text = std::fs::read_to_string(&journal).ok()?;
        text.contains("spool/hangs.1").then_some(())
    });
    second.signal(Signal::KILL);
    second.end();

    let mut third = ready(&home);
    let killed = previous(&home);
    assert_eq!(killed["how"], "killed", "{killed}");
    assert_eq!(
        killed["in_hand"],
        json!([{ "worker": "hangs", "what": "spool/hangs.1" }]),
        "{killed}"
    );
    third.wait_for_line("with 1 task in hand");
    assert!(home.text(&["status"]).contains("the last run was killed at"));
    third.wait("work in hand", |app| {
        app.log().contains("task=spool/hangs.1").then_some(())
    });
    assert_eq!(third.stop(), Some(3), "{}", third.log());

    let mut fourth = ready(&home);
    let forced = previous(&home);
    assert_eq!(
        (&forced["how"], &forced["in_hand_count"]),
        (&json!("forced"), &json!(1)),
        "{forced}"
    );
    fourth.signal(Signal::KILL);
    fourth.end();
}

#[test]
fn a_start_that_failed_is_told_by_the_next_one() {
    let home = example("faults", "failed", &[]);
    // The spool can't be opened where a file lies in its place.
    std::fs::create_dir_all(home.join("var")).unwrap();
    std::fs::write(home.join("var/spool"), "").unwrap();
    let failed = home.run(&[]);
    assert_eq!(
        failed.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&failed.stderr)
    );
    std::fs::remove_file(home.join("var/spool")).unwrap();
    let mut app = ready(&home);
    let run = previous(&home);
    assert_eq!(run["how"], "start_failed", "{run}");
    assert!(
        run["cause"].as_str().is_some_and(|cause| cause.contains("spool")),
        "{run}"
    );
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}
