//! Operators act on workers by command and over HTTP: pause, resume, scale, restart; each action is recorded, and the
//! supervisor's events tell what came of it.

use std::fs;

use serde_json::{Value, json};

use crate::application::{Application, Home, example, named};

fn ready(test: &str) -> (Home, Application) {
    let home = example("faults", test, &[]);
    let mut app = home.start(&[]);
    app.wait("ready", |app| (app.probe("/readyz") == Some(200)).then_some(()));
    (home, app)
}

fn state(home: &Home, worker: &str) -> Value {
    named(&home.ask(&["workers"]), worker)["state"].clone()
}

/// Each action of the audit log with its outcome.
fn audited(home: &Home) -> Vec<(String, String)> {
    let text = fs::read_to_string(home.join("var/audit.jsonl")).unwrap();
    let word = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
    let read = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        (word(&record, "action"), word(&record, "outcome"))
    };
    text.lines().map(read).collect()
}

#[test]
fn a_worker_is_paused_resumed_scaled_and_restarted_by_command() {
    let (home, mut app) = ready("operators");
    let paused = home.ask(&["worker", "pause", "good"]);
    assert_eq!(
        (&paused["outcome"], &paused["state"]),
        (&json!("done"), &json!("paused")),
        "{paused}"
    );
    assert_eq!(state(&home, "good"), "paused");
    assert_eq!(home.ask(&["worker", "resume", "good"])["state"], "running");
    let scaled = home.ask(&["worker", "scale", "good", "--instances", "3"]);
    assert_eq!(
        (&scaled["state"], &scaled["instances"]),
        (&json!("running"), &json!(3)),
        "{scaled}"
    );
    assert_eq!(
        home.ask(&["worker", "scale", "good", "--instances", "1"])["instances"],
        1
    );
    assert!(home.text(&["worker", "restart", "good"]).contains("done"));
    assert_eq!(named(&home.ask(&["workers"]), "good")["restarts"], 2);

    for (words, told) in [
        (&["worker", "pause", "goood"][..], "there is no worker \"goood\""),
        (&["worker", "pause"], "the name of one worker is needed"),
        (&["worker", "scale", "good"], "instances takes the number of instances"),
        (
            &["worker", "scale", "good", "--instances", "0"],
            "pause it to have none",
        ),
    ] {
        let refused = home.run(words);
        let message = String::from_utf8_lossy(&refused.stderr);
        assert!(
            refused.status.code() == Some(1) && message.contains(told),
            "{words:?}: {message}"
        );
    }
    let outcomes = audited(&home);
    let done = ["pause", "resume", "scale", "scale", "restart"].map(|verb| (format!("worker.{verb}"), "done".into()));
    assert_eq!(outcomes[..5], done, "{outcomes:?}");
    assert_eq!(outcomes.len(), 9, "{outcomes:?}");
    assert!(
        outcomes[5..].iter().all(|(_, outcome)| outcome == "failed"),
        "{outcomes:?}"
    );
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}

#[test]
fn events_are_told_the_newest_first() {
    let (home, mut app) = ready("events");
    home.ask(&["worker", "pause", "good"]);
    let events = home.ask(&["events", "--limit", "2"]);
    let newest = &events[0];
    assert_eq!(events.as_array().map(Vec::len), Some(2), "{events}");
    assert_eq!(
        (&newest["event"], &newest["worker"], &newest["state"]),
        (&json!("moved"), &json!("good"), &json!("paused")),
        "{events}"
    );
    let all = home.ask(&["events", "--limit", "1000"]);
    assert_eq!(
        all.as_array().and_then(|all| all.last()).unwrap()["event"],
        "added",
        "{all}"
    );
    let (status, over_http) = app.get("/api/v1/views/events?limit=1").unwrap();
    assert_eq!((status, &over_http[0]["event"]), (200, &json!("moved")));
    assert_eq!(
        app.get("/api/v1/views/events?limit=0").map(|(status, _)| status),
        Some(400)
    );
    assert!(home.text(&["events"]).contains("paused"));
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}

#[test]
fn the_start_is_told_step_by_step() {
    let home = example("faults", "startup", &["faults.opening=300ms"]);
    let mut app = home.start(&[]);
    app.wait("ready", |app| (app.probe("/readyz") == Some(200)).then_some(()));
    let steps = home.ask(&["startup"]);
    let names = steps
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["name"].as_str().unwrap());
    let platform: Vec<_> = names.clone().take(7).collect();
    let expected = [
        "configuration",
        "state directory",
        "logging",
        "control plane",
        "services",
        "health",
        "workers",
    ];
    assert_eq!(platform, expected, "{steps}");
    assert!(named(&steps, "services")["took"].as_f64() >= Some(0.3), "{steps}");
    assert!(named(&steps, "good")["took"].is_f64() && names.count() == 14, "{steps}");
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}

#[test]
fn the_actions_are_listed_and_need_a_process() {
    let home = example("faults", "listed", &[]);
    let listed = home.text(&["--help"]);
    for action in [
        "worker pause",
        "worker resume",
        "worker restart",
        "worker scale",
        "dead retry",
    ] {
        assert!(listed.contains(action), "no {action} in {listed}");
    }
    assert!(home.text(&["worker", "scale", "--help"]).contains("--instances"));
    let refused = home.run(&["worker", "pause", "good"]);
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(
        refused.status.code() == Some(1) && message.contains("does not run in the state directory"),
        "{message}"
    );
    let unknown = home.run(&["worker", "explode", "good"]);
    let message = String::from_utf8_lossy(&unknown.stderr);
    assert!(
        unknown.status.code() == Some(2) && message.contains("worker pause"),
        "{message}"
    );
}
