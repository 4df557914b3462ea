//! Changes that go wrong: refused where they can't be put to work, taken back where they make a worker fail, and what a start
//! does with a configuration that is wrong or gone.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::application::{Application, Home, example, named};

/// A bell with a short probation, which reads its configuration again when it is told to.
fn bell(test: &str) -> Home {
    let settings = ["platform.config.probation=3s", "platform.config.watch=false"];
    example("bell", test, &settings)
}

fn write(home: &Home, file: &str, text: &str) {
    let path = home.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A running bell that has rung.
fn ringing(home: &Home, config: &str) -> Application {
    let mut app = home.start(&["--config", config]);
    app.wait_for_line("bell is ready");
    strokes(&mut app);
    app
}

/// Waits until it has rung once more.
#[track_caller]
fn strokes(app: &mut Application) {
    let count = |app: &Application| {
        let (_, workers) = app.get("/api/v1/workers")?;
        // While the process starts it is not there yet.
        let ring = workers.as_array()?.iter().find(|worker| worker["name"] == "ring")?;
        ring["status"]["succeeded"].as_u64()
    };
    let before = app.wait("the count of strokes", count);
    app.wait("a stroke", |app| (count(app)? > before).then_some(()));
}

fn view(app: &Application, name: &str) -> Value {
    app.get(&format!("/api/v1/views/{name}")).unwrap().1
}

fn health(app: &Application) -> Value {
    named(&view(app, "health")["parts"], "configuration").clone()
}

fn figure(app: &Application, name: &str) -> Value {
    let lines = view(app, "metrics");
    let found = lines.as_array().unwrap().iter().find(|line| line["metric"] == name);
    found.unwrap_or_else(|| panic!("no {name}"))["value"].clone()
}

/// What ended the process, and what it said.
#[track_caller]
fn refused(home: &Home, arguments: &[&str]) -> String {
    let ended = home.run(arguments);
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{told}");
    told
}

#[test]
fn a_change_that_makes_a_worker_fail_is_taken_back_within_its_window_and_says_why() {
    let home = bell("probation");
    write(&home, "bell.toml", "[bell]\nmetal = 'bronze'\n");
    let mut app = ringing(&home, "bell.toml");
    assert_eq!(health(&app)["state"], "ok");

    write(&home, "bell.toml", "[bell]\nmetal = 'glass'\n");
    app.signal(Signal::HUP);
    app.wait_for_line("configuration 1 runs again, because 2 has failed");
    strokes(&mut app);

    let status = view(&app, "status");
    let standing = &status["configuration"];
    assert_eq!(
        (&standing["generation"], &standing["proven"]),
        (&json!(1), &json!(true)),
        "{status}"
    );
    let reason = standing["last_rejected"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("worker ring, which was well before, ") && reason.contains("the bell is broken"),
        "{reason}"
    );
    let told = health(&app);
    assert_eq!(told["state"], "degraded", "{told}");
    assert!(
        told["reason"]
            .as_str()
            .unwrap()
            .starts_with("configuration 2 was taken back: within "),
        "{told}"
    );
    assert_eq!(figure(&app, "plba_config_ok"), 0.0);
    assert_eq!(figure(&app, "plba_config_generation"), 1.0);

    let history = view(&app, "config.history");
    let kinds: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["what"].clone())
        .collect();
    assert_eq!(kinds, ["taken_back", "applied", "started"], "{history}");
    let change = &history[1]["diff"]["changes"][0];
    let told = ["key", "before", "after"].map(|name| change[name].clone());
    assert_eq!(told, ["bell.metal", "bronze", "glass"], "{history}");
    assert_eq!(history[1]["triggers"], json!(["SIGHUP"]));

    // A restart remembers: strict, it tries what is written and says so; else the last good one stands in.
    assert_eq!(app.stop(), Some(0), "{}", app.log());
    let mut app = home.start(&["--config", "bell.toml"]);
    app.wait_for_line("this configuration has failed before: it was taken back at ");
    app.wait_for_line("bell is ready");
    assert_eq!(health(&app)["state"], "degraded");
    app.stop();
    let mut app = home.start(&[
        "--config",
        "bell.toml",
        "--set",
        "platform.config.on_invalid_start=last_good",
        "--set",
        "platform.config.watch=true",
    ]);
    // Nor does watching the file, which is still the one that failed, bring it back.
    app.wait_for_line("the last good configuration runs instead");
    strokes(&mut app);
    let told = health(&app);
    assert!(
        told["reason"]
            .as_str()
            .unwrap()
            .contains("this configuration has failed before: it was taken back"),
        "{told}"
    );

    // What is mended is taken, and all is well.
    write(&home, "bell.toml", "[bell]\nmetal = 'bronze'\nevery = '20ms'\n");
    app.signal(Signal::HUP);
    app.wait_for_line("configuration 2 has passed its probation");
    assert_eq!(health(&app)["state"], "ok");
    assert_eq!(figure(&app, "plba_config_ok"), 1.0);
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}

#[test]
fn failure_54_what_is_valid_but_cannot_be_put_to_work_leaves_all_as_it_was() {
    let home = bell("refused");
    let (free, taken) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    let (own, foreign) = (free.local_addr().unwrap(), taken.local_addr().unwrap());
    drop(free);
    let file = |listen| format!("[bell]\nlisten = '{listen}'\nevery = '50ms'\n");
    write(&home, "bell.toml", &file(own));
    let mut app = ringing(&home, "bell.toml");
    TcpStream::connect(own).unwrap();
    let before = view(&app, "config");

    write(&home, "bell.toml", &file(foreign));
    app.signal(Signal::HUP);
    app.wait_for_line("the new configuration can't be put to work");
    app.wait_for_line("configuration 1 stays");
    TcpStream::connect(own).unwrap();
    strokes(&mut app);
    assert_eq!(view(&app, "config"), before, "what is shown is what runs");
    let standing = view(&app, "status")["configuration"].clone();
    assert_eq!(
        (&standing["generation"], &standing["proven"]),
        (&json!(1), &json!(true)),
        "{standing}"
    );
    let problem = standing["problem"].as_str().unwrap();
    assert!(
        problem.starts_with("the latest change was refused: ") && problem.contains("can't be listened on"),
        "{problem}"
    );
    let latest = view(&app, "config.history")[0].clone();
    assert_eq!(
        (&latest["what"], &latest["stage"]),
        (&json!("rejected"), &json!("apply")),
        "{latest}"
    );

    // Asked again, it fails again and is counted; once the address is free, it works.
    app.signal(Signal::HUP);
    app.wait("the second time", |app| {
        (view(app, "config.history")[0]["times"] == 2).then_some(())
    });
    drop(taken);
    app.signal(Signal::HUP);
    app.wait("the other address", |_| TcpStream::connect(foreign).ok());
    assert!(TcpStream::connect(own).is_err(), "the first one is given back");
    app.wait("all is well", |app| (health(app)["state"] == "ok").then_some(()));
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}

#[test]
fn failure_55_a_restart_with_a_broken_file_takes_the_last_good_configuration_if_it_is_to() {
    let home = bell("restart");
    let good = "[platform.config]\non_invalid_start = 'last_good'\n[bell]\nevery = '30ms'\n";
    write(&home, "bell.toml", "[bell\n");
    assert!(
        refused(&home, &["--config", "bell.toml"]).contains("nothing was started"),
        "strict is the default"
    );
    let told = refused(
        &home,
        &[
            "--config",
            "bell.toml",
            "--set",
            "platform.config.on_invalid_start=last_good",
        ],
    );
    assert!(
        told.contains("asks for the last good configuration then, but there is none yet"),
        "{told}"
    );

    write(&home, "bell.toml", good);
    let mut app = ringing(&home, "bell.toml");
    assert_eq!(app.stop(), Some(0), "{}", app.log());
    let kept = fs::metadata(home.join("var/config-last-good.json")).unwrap();
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);

    // Cut in the middle, so that not even the policy can be read.
    write(&home, "bell.toml", "[platform.config\non_invalid_st");
    assert!(
        refused(&home, &["check", "--config", "bell.toml"]).contains("bell.toml:1"),
        "a check is strict"
    );
    let strict = [
        "--config",
        "bell.toml",
        "--set",
        "platform.config.on_invalid_start=strict",
    ];
    assert!(refused(&home, &strict).contains("nothing was started"));
    for times in 1..=2 {
        let mut app = ringing(&home, "bell.toml");
        app.wait_for_line("the last good configuration runs");
        let config = view(&app, "config").to_string();
        assert!(config.contains("\"30ms\""), "{config}");
        let told = health(&app);
        assert_eq!(told["state"], "degraded", "{told}");
        let reason = told["reason"].as_str().unwrap();
        assert!(
            reason.starts_with("the last good configuration runs") && reason.contains("bell.toml:1:"),
            "{reason}"
        );
        let latest = view(&app, "config.history")[0].clone();
        assert_eq!(
            (&latest["what"], &latest["times"]),
            (&json!("started"), &json!(times)),
            "{latest}"
        );
        assert_eq!(figure(&app, "plba_config_ok"), 0.0);
        if times == 2 {
            write(&home, "bell.toml", &good.replace("30ms", "40ms"));
            app.signal(Signal::HUP);
            app.wait_for_line("configuration 2 has passed its probation");
            assert_eq!(health(&app)["state"], "ok");
        }
        assert_eq!(app.stop(), Some(0), "{}", app.log());
    }
    let kept = fs::read_to_string(home.join("var/config-last-good.json")).unwrap();
    assert!(kept.contains("40ms"), "the last one that was proven: {kept}");

    fs::set_permissions(
        home.join("var/config-last-good.json"),
        fs::Permissions::from_mode(0o666),
    )
    .unwrap();
    write(&home, "bell.toml", "[bell]\nevry = '1s'\n");
    let arguments = [
        "--config",
        "bell.toml",
        "--set",
        "platform.config.on_invalid_start=last_good",
    ];
    let told = refused(&home, &arguments);
    assert!(told.contains("others than this user may write it"), "{told}");
}

#[test]
fn failure_56_a_deleted_configuration_lowers_no_security_by_a_restart() {
    let home = bell("deleted");
    write(&home, "conf.d/10-bell.toml", "[bell]\nevery = '30ms'\n");
    write(&home, "conf.d/20-security.toml", "[bell]\nknown_only = true\n");
    let known_only = |app: &Application| {
        let config = view(app, "config");
        let tables = config["tables"].as_array().unwrap();
        let bell = tables.iter().find(|table| table["table"] == "bell").unwrap();
        let values = bell["values"].as_array().unwrap();
        values.iter().find(|value| value["key"] == "known_only").unwrap()["value"] == true
    };
    let mut app = ringing(&home, "conf.d");
    assert!(known_only(&app));
    assert_eq!(app.stop(), Some(0), "{}", app.log());

    fs::remove_file(home.join("conf.d/20-security.toml")).unwrap();
    let told = refused(&home, &["--config", "conf.d"]);
    assert!(
        told.contains("20-security.toml") && told.contains("these settings are lost: bell.known_only"),
        "{told}"
    );
    assert!(
        told.contains("if it is meant to be gone, remove var/config-last-good.json"),
        "{told}"
    );

    // The last good one is no way around it: it is as strict as it was.
    let arguments = [
        "--config",
        "conf.d",
        "--set",
        "platform.config.on_invalid_start=last_good",
    ];
    let mut app = home.start(&arguments);
    app.wait_for_line("bell is ready");
    assert!(known_only(&app) && health(&app)["state"] == "degraded");
    assert_eq!(app.stop(), Some(0), "{}", app.log());

    // All of it gone, and named or not: there is a file that can't be read, or settings that are lost.
    fs::remove_dir_all(home.join("conf.d")).unwrap();
    for arguments in [&["--config", "conf.d"][..], &[]] {
        let told = refused(&home, arguments);
        assert!(told.contains("nothing was started"), "{told}");
    }

    // Moved elsewhere, it is not lost; said to be meant, it is accepted.
    write(&home, "conf.d/bell.toml", "[bell]\nevery = '30ms'\nknown_only = true\n");
    let mut app = ringing(&home, "conf.d");
    assert!(known_only(&app));
    assert_eq!(app.stop(), Some(0), "{}", app.log());
    fs::remove_dir_all(home.join("conf.d")).unwrap();
    fs::remove_file(home.join("var/config-last-good.json")).unwrap();
    let mut app = home.start(&[]);
    app.wait_for_line("bell is ready");
    assert!(!known_only(&app));
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}
