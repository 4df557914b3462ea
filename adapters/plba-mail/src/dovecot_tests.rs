//! The IMAP source and client against a real Dovecot, in real time with short limits.

use std::sync::Arc;
use std::time::Duration;

use plba_net::BackoffSettings;
use plba_tasks::file_ledger::{FileLedger, FileLedgerSettings};
use plba_tasks::ledger::EntryState;
use plba_tasks::queue::Delivery;
use plba_tasks::source::TaskSource;
use plba_testservers::{Dovecot, require};

use crate::imap::{Account, Authentication, ImapSession, Timing};
use crate::settings::SourceSettings;
use crate::test_bench::{Bench, settings, text, until};
use crate::{MailSource, open};

fn short_limits(dovecot: &Dovecot) -> SourceSettings {
    SourceSettings {
        password: Some(dovecot.password().into()),
        backoff: BackoffSettings {
            first: Duration::from_millis(20),
            ceiling: Duration::from_millis(200),
            ..BackoffSettings::default()
        },
        ..settings()
    }
}

fn plain(dovecot: &Dovecot, folder: &str, options: &str) -> Arc<MailSource> {
    let (user, port) = (dovecot.user(), dovecot.imap_port());
    let url = format!("imap://{user}@127.0.0.1:{port}/{folder}?interval=30ms&{options}");
    Arc::new(open(&url, short_limits(dovecot)).unwrap())
}

fn encrypted(dovecot: &Dovecot, options: &str) -> Arc<MailSource> {
    let (user, port, ca) = (dovecot.user(), dovecot.imaps_port(), dovecot.ca_path().display());
    let url = format!("imaps://{user}@localhost:{port}/INBOX?interval=30ms&ca={ca}&only_ca=true&{options}");
    Arc::new(open(&url, short_limits(dovecot)).unwrap())
}

/// Another mail program on the same account.
async fn somebody_else(dovecot: &Dovecot) -> ImapSession {
    let account = Account {
        host: "127.0.0.1".into(),
        port: dovecot.imap_port(),
        tls: None,
        authentication: Authentication::Password {
            user: dovecot.user().into(),
            password: dovecot.password().into(),
        },
        connect: Default::default(),
        timing: Timing::default(),
    };
    account.log_in().await.unwrap()
}

fn message(number: usize) -> String {
    format!("From: ada@example.org\r\nSubject: order {number}\r\n\r\n{number} x A-1\r\n")
}

fn deliver(dovecot: &Dovecot, numbers: std::ops::Range<usize>) {
    dovecot.deliver_many(dovecot.user(), numbers.map(message)).unwrap();
}

fn seen(dovecot: &Dovecot) -> Vec<bool> {
    dovecot
        .messages(dovecot.user())
        .unwrap()
        .iter()
        .map(|message| message.is_seen())
        .collect()
}

#[tokio::test]
async fn new_mail_is_taken_in_and_seen_only_once_it_is_done() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    for source in [plain(&dovecot, "INBOX", ""), encrypted(&dovecot, "")] {
        let bench = Bench::new();
        let before = seen(&dovecot).len();
        deliver(&dovecot, 0..2);
        let running = bench.run(&source);
        let (first, second) = (bench.next().await, bench.next().await);
        assert_eq!(text(&first), message(0));
        until("a look after the intake", || source.status().last_success.is_some()).await;
        assert_eq!(seen(&dovecot)[before..], [false, false]);
        bench.complete(second).await;
        until("the second one marked", || seen(&dovecot)[before..] == [false, true]).await;
        bench.complete(first).await;
        until("both settled", || source.status().settled == 2).await;
        assert_eq!(seen(&dovecot)[before..], [true, true]);
        deliver(&dovecot, 7..8);
        let later = bench.next().await;
        assert_eq!(text(&later), message(7));
        bench.complete(later).await;
        until("the later one settled", || source.status().settled == 3).await;
        bench.stop();
        running.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn mail_that_somebody_else_has_read_is_not_lost() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    deliver(&dovecot, 0..1);
    let bench = Bench::new();
    let first = plain(&dovecot, "INBOX", "since=now");
    let running = bench.run(&first);
    until("the first look", || first.status().last_success.is_some()).await;
    bench.stop();
    running.await.unwrap().unwrap();

    deliver(&dovecot, 1..2);
    let mut other = somebody_else(&dovecot).await;
    other.open_folder("INBOX").await.unwrap();
    assert_eq!(other.mark(&[1, 2], &["\\Seen"], 10).await.unwrap().marked, [1, 2]);
    let bench = bench.restarted();
    let _running = bench.run(&plain(&dovecot, "INBOX", "since=now"));
    assert_eq!(bench.take(1).await, [message(1)]);
}

#[tokio::test]
async fn a_broken_connection_and_a_restarted_server_are_survived() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    let (bench, source) = (Bench::new(), encrypted(&dovecot, ""));
    let running = bench.run(&source);
    until("the first look", || source.status().last_success.is_some()).await;
    for round in 0..3 {
        deliver(&dovecot, round..round + 1);
        let delivery = bench.next().await;
        assert_eq!(text(&delivery), message(round));
        match round {
            0 => assert!(dovecot.kill_sessions() > 0),
            _ => dovecot.restart().await.unwrap(),
        }
        bench.complete(delivery).await;
        until("marked over a new connection", || {
            seen(&dovecot) == vec![true; round + 1]
        })
        .await;
    }
    until("settled", || source.status().settled == 3).await;
    assert!(source.status().errors > 0);
    bench.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_renumbered_mailbox_loses_no_unread_mail_and_repeats_no_read_mail() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    deliver(&dovecot, 0..3);
    let (bench, source) = (Bench::new(), plain(&dovecot, "INBOX", ""));
    let running = bench.run(&source);
    let done = bench.next().await;
    let held = bench.take(2).await;
    assert_eq!(held, [message(1), message(2)]);
    bench.complete(done).await;
    until("the first one marked", || seen(&dovecot) == [true, false, false]).await;
    bench.stop();
    running.await.unwrap().unwrap();

    dovecot.reset_uidvalidity(dovecot.user()).unwrap();
    let bench = bench.restarted();
    let _running = bench.run(&plain(&dovecot, "INBOX", ""));
    let again = [bench.next().await, bench.next().await];
    assert_eq!(again.each_ref().map(text), [message(1), message(2)]);
    for delivery in again {
        bench.complete(delivery).await;
    }
    until("all marked under their new numbers", || seen(&dovecot) == [true; 3]).await;
    assert_eq!(bench.keys(EntryState::Open), [""; 0]);
}

#[tokio::test]
async fn a_folder_with_a_name_beyond_ascii_is_found() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    deliver(&dovecot, 0..1);
    let limit = Duration::from_secs(10);
    let mut other = somebody_else(&dovecot).await;
    other
        .run("CREATE", "CREATE \"Auftr&AOQ-ge/Neu & gut\"", limit, |_| {})
        .await
        .unwrap_err();
    other
        .run("CREATE", "CREATE \"Auftr&AOQ-ge/Neu &- gut\"", limit, |_| {})
        .await
        .unwrap();
    other.open_folder("INBOX").await.unwrap();
    other
        .run("UID COPY", "UID COPY 1 \"Auftr&AOQ-ge/Neu &- gut\"", limit, |_| {})
        .await
        .unwrap();
    let (bench, source) = (Bench::new(), plain(&dovecot, "Auftr%C3%A4ge/Neu%20%26%20gut", ""));
    let _running = bench.run(&source);
    let delivery = bench.next().await;
    assert_eq!(text(&delivery), message(0));
    bench.complete(delivery).await;
    until("settled", || source.status().settled == 1).await;

    let missing = plain(&dovecot, "Auftr%C3%A4ge/Alt", "").preview().await.unwrap_err();
    assert!(missing.to_string().contains("Aufträge/Neu & gut"), "{missing}");
}

#[tokio::test]
async fn a_preview_counts_and_changes_nothing() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    deliver(&dovecot, 0..12);
    let mut other = somebody_else(&dovecot).await;
    other.open_folder("INBOX").await.unwrap();
    other.mark(&[1, 2], &["\\Seen"], 10).await.unwrap();
    for (since, count) in [
        ("now", 0),
        ("unseen", 10),
        ("all", 12),
        ("2020-01-01", 12),
        ("2199-01-01", 0),
    ] {
        let preview = encrypted(&dovecot, &format!("since={since}")).preview().await.unwrap();
        assert_eq!((preview.total, preview.count), (12, count), "{since}");
        if since == "unseen" {
            assert_eq!(preview.first.len(), 5);
            assert_eq!(preview.first[0].subject, "order 2");
        }
    }
    assert_eq!(seen(&dovecot).iter().filter(|seen| **seen).count(), 2);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_authority_are_told_apart() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    let (user, port) = (dovecot.user(), dovecot.imap_port());
    let wrong = SourceSettings {
        password: Some("wrong".into()),
        ..short_limits(&dovecot)
    };
    let source = open(&format!("imap://{user}@127.0.0.1:{port}/"), wrong).unwrap();
    let error = source.preview().await.unwrap_err().to_string();
    assert!(error.contains("refuses the credentials"), "{error}");

    let port = dovecot.imaps_port();
    let source = open(&format!("imaps://{user}@localhost:{port}/"), short_limits(&dovecot)).unwrap();
    let error = source.preview().await.unwrap_err().to_string();
    assert!(error.contains("`ca`"), "{error}");
}

/// A ledger on a file, as the platform has it; removed at the end.
struct LedgerFile(std::path::PathBuf);

impl LedgerFile {
    fn new() -> Self {
        LedgerFile(std::env::temp_dir().join(format!("plba-mail-{}.ledger", std::process::id())))
    }

    /// One process' life on this ledger.
    fn open(&self) -> Bench<FileLedger> {
        Bench::on(
            FileLedger::open_blocking(&self.0, &FileLedgerSettings::default()).unwrap(),
            10_000,
        )
    }
}

impl Drop for LedgerFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Failure 46: the process dies at random moments while mail is worked on. Every message is carried out at least once,
/// none is seen before it was, and in the end all are.
#[tokio::test]
async fn kills_at_random_moments_lose_no_mail_and_mark_none_too_early() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    const MAIL: usize = 150;
    const LIVES: usize = 12;
    let seed = 46;
    let mut random = fastrand::Rng::with_seed(seed);
    let file = LedgerFile::new();
    deliver(&dovecot, 0..MAIL);
    let mut done = vec![0; MAIL];
    for life in 0..LIVES {
        let bench = file.open();
        let running = bench.run(&encrypted(&dovecot, ""));
        for _ in 0..random.usize(0..20) {
            let delivery = bench.next().await;
            let number = number(&delivery);
            let early = seen(&dovecot)[number] && done[number] == 0;
            assert!(
                !early,
                "message {number} was seen before it was done; seed {seed}, life {life}"
            );
            done[number] += 1;
            // A process may die between the handler's end and the ack.
            if random.u8(0..10) > 0 {
                bench.complete(delivery).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..150))).await;
        running.abort();
        let _ = running.await;
    }
    // The last process is left alone and finishes everything.
    let bench = file.open();
    let _running = bench.run(&encrypted(&dovecot, ""));
    let finish = async {
        loop {
            let delivery = bench.next().await;
            done[number(&delivery)] += 1;
            bench.complete(delivery).await;
        }
    };
    tokio::select! {
        () = finish => {}
        () = until("everything seen", || seen(&dovecot).iter().all(|seen| *seen)) => {}
    }
    assert_eq!(done.iter().filter(|&&times| times == 0).count(), 0, "seed {seed}");
    let repeated = done.iter().filter(|&&times| times > 1).count();
    assert!(
        repeated <= 10 * LIVES,
        "{repeated} of {MAIL} were carried out again; seed {seed}"
    );
}

fn number(delivery: &Delivery) -> usize {
    let text = text(delivery);
    let subject = text
        .lines()
        .find_map(|line| line.strip_prefix("Subject: order "))
        .unwrap();
    subject.parse().unwrap()
}
