//! The source in IDLE mode against scripted servers, under paused time: the switch, gaps, long silences, half-open
//! connections, servers without IDLE, stops. What a real server does is in the tests with Dovecot.

use std::time::Duration;

use plba_contracts::health::Health;
use plba_tasks::ledger::{EntryState, SourceLedger};
use plba_tasks::source::TaskSource;
use tokio::time::{Instant, sleep};

use super::status::ConnectionState;
use super::tests::{Scripts, bodies, found, ok, opened, sizes, source};
use crate::imap::scripted::{Step, answer};
use crate::test_bench::Bench;

const IDLE: &str = "mode=idle&since=now";

fn agreed() -> Step {
    answer("IDLE", "+ idling\r\n")
}

fn done() -> Step {
    answer("DONE", "{tag} OK\r\n")
}

fn pause(seconds: u64) -> Step {
    Step::Pause(Duration::from_secs(seconds))
}

fn say(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

/// A connection to an empty folder, up to the first wait; then `steps`.
fn idling(steps: Vec<Step>) -> Vec<Step> {
    let look = vec![ok("NOOP"), found("UID SEARCH UID 1:*", "")];
    opened(7, 1, [look, steps].concat())
}

/// What is asked for by the write that ends an IDLE.
const GLIMPSE: &str = "UID FETCH 1:* (UID RFC822.SIZE BODY.PEEK[]<0.65536>)";

/// An IDLE's end after message 1 was announced, which comes at once, and the look that follows and finds that it is known.
fn glimpsed_one() -> Vec<Step> {
    vec![
        done(),
        answer(
            GLIMPSE,
            "* 1 FETCH (UID 1 RFC822.SIZE 5 BODY[]<0> {5}\r\nmail1)\r\n{tag} OK\r\n",
        ),
        ok("NOOP"),
        found("UID SEARCH UID 1:*", "1"),
        found("UID SEARCH UID 2:*", "1"),
    ]
}

/// A look that finds message 1.
fn look_finds_one() -> Vec<Step> {
    vec![
        ok("NOOP"),
        found("UID SEARCH UID 1:*", "1"),
        sizes("UID FETCH 1 (UID FLAGS", &[1]),
        bodies("UID FETCH 1 (UID BODY.PEEK[])", &[1]),
        found("UID SEARCH UID 2:*", "1"),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_message_that_arrives_during_idle_is_taken_in_at_once_and_marked_when_done() {
    let scripts = Scripts::new(vec![idling(
        [
            vec![agreed(), pause(100), say("* 1 EXISTS\r\n")],
            glimpsed_one(),
            vec![
                agreed(),
                done(),
                answer("UID STORE 1 +FLAGS", "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n{tag} OK\r\n"),
                agreed(),
            ],
        ]
        .concat(),
    )]);
    let (bench, source) = (Bench::new(), source(&scripts, IDLE));
    let begin = Instant::now();
    let _running = bench.run(&source);
    let delivery = bench.next().await;
    assert_eq!(begin.elapsed().as_secs(), 100);
    bench.complete(delivery).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((source.status().settled, source.status().errors), (1, 0));
    let shown = source.connection();
    assert_eq!(
        (shown.state, shown.mode.as_deref(), shown.notices),
        (ConnectionState::Idle, Some("idle"), 1)
    );
    assert!(shown.last_idle.is_some() && shown.last_uid == Some(1));
}

/// Between the search and the wait: in the search's answer, before the server agrees, and right after.
#[tokio::test(start_paused = true)]
async fn a_message_that_arrives_between_search_and_idle_is_not_missed() {
    let early = opened(
        7,
        1,
        [
            vec![
                ok("NOOP"),
                answer("UID SEARCH UID 1:*", "* SEARCH\r\n* 1 EXISTS\r\n{tag} OK\r\n"),
            ],
            look_finds_one(),
        ]
        .concat(),
    );
    let between = idling([vec![answer("IDLE", "* 1 EXISTS\r\n+ idling\r\n")], glimpsed_one()].concat());
    let after = idling([vec![answer("IDLE", "+ idling\r\n* 1 EXISTS\r\n")], glimpsed_one()].concat());
    for script in [early, between, after] {
        let scripts = Scripts::new(vec![script]);
        let bench = Bench::new();
        let begin = Instant::now();
        let _running = bench.run(&source(&scripts, IDLE));
        assert_eq!(bench.take(1).await, ["mail1"]);
        assert_eq!(begin.elapsed().as_secs(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_announced_while_another_is_marked_is_not_missed() {
    let scripts = Scripts::new(vec![idling(
        [
            vec![agreed(), say("* 1 EXISTS\r\n")],
            glimpsed_one(),
            vec![
                agreed(),
                done(),
                answer(
                    "UID STORE 1 +FLAGS",
                    "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n* 2 EXISTS\r\n{tag} OK\r\n",
                ),
                ok("NOOP"),
                found("UID SEARCH UID 2:*", "2"),
                sizes("UID FETCH 2 (UID FLAGS", &[2]),
                bodies("UID FETCH 2 (UID BODY.PEEK[])", &[2]),
                found("UID SEARCH UID 3:*", "2"),
            ],
        ]
        .concat(),
    )]);
    let bench = Bench::new();
    let _running = bench.run(&source(&scripts, IDLE));
    let first = bench.next().await;
    let begin = Instant::now();
    bench.complete(first).await;
    assert_eq!(bench.take(1).await, ["mail2"]);
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nobody_announces_is_found_by_the_safety_poll() {
    let scripts = Scripts::new(vec![idling([vec![agreed(), done()], look_finds_one()].concat())]);
    let bench = Bench::new();
    let begin = Instant::now();
    let _running = bench.run(&source(&scripts, IDLE));
    assert_eq!(bench.take(1).await, ["mail1"]);
    assert_eq!(begin.elapsed().as_secs(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_arrives_while_disconnected_is_found_on_reconnecting() {
    let scripts = Scripts::new(vec![
        idling(vec![agreed(), pause(100), Step::Close]),
        opened(7, 2, [look_finds_one(), vec![agreed()]].concat()),
    ]);
    let (bench, source) = (Bench::new(), source(&scripts, IDLE));
    let begin = Instant::now();
    let _running = bench.run(&source);
    assert_eq!(bench.take(1).await, ["mail1"]);
    assert!(begin.elapsed() < Duration::from_secs(102), "{:?}", begin.elapsed());
    assert_eq!(source.connection().reconnects, 1);
}

/// Failure 44: the network path is gone and neither side knows.
#[tokio::test(start_paused = true)]
async fn a_half_open_connection_is_found_within_six_minutes() {
    let scripts = Scripts::new(vec![
        idling(vec![agreed(), Step::Silence]),
        opened(7, 2, [look_finds_one(), vec![agreed()]].concat()),
    ]);
    let bench = Bench::new();
    let begin = Instant::now();
    // Even with the rarest safety poll: it is the re-issued IDLE that finds out.
    let _running = bench.run(&source(&scripts, "mode=idle&since=now&safety=24h"));
    assert_eq!(bench.take(1).await, ["mail1"]);
    assert!(begin.elapsed() <= Duration::from_secs(360), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_day_of_silence_is_one_connection_with_idle_issued_anew_every_five_minutes() {
    let quiet = (0..400).flat_map(|_| [agreed(), done()]).collect();
    let scripts = Scripts::new(vec![idling(quiet)]);
    let (bench, source) = (Bench::new(), source(&scripts, "mode=idle&since=now&safety=24h"));
    let _running = bench.run(&source);
    sleep(Duration::from_secs(86_000)).await;
    let shown = source.connection();
    assert_eq!((scripts.count(), source.status().errors), (1, 0));
    assert_eq!(shown.reissues, 286);
}

/// A day during which the path breaks silently every ten minutes: each time it is found, and each message comes.
#[tokio::test(start_paused = true)]
async fn a_day_of_half_open_connections_loses_no_message() {
    let life = |number: u32| {
        let uid: &'static str = number.to_string().leak();
        let search: &'static str = format!("UID SEARCH UID {number}:*").leak();
        let later: &'static str = format!("UID SEARCH UID {}:*", number + 1).leak();
        let fetch: &'static str = format!("UID FETCH {number} ").leak();
        let steps = vec![
            ok("NOOP"),
            found(search, uid),
            sizes(fetch, &[number]),
            answer(
                fetch,
                format!("* 1 FETCH (UID {number} BODY[] {{2}}\r\nhi)\r\n{{tag}} OK\r\n"),
            ),
            found(later, uid),
            agreed(),
            Step::Silence,
        ];
        opened(7, number + 1, steps)
    };
    const LIVES: u32 = 240;
    let mut lives: Vec<_> = (1..=LIVES).map(life).collect();
    lives.insert(0, idling(vec![agreed(), Step::Silence]));
    let scripts = Scripts::new(lives);
    let (bench, source) = (Bench::new(), source(&scripts, IDLE));
    let begin = Instant::now();
    let _running = bench.run(&source);
    for number in 1..=LIVES {
        let delivery = bench.next().await;
        let key = delivery.task.origin.as_ref().unwrap().key.as_ref();
        assert_eq!(key, format!("7:{number}"));
    }
    let each = begin.elapsed() / LIVES;
    assert!(each <= Duration::from_secs(360), "{each:?} between two lives");
    assert_eq!(source.connection().reconnects, u64::from(LIVES));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_idle_is_polled() {
    let look = [ok("NOOP"), found("UID SEARCH UID 1:*", "")];
    let incapable = answer("CAPABILITY", "* CAPABILITY IMAP4rev1\r\n{tag} OK\r\n");
    let mut script = opened(7, 1, [&look[..], &look, &look_finds_one()].concat());
    let place = script
        .iter()
        .position(|step| matches!(step, Step::Answer("CAPABILITY", _)));
    script[place.unwrap()] = incapable;
    let scripts = Scripts::new(vec![script]);
    let (bench, source) = (Bench::new(), source(&scripts, IDLE));
    let begin = Instant::now();
    let _running = bench.run(&source);
    assert_eq!(bench.take(1).await, ["mail1"]);
    assert_eq!(begin.elapsed().as_secs(), 60);
    let mode = source.connection().mode.unwrap();
    assert!(mode.starts_with("polling: ") && mode.contains("IDLE"), "{mode}");
    assert_eq!(source.status().health, Health::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_offers_idle_and_refuses_it_is_polled_on_the_same_connection() {
    let scripts = Scripts::new(vec![idling(
        [vec![answer("IDLE", "{tag} BAD unknown command\r\n")], look_finds_one()].concat(),
    )]);
    let (bench, source) = (Bench::new(), source(&scripts, IDLE));
    let begin = Instant::now();
    let _running = bench.run(&source);
    assert_eq!(bench.take(1).await, ["mail1"]);
    assert_eq!((begin.elapsed().as_secs(), scripts.count()), (30, 1));
    assert!(source.connection().mode.unwrap().contains("unknown command"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_each_idle_at_once_is_polled() {
    let scripts = Scripts::new(vec![idling(
        [vec![answer("IDLE", "+ idling\r\n{tag} OK over\r\n")], look_finds_one()].concat(),
    )]);
    let (bench, source) = (Bench::new(), source(&scripts, IDLE));
    let _running = bench.run(&source);
    assert_eq!(bench.take(1).await, ["mail1"]);
    assert_eq!((scripts.count(), source.status().errors), (1, 0));
    assert!(source.connection().mode.unwrap().contains("at once"));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_retried_is_fetched_without_a_word_from_the_server() {
    let outsized = answer(
        "UID FETCH 1 (UID FLAGS",
        "* 1 FETCH (UID 1 RFC822.SIZE 5000)\r\n{tag} OK\r\n",
    );
    let scripts = Scripts::new(vec![idling(vec![
        answer("IDLE", "+ idling\r\n* 1 EXISTS\r\n"),
        done(),
        answer(GLIMPSE, "{tag} NO [SERVERBUG] not now\r\n"),
        ok("NOOP"),
        found("UID SEARCH UID 1:*", "1"),
        outsized,
        found("UID SEARCH UID 2:*", "1"),
        agreed(),
        done(),
        ok("NOOP"),
        sizes("UID FETCH 1 (UID FLAGS", &[1]),
        bodies("UID FETCH 1 (UID BODY.PEEK[])", &[1]),
        found("UID SEARCH UID 2:*", "1"),
        agreed(),
    ])]);
    let bench = Bench::new();
    let _running = bench.run(&source(&scripts, "mode=idle&since=now&max_message=4KiB"));
    sleep(Duration::from_secs(40)).await;
    assert_eq!(bench.keys(EntryState::Dead), ["7:1"]);
    let begin = Instant::now();
    bench
        .ledger
        .retry_dead(&"orders".into(), &[bench.intake().task_id("7:1")])
        .await
        .unwrap();
    assert_eq!(bench.take(1).await, ["mail1"]);
    assert!(begin.elapsed() <= Duration::from_secs(30), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_a_pause_instead_of_agreeing_gets_it() {
    let busy = "{tag} NO [UNAVAILABLE] Suggested Backoff Time: 900000 milliseconds\r\n";
    let scripts = Scripts::new(vec![idling(vec![answer("IDLE", busy)]), idling(vec![agreed()])]);
    let bench = Bench::new();
    let _running = bench.run(&source(&scripts, IDLE));
    sleep(Duration::from_secs(1000)).await;
    assert_eq!(scripts.waits()[0].round(), 900.0);
}

#[tokio::test(start_paused = true)]
async fn flags_that_somebody_else_sets_lead_to_one_look_a_second_at_most() {
    let stirs: Vec<Step> = (0..20)
        .flat_map(|_| {
            [
                answer("IDLE", "+ idling\r\n* 1 FETCH (FLAGS (\\Seen))\r\n"),
                done(),
                ok("NOOP"),
                found("UID SEARCH UID 1:*", ""),
            ]
        })
        .collect();
    let scripts = Scripts::new(vec![idling(stirs)]);
    let (bench, source) = (Bench::new(), source(&scripts, IDLE));
    let _running = bench.run(&source);
    sleep(Duration::from_millis(10_500)).await;
    assert_eq!(source.connection().notices, 11);
    assert_eq!(source.status().errors, 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_an_idle_at_once_with_done_and_logout() {
    let scripts = Scripts::new(vec![idling(vec![
        agreed(),
        done(),
        answer("LOGOUT", "* BYE\r\n{tag} OK\r\n"),
    ])]);
    let (bench, source) = (Bench::new(), source(&scripts, IDLE));
    let running = bench.run(&source);
    sleep(Duration::from_secs(10)).await;
    let begin = Instant::now();
    bench.stop();
    running.await.unwrap().unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(source.connection().state, ConnectionState::Closed);

    let scripts = Scripts::new(vec![idling(vec![agreed(), Step::Silence])]);
    let bench = Bench::new();
    let running = bench.run(&super::tests::source(&scripts, IDLE));
    sleep(Duration::from_secs(10)).await;
    let begin = Instant::now();
    bench.stop();
    running.await.unwrap().unwrap();
    assert!(begin.elapsed() <= Duration::from_secs(5), "{:?}", begin.elapsed());
}

/// A cut at every byte the server sends from its agreement to the next one, with a message arriving: it comes, and once.
#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_of_the_exchange_loses_and_repeats_nothing() {
    let texts = ["+ idling\r\n* 1 EXISTS\r\n", "A0006 OK\r\n"];
    let length: usize = texts.iter().map(|text| text.len()).sum();
    for cut in 0..=length {
        let (first, second) = (cut.min(texts[0].len()), cut.saturating_sub(texts[0].len()));
        let mut broken = vec![answer("IDLE", &texts[0].as_bytes()[..first])];
        if first == texts[0].len() {
            broken.push(answer("DONE", &texts[1].as_bytes()[..second]));
        }
        broken.push(Step::Close);
        let scripts = Scripts::new(vec![
            idling(broken),
            opened(7, 2, [look_finds_one(), vec![agreed()]].concat()),
        ]);
        let bench = Bench::new();
        let running = bench.run(&source(&scripts, IDLE));
        assert_eq!(bench.take(1).await, ["mail1"], "cut at byte {cut}");
        sleep(Duration::from_secs(5)).await;
        assert_eq!(bench.keys(EntryState::Open), ["7:1"]);
        running.abort();
    }
}

/// Nothing but the end of the IDLE lies between the server's word and the task.
#[tokio::test(start_paused = true)]
async fn what_arrives_comes_with_the_end_of_the_idle_and_not_after_a_look() {
    let scripts = Scripts::new(vec![idling(vec![
        agreed(),
        pause(100),
        say("* 2 EXISTS\r\n"),
        done(),
        // The second one is not of this folder's new mail, and the third has more than was asked for.
        answer(
            GLIMPSE,
            "* 1 FETCH (UID 1 RFC822.SIZE 5 BODY[]<0> {5}\r\nmail1)\r\n* 2 FETCH (FLAGS (\\Seen))\r\n\
             * 2 FETCH (UID 2 RFC822.SIZE 70000 BODY[]<0> {4}\r\nmail)\r\n{tag} OK\r\n",
        ),
        Step::Pause(Duration::from_secs(50)),
        ok("NOOP"),
        found("UID SEARCH UID 1:*", "1 2"),
        sizes("UID FETCH 2 (UID FLAGS", &[2]),
        bodies("UID FETCH 2 (UID BODY.PEEK[])", &[2]),
    ])]);
    let bench = Bench::new();
    let begin = Instant::now();
    let _running = bench.run(&source(&scripts, IDLE));
    assert_eq!(bench.take(1).await, ["mail1"]);
    assert_eq!(begin.elapsed().as_secs(), 100);
    assert_eq!(bench.take(1).await, ["mail2"]);
    assert_eq!(begin.elapsed().as_secs(), 150);
}

#[tokio::test(start_paused = true)]
async fn of_much_that_arrives_at_once_the_sizes_are_looked_at_first() {
    let scripts = Scripts::new(vec![idling(
        [vec![agreed(), say("* 17 EXISTS\r\n"), done()], look_finds_one()].concat(),
    )]);
    let bench = Bench::new();
    let _running = bench.run(&source(&scripts, IDLE));
    assert_eq!(bench.take(1).await, ["mail1"]);
}

/// A server that loses what comes right behind a DONE: the message is found after the deadline, and from the third time
/// on nothing is sent there any more.
#[tokio::test(start_paused = true)]
async fn a_server_that_loses_what_follows_a_done_is_asked_after_it_from_then_on() {
    let arrives = || vec![agreed(), say("* 9 EXISTS\r\n"), done()];
    let life = |last: u32, number: u32, then: Vec<Step>| {
        let search: &'static str = format!("UID SEARCH UID {number}:*").leak();
        let fetch: &'static str = format!("UID FETCH {number} ").leak();
        let later: &'static str = format!("UID SEARCH UID {}:*", number + 1).leak();
        let uid = number.to_string();
        let body = format!("* 1 FETCH (UID {number} BODY[] {{2}}\r\nhi)\r\n{{tag}} OK\r\n");
        let look = match number > last {
            true => vec![ok("NOOP"), found(search, "")],
            false => vec![
                ok("NOOP"),
                found(search, &uid),
                sizes(fetch, &[number]),
                answer(fetch, body),
                found(later, &uid),
            ],
        };
        opened(7, last + 1, [look, then].concat())
    };
    let last_look = vec![
        ok("NOOP"),
        found("UID SEARCH UID 4:*", "4"),
        sizes("UID FETCH 4 ", &[4]),
        bodies("UID FETCH 4 (UID BODY.PEEK[])", &[4]),
    ];
    let swallows = || [arrives(), vec![Step::Silence]].concat();
    let scripts = Scripts::new(vec![
        life(0, 1, swallows()),
        life(1, 1, swallows()),
        life(2, 2, swallows()),
        life(3, 3, [arrives(), last_look].concat()),
    ]);
    let bench = Bench::new();
    let begin = Instant::now();
    let _running = bench.run(&source(&scripts, IDLE));
    for number in 1..=3_u64 {
        assert_eq!(bench.take(1).await, ["hi"]);
        assert!(
            begin.elapsed() < Duration::from_secs(number * 300),
            "{:?}",
            begin.elapsed()
        );
    }
    let begin = Instant::now();
    assert_eq!(bench.take(1).await, ["mail4"]);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(scripts.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_asked_for_anew_once_and_then_three_refusals_stop_the_source() {
    let file = std::env::temp_dir().join(format!("plba-mail-token-{}", std::process::id()));
    std::fs::write(&file, "ya29.first\n").unwrap();
    let greeting = say("* OK [CAPABILITY IMAP4rev1 AUTH=XOAUTH2] ready\r\n");
    let refused = vec![
        greeting,
        answer("AUTHENTICATE XOAUTH2", "+ \r\n"),
        answer("", "{tag} NO [AUTHENTICATIONFAILED] expired\r\n"),
    ];
    let scripts = Scripts::new(vec![refused]);
    let options = format!("mode=idle&token_file={}", file.display());
    let (bench, source) = (Bench::new(), source(&scripts, &options));
    let _running = bench.run(&source);
    sleep(Duration::from_secs(86_400)).await;
    assert_eq!(scripts.count(), 4);
    assert!(scripts.waits()[0] < 0.1, "{:?}", scripts.waits());
    assert!(matches!(source.status().health, Health::Unhealthy { .. }));
    // Somebody writes another token: that is worth a try.
    std::fs::write(&file, "ya29.second\n").unwrap();
    sleep(Duration::from_secs(60)).await;
    assert!(scripts.count() > 4);
    let _ = std::fs::remove_file(&file);
}
