//! Where it can break it does, against a real Dovecot: cuts in both directions, random faults of the network, a mailbox of
//! ten thousand messages; and what becomes of messages that are over.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plba_net::BackoffSettings;
use plba_tasks::ledger::{EntryState, SourceLedger};
use plba_tasks::source::TaskSource;
use plba_testkit::proxy::{Chaos, Direction, Ending, FaultProxy};
use plba_testservers::{Dovecot, require};

use crate::imap::Timing;
use crate::settings::SourceSettings;
use crate::test_bench::{Bench, settings, text, until};
use crate::{MailSource, open};

/// Which byte of a conversation is the next to be cut at. Every one takes minutes; the model's tests do that in seconds.
const STEP: usize = 53;

/// Makes [`STEP`] 1.
const EVERY_BYTE: &str = "PLBA_EVERY_BYTE";

fn source(dovecot: &Dovecot, port: u16, options: &str) -> Arc<MailSource> {
    let limits = SourceSettings {
        password: Some(dovecot.password().into()),
        backoff: BackoffSettings {
            first: Duration::from_millis(5),
            ceiling: Duration::from_millis(50),
            ..BackoffSettings::default()
        },
        timing: Timing {
            turn: Duration::from_millis(500),
            silence: Duration::from_secs(2),
            ..Timing::default()
        },
        ..settings()
    };
    let user = dovecot.user();
    Arc::new(open(&format!("imap://{user}@127.0.0.1:{port}/INBOX?{options}"), limits).unwrap())
}

fn proxied(dovecot: &Dovecot) -> FaultProxy {
    FaultProxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, dovecot.imap_port())))
}

fn message(number: usize) -> String {
    format!("From: ada@example.org\r\nSubject: order {number}\r\n\r\n{number} x A-1\r\n")
}

fn deliver(dovecot: &Dovecot, number: usize) {
    dovecot.deliver(dovecot.user(), message(number).as_bytes()).unwrap();
}

/// The messages of a folder on disk, with the flags of their names.
fn folder(dovecot: &Dovecot, name: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let root: PathBuf = dovecot.maildir(dovecot.user()).join(name);
    for part in ["new", "cur"] {
        for entry in std::fs::read_dir(root.join(part)).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let flags = file.split_once(":2,").map_or("", |(_, flags)| flags).to_owned();
            if let Ok(text) = std::fs::read_to_string(entry.path()) {
                found.push((text, flags));
            }
        }
    }
    found.sort();
    found
}

/// How often each message was carried out.
type Done = Arc<Mutex<BTreeMap<String, usize>>>;

fn count(done: &Done) -> impl FnMut(String) + use<> {
    let done = Arc::clone(done);
    move |text| *done.lock().unwrap().entry(text).or_default() += 1
}

#[tokio::test]
async fn done_mail_is_marked_and_moved_and_dead_letters_are_put_aside_and_retried() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    (0..4).for_each(|number| deliver(&dovecot, number));
    let options = "interval=30ms&mark=seen,$Ordered&move=Done/2026&errors=Problems";
    let (bench, source) = (Bench::new(), source(&dovecot, dovecot.imap_port(), options));
    let running = bench.run(&source);
    let bad = bench.next().await;
    assert_eq!(text(&bad), message(0));
    bench.reject(bad).await;
    for _ in 1..4 {
        let good = bench.next().await;
        bench.complete(good).await;
    }
    until("three moved", || folder(&dovecot, ".Done.2026").len() == 3).await;
    until("one put aside", || folder(&dovecot, ".Problems").len() == 1).await;
    until("the inbox empty", || folder(&dovecot, ".").is_empty()).await;
    // A keyword is a letter of Dovecot's own in the file's name, `a` for the first.
    let done = folder(&dovecot, ".Done.2026");
    assert!(done.iter().all(|(_, flags)| flags == "Sa"), "{done:?}");
    assert_eq!(folder(&dovecot, ".Problems"), [(message(0), String::new())]);

    // Another process, and an operator who retries.
    bench.stop();
    running.await.unwrap().unwrap();
    let bench = bench.restarted();
    let uid_validity = source.connection().unwrap().uid_validity.unwrap();
    let id = bench.intake().task_id(&format!("{uid_validity}:1"));
    assert_eq!(bench.ledger.retry_dead(&"orders".into(), &[id]).await.unwrap(), 1);
    let source = self::source(&dovecot, dovecot.imap_port(), options);
    let _running = bench.run(&source);
    let again = bench.next().await;
    assert_eq!(text(&again), message(0));
    bench.complete(again).await;
    until("all four moved", || folder(&dovecot, ".Done.2026").len() == 4).await;
    until("settled", || source.status().settled == 1).await;
    until("none put aside any more", || folder(&dovecot, ".Problems").is_empty()).await;
    assert_eq!(source.status().errors, 0);
}

/// Failure 43 on the real server, from the greeting to the move, in both directions.
#[tokio::test]
async fn cuts_from_login_to_move_lose_and_repeat_nothing() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    let step = match std::env::var_os(EVERY_BYTE) {
        Some(_) => 1,
        None => STEP,
    };
    let proxy = proxied(&dovecot);
    let options = "interval=10ms&move=Done";
    let (bench, source) = (Bench::new(), source(&dovecot, proxy.port(), options));
    let running = bench.run(&source);
    let done = Done::default();
    let scenario = async {
        // What a whole life takes, to know where cuts can fall.
        until("the first look", || source.status().last_success.is_some()).await;
        deliver(&dovecot, 0);
        until("the first one moved", || folder(&dovecot, ".Done").len() == 1).await;
        let counts = proxy.counts();
        let mut mail = 1;
        for (direction, length) in [
            (Direction::ToClient, counts.to_client),
            (Direction::ToServer, counts.to_server),
        ] {
            for cut in (1..length).step_by(step) {
                deliver(&dovecot, mail);
                proxy.cut_after(direction, cut, Ending::Reset);
                proxy.reset_all();
                mail += 1;
                let what = format!("message {mail} moved, cut after {cut} bytes {direction}");
                until(&what, || folder(&dovecot, ".Done").len() == mail).await;
                until(&what, || folder(&dovecot, ".").is_empty()).await;
            }
        }
        proxy.heal();
        mail
    };
    let mail = tokio::select! {
        () = bench.work(count(&done)) => 0,
        mail = scenario => mail,
    };
    let done = done.lock().unwrap().clone();
    assert_eq!(done.len(), mail);
    assert!(done.values().all(|times| *times == 1), "{done:?}");
    assert!(source.status().errors > 0);
    until("all settled", || bench.keys(EntryState::Done).is_empty()).await;
    running.abort();
}

/// A network that does everything it can for a while: late, slow, one-way, cut, refused. Meanwhile people read and delete.
#[tokio::test]
async fn a_chaotic_network_loses_and_repeats_nothing() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    const MAIL: usize = 150;
    let proxy = Arc::new(proxied(&dovecot));
    let mut chaos = Chaos::new(fastrand::u64(..));
    (chaos.longest_peace, chaos.longest_fault) = (Duration::from_millis(100), Duration::from_millis(200));
    let options = "mode=idle&idle=1s&safety=1s&interval=200ms&move=Done";
    let (bench, source) = (Bench::new(), source(&dovecot, proxy.port(), options));
    let running = bench.run(&source);
    let done = Done::default();
    proxy.unleash(&chaos);
    let scenario = async {
        for number in 0..MAIL {
            deliver(&dovecot, number);
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..60))).await;
        }
        proxy.calm();
        proxy.reset_all();
        until("all moved", || folder(&dovecot, ".Done").len() == MAIL).await;
    };
    tokio::select! {
        () = bench.work(count(&done)) => {}
        () = scenario => {}
    }
    let done = done.lock().unwrap().clone();
    assert_eq!(done.len(), MAIL, "seed {}", chaos.seed);
    assert!(done.values().all(|times| *times == 1), "seed {}: {done:?}", chaos.seed);
    running.abort();
}

#[tokio::test]
async fn ten_thousand_messages_are_imported_once_each() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    const MAIL: usize = 10_000;
    dovecot.deliver_many(dovecot.user(), (0..MAIL).map(message)).unwrap();
    let (bench, source) = (Bench::new(), source(&dovecot, dovecot.imap_port(), "interval=100ms"));
    let running = bench.run(&source);
    let done = Done::default();
    let end = std::time::Instant::now() + Duration::from_secs(120);
    let all = async {
        while source.status().settled < MAIL as u64 {
            assert!(std::time::Instant::now() < end, "{:?}", source.status());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = bench.work(count(&done)) => {}
        () = all => {}
    }
    let done = done.lock().unwrap();
    assert_eq!((done.len(), source.status().published), (MAIL, MAIL as u64));
    let seen = dovecot.messages(dovecot.user()).unwrap();
    assert_eq!(seen.iter().filter(|message| message.is_seen()).count(), MAIL);
    assert_eq!(source.status().errors, 0);
    running.abort();
}
