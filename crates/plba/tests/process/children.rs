//! Child processes of workers, and their children: nobody survives the worker that started them, nor the process.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::application::{Application, Home, example, pause};
use crate::stops::within_budget;

/// The process group that a worker has started, once it has.
fn group(app: &mut Application, home: &Home, worker: &str) -> u32 {
    app.wait(worker, |_| fs::read_to_string(home.join(worker)).ok()?.parse().ok())
}

/// State, parent and group of each process, with its id.
fn processes() -> Vec<(u32, String, u32, u32)> {
    let ids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let told = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may hold anything.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned);
        let (state, mut number) = (fields.next()?, || fields.next()?.parse().ok());
        Some((pid, state, number()?, number()?))
    };
    ids.filter_map(told).collect()
}

/// The processes of this group that are no zombies.
fn members(group: u32) -> Vec<u32> {
    let of_group = |(_, state, _, of): &(u32, String, u32, u32)| state != "Z" && *of == group;
    processes().into_iter().filter(of_group).map(|(pid, ..)| pid).collect()
}

/// Those who are left some time after they should have died: a killed process takes a moment to be gone when all of the
/// machine is busy.
fn survivors(group: u32) -> Vec<u32> {
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let left = members(group);
        if left.is_empty() || Instant::now() > limit {
            return left;
        }
        pause(Duration::from_millis(10));
    }
}

/// What this process has not waited for.
fn zombies(app: &Application) -> Vec<u32> {
    let own = |(_, state, parent, _): &(u32, String, u32, u32)| state == "Z" && *parent == app.id();
    processes().into_iter().filter(own).map(|(pid, ..)| pid).collect()
}

#[test]
fn nobody_survives_a_stop_and_the_report_names_who_had_to_be_ended() {
    let home = example("children", "stop", &["platform.stop_budget=2s"]);
    let mut app = home.start(&[]);
    let groups = ["waits", "obstinate", "forgets", "panics"].map(|worker| (worker, group(&mut app, &home, worker)));
    app.wait_for_line("the parcel is empty");
    let [(_, waits), (_, obstinate), (_, forgets), (_, panics)] = groups;
    app.wait("the end of what a panic left", |_| {
        members(panics).is_empty().then_some(())
    });
    app.wait("grandchildren", |_| {
        [waits, obstinate, forgets]
            .iter()
            .all(|group| members(*group).len() == 2)
            .then_some(())
    });

    // Whoever has died is waited for, if not at the very moment.
    app.wait("an end without zombies", |app| zombies(app).is_empty().then_some(()));

    assert_eq!(app.stop(), Some(3), "{}", app.log());
    for (worker, group) in groups {
        let left = survivors(group);
        assert_eq!(left, Vec::<u32>::new(), "of {worker}:\n{}", app.log());
    }
    let report = home.stop_report();
    within_budget(&report);
    let children = report["children"].as_array().unwrap();
    let line = |group: u32| -> &Value {
        children
            .iter()
            .find(|line| line["pid"] == group)
            .unwrap_or(&Value::Null)
    };
    assert_eq!(
        (&line(waits)["worker"], &line(waits)["program"]),
        (&json!("waits"), &json!("sh")),
        "{report}"
    );
    assert_eq!(line(obstinate)["how"], "killed", "{report}");
    // On a machine that is busy for a second, what was told to end is killed; which of the two is tested in the runtime.
    let how = line(forgets)["how"].as_str();
    assert!(matches!(how, Some("terminated" | "killed")), "{report}");
    // It was gone before the stop, though the last look for it may come later.
    assert!(
        line(panics).is_null() || line(panics)["how"] == "terminated",
        "{report}"
    );
    assert!(
        app.log().contains("obstinate[0] had left its child process"),
        "{}",
        app.log()
    );
}

#[test]
fn a_restart_takes_the_old_family_with_it() {
    let home = example("children", "restart", &["platform.stop_budget=1s"]);
    let mut app = home.start(&[]);
    let waits = group(&mut app, &home, "waits");
    let restarted = home.ask(&["worker", "restart", "waits"]);
    assert!(restarted["worker"] == "waits", "{restarted}");
    app.wait("the end of the old family", |_| members(waits).is_empty().then_some(()));
    let again = app.wait("a new family", |_| {
        let group: u32 = fs::read_to_string(home.join("waits")).ok()?.parse().ok()?;
        (group != waits).then_some(group)
    });
    assert!(matches!(app.stop(), Some(0 | 3)), "{}", app.log());
    assert_eq!(survivors(again), Vec::<u32>::new());
}
