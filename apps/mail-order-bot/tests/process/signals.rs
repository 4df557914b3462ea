//! Signals at awkward moments: during the start, under load, twice.

use std::fs;
use std::time::{Duration, Instant};

use mail_order_bot::samples::generate::order_mails;
use rustix::process::Signal;
use serde_json::Value;

use crate::bot::{Home, pause};

/// A mailbox with this name of so many orders; each seed gives others.
pub(crate) fn fill(home: &Home, mailbox: &str, orders: usize, seed: u64) {
    let inbox = home.join(mailbox);
    for part in ["tmp", "new", "cur"] {
        fs::create_dir_all(inbox.join(part)).unwrap();
    }
    for (number, mail) in order_mails(orders, seed).unwrap().enumerate() {
        fs::write(inbox.join(format!("new/{number:05}")), mail.unwrap().raw).unwrap();
    }
}

fn report(home: &Home) -> Value {
    serde_json::from_slice(&fs::read(home.join("var/stop-report.json")).unwrap()).unwrap()
}

#[test]
fn a_stop_at_any_moment_of_the_start_is_a_clean_end() {
    for delay in [0, 5, 10, 20, 40, 80, 160] {
        let home = Home::new("early");
        let mut bot = home.start(&[]);
        // Before the program listens to signals at all, the system ends it: wait until the state directory is taken.
        bot.wait("state directory", || home.join("var/lock.json").exists());
        pause(Duration::from_millis(delay));
        bot.signal(Signal::TERM);
        let code = bot.end();
        assert_eq!(code, Some(0), "after {delay} ms:\n{}", bot.log());
        assert_eq!(report(&home)["cause"], "SIGTERM");
    }
}

#[test]
fn under_load_a_stop_is_not_ready_at_once_and_loses_nothing() {
    const ORDERS: usize = 400;
    let home = Home::new("load");
    fill(&home, "inbox", ORDERS, 5);
    let source = ["--set", "mail_order_bot.source=maildir:inbox"];
    let mut bot = home.start(&source);
    bot.wait("some orders", || home.replies() > 5);
    assert_eq!(bot.get("/readyz").map(|(status, _)| status), Some(200));
    let asked = Instant::now();
    bot.signal(Signal::TERM);
    // The control plane closes last, so until it is gone it must answer 503.
    while let Some((status, body)) = bot.get("/readyz") {
        if status == 200 {
            assert!(asked.elapsed() < Duration::from_secs(5), "still ready after the signal");
            continue;
        }
        assert_eq!((status, body.contains("stopping")), (503, true), "{body}");
        break;
    }
    assert_eq!(bot.end(), Some(0), "{}", bot.log());
    let report = report(&home);
    assert_eq!(
        (&report["outcome"], &report["cause"]),
        (&"clean".into(), &"SIGTERM".into()),
        "{report}"
    );
    assert!(report["took"].as_f64().unwrap() < report["budget"].as_f64().unwrap());
    let workers: Vec<&str> = report["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stop| stop["worker"].as_str().unwrap())
        .collect();
    let last = |name: &str| workers.iter().rposition(|worker| *worker == name);
    assert!(
        last("mail") < last("orders"),
        "the source stops before its consumers: {workers:?}"
    );

    let mut bot = home.start(&source);
    bot.wait("all replies", || home.replies() == ORDERS);
    bot.stop();
    assert_eq!(home.orders(&source).len(), ORDERS);
}

#[test]
fn a_second_signal_forces() {
    let home = Home::new("twice");
    fill(&home, "inbox", 200, 5);
    let mut bot = home.start(&["--set", "mail_order_bot.source=maildir:inbox"]);
    bot.wait("some orders", || home.replies() > 5);
    bot.signal(Signal::TERM);
    bot.signal(Signal::INT);
    // Whether anything was still in hand at the second signal is chance; that it ended, and said how, is not.
    let code = bot.end();
    let report = report(&home);
    let forced = report["workers"]
        .as_array()
        .unwrap()
        .iter()
        .any(|stop| stop["how"] == "forced");
    assert_eq!(code, Some(if forced { 3 } else { 0 }), "{report}");
    assert!(report["took"].as_f64().unwrap() < report["budget"].as_f64().unwrap());
}
