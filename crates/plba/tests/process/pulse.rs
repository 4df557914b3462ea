//! The smallest service has everything: probes, a token, views, commands about the configuration, reloads, an ordered stop.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::application::{Application, Home, example, named, source};

/// A pulse with this configuration file that has beaten twice.
fn beating(test: &str, file: &str) -> (Home, Application) {
    let home = example("pulse", test, &[]);
    fs::write(home.join("pulse.toml"), file).unwrap();
    let mut pulse = home.start(&["--config", "pulse.toml"]);
    let beats = |app: &Application| app.log().matches("pulse  beat").count();
    pulse.wait("two beats", |app| (beats(app) >= 2).then_some(()));
    (home, pulse)
}

#[test]
fn it_takes_at_most_fifteen_formatted_lines() {
    let text = source("pulse");
    assert!(text.lines().count() <= 15, "{} lines:\n{text}", text.lines().count());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/pulse.rs");
    let format = Command::new("rustfmt")
        .args(["--edition", "2024", "--check", "--config-path", root, file])
        .output();
    match format {
        Ok(checked) => assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout)),
        Err(error) => println!("not run: whether it is formatted, because rustfmt can't be started ({error})"),
    }
}

#[test]
fn it_answers_probes_to_all_and_views_to_those_with_the_token() {
    let (home, mut pulse) = beating("answers", "# nothing is set\n");
    assert_eq!((pulse.probe("/livez"), pulse.probe("/readyz")), (Some(200), Some(200)));
    for path in ["/api/v1/status", "/api/v1/workers", "/api/v1/health"] {
        assert_eq!(pulse.probe(path), Some(401), "{path} without a token");
        let wrong = pulse.request(path, "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n");
        assert_eq!(wrong.map(|(status, _)| status), Some(401), "{path} with a wrong token");
        assert_eq!(
            pulse.get(path).map(|(status, _)| status),
            Some(200),
            "{path} with the token"
        );
    }
    let (_, status) = pulse.get("/api/v1/status").unwrap();
    let told = ["application", "stage", "state", "configuration_generation"].map(|name| status[name].to_string());
    assert_eq!(told, ["\"pulse\"", "\"ready\"", "\"ok\"", "1"], "{status}");
    assert_eq!(status["workers"]["running"], 1, "{status}");

    use std::os::unix::fs::PermissionsExt;
    let token = fs::metadata(home.join("var/control.token")).unwrap();
    assert_eq!(
        token.permissions().mode() & 0o777,
        0o600,
        "only its owner reads the token"
    );
    assert_eq!(pulse.stop(), Some(0), "{}", pulse.log());
    assert_eq!(home.stop_report()["outcome"], "clean");
    assert!(pulse.log().contains("stopped clean"), "{}", pulse.log());
}

#[test]
fn its_commands_tell_of_the_running_process() {
    let (home, mut pulse) = beating("commands", "# nothing is set\n");
    assert_eq!(home.ask(&["status"])["stage"], "ready");
    let workers = home.ask(&["workers"]);
    assert!(
        named(&workers, "beat")["status"]["succeeded"].as_u64().unwrap() >= 2,
        "{workers}"
    );
    let health = home.ask(&["health"]);
    assert_eq!(
        (&health["state"], &named(&health["parts"], "beat")["state"]),
        (&"ok".into(), &"ok".into())
    );
    assert!(home.ask(&["traces"]).is_array());
    for (command, told) in [
        ("status", "ready"),
        ("workers", "beat"),
        ("health", "beat"),
        ("traces", ""),
    ] {
        assert!(home.text(&[command]).contains(told), "{command}");
    }
    assert_eq!(pulse.stop(), Some(0), "{}", pulse.log());
    for command in ["status", "workers", "health", "traces"] {
        let output = home.run(&[command]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {told}");
        assert!(
            told.contains("does not run in the state directory var"),
            "{command}: {told}"
        );
    }
}

#[test]
fn its_configuration_is_shown_explained_and_checked_without_a_process() {
    let home = example("pulse", "configuration", &[]);
    fs::write(home.join("pulse.toml"), "[platform]\nstop_budget = \"7s\"\n").unwrap();
    let told = |arguments: &[&str]| home.text(&[&["--config", "pulse.toml"], arguments].concat());
    let shown = told(&["config", "show"]);
    assert!(
        shown.contains("stop_budget = \"7s\"") && shown.contains("pulse.toml:2"),
        "{shown}"
    );
    let explained = told(&["config", "explain", "platform.stop_budget"]);
    for part in ["\"7s\"", "pulse.toml:2", "\"25s\"", "How long a stop may take"] {
        assert!(explained.contains(part), "no {part} in {explained}");
    }
    let later = |key: &str| told(&["config", "explain", key]).contains("takes effect at the next start");
    assert!(later("platform.executor.threads") && !later("platform.stop_budget"));
    assert!(told(&["check"]).contains("in order"));
    assert_eq!(home.ask(&["check"])["ok"], true);
    let schema: Value = serde_json::from_str(&told(&["config", "schema"])).unwrap();
    assert!(
        schema["properties"]["platform"]["properties"]["stop_budget"].is_object(),
        "{schema}"
    );

    fs::write(home.join("pulse.toml"), home.text(&["config", "default"])).unwrap();
    assert!(
        told(&["check"]).contains("in order"),
        "the printed default is a configuration"
    );
    let unknown = home.run(&["config", "explain", "platform.stop_budgt"]);
    let message = String::from_utf8_lossy(&unknown.stderr);
    assert!(
        unknown.status.code() == Some(2) && message.contains("stop_budget"),
        "{message}"
    );
    assert!(!home.join("var").exists(), "nothing was started");
}

#[test]
fn a_reload_takes_a_sound_file_and_refuses_a_broken_one() {
    let (home, mut pulse) = beating("reload", "# nothing is set\n");
    let generation = || home.ask(&["status"])["configuration_generation"].as_u64().unwrap();

    fs::write(home.join("pulse.toml"), "[platform]\nstop_budgt = \"3s\"\n").unwrap();
    pulse.signal(Signal::HUP);
    pulse.wait_for_line("the running configuration (generation 1) stays");
    for part in ["pulse.toml:2:1", "stop_budgt", "did you mean `stop_budget`"] {
        assert!(pulse.log().contains(part), "no {part} in:\n{}", pulse.log());
    }
    assert_eq!(generation(), 1);

    fs::write(home.join("pulse.toml"), "[platform.logging]\nlevel = \"debug\"\n").unwrap();
    pulse.signal(Signal::HUP);
    pulse.wait_for_line("log levels changed");
    assert_eq!(generation(), 2);
    pulse.wait_for_line("DEBUG");
    pulse.signal(Signal::HUP);
    pulse.wait_for_line("nothing has changed");
    assert_eq!(generation(), 2, "what is the same again is not counted");
    assert_eq!(pulse.stop(), Some(0), "{}", pulse.log());
}

#[test]
fn its_version_is_told_and_its_memory_is_not_dumped() {
    let (home, mut pulse) = beating("version", "# nothing is set\n");
    assert_eq!(
        home.text(&["--version"]),
        format!("pulse (plba {})\n", env!("CARGO_PKG_VERSION"))
    );
    let limits = fs::read_to_string(format!("/proc/{}/limits", pulse.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    assert_eq!(pulse.stop(), Some(0));
}

#[test]
fn who_only_looks_from_a_wrong_directory_leaves_nothing_behind() {
    let home = example("faults", "wrong-directory", &[]);
    for words in [
        &["status"][..],
        &["workers"],
        &["config", "show"],
        &["check"],
        &["dead", "list"],
    ] {
        let told = String::from_utf8_lossy(&home.run(words).stderr).into_owned();
        assert!(!home.join("var").exists(), "{words:?}: {told}");
    }
    let told = String::from_utf8_lossy(&home.run(&["dead", "list"]).stderr).into_owned();
    assert!(
        told.contains("faults has not run here: there is no state directory /"),
        "{told}"
    );
}
