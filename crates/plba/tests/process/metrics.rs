//! What a process measures: told to Prometheus with a token, and to operators by command.

use serde_json::Value;

use crate::application::{Application, drop_work, example};

/// The figure of this line of the text format.
fn figure(app: &Application, series: &str) -> Option<f64> {
    let (code, text) = app.get("/metrics")?;
    assert_eq!(code, 200, "{text}");
    let Value::String(text) = text else {
        panic!("{text} is no text")
    };
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

#[test]
fn workers_are_measured_and_only_a_token_shows_it() {
    let settings = ["faults.timeout=2s", "faults.stall_after=300ms", "faults.attempts=1"];
    let home = example("faults", "metrics", &settings);
    let mut app = home.start(&[]);
    app.wait_for_line("faults is ready");
    assert_eq!(app.probe("/metrics"), Some(401), "not open to anybody");
    drop_work(&home, &["good.1", "good.2", "fails.1", "hangs.1"]);
    for (series, value) in [
        (r#"plba_worker_starts_total{worker="good"}"#, 1.0),
        (r#"plba_worker_work_total{worker="good",outcome="succeeded"}"#, 2.0),
        (r#"plba_worker_work_total{worker="fails",outcome="failed"}"#, 1.0),
        (r#"plba_worker_hangs_total{worker="hangs"}"#, 1.0),
        (r#"plba_hung_seconds_count{worker="hangs"}"#, 1.0),
        (r#"plba_hung_seconds_bucket{worker="hangs",le="+Inf"}"#, 1.0),
        (r#"plba_worker_instances{worker="good",state="running"}"#, 1.0),
    ] {
        app.wait(series, |app| (figure(app, series) == Some(value)).then_some(()));
    }
    // A restart is an end and a start.
    home.ask(&["worker", "restart", "good"]);
    assert_eq!(figure(&app, r#"plba_worker_starts_total{worker="good"}"#), Some(2.0));
    assert_eq!(
        figure(&app, r#"plba_worker_exits_total{worker="good",how="stopped"}"#),
        Some(1.0)
    );
    assert_eq!(figure(&app, r#"plba_worker_restarts_total{worker="good"}"#), Some(1.0));

    let lines = home.ask(&["metrics"]);
    let told = |line: &Value| line["metric"] == "plba_worker_starts_total" && line["labels"]["worker"] == "good";
    let line = lines.as_array().unwrap().iter().find(|line| told(line)).unwrap();
    assert_eq!(line["value"], 2.0, "{line}");
    assert!(
        home.text(&["metrics"]).contains("plba_executor_stalls_total")
            || home.text(&["metrics"]).contains("plba_health")
    );
}
