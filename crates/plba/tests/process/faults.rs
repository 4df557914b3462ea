//! Handlers that panic, hang, block and fail, beside one that works: what becomes of each, and who tells of it.

use serde_json::Value;

use crate::application::{Application, drop_work, example, lies_there, named};
use crate::stops::within_budget;

/// Impatient settings, so that what takes long is soon too long.
const IMPATIENT: [&str; 3] = ["faults.timeout=2s", "faults.stall_after=300ms", "faults.attempts=2"];

/// How a worker is, as the control plane tells it, once it is in this state.
fn part_in(app: &mut Application, name: &str, state: &str) -> Value {
    app.wait(&format!("{name} to be {state}"), |app| {
        let (_, health) = app.get("/api/v1/health")?;
        let part = health["parts"].as_array()?.iter().find(|part| part["name"] == name)?;
        (part["state"] == state).then(|| part.clone())
    })
}

#[track_caller]
fn reason_says(part: &Value, says: &str) {
    let reason = part["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(says), "no {says:?} in {part}");
    let since = part["since"].as_str().unwrap_or_default();
    assert!(since.len() > 19 && since.ends_with('Z'), "since when: {part}");
}

#[test]
fn a_good_handler_goes_on_beside_those_that_panic_fail_hang_and_block() {
    let home = example("faults", "beside", &IMPATIENT);
    drop_work(&home, &["good.1", "panics.1", "fails.1", "hangs.1", "blocks.1"]);
    let mut app = home.start(&[]);

    reason_says(
        &part_in(&mut app, "hangs", "unhealthy"),
        "hung: busy with spool/hangs.1",
    );
    reason_says(
        &part_in(&mut app, "panics", "degraded"),
        "the handler panicked: the parcel is empty",
    );
    reason_says(&part_in(&mut app, "fails", "degraded"), "the warehouse does not answer");
    reason_says(
        &part_in(&mut app, "blocks", "unhealthy"),
        "hung: busy with spool/blocks.1",
    );
    let timed_out = part_in(&mut app, "hangs", "degraded");
    reason_says(&timed_out, "the handler took longer than 2 s");

    for number in 1..=20 {
        let name = format!("good.{number}");
        drop_work(&home, &[&name]);
        app.wait(&name, |_| (!lies_there(&home, &name)).then_some(()));
    }
    let good = part_in(&mut app, "good", "ok");
    assert_eq!(good["reason"], Value::Null, "{good}");

    // A critical worker that does no work makes the process not ready; it is no reason to restart the process.
    assert_eq!((app.probe("/livez"), app.probe("/readyz")), (Some(200), Some(503)));
    let (_, workers) = app.get("/api/v1/workers").unwrap();
    let blocks = &named(&workers, "blocks")["slots"][0];
    assert_eq!(
        (&blocks["hung"], &blocks["busy"]["what"]),
        (&true.into(), &"spool/blocks.1".into()),
        "{blocks}"
    );

    // The command line tells the same.
    let told = home.ask(&["health"]);
    reason_says(named(&told["parts"], "blocks"), "hung: busy with spool/blocks.1");
    assert_eq!(told["state"], "unhealthy", "{told}");
    assert!(named(&home.ask(&["workers"]), "good")["status"]["succeeded"].as_u64() >= Some(20));
    for (command, says) in [
        ("health", "spool/blocks.1"),
        ("workers", "the warehouse does not ans"),
        ("status", "hung: busy with spool/"),
    ] {
        let text = home.text(&[command]);
        assert!(text.contains(says), "{command}: no {says:?} in\n{text}");
    }
}

#[test]
fn the_control_plane_answers_though_every_executor_thread_is_blocked() {
    // The executor has a thread for each core, two at least; each of these instances takes one away.
    let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let workers = format!("faults.workers={threads}");
    let settings = [
        &workers,
        "faults.stall_after=300ms",
        "platform.health.stall_limit=12s",
        "platform.stop_budget=2s",
    ];
    let home = example("faults", "blocked", &settings);
    let mut app = home.start(&[]);
    app.wait_for_line("faults is ready");
    let blocks: Vec<String> = (0..threads).map(|number| format!("blocks.{number}")).collect();
    drop_work(&home, &blocks.iter().map(String::as_str).collect::<Vec<_>>());
    app.wait_for_line("executor");
    assert_eq!(app.probe("/livez"), Some(200), "within the limit:\n{}", app.log());

    let (code, workers) = app.get("/api/v1/workers").unwrap();
    let hung = |slot: &&Value| slot["hung"] == true;
    let slots = named(&workers, "blocks")["slots"].as_array().unwrap();
    assert_eq!((code, slots.iter().filter(hung).count()), (200, threads), "{workers}");
    let (code, health) = app.get("/api/v1/health").unwrap();
    assert_eq!(code, 200);
    reason_says(named(&health["parts"], "blocks"), "hung");
    assert_eq!(home.ask(&["status"])["state"], "unhealthy");
    // What modules contribute answers on the blocked executor, so it is given up at its deadline.
    let letters = home.run(&["dead", "list"]);
    let told = String::from_utf8_lossy(&letters.stderr);
    assert_eq!(letters.status.code(), Some(1), "{told}");

    app.wait("the end of patience", |app| {
        (app.probe("/livez") == Some(503)).then_some(())
    });
    assert_eq!(app.stop(), Some(4), "{}", app.log());
    let report = home.stop_report();
    within_budget(&report);
    let abandoned = report["workers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|stop| stop["how"] == "abandoned");
    let held: Vec<&str> = abandoned.filter_map(|stop| stop["held"].as_str()).collect();
    assert!(
        blocks.iter().all(|name| held.contains(&&*format!("spool/{name}"))),
        "{report}"
    );
}
