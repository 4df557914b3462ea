//! Workers that block every thread of their executor: who notices, how soon, what still answers, and what each policy does
//! about it. That good work goes on beside hanging work as long as there is a thread is tested in `faults`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::application::{Application, drop_work, example, named, pause};
use crate::stops::within_budget;

/// How long a handler may take, and how often the watchdog looks at least.
const STALL_AFTER: Duration = Duration::from_millis(400);
const INTERVAL: Duration = Duration::from_millis(200);

fn settings(threads: usize, blocking: &str) -> Vec<String> {
    [
        format!("platform.executor.threads={threads}"),
        format!("faults.workers={threads}"),
        format!("faults.blocking={blocking}"),
        format!("faults.stall_after={}ms", STALL_AFTER.as_millis()),
        format!("platform.health.watchdog_interval={}ms", INTERVAL.as_millis()),
        "platform.health.stall_limit=3s".to_owned(),
        "platform.stop_budget=1s".to_owned(),
    ]
    .to_vec()
}

/// The supervisor's events of this kind, the newest first.
fn events(app: &Application, kind: &str) -> Vec<Value> {
    let Some((200, Value::Array(events))) = app.get("/api/v1/views/events?limit=1000") else {
        return Vec::new();
    };
    events.into_iter().filter(|event| event["event"] == kind).collect()
}

/// The newest event of this kind, once there are so many.
fn event(app: &mut Application, kind: &str, count: usize) -> Vec<Value> {
    app.wait(&format!("{count} times {kind}"), |app| {
        let events = events(app, kind);
        (events.len() >= count).then_some(events)
    })
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs_f64(
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{value} is no number of seconds")),
    )
}

/// Every thread blocked: the verdicts, and everybody who still has to answer.
fn all_threads_blocked(threads: usize, blocking: &str) {
    let settings = settings(threads, blocking);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let home = example("faults", "threads", &settings);
    let mut app = home.start(&[]);
    app.wait_for_line("faults is ready");
    let work: Vec<String> = (0..threads).map(|number| format!("blocks.{number}")).collect();
    drop_work(&home, &work.iter().map(String::as_str).collect::<Vec<_>>());

    for verdict in event(&mut app, "hung", threads) {
        assert_eq!(
            (&verdict["worker"], &verdict["span"]),
            (&json!("blocks"), &json!("price_list"))
        );
        assert!(
            verdict["busy_with"].as_str().unwrap().starts_with("spool/blocks."),
            "{verdict}"
        );
        assert!(
            verdict["since"].as_str() < verdict["at"].as_str(),
            "since when: {verdict}"
        );
        let after = seconds(&verdict["duration"]);
        assert!(after >= STALL_AFTER && after <= STALL_AFTER + 2 * INTERVAL, "{verdict}");
    }
    event(&mut app, "executor_stalled", 1);

    // Within the limit the process is live; not ready, because a critical worker is unhealthy.
    assert_eq!((app.probe("/livez"), app.probe("/readyz")), (Some(200), Some(503)));
    let (code, workers) = app.get("/api/v1/workers").unwrap();
    let slot = &named(&workers, "blocks")["slots"][0];
    assert_eq!(
        (code, &slot["hung"], &slot["busy"]["span"]),
        (200, &json!(true), &json!("price_list")),
        "{slot}"
    );
    assert_eq!(home.ask(&["status"])["state"], "unhealthy");

    // What is asked of workers that can't run is taken note of, and answered at once.
    let began = Instant::now();
    let (code, answer) = app.act("worker.pause", &json!({ "worker": "good" })).unwrap();
    assert_eq!((code, &answer["outcome"]), (200, &json!("under_way")), "{answer}");
    assert_eq!(home.ask(&["worker", "pause", "fails"])["outcome"], "under_way");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    app.wait("the end of patience", |app| {
        (app.probe("/livez") == Some(503)).then_some(())
    });
    assert_eq!(app.stop(), Some(4), "{}", app.log());
    within_budget(&home.stop_report());
}

#[test]
fn one_thread_blocked_of_one() {
    for blocking in ["spin", "sleep"] {
        all_threads_blocked(1, blocking);
    }
}

#[test]
fn two_threads_blocked_of_two() {
    for blocking in ["spin", "sleep"] {
        all_threads_blocked(2, blocking);
    }
}

#[test]
fn four_threads_blocked_of_four() {
    for blocking in ["spin", "sleep"] {
        all_threads_blocked(4, blocking);
    }
}

#[test]
fn a_hung_instance_is_replaced_as_soon_as_it_lets_go_of_its_thread() {
    let mut settings = settings(1, "sleep");
    settings.extend(["faults.on_hang=replace", "faults.blocked_for=3s", "faults.workers=1"].map(str::to_owned));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let home = example("faults", "replaced", &settings);
    drop_work(&home, &["blocks.1"]);
    let mut app = home.start(&[]);
    let ended = app.wait("the end of the hung attempt", |app| {
        events(app, "ended")
            .into_iter()
            .find(|event| event["worker"] == "blocks")
    });
    assert_eq!(
        (&ended["incarnation"], &ended["end"]["how"]),
        (&json!(1), &json!("hung")),
        "{ended}"
    );
    app.wait("the next instance", |app| {
        let moved = events(app, "moved");
        let running = |event: &Value| event["state"] == "running" && event["incarnation"] == 2;
        moved
            .iter()
            .any(|event| event["worker"] == "blocks" && running(event))
            .then_some(())
    });
    assert!(matches!(app.stop(), Some(0 | 3 | 4)), "{}", app.log());
}

#[test]
fn a_hang_may_end_the_process_though_every_thread_is_blocked() {
    let mut settings = settings(1, "spin");
    settings.push("faults.on_hang=end_process".to_owned());
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let home = example("faults", "ended", &settings);
    drop_work(&home, &["blocks.1"]);
    let mut app = home.start(&[]);
    assert_eq!(app.end().code(), Some(71), "{}", app.log());
    let report = home.stop_report();
    let cause = report["cause"].as_str().unwrap();
    assert!(cause.contains("blocks[0] hangs: busy with spool/blocks.1"), "{cause}");
    within_budget(&report);
}

/// Ends the busy threads, also when the test fails.
struct Quiet<'a>(&'a AtomicBool);

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_machine_that_is_too_busy_is_no_hang() {
    // Four times as many busy threads as there are cores, at the same priority as the workers.
    let (cores, stop) = (available_parallelism().map_or(2, usize::from), AtomicBool::new(false));
    let busy = || {
        while !stop.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    };
    let home = example(
        "faults",
        "starved",
        &[
            "faults.stall_after=1s",
            "platform.health.watchdog_interval=50ms",
            "faults.workers=2",
        ],
    );
    std::thread::scope(|scope| {
        (0..4 * cores).for_each(|_| drop(scope.spawn(busy)));
        let _at_the_end = Quiet(&stop);
        let mut app = home.start(&[]);
        app.wait_for_line("faults is ready");
        let began = Instant::now();
        let mut number = 0;
        while began.elapsed() < Duration::from_secs(5) {
            number += 1;
            drop_work(&home, &[&format!("good.{number}"), &format!("fails.{number}")]);
            pause(Duration::from_millis(20));
        }
        let verdicts = [events(&app, "hung"), events(&app, "executor_stalled")];
        assert_eq!(verdicts, [Vec::<Value>::new(), Vec::new()], "{}", app.log());
        assert_eq!(app.probe("/livez"), Some(200));
        assert_eq!(app.stop(), Some(0), "{}", app.log());
    });
}
