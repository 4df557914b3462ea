//! Single workers as an operator sets them in the configuration: at the start, and by a reload, without any restart.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::application::{Application, Home, drop_work, example, lies_there, named};

fn write(home: &Home, text: &str) {
    fs::write(home.join("workers.toml"), text).unwrap();
}

fn worker(app: &Application, name: &str) -> Option<Value> {
    let (_, workers) = app.get("/api/v1/workers")?;
    workers
        .as_array()?
        .iter()
        .find(|worker| worker["name"] == name)
        .cloned()
}

fn reload(app: &mut Application, home: &Home, text: &str, what: &str, is: impl Fn(&Value) -> bool) {
    write(home, text);
    app.signal(Signal::HUP);
    app.wait(what, |app| is(&worker(app, "good")?).then_some(()));
}

fn instances(worker: &Value) -> usize {
    worker["slots"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_worker_is_as_it_is_configured_and_a_reload_changes_it_without_a_restart() {
    let home = example("faults", "tuning", &["faults.timeout=1h", "faults.stall_after=1h"]);
    write(&home, "[platform.workers.good]\nconcurrency = 2\npaused = true\n");
    let mut app = home.start(&["--config", "workers.toml"]);
    app.wait_for_line("faults is ready");
    let good = worker(&app, "good").unwrap();
    assert_eq!((&good["state"], instances(&good)), (&json!("paused"), 2), "{good}");
    drop_work(&home, &["good.1", "fails.1"]);
    app.wait("others at work", |app| {
        (worker(app, "fails")?["status"]["failed"] != 0).then_some(())
    });
    assert!(lies_there(&home, "good.1"), "who rests from the start does nothing");

    reload(
        &mut app,
        &home,
        "[platform.workers.good]\nconcurrency = 3\n",
        "three at work",
        |good| instances(good) == 3 && good["state"] == "running",
    );
    app.wait("the work done", |_| (!lies_there(&home, "good.1")).then_some(()));

    // What an operator does counts until the key changes the next time.
    home.ask(&["worker", "scale", "good", "--instances", "5"]);
    reload(
        &mut app,
        &home,
        "[platform.workers.good]\nconcurrency = 3\npaused = true\n",
        "a rest",
        |good| good["state"] == "paused",
    );
    assert_eq!(
        instances(&worker(&app, "good").unwrap()),
        5,
        "concurrency has not changed"
    );
    reload(
        &mut app,
        &home,
        "[platform.workers.good]\nconcurrency = 4\n",
        "four",
        |good| instances(good) == 4,
    );
    reload(
        &mut app,
        &home,
        "# nothing is set\n",
        "one, as the module says",
        |good| instances(good) == 1,
    );
    assert_eq!(worker(&app, "fails").unwrap()["restarts"], 0);

    // A shorter patience finds what was in hand before.
    drop_work(&home, &["hangs.1"]);
    app.wait("hangs at work", |app| {
        worker(app, "hangs")?["slots"][0]["busy"].is_object().then_some(())
    });
    write(&home, "[platform.workers.hangs]\nstall_after = \"200ms\"\n");
    app.signal(Signal::HUP);
    app.wait("a hang", |app| {
        (worker(app, "hangs")?["slots"][0]["hung"] == true).then_some(())
    });

    write(&home, "[platform.workers.god]\nconcurrency = 3\n");
    app.signal(Signal::HUP);
    app.wait_for_line("platform.workers.god: there is no worker `god`");
    app.wait_for_line("did you mean `good`?");
    assert_eq!(instances(&worker(&app, "good").unwrap()), 1, "what runs goes on");
    app.signal(Signal::TERM);
    app.signal(Signal::TERM);
    app.end();
}

#[test]
fn a_worker_that_is_not_there_is_refused_with_the_nearest_name() {
    let home = example("faults", "unknown", &[]);
    write(
        &home,
        "[platform.workers.god]\nconcurrency = 3\n[platform.workers.panic]\npaused = true\n",
    );
    for command in ["check", "run"] {
        let refused = home.run(&[command, "--config", "workers.toml"]);
        let told = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{told}");
        for part in [
            "workers.toml:1:19: platform.workers.god: there is no worker `god`",
            "did you mean `good`?",
            "workers.toml:3:19: platform.workers.panic: there is no worker `panic`",
            "did you mean `panics`?",
            "2 faults in the configuration; nothing was started",
        ] {
            assert!(told.contains(part), "no {part} in:\n{told}");
        }
    }
    write(&home, "[platform.workers.good]\nconcurrency = 0\ninstances = 3\n");
    let refused = home.run(&["check", "--config", "workers.toml"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(
        told.contains("1 to 4096 instances are possible") && told.contains("unknown key `instances`"),
        "{told}"
    );
}

#[test]
fn an_interval_and_how_it_is_restarted_change_while_a_worker_runs() {
    let home = example("pulse", "pace", &[]);
    write(&home, "[platform.workers.beat]\ninterval = \"1h\"\n");
    let mut app = home.start(&["--config", "workers.toml"]);
    let beats = |app: &Application| worker(app, "beat")?["status"]["succeeded"].as_u64();
    app.wait("the first beat", |app| (beats(app)? == 1).then_some(()));
    let first = worker(&app, "beat").unwrap()["slots"][0]["since"].clone();
    // The run that it waits for, in an hour, comes at once.
    let faster = "[platform.workers.beat]\ninterval = \"20ms\"\n[platform.workers.beat.restart]\npolicy = \"never\"\n";
    write(&home, faster);
    app.signal(Signal::HUP);
    app.wait("many beats", |app| (beats(app)? > 20).then_some(()));
    app.wait_for_line("restart is as it is configured");
    write(&home, "# as the module says\n");
    app.signal(Signal::HUP);
    app.wait_for_line("configuration 3 runs");
    let beat = worker(&app, "beat").unwrap();
    assert_eq!(
        (&beat["restarts"], &beat["slots"][0]["since"]),
        (&json!(0), &first),
        "{beat}"
    );

    write(
        &home,
        "[platform.workers.beat]\ninterval = \"0s\"\n[platform.workers.beat.restart]\ninitial_delay = \"9s\"\nmaximum_delay = \"1s\"\n",
    );
    let refused = home.run(&["check", "--config", "workers.toml"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    for part in [
        "workers.toml:2:12",
        "1ms or more",
        "workers.toml:5:17",
        "can't be shorter than the first",
    ] {
        assert!(told.contains(part), "no {part} in:\n{told}");
    }
    assert_eq!(app.stop(), Some(0), "{}", app.log());
    let home = example("faults", "paceless", &[]);
    write(&home, "[platform.workers.good]\ninterval = \"5s\"\n");
    let refused = home.run(&["check", "--config", "workers.toml"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("the worker `good` does not run at an interval"), "{told}");
}

#[test]
fn a_pause_by_command_may_end_by_itself() {
    let home = example("faults", "pause", &[]);
    let mut app = home.start(&[]);
    app.wait_for_line("faults is ready");
    let paused = home.ask(&["worker", "pause", "good", "--for", "1s"]);
    assert_eq!(
        (&paused["outcome"], &paused["state"]),
        (&json!("done"), &json!("paused")),
        "{paused}"
    );
    let slot = named(&home.ask(&["workers"]), "good")["slots"][0].clone();
    assert!(slot["until"].is_string() || slot["state"] == "running", "{slot}");
    app.wait("its end", |app| {
        (worker(app, "good")?["state"] == "running").then_some(())
    });

    let (code, _) = app
        .act(
            "worker.pause",
            &json!({ "worker": "good", "until": "2199-12-31T08:00:00Z" }),
        )
        .unwrap();
    assert_eq!(code, 200);
    let slot = &worker(&app, "good").unwrap()["slots"][0];
    assert!(slot["until"].as_str().unwrap().starts_with("2199-12-31T"), "{slot}");
    for (name, value) in [
        ("until", "2020-01-01T00:00:00Z"),
        ("until", "tomorrow"),
        ("for", "soon"),
    ] {
        let (code, answer) = app
            .act("worker.pause", &json!({ "worker": "good", name: value }))
            .unwrap();
        assert_eq!(code, 400, "{answer}");
    }
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}
