//! Overrides as operators use them: set, explained, listed, taken back and over, by command and over HTTP; over a restart, a
//! kill and without a process. And the configuration that is asked of a process whose file somebody has just broken.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::application::{Application, Home, example, named};

const GOOD: &str = "platform.workers.good.concurrency";

fn begin(test: &str, probation: &str) -> (Home, Application) {
    let home = example("faults", test, &[]);
    let file = format!("[platform.config]\nprobation = \"{probation}\"\nwatch = false\n");
    fs::write(home.join("bot.toml"), file).unwrap();
    let app = start(&home);
    (home, app)
}

fn start(home: &Home) -> Application {
    let mut app = home.start(&["--config", "bot.toml"]);
    app.wait("ready", |app| (app.probe("/readyz") == Some(200)).then_some(()));
    app
}

fn instances(home: &Home) -> usize {
    let workers = home.ask(&["workers"]);
    named(&workers, "good")["slots"].as_array().map_or(0, Vec::len)
}

fn kept(home: &Home) -> Value {
    match fs::read_to_string(home.join("var/config-overrides.json")) {
        Ok(text) => serde_json::from_str(&text).unwrap(),
        Err(_) => Value::Null,
    }
}

#[track_caller]
fn refused(home: &Home, code: i32, words: &[&str]) -> String {
    let output = home.run(words);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {told}");
    told
}

#[test]
fn an_override_changes_what_runs_outlives_it_and_is_taken_back() {
    let (home, mut app) = begin("overrides", "0s");
    let set = home.ask(&["config", "set", &format!("{GOOD}=3"), "--why", "sale"]);
    assert_eq!(
        (&set["outcome"], &set["changes"][0]["after"]),
        (&json!("applied"), &json!(3)),
        "{set}"
    );
    app.wait("three at work", |_| (instances(&home) == 3).then_some(()));
    let explained = home.text(&["config", "explain", GOOD]);
    assert!(
        explained.contains("override by control-token at 20") && explained.contains(": sale"),
        "{explained}"
    );
    let listed = home.ask(&["config", "overrides"]);
    assert_eq!(
        (&listed[0]["key"], &listed[0]["value"], &listed[0]["why"]),
        (&json!(GOOD), &json!(3), &json!("sale"))
    );
    let shown = home.text(&["config", "show"]);
    assert!(
        shown.contains("# what runs in process") && shown.contains("concurrency = 3  # override by"),
        "{shown}"
    );

    let (code, over_http) = app
        .act("config.set", &json!({ "values": { GOOD: 2 }, "for": "1h" }))
        .unwrap();
    assert_eq!((code, &over_http["outcome"]), (200, &json!("applied")), "{over_http}");
    let (_, listed) = app.get("/api/v1/views/config.overrides").unwrap();
    assert!(
        listed[0]["until"].is_string() && listed.as_array().map(Vec::len) == Some(1),
        "{listed}"
    );

    assert_eq!(app.stop(), Some(0), "{}", app.log());
    let shown = home.text(&["config", "show", "--config", "bot.toml"]);
    assert!(
        shown.contains("# what the next start would read") && shown.contains("concurrency = 2"),
        "{shown}"
    );
    let mut app = start(&home);
    assert_eq!(instances(&home), 2, "over a restart");
    let unset = home.text(&["config", "unset", GOOD]);
    assert!(
        unset.contains("configuration 2 runs:") && unset.contains("2 → "),
        "{unset}"
    );
    app.wait("one at work", |_| (instances(&home) == 1).then_some(()));
    assert_eq!(kept(&home), Value::Null);
    assert_eq!(home.text(&["config", "overrides"]), "none\n");
    let told = refused(&home, 2, &["config", "unset", GOOD]);
    assert!(
        told.contains("there is no override of") && told.contains("there are no overrides"),
        "{told}"
    );
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}

#[test]
fn what_is_wrong_is_refused_with_its_report_and_changes_nothing() {
    let (home, mut app) = begin("refused", "0s");
    home.ask(&["config", "set", &format!("{GOOD}=2")]);
    let before = fs::read(home.join("var/config-overrides.json")).unwrap();
    for (words, part) in [
        (&["config", "set", "faults.workers=0"][..], "faults.workers: "),
        (&["config", "set", "faults.wrokers=1"], "did you mean `workers`?"),
        (
            &["config", "set", "platform.workers.god.concurrency=1"],
            "did you mean `good`?",
        ),
        (
            &["config", "set", "platform.state_dir=x"],
            "`platform.state_dir` can't be set by an override",
        ),
        (&["config", "set", "platform.logging.level"], "write KEY=VALUE"),
        (
            &["config", "set", &format!("{GOOD}=4"), "--for", "soon"],
            "for takes a span of time",
        ),
        (
            &["config", "set", &format!("{GOOD}=4"), "--until", "2020-01-01T00:00:00Z"],
            "has passed; name a later moment",
        ),
        (
            &["config", "unset", "platform.workers.good"],
            "there is no override of `platform.workers.good`",
        ),
    ] {
        let told = refused(&home, 2, words);
        assert!(told.contains(part), "{words:?}: no {part} in:\n{told}");
        assert_eq!(
            fs::read(home.join("var/config-overrides.json")).unwrap(),
            before,
            "{words:?}"
        );
    }
    assert_eq!(instances(&home), 2);
    let (code, answer) = app
        .act("config.set", &json!({ "values": ["faults.workers=0"] }))
        .unwrap();
    assert_eq!(code, 400, "{answer}");
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}

#[test]
fn an_override_is_over_when_its_time_is() {
    let (home, mut app) = begin("expiry", "0s");
    home.ask(&["config", "set", &format!("{GOOD}=3"), "--for", "1500ms"]);
    assert_eq!(kept(&home)["overrides"].as_array().map(Vec::len), Some(1));
    app.wait("its end", |_| (kept(&home) == Value::Null).then_some(()));
    app.wait("one at work", |_| (instances(&home) == 1).then_some(()));
    assert!(
        app.log().contains(&format!("the override of {GOOD} is over")),
        "{}",
        app.log()
    );
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}

#[test]
fn a_process_that_is_killed_on_probation_comes_back_without_and_one_that_is_stopped_with() {
    let (home, mut app) = begin("probation", "10m");
    let set = home.text(&["config", "set", &format!("{GOOD}=3")]);
    assert!(set.contains("on probation for 10m"), "{set}");
    assert_eq!(kept(&home)["trial"].as_array().map(Vec::len), Some(1));
    app.kill();
    let mut app = start(&home);
    assert_eq!(instances(&home), 1);
    app.wait_for_line(&format!("the override of {GOOD} by control-token is not taken"));
    assert_eq!(kept(&home), Value::Null);
    home.ask(&["config", "set", &format!("{GOOD}=3")]);
    assert_eq!(app.stop(), Some(0), "{}", app.log());
    assert_eq!(kept(&home)["trial"], Value::Null);
    let mut app = start(&home);
    assert_eq!(instances(&home), 3);
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}

#[test]
fn a_secret_that_is_set_is_never_told() {
    let (home, mut app) = begin("secret", "0s");
    let secret = "hunter2-hunter2-hunter2-hunter2-hunter2";
    let told = home.text(&["config", "set", &format!("platform.control.token={secret}")]);
    assert!(told.contains("***") && !told.contains("hunter2"), "{told}");
    let file = home.join("var/config-overrides.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&file).unwrap().contains(secret));
    let audit = fs::read_to_string(home.join("var/audit.jsonl")).unwrap();
    assert!(
        audit.contains("platform.control.token=***") && !audit.contains("hunter2"),
        "{audit}"
    );
    app.signal(Signal::TERM);
    app.end();
    assert!(!app.log().contains("hunter2"), "{}", app.log());
    for words in [
        &["config", "overrides"][..],
        &["config", "overrides", "--json"],
        &["config", "show"],
        &["config", "show", "--json"],
        &["config", "explain", "platform.control.token", "--json"],
    ] {
        let told = home.text(words);
        assert!(told.contains("***") && !told.contains("hunter2"), "{words:?}: {told}");
    }
    home.text(&[
        "config",
        "set",
        "platform.control.token=hunter3-hunter3-hunter3-hunter3-hunter3",
    ]);
    let refused = refused(&home, 2, &["config", "set", "platform.control.token=hunter4"]);
    assert!(!refused.contains("hunter"), "{refused}");
    let audit = fs::read_to_string(home.join("var/audit.jsonl")).unwrap();
    assert!(!audit.contains("hunter"), "{audit}");
}

#[test]
fn without_a_process_the_state_directory_is_changed_if_the_next_start_can_do_with_it() {
    let home = example("faults", "offline", &[]);
    let told = refused(&home, 1, &["config", "set", "faults.workers=3"]);
    assert!(
        told.contains("has not run here") && !home.join("var").exists(),
        "{told}"
    );
    fs::create_dir(home.join("var")).unwrap();
    assert_eq!(
        home.ask(&["config", "set", "faults.workers=3", "faults.attempts=2"])["overrides"],
        2
    );
    assert!(
        home.text(&["config", "explain", "faults.workers"])
            .contains("override by command-line")
    );
    let before = fs::read(home.join("var/config-overrides.json")).unwrap();
    let told = refused(&home, 2, &["config", "set", "faults.workers=0"]);
    assert!(told.contains("faults.workers: ") && told.contains("1 fault"), "{told}");
    assert_eq!(fs::read(home.join("var/config-overrides.json")).unwrap(), before);

    // An override that a newer program has no key for: the start says how to be rid of it, and that works.
    let text = String::from_utf8(before)
        .unwrap()
        .replace("faults.workers", "faults.wrokers");
    fs::write(home.join("var/config-overrides.json"), text).unwrap();
    for command in ["check", "run"] {
        let told = refused(&home, 2, &[command]);
        assert!(
            told.contains("override by command-line") && told.contains("config unset"),
            "{told}"
        );
    }
    assert!(home.text(&["config", "overrides"]).contains("faults.wrokers"));
    home.text(&["config", "unset", "faults.wrokers"]);
    assert_eq!(home.ask(&["check"])["ok"], true);
    let audit = fs::read_to_string(home.join("var/audit.jsonl")).unwrap();
    assert!(
        audit.contains("\"config.unset\"") && audit.contains("\"failed\""),
        "{audit}"
    );
    for words in [&["config", "reload"][..], &["config", "diff"], &["config", "history"]] {
        let told = refused(&home, 1, words);
        assert!(
            told.contains("does not run in the state directory"),
            "{words:?}: {told}"
        );
    }
}

#[test]
fn a_process_is_asked_though_its_file_is_broken_and_says_what_a_reload_would_do() {
    let (home, mut app) = begin("broken", "0s");
    assert!(
        home.text(&["config", "diff"])
            .contains("a reload would change nothing in configuration 1")
    );
    fs::write(home.join("bot.toml"), "[faults]\nworkers = 7\n").unwrap();
    let diff = home.text(&["config", "diff"]);
    assert!(
        diff.contains("would change") && diff.contains("faults.workers: ") && diff.contains("→ 7"),
        "{diff}"
    );
    assert_eq!(
        home.ask(&["status"])["configuration_generation"],
        1,
        "nothing was changed"
    );
    let reloaded = home.ask(&["config", "reload"]);
    assert_eq!(
        (&reloaded["outcome"], &reloaded["generation"]),
        (&json!("applied"), &json!(2)),
        "{reloaded}"
    );

    fs::write(home.join("bot.toml"), "[faults]\nworkers = \n").unwrap();
    for words in [
        &["config", "diff"][..],
        &["config", "reload"],
        &["config", "set", "faults.attempts=2"],
    ] {
        let told = refused(&home, 2, words);
        assert!(told.contains("bot.toml:2:"), "{words:?}: {told}");
    }
    for words in [
        &["status"][..],
        &["workers"],
        &["config", "show"],
        &["config", "overrides"],
    ] {
        home.text(&[words, &["--config", "bot.toml"]].concat());
    }
    let shown = home.text(&["config", "show", "--config", "bot.toml"]);
    let line = shown.lines().find(|line| line.starts_with("workers = 7")).unwrap();
    assert!(line.contains("# bot.toml:2:11"), "{shown}");
    refused(&home, 2, &["config", "show", "--on-disk", "--config", "bot.toml"]);
    refused(&home, 2, &["check", "--config", "bot.toml"]);
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}
