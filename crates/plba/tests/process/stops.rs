//! Stops that do not go smoothly: during the start, and with workers that do not let go.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::application::{Application, drop_work, example, named};

/// Waits until the worker of this kind of work has its one piece in hand.
fn wait_until_busy(app: &mut Application, worker: &str) {
    let busy = |app: &Application| {
        let (_, workers) = app.get("/api/v1/workers")?;
        let worker = workers
            .as_array()?
            .iter()
            .find(|other| other["name"] == worker)?
            .clone();
        worker["slots"][0]["busy"].is_object().then_some(())
    };
    app.wait(&format!("{worker} at work"), busy);
}

fn line_of<'a>(report: &'a Value, worker: &str) -> &'a Value {
    let mut lines = report["workers"].as_array().unwrap().iter();
    lines
        .find(|line| line["worker"] == worker)
        .unwrap_or_else(|| panic!("no {worker} in {report}"))
}

#[track_caller]
pub(crate) fn within_budget(report: &Value) {
    let seconds = |name: &str| Duration::from_secs_f64(report[name].as_f64().unwrap());
    // A little more than the budget, because a busy machine may wake the process late.
    let late = Duration::from_secs(1);
    assert!(seconds("took") <= seconds("budget") + late, "{report}");
}

#[test]
fn a_stop_while_services_are_being_built_is_a_clean_end() {
    let home = example("faults", "opening", &["faults.opening=1h"]);
    let mut app = home.start(&[]);
    app.wait("life", |app| (app.probe("/livez") == Some(200)).then_some(()));
    assert_eq!(app.probe("/readyz"), Some(503), "not ready while it starts");
    let (_, status) = app.get("/api/v1/status").unwrap();
    assert_eq!(status["stage"], "starting", "{status}");
    app.signal(Signal::HUP);
    app.wait_for_line("SIGHUP is left alone");
    assert_eq!(app.stop(), Some(0), "{}", app.log());
    let report = home.stop_report();
    assert_eq!(
        (&report["outcome"], &report["cause"]),
        (&"clean".into(), &"SIGTERM".into()),
        "{report}"
    );
    assert!(report["took"].as_f64().unwrap() < 10.0, "{report}");
}

#[test]
fn a_handler_that_does_not_finish_is_interrupted_and_its_task_comes_again_at_no_cost() {
    let home = example("faults", "forced", &["platform.stop_budget=2s"]);
    drop_work(&home, &["hangs.1", "good.1"]);
    let mut app = home.start(&[]);
    wait_until_busy(&mut app, "hangs");
    assert_eq!(app.stop(), Some(3), "{}", app.log());
    let report = home.stop_report();
    let hangs = line_of(&report, "hangs");
    assert_eq!(
        (&hangs["how"], &hangs["held"], &hangs["became"]),
        (&"forced".into(), &"spool/hangs.1".into(), &"released".into()),
        "{report}"
    );
    assert_eq!(line_of(&report, "good")["how"], "drained", "{report}");
    assert_eq!(report["outcome"], "forced");
    assert!(report["took"].as_f64() < report["budget"].as_f64(), "{report}");
    assert!(app.log().contains("hangs[0] was forced"), "{}", app.log());

    let mut again = home.start(&[]);
    wait_until_busy(&mut again, "hangs");
    again.wait_for_line("task=spool/hangs.1 attempt=1 delivery=2");
    again.signal(Signal::TERM);
    again.signal(Signal::INT);
    assert_eq!(again.end().code(), Some(3), "{}", again.log());
    assert!(
        home.stop_report()["took"].as_f64() < Some(2.0),
        "a second signal does not wait: {}",
        home.stop_report()
    );
}

#[test]
fn a_worker_that_ignores_even_the_force_is_left_behind_and_named_with_what_it_held() {
    let home = example("faults", "abandoned", &["platform.stop_budget=2s"]);
    drop_work(&home, &["blocks.1"]);
    let mut app = home.start(&[]);
    wait_until_busy(&mut app, "blocks");
    app.signal(Signal::TERM);
    // The control plane closes last: until then it says that the process is not ready, but lives.
    app.wait("not ready", |app| (app.probe("/readyz") == Some(503)).then_some(()));
    assert_eq!(app.probe("/livez"), Some(200));
    assert_eq!(
        named(&app.get("/api/v1/workers").unwrap().1, "blocks")["slots"][0]["busy"]["what"],
        "spool/blocks.1"
    );
    assert_eq!(app.end().code(), Some(4), "{}", app.log());
    let report = home.stop_report();
    let blocks = line_of(&report, "blocks");
    assert_eq!(
        (&blocks["how"], &blocks["held"], &blocks["became"]),
        (&"abandoned".into(), &"spool/blocks.1".into(), &"unknown".into()),
        "{report}"
    );
    assert_eq!(report["outcome"], "abandoned");
    within_budget(&report);
    assert!(app.log().contains("blocks[0] was abandoned"), "{}", app.log());
}

#[test]
fn a_worker_that_is_given_up_may_end_the_process_with_its_own_exit_code() {
    let home = example("essential", "given-up", &[]);
    let mut app = home.start(&[]);
    assert_eq!(app.end().code(), Some(70), "{}", app.log());
    let report = home.stop_report();
    assert_eq!(
        (&report["outcome"], &report["exit_code"]),
        (&"worker_failed".into(), &70.into()),
        "{report}"
    );
    let cause = report["cause"].as_str().unwrap();
    assert!(
        cause.contains("feed") && cause.contains("the licence has run out"),
        "{cause}"
    );
    assert!(app.log().contains("stopped on account of a worker"), "{}", app.log());
}
