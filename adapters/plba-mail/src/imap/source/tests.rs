//! The source's life against scripted servers, under paused time: reconnects, pauses, refusals, messages that no fetch
//! survives. What a real server does is in the tests with Dovecot.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::health::Health;
use plba_tasks::intake::completion_task;
use plba_tasks::ledger::{EntryState, SourceLedger};
use plba_tasks::queue::TaskQueue;
use plba_tasks::source::TaskSource;
use tokio::time::{Instant, sleep};

use super::ImapSource;
use crate::imap::connect::Dial;
use crate::imap::scripted::{Step, answer, greeting, login, serve};
use crate::imap::{Account, ByteStream, ImapError};
use crate::location::Location;
use crate::test_bench::{Bench, settings};

/// Plays one script per connection and notes when each began; the last script is played again and again.
pub(super) struct Scripts {
    scripts: Mutex<VecDeque<Vec<Step>>>,
    dialled: Mutex<Vec<Instant>>,
}

impl Scripts {
    pub(super) fn new(scripts: Vec<Vec<Step>>) -> Arc<Self> {
        Arc::new(Scripts {
            scripts: Mutex::new(scripts.into()),
            dialled: Mutex::default(),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.dialled.lock().unwrap().len()
    }

    /// The waits between connections in seconds.
    pub(super) fn waits(&self) -> Vec<f64> {
        let dialled = self.dialled.lock().unwrap();
        dialled
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect()
    }
}

#[async_trait]
impl Dial for Scripts {
    async fn dial(&self, _account: &Account) -> Result<Box<dyn ByteStream>, ImapError> {
        self.dialled.lock().unwrap().push(Instant::now());
        let mut scripts = self.scripts.lock().unwrap();
        let script = if scripts.len() > 1 {
            scripts.pop_front()
        } else {
            scripts.front().cloned()
        };
        Ok(serve(script.unwrap_or_default()))
    }
}

pub(super) fn source(scripts: &Arc<Scripts>, options: &str) -> Arc<ImapSource> {
    let url = format!("imap://bot@localhost/INBOX?{options}");
    let Ok(Location::Imap(location)) = url.parse() else {
        panic!("{url}");
    };
    let dial: Arc<Scripts> = Arc::clone(scripts);
    Arc::new(ImapSource::new(location, settings()).over(dial))
}

/// From the greeting to the open folder, and then `steps`.
pub(super) fn opened(uid_validity: u32, uid_next: u32, steps: Vec<Step>) -> Vec<Step> {
    let select = format!(
        "* {} EXISTS\r\n* OK [UIDVALIDITY {uid_validity}] ok\r\n* OK [UIDNEXT {uid_next}] ok\r\n{{tag}} OK [READ-WRITE] ok\r\n",
        uid_next - 1
    );
    let able = answer("CAPABILITY", "* CAPABILITY IMAP4rev1 IDLE\r\n{tag} OK\r\n");
    [
        vec![greeting(), login(), able, answer("SELECT \"INBOX\"", select)],
        steps,
    ]
    .concat()
}

pub(super) fn ok(command: &'static str) -> Step {
    answer(command, "{tag} OK\r\n")
}

pub(super) fn found(command: &'static str, uids: &str) -> Step {
    answer(command, format!("* SEARCH {uids}\r\n{{tag}} OK\r\n"))
}

pub(super) fn sizes(command: &'static str, uids: &[u32]) -> Step {
    let lines: String = uids
        .iter()
        .map(|uid| format!("* 1 FETCH (UID {uid} FLAGS () RFC822.SIZE 5)\r\n"))
        .collect();
    answer(command, format!("{lines}{{tag}} OK\r\n"))
}

pub(super) fn bodies(command: &'static str, uids: &[u32]) -> Step {
    let lines: String = uids
        .iter()
        .map(|uid| format!("* 1 FETCH (UID {uid} BODY[] {{5}}\r\nmail{uid})\r\n"))
        .collect();
    answer(command, format!("{lines}{{tag}} OK\r\n"))
}

#[tokio::test(start_paused = true)]
async fn new_messages_are_taken_in_and_marked_only_once_they_are_done() {
    let scripts = Scripts::new(vec![opened(
        7,
        3,
        vec![
            ok("NOOP"),
            found("UID SEARCH UID 1:2 UNSEEN UNDELETED", "1 2"),
            sizes("UID FETCH 1:2 (UID FLAGS", &[1, 2]),
            bodies("UID FETCH 1:2 (UID BODY.PEEK[])", &[1, 2]),
            found("UID SEARCH UID 3:*", "2"),
            // Nothing is marked for as long as nothing is done: the next command is that of the next look, 30 s later.
            ok("NOOP"),
            found("UID SEARCH UID 3:*", "2"),
            answer(
                "UID STORE 2 +FLAGS (\\Seen)",
                "* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n{tag} OK\r\n",
            ),
        ],
    )]);
    let (bench, source) = (Bench::new(), source(&scripts, "since=unseen"));
    let running = bench.run(&source);
    let first = bench.next().await;
    let second = bench.next().await;
    assert_eq!(
        (
            first.task.origin.as_ref().unwrap().key.as_ref(),
            &first.task.payload[..]
        ),
        ("7:1", &b"mail1"[..])
    );
    sleep(Duration::from_secs(31)).await;
    bench.complete(second).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.keys(EntryState::Open), ["7:1"]);
    assert_eq!(
        bench.keys(EntryState::Settled),
        [""; 0],
        "settled and covered by the cursor: forgotten"
    );
    assert_eq!(source.status().health, Health::Ok);
    assert_eq!((source.status().published, source.status().settled), (2, 1));
    bench.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_kill_between_fetch_and_store_redelivers_and_then_marks() {
    let scripts = Scripts::new(vec![opened(
        7,
        3,
        vec![
            ok("NOOP"),
            found("UID SEARCH UID 1:2", "1 2"),
            sizes("UID FETCH 1:2", &[1, 2]),
            bodies("UID FETCH 1:2", &[1, 2]),
            found("UID SEARCH UID 3:*", ""),
        ],
    )]);
    let bench = Bench::new();
    let running = bench.run(&source(&scripts, ""));
    let first = bench.next().await;
    sleep(Duration::from_secs(1)).await;
    running.abort();
    bench.complete(first).await; // done, but the process dies before upstream is told

    let scripts = Scripts::new(vec![opened(
        7,
        3,
        vec![
            answer("UID STORE 1 +FLAGS", "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n{tag} OK\r\n"),
            ok("NOOP"),
            sizes("UID FETCH 2 (UID FLAGS", &[2]),
            bodies("UID FETCH 2 (UID BODY.PEEK[])", &[2]),
            found("UID SEARCH UID 3:*", ""),
        ],
    )]);
    let bench = bench.restarted();
    let _running = bench.run(&source(&scripts, ""));
    assert_eq!(bench.take(1).await, ["mail2"]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.keys(EntryState::Open), ["7:2"]);
    assert_eq!(bench.keys(EntryState::Done), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn since_now_takes_in_nothing_that_was_there() {
    let scripts = Scripts::new(vec![opened(
        7,
        101,
        vec![
            ok("NOOP"),
            found("UID SEARCH UID 101:*", "100"),
            ok("NOOP"),
            found("UID SEARCH UID 101:*", "101"),
            sizes("UID FETCH 101", &[101]),
            answer(
                "UID FETCH 101",
                "* 1 FETCH (UID 101 BODY[] {4}\r\nnew!)\r\n{tag} OK\r\n",
            ),
            found("UID SEARCH UID 102:*", "101"),
        ],
    )]);
    let bench = Bench::new();
    let _running = bench.run(&source(&scripts, "since=now"));
    assert_eq!(bench.take(1).await, ["new!"]);
}

#[tokio::test(start_paused = true)]
async fn a_renumbered_folder_is_searched_for_unread_mail() {
    let scripts = Scripts::new(vec![
        opened(
            7,
            3,
            vec![
                ok("NOOP"),
                found("UID SEARCH UID 1:2", "1 2"),
                sizes("UID FETCH 1:2", &[1, 2]),
                bodies("UID FETCH 1:2", &[1, 2]),
                found("UID SEARCH UID 3:*", ""),
                Step::Close,
            ],
        ),
        opened(
            8,
            3,
            vec![
                ok("NOOP"),
                found("UID SEARCH UID 1:2 UNSEEN", "2"),
                sizes("UID FETCH 2", &[2]),
                bodies("UID FETCH 2", &[2]),
                found("UID SEARCH UID 3:*", ""),
            ],
        ),
    ]);
    let bench = Bench::new();
    let _running = bench.run(&source(&scripts, "since=all"));
    assert_eq!(bench.take(2).await, ["mail1", "mail2"]);
    let again = bench.next().await;
    assert_eq!(again.task.origin.as_ref().unwrap().key.as_ref(), "8:2");
}

#[tokio::test(start_paused = true)]
async fn one_bad_message_blocks_nothing_and_ends_as_a_dead_letter() {
    let nonsense = "* 2 FETCH (UID 2 BODY[] ~{3}\r\nabc)\r\n";
    let again = opened(
        7,
        4,
        vec![
            ok("NOOP"),
            found("UID SEARCH UID 2:3", "2 3"),
            // Its size is not asked for again: it could be that.
            answer("UID FETCH 2 (UID BODY.PEEK[])", nonsense),
        ],
    );
    let scripts = Scripts::new(vec![
        opened(
            7,
            4,
            vec![
                ok("NOOP"),
                found("UID SEARCH UID 1:3", "1 2 3"),
                sizes("UID FETCH 1:3", &[1, 2, 3]),
                answer("UID FETCH 1:3", nonsense),
            ],
        ),
        opened(
            7,
            4,
            vec![
                ok("NOOP"),
                found("UID SEARCH UID 1:3", "1 2 3"),
                sizes("UID FETCH 1", &[1]),
                bodies("UID FETCH 1", &[1]),
                sizes("UID FETCH 2", &[2]),
                answer("UID FETCH 2", nonsense),
            ],
        ),
        again.clone(),
        again,
        opened(
            7,
            4,
            vec![
                ok("NOOP"),
                found("UID SEARCH UID 2:3", "2 3"),
                sizes("UID FETCH 3", &[3]),
                bodies("UID FETCH 3", &[3]),
                found("UID SEARCH UID 4:*", "3"),
            ],
        ),
    ]);
    let bench = Bench::new();
    let running = bench.run(&source(&scripts, ""));
    assert_eq!(bench.take(1).await, ["mail1"]);
    while bench.keys(EntryState::Dead).is_empty() {
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(bench.keys(EntryState::Dead), ["7:2"]);
    assert!(bench.ledger.reason("7:2").unwrap().contains("can't be fetched"));
    assert_eq!(bench.take(1).await, ["mail3"]);
    assert_eq!(scripts.count(), 5);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_dead_message_is_not_fetched_again_until_it_is_retried() {
    let scripts = Scripts::new(vec![opened(
        7,
        2,
        vec![
            ok("NOOP"),
            found("UID SEARCH UID 1:1", "1"),
            answer(
                "UID FETCH 1 (UID FLAGS",
                "* 1 FETCH (UID 1 RFC822.SIZE 5000)\r\n{tag} OK\r\n",
            ),
            found("UID SEARCH UID 2:*", "1"),
            ok("NOOP"),
            found("UID SEARCH UID 2:*", "1"),
            ok("NOOP"),
            sizes("UID FETCH 1 (UID FLAGS", &[1]),
            bodies("UID FETCH 1 (UID BODY.PEEK[])", &[1]),
            found("UID SEARCH UID 2:*", "1"),
        ],
    )]);
    let bench = Bench::new();
    let _running = bench.run(&source(&scripts, "max_message=4KiB"));
    sleep(Duration::from_secs(40)).await;
    assert_eq!(bench.keys(EntryState::Dead), ["7:1"]);
    assert!(bench.ledger.reason("7:1").unwrap().contains("5000 bytes"));
    bench
        .ledger
        .retry_dead(&"orders".into(), &[bench.intake().task_id("7:1")])
        .await
        .unwrap();
    assert_eq!(bench.take(1).await, ["mail1"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_deleted_before_it_is_fetched_again_is_given_up() {
    let scripts = Scripts::new(vec![opened(
        7,
        2,
        vec![
            ok("NOOP"),
            found("UID SEARCH UID 1:1", "1"),
            sizes("UID FETCH 1", &[1]),
            bodies("UID FETCH 1", &[1]),
            found("UID SEARCH UID 2:*", ""),
        ],
    )]);
    let bench = Bench::new();
    let _running = bench.run(&source(&scripts, ""));
    bench.take(1).await;
    sleep(Duration::from_secs(1)).await;
    let scripts = Scripts::new(vec![opened(
        7,
        2,
        vec![
            ok("NOOP"),
            ok("UID FETCH 1"),
            found("UID SEARCH UID 1", ""),
            found("UID SEARCH UID 2:*", ""),
        ],
    )]);
    let bench = bench.restarted();
    let source = source(&scripts, "");
    let _running = bench.run(&source);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.keys(EntryState::Open), [""; 0]);
    assert_eq!(source.status().health, Health::Ok);
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_tried_three_times_and_never_again() {
    let refused = vec![greeting(), answer("LOGIN", "{tag} NO [AUTHENTICATIONFAILED] no\r\n")];
    let scripts = Scripts::new(vec![refused]);
    let (bench, source) = (Bench::new(), source(&scripts, ""));
    let running = bench.run(&source);
    sleep(Duration::from_secs(86_400)).await;
    assert_eq!(scripts.count(), 3);
    let Health::Unhealthy { reason } = source.status().health else {
        panic!("{:?}", source.status());
    };
    assert!(reason.contains("3 tries") && !reason.contains("secret"), "{reason}");
    bench.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drops_every_connection_is_not_stormed() {
    let scripts = Scripts::new(vec![opened(7, 1, vec![Step::Close])]);
    let (bench, source) = (Bench::new(), source(&scripts, ""));
    let _running = bench.run(&source);
    sleep(Duration::from_secs(86_400)).await;
    let waits = scripts.waits();
    assert!(
        (280..=600).contains(&waits.len()),
        "{} connections in a day",
        waits.len()
    );
    assert!(waits.iter().all(|wait| *wait <= 300.5), "{waits:?}");
    assert!(waits.iter().skip(10).all(|wait| *wait >= 149.5), "{waits:?}");
    assert!(matches!(source.status().health, Health::Unhealthy { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_throttled_source_waits_as_long_as_it_is_told() {
    let throttled = "{tag} NO Throttled. Suggested Backoff Time: 900000 milliseconds\r\n";
    let scripts = Scripts::new(vec![
        opened(7, 1, vec![ok("NOOP"), answer("UID SEARCH", throttled)]),
        opened(7, 1, vec![ok("NOOP"), found("UID SEARCH UID 1:*", "")]),
    ]);
    let bench = Bench::new();
    let _running = bench.run(&source(&scripts, "since=now"));
    sleep(Duration::from_secs(1000)).await;
    assert_eq!(scripts.waits()[0].round(), 900.0);
}

#[tokio::test(start_paused = true)]
async fn marking_goes_on_while_a_full_queue_holds_the_source() {
    let scripts = Scripts::new(vec![opened(
        7,
        4,
        vec![
            ok("NOOP"),
            found("UID SEARCH UID 1:3", "1 2 3"),
            sizes("UID FETCH 1:3", &[1, 2, 3]),
            bodies("UID FETCH 1 (UID BODY", &[1]),
            bodies("UID FETCH 2 (UID BODY", &[2]),
            bodies("UID FETCH 3 (UID BODY", &[3]),
            answer("UID STORE 1 +FLAGS", "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n{tag} OK\r\n"),
        ],
    )]);
    let bench = Bench::with_capacity(2);
    let url = "imap://bot@localhost/INBOX".parse();
    let Ok(Location::Imap(location)) = url else {
        panic!("not read");
    };
    let dial: Arc<Scripts> = Arc::clone(&scripts);
    let one_by_one = crate::settings::SourceSettings { batch: 1, ..settings() };
    let source = Arc::new(ImapSource::new(location, one_by_one).over(dial));
    let _running = bench.run(&source);
    let first = bench.next().await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.keys(EntryState::Open), ["7:1", "7:2"], "the third waits for room");
    // Another process has carried the first one out.
    let origin = first.task.origin.clone().unwrap();
    bench.queue.publish(vec![completion_task(&origin)]).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(source.status().settled, 1);
    assert_eq!(bench.keys(EntryState::Open), ["7:2"], "the third still waits for room");
    bench.complete(first).await;
    assert_eq!(bench.take(2).await, ["mail2", "mail3"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_nothing_to_do_is_kept_alive() {
    let look = [ok("NOOP"), found("UID SEARCH UID 1:*", "")];
    let pulses = vec![ok("NOOP"); 11];
    let scripts = Scripts::new(vec![opened(7, 1, [&look[..], &pulses[..], &look[..]].concat())]);
    let (bench, source) = (Bench::new(), source(&scripts, "since=now&interval=1h"));
    let _running = bench.run(&source);
    sleep(Duration::from_secs(3700)).await;
    assert_eq!((scripts.count(), source.status().errors), (1, 0));
    assert_eq!(source.status().note.unwrap(), "taken in up to UID 0 (UIDVALIDITY 7)");
}

#[tokio::test(start_paused = true)]
async fn a_mark_that_the_server_does_not_show_is_not_settled_but_tried_again() {
    let scripts = Scripts::new(vec![opened(
        7,
        2,
        vec![
            ok("NOOP"),
            found("UID SEARCH UID 1:1", "1"),
            sizes("UID FETCH 1", &[1]),
            bodies("UID FETCH 1", &[1]),
            found("UID SEARCH UID 2:*", "1"),
            ok("UID STORE 1 +FLAGS"),
            sizes("UID FETCH 1 (UID FLAGS", &[1]),
            answer("UID STORE 1 +FLAGS", "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n{tag} OK\r\n"),
            ok("NOOP"),
            found("UID SEARCH UID 2:*", "1"),
        ],
    )]);
    let (bench, source) = (Bench::new(), source(&scripts, ""));
    let _running = bench.run(&source);
    let delivery = bench.next().await;
    bench.complete(delivery).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        (bench.keys(EntryState::Done), source.status().settled),
        (vec!["7:1".to_owned()], 0)
    );
    sleep(Duration::from_secs(30)).await;
    assert_eq!((bench.keys(EntryState::Done), source.status().settled), (vec![], 1));
    assert_eq!((scripts.count(), source.status().errors), (1, 0));
}
