//! Modules replaced in a process without a configuration: what is touched, what is not, and that whatever does not get
//! through leaves everything as it was.

mod ground;

use std::time::Duration;

use plba_contracts::health::Health;
use plba_contracts::worker::RestartPolicy;
use serde_json::json;

use self::ground::*;
use super::*;
use crate::supervisor::SlotState;
use crate::tuning::WorkerSettings;

#[tokio::test(start_paused = true)]
async fn what_would_be_the_same_again_is_not_touched() {
    let mut process = Process::start(&[("shop", shop())]).await;
    let before = process.workers();
    tokio::time::sleep(Duration::from_secs(60)).await;

    // A second mailbox.
    let mut plan = shop();
    plan.services.push(("other", "second".into(), &[]));
    plan.workers.push(Post {
        after: vec!["orders"],
        ..post("mail-other", "second", &["other"])
    });
    process.replace("shop", &plan).await.unwrap();
    let mut now = process.workers();
    assert_eq!(now.remove("mail-other").unwrap()[0].1, 1);
    assert_eq!(now, before, "the same attempts, since the same time");
    assert!(process.log.lock().unwrap().is_empty(), "nothing has rested or closed");

    // More hands, another interval and other restarts, all while they go on.
    plan.workers[0].concurrency = 3;
    plan.workers[2].interval = Some(5);
    plan.workers[1].policy = RestartPolicy::Transient;
    process.replace("shop", &plan).await.unwrap();
    let now = process.workers();
    assert_eq!((&now["orders"][0], now["orders"].len()), (&before["orders"][0], 3));
    assert_eq!(
        (&now["mail"], &now["retention"]),
        (&before["mail"], &before["retention"])
    );
    let runs = &process.modules.workers;
    assert_eq!(
        runs["retention"].own.pace.as_ref().unwrap().interval(),
        Duration::from_secs(5)
    );
    assert_eq!(runs["mail"].settled().restart.policy, RestartPolicy::Transient);

    // Other profiles: who has asked for the desk starts anew, and rests before the desk closes.
    plan.services[1].1 = "other profiles".into();
    plan.workers.pop();
    process.replace("shop", &plan).await.unwrap();
    let incarnations = process.incarnations();
    assert_eq!(incarnations["orders"], [2, 2, 2]);
    assert_eq!(
        (&incarnations["mail"], &incarnations["retention"]),
        (&vec![1], &vec![1])
    );
    assert!(!incarnations.contains_key("mail-other"));
    let log = process.log.lock().unwrap().join(", ");
    assert_eq!(
        log,
        "orders rests, orders rests, orders rests, desk closes, mail-other rests"
    );
    assert_eq!(process.foundation.health.report().health, Health::Ok);
}

#[tokio::test(start_paused = true)]
async fn how_a_worker_is_restarted_changes_while_it_runs() {
    let mut process = Process::start(&[("shop", shop())]).await;
    let fails = async |process: &Process| {
        process.log.lock().unwrap().push("mail is to fail".to_owned());
        tokio::time::sleep(Duration::from_secs(10)).await;
        let slot = process.workers()["mail"][0];
        (slot.0, slot.1)
    };
    assert_eq!(fails(&process).await, (SlotState::Running, 2));
    let mut plan = shop();
    plan.workers[1].policy = RestartPolicy::Never;
    process.replace("shop", &plan).await.unwrap();
    assert_eq!(process.incarnations()["mail"], [2], "it goes on");
    assert_eq!(fails(&process).await, (SlotState::GivenUp, 2));
}

#[tokio::test(start_paused = true)]
async fn who_uses_a_service_of_another_module_goes_with_it() {
    let other = Plan {
        services: vec![("report", "".into(), &["desk"])],
        workers: vec![post("reports", "", &["report"]), post("alone", "", &[])],
        ..Plan::default()
    };
    let mut process = Process::start(&[("shop", shop()), ("other", other)]).await;
    let mut plan = shop();
    plan.services[0].1 = "new.db".into();
    process.replace("shop", &plan).await.unwrap();
    let incarnations = process.incarnations();
    for (name, incarnation) in [
        ("orders", 2),
        ("retention", 2),
        ("reports", 2),
        ("mail", 1),
        ("alone", 1),
    ] {
        assert_eq!(incarnations[name], [incarnation], "{name}");
    }
    assert_eq!(process.ask("shop").await, Some(json!("new.db")));
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_has_made_of_a_worker_stays() {
    let mut process = Process::start(&[("shop", shop())]).await;
    let supervisor = process.foundation.supervisor.clone();
    supervisor.scale("orders", 4).await.unwrap();
    supervisor.pause("retention").await.unwrap();
    let until = process.foundation.clock.now() + Duration::from_secs(3600);
    supervisor.pause_until("mail", until).await.unwrap();
    let mut plan = shop();
    plan.services[0].1 = "new.db".into();
    plan.services[2].1 = "elsewhere".into();
    process.replace("shop", &plan).await.unwrap();
    let workers = process.workers();
    assert_eq!(workers["orders"].len(), 4);
    let views = supervisor.snapshot();
    let mail = views.iter().find(|view| view.name == "mail").unwrap();
    assert_eq!(workers["retention"][0].0, SlotState::Paused);
    assert_eq!(mail.slots[0].state, SlotState::Paused);
    assert!(mail.slots[0].until.is_some(), "{mail:?}");
    supervisor.resume("retention").await.unwrap();
    assert_eq!(process.workers()["retention"][0].0, SlotState::Running);
    // Another number is configured, which takes the place of the operator's.
    plan.workers[0].concurrency = 2;
    process.replace("shop", &plan).await.unwrap();
    assert_eq!(process.workers()["orders"].len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_together_is_refused_before_anything_is_touched() {
    let mut process = Process::start(&[("shop", shop())]).await;
    let before = process.workers();
    let plan = |change: &dyn Fn(&mut Plan)| {
        let mut plan = shop();
        plan.services[0].1 = "new.db".into();
        change(&mut plan);
        plan
    };
    type Case = (fn(&mut Plan), &'static str);
    let cases: [Case; 4] = [
        (
            |plan| plan.workers.push(post("mail", "", &[])),
            "two workers are named \"mail\"",
        ),
        (|plan| plan.workers[0].after = vec!["mial"], "no such worker"),
        (|plan| plan.services.push(("store", "".into(), &[])), "registered twice"),
        (|plan| plan.endpoints.push("workers"), "\"workers\" is registered twice"),
    ];
    for (change, says) in cases {
        let error = process.replace("shop", &plan(&change)).await.unwrap_err();
        assert!(error.message.contains(says) && error.restored, "{error}");
    }
    assert_eq!(process.workers(), before);
    assert!(process.log.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_way_back_touches_only_what_the_way_there_has_touched() {
    let mut plan = shop();
    plan.workers[1].from = None;
    let mut process = Process::start(&[("shop", plan.clone())]).await;
    let (names, views) = (["store", "desk", "box", "new"], ["shop", "more"]);
    let before = process.state(&names, &views).await;
    // Built after what it asks for, so that by then the store is another one.
    plan.services[0].1 = "new.db".into();
    plan.services.push(("new", "".into(), &["store"]));
    plan.broken = Some("new");
    let error = process.replace("shop", &plan).await.unwrap_err();
    assert!(error.restored && error.message.contains("the disk is full"), "{error}");
    assert_eq!(process.state(&names, &views).await, before);
    let incarnations = process.incarnations();
    assert_eq!(
        incarnations["mail"],
        [1],
        "it can't be compared, but was not reached either"
    );
    assert_eq!(incarnations["orders"], [2], "it held what had to be closed");

    // A worker that does not start, among others that do and one that is gone by then.
    plan.services.pop();
    plan.workers.push(post("new", "", &["store"]));
    plan.workers.remove(2);
    plan.workers[0].concurrency = 5;
    plan.endpoints.push("more");
    plan.health = vec!["memory"];
    let error = process.replace("shop", &plan).await.unwrap_err();
    assert!(
        error.restored && error.message.contains("the port is in use"),
        "{error}"
    );
    assert_eq!(process.state(&names, &views).await, before);

    // And what got through is taken back when something else could not follow.
    plan.broken = None;
    process.replace("shop", &plan).await.unwrap();
    assert_eq!(process.ask("more").await, Some(json!("new.db")));
    process.modules.take_back().await.unwrap();
    assert_eq!(process.state(&names, &views).await, before);
}

#[tokio::test(start_paused = true)]
async fn who_was_given_up_is_tried_once_more_and_stands_in_no_changes_way() {
    let mut plan = shop();
    plan.workers.push(post("new", "", &[]));
    let mut process = Process::start(&[("shop", plan.clone())]).await;
    // It fails from now on; after a few attempts it is given up.
    plan.workers[3].policy = RestartPolicy::Never;
    plan.broken = Some("new");
    process.replace("shop", &plan).await.unwrap_err();
    assert_eq!(process.workers()["new"][0].0, SlotState::Running);
    process
        .foundation
        .supervisor
        .set_restart("new", RestartPolicy::Never.into())
        .await
        .unwrap();
    let definition = plan.workers[3].definition(true, &process.log);
    let change = crate::supervisor::DefinitionChange {
        changed: vec![definition],
        ..Default::default()
    };
    let services = process.modules.container.services();
    process.foundation.supervisor.apply(change, services).await.unwrap_err();
    assert_eq!(process.workers()["new"][0].0, SlotState::GivenUp);
    let incarnation = process.incarnations()["new"][0];
    (plan.broken, plan.workers[3].policy) = (None, RestartPolicy::Permanent);
    plan.workers[0].concurrency = 2;
    process.replace("shop", &plan).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(process.incarnations()["new"], [incarnation + 1]);
}

#[tokio::test(start_paused = true)]
async fn settings_of_single_workers_stand_in_place_of_what_modules_say() {
    let mut process = Process::start(&[("shop", shop())]).await;
    let settings = |concurrency, interval: Option<u64>| {
        let mut set = WorkerSettings {
            concurrency,
            interval: interval.map(plba_contracts::config::TimeSpan::seconds),
            ..WorkerSettings::default()
        };
        set.restart.policy = Some(RestartPolicy::Transient);
        Settings::from([("orders".to_owned(), set.clone()), ("retention".to_owned(), set)])
    };
    let (none, set) = (Settings::new(), settings(Some(2), Some(3)));
    process.modules.tune(set.clone());
    process.modules.retune(&none, &set).await;
    let interval = |process: &Process| {
        process.modules.workers["retention"]
            .own
            .pace
            .as_ref()
            .unwrap()
            .interval()
    };
    assert_eq!(
        (process.workers()["orders"].len(), interval(&process)),
        (2, Duration::from_secs(3))
    );
    assert_eq!(
        process.modules.workers["orders"].settled().restart.policy,
        RestartPolicy::Transient
    );
    let mut plan = shop();
    plan.workers[0].concurrency = 5;
    plan.workers[2].interval = Some(9);
    process.replace("shop", &plan).await.unwrap();
    assert_eq!(
        (process.workers()["orders"].len(), interval(&process)),
        (2, Duration::from_secs(3))
    );
    process.modules.tune(none.clone());
    process.modules.retune(&set, &none).await;
    assert_eq!(
        (process.workers()["orders"].len(), interval(&process)),
        (5, Duration::from_secs(9))
    );
    assert!(
        process
            .incarnations()
            .values()
            .flatten()
            .all(|&incarnation| incarnation == 1)
    );
}

/// A plan that differs from others in what each of its parts is made from, and in which there are.
fn random_plan(random: &mut fastrand::Rng) -> Plan {
    let mut plan = shop();
    let mut version = || format!("version {}", random.u8(0..2));
    for service in &mut plan.services {
        service.1 = version();
    }
    for worker in &mut plan.workers {
        worker.from = Some(version());
    }
    for worker in &mut plan.workers {
        if random.u8(0..4) == 0 {
            worker.from = None;
        }
        worker.concurrency = random.u32(1..4);
        worker.interval = worker.interval.map(|_| random.u64(1..4));
        worker.policy = [RestartPolicy::Permanent, RestartPolicy::Transient][random.usize(0..2)];
    }
    if random.bool() {
        plan.services.push(("new", "".into(), &["store"]));
        plan.workers.push(post("extra", "", &["new"]));
    }
    if random.bool() {
        plan.endpoints.push("more");
    }
    if random.bool() {
        plan.health.push("memory");
    }
    plan
}

#[tokio::test(start_paused = true)]
async fn changes_that_fail_anywhere_leave_what_there_was() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut process = Process::start(&[("shop", shop())]).await;
    let (names, views) = (["store", "desk", "box", "new", "broken"], ["shop", "more"]);
    let mut failed = 0;
    for round in 0..300 {
        let mut plan = random_plan(&mut random);
        if random.bool() {
            process.replace("shop", &plan).await.unwrap();
            continue;
        }
        // Something of it can't be: any part that it has, or one that is new.
        let mut parts: Vec<&'static str> = plan.services.iter().map(|service| service.0).collect();
        parts.extend(plan.workers.iter().map(|worker| worker.name));
        parts.extend(&plan.health);
        plan.broken = Some(parts[random.usize(0..parts.len())]);
        if random.u8(0..3) == 0 {
            process
                .foundation
                .supervisor
                .scale("orders", random.u32(1..6))
                .await
                .unwrap();
        }
        let before = process.state(&names, &views).await;
        let error = process.replace("shop", &plan).await.unwrap_err();
        failed += 1;
        assert!(error.restored, "seed {seed}, round {round}: {error}");
        let broken = plan.broken;
        assert_eq!(
            process.state(&names, &views).await,
            before,
            "seed {seed}, round {round}: {broken:?}, {error}"
        );
    }
    assert!(failed > 50, "{failed}");
}
