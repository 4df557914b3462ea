//! Tasks by the clock, by webhooks and in batches, as an operator meets them: the example `clockwork`, its views and its
//! commands, running and not running.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::Value;

use crate::application::{Application, Home, example, named};

/// As the defaults of the example, but on a port that the system chooses.
const WEBHOOKS: &str = "clockwork.webhooks={ listen = \"127.0.0.1:0\", allow_loss = true, hooks = [{ name = \"shop\", \
                        path = \"/shop\", secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"], queue = \"work\", \
                        kind = \"order\" }] }";

/// Where webhooks are received.
fn receiver(app: &mut Application) -> String {
    app.wait("webhooks to be received", |app| {
        let (_, workers) = app.get("/api/v1/views/workers")?;
        let row = workers.as_array()?.iter().find(|row| row["name"] == "webhooks")?;
        Some(row["status"]["note"].as_str()?.strip_prefix("listens on ")?.to_owned())
    })
}

/// Sends a signed request, and gives the status of the answer.
fn send(home: &Home, address: &str, id: &str, body: &str) -> u16 {
    let command = home.ask(&["sign", id, body]);
    let headers = command.as_str().unwrap().split("-H '").skip(1);
    let headers: String = headers
        .map(|header| format!("{}\r\n", header.split('\'').next().unwrap()))
        .collect();
    let length = body.len();
    let request = format!(
        "POST /shop HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap())
        .collect()
}

#[test]
fn operators_see_pause_show_and_retry_what_comes_by_the_clock_and_by_webhooks() {
    let home = example("clockwork", "operators", &[WEBHOOKS]);
    let mut app = home.start(&[]);
    let address = receiver(&mut app);

    // A task that no attempt can help, sent twice, is one dead letter.
    assert_eq!(send(&home, &address, "18", "poison"), 200);
    assert_eq!(send(&home, &address, "18", "poison"), 200);
    app.wait("the poison to be dead", |_| {
        let dead = home.ask(&["dead"]);
        (ids(&dead["letters"]) == ["webhooks/shop/18"]).then_some(())
    });
    let shown = home.ask(&["dead", "show", "webhooks/shop/18"]);
    assert_eq!(
        (&shown["payload"], &shown["payload_form"]),
        (&"poison".into(), &"text".into())
    );
    assert!(shown["history"].as_array().unwrap().len() >= 2, "{shown}");
    let told = home.text(&["dead", "show", "webhooks/shop/18"]);
    assert!(
        told.contains("there is poison in it") && told.contains("webhook-id"),
        "{told}"
    );
    assert_eq!(send(&home, &address, "18", "poison"), 200, "known, though it is dead");

    // Nothing is handed out from a paused queue, and whoever asks is told so.
    let paused = home.ask(&["queues", "pause", "work", "--for", "1h"]);
    assert!(paused["paused"] == true && paused["until"].is_string(), "{paused}");
    assert_eq!(send(&home, &address, "19", "{}"), 200);
    let waiting = home.ask(&["tasks", "--state", "ready", "--text", "shop/19"]);
    assert_eq!(ids(&waiting["tasks"]), ["webhooks/shop/19"]);
    let queues = home.ask(&["queues"]);
    let work = queues["queues"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["queue"] == "work")
        .unwrap();
    assert!(work["paused"].as_str().unwrap().starts_with("until "), "{work}");
    assert_eq!(work["rules"]["rate"], "600/1m", "{work}");
    let misspelt = home.run(&["queues", "pause", "wrok"]);
    assert!(
        String::from_utf8_lossy(&misspelt.stderr).contains("known: "),
        "{misspelt:?}"
    );
    home.ask(&["queues", "resume", "work"]);
    app.wait("what waited to be carried out", |_| {
        ids(&home.ask(&["tasks", "--text", "shop/19"])["tasks"])
            .is_empty()
            .then_some(())
    });

    assert_eq!(
        home.ask(&["dead", "retry", "--kind", "order", "--rate", "100/s"])["count"],
        1
    );
    let tick = |home: &Home| named(&home.ask(&["schedules"])["schedules"], "tick").clone();
    let last = app.wait("a tick", |_| tick(&home)["last"].as_str().map(str::to_owned));
    assert_eq!(app.stop(), Some(0), "{}", app.log());

    // Not running: the ledger tells when a schedule came last.
    let then = tick(&home);
    assert!(then["last"].as_str().unwrap() >= last.as_str(), "{then}");
    assert_eq!(then["words"], "At every 5 seconds.");
}

#[test]
fn what_was_answered_200_is_carried_out_over_kills_and_never_taken_in_again() {
    let durable = WEBHOOKS.replace("allow_loss = true", "allow_loss = false");
    let home = example(
        "clockwork",
        "kills",
        &[&durable, "clockwork.queue=sqlite:queue.db?lease=2"],
    );
    let mut logs = String::new();
    let mut accepted = Vec::new();
    for round in 0..4 {
        let mut app = home.start(&[]);
        let address = receiver(&mut app);
        for number in 0..10 {
            let id = format!("{round}-{number}");
            assert_eq!(send(&home, &address, &id, "{}"), 200);
            accepted.push(id);
        }
        // The sender has not heard of an earlier answer.
        assert_eq!(send(&home, &address, &accepted[round * 7], "{}"), 200);
        app.signal(Signal::KILL);
        app.end();
        logs.push_str(&app.log());
    }
    let mut app = home.start(&[]);
    let address = receiver(&mut app);
    app.wait("everything to be carried out", |app| {
        let all = format!("{logs}\n{}", app.log());
        let missing = accepted.iter().any(|id| !all.contains(&format!("webhooks/shop/{id}")));
        let waiting = home.ask(&["tasks", "--text", "shop"]);
        (!missing && ids(&waiting["tasks"]).is_empty()).then_some(())
    });
    for id in &accepted {
        assert_eq!(send(&home, &address, id, "{}"), 200);
    }
    let waiting = home.ask(&["tasks", "--text", "shop"]);
    assert_eq!(
        ids(&waiting["tasks"]),
        [""; 0],
        "all of it is known, though none of it is there any more"
    );
    assert_eq!(app.stop(), Some(0), "{}", app.log());
}

/// The tasks that the log says were carried out.
fn carried_out(log: &str) -> Vec<String> {
    let lists = log.lines().filter_map(|line| Some(line.split_once("carried out ")?.1));
    lists.flat_map(|list| list.split(", ")).map(str::to_owned).collect()
}

#[test]
fn two_processes_on_one_queue_make_one_task_of_each_tick() {
    const TICKS: usize = 6;
    let every_second =
        "clockwork.schedules=[{ name = \"second\", cron = \"* * * * * *\", queue = \"work\", kind = \"tick\" }]";
    let shared = example("clockwork", "shared", &[]);
    let queue = format!("clockwork.queue=sqlite:{}", shared.join("queue.db").display());
    let homes = ["first", "second"].map(|name| example("clockwork", name, &[WEBHOOKS, every_second, &queue]));
    let mut apps = homes.each_ref().map(|home| home.start(&[]));
    let [first, second] = &mut apps;
    first.wait("ticks", |first| {
        let both = carried_out(&first.log()).len() + carried_out(&second.log()).len();
        (both >= TICKS).then_some(())
    });
    for app in &mut apps {
        assert_eq!(app.stop(), Some(0), "{}", app.log());
    }
    let mut ticks: Vec<String> = apps.iter().flat_map(|app| carried_out(&app.log())).collect();
    ticks.sort();
    let all = ticks.clone();
    ticks.dedup();
    assert_eq!(ticks, all, "each once");
    assert!(ticks.iter().all(|id| id.starts_with("schedule/second/")), "{ticks:?}");
    let known = homes
        .each_ref()
        .map(|home| home.ask(&["schedules"])["schedules"][0]["last"].clone());
    assert!(known.iter().all(Value::is_string), "both came to it: {known:?}");
}
