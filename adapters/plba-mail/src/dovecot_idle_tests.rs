//! The IMAP source in IDLE mode against a real Dovecot, in real time with short limits, the network's faults included.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use plba_net::BackoffSettings;
use plba_tasks::source::TaskSource;
use plba_testkit::proxy::{Direction, Ending, FaultProxy};
use plba_testservers::{Dovecot, require};

use crate::imap::{ConnectionState, Timing};
use crate::settings::SourceSettings;
use crate::test_bench::{Bench, settings, text, until};
use crate::{MailSource, open};

/// A source that can only learn of mail by IDLE within the time a test takes: it polls once a day.
const ONLY_IDLE: &str = "mode=idle&interval=24h&safety=24h";

fn source(dovecot: &Dovecot, port: u16, options: &str) -> Arc<MailSource> {
    source_of(dovecot, dovecot.user(), port, options)
}

fn source_of(dovecot: &Dovecot, user: &str, port: u16, options: &str) -> Arc<MailSource> {
    let limits = SourceSettings {
        password: Some(dovecot.password().into()),
        backoff: BackoffSettings {
            first: Duration::from_millis(20),
            ceiling: Duration::from_millis(200),
            ..BackoffSettings::default()
        },
        timing: Timing {
            turn: Duration::from_millis(500),
            ..Timing::default()
        },
        ..settings()
    };
    let ca = dovecot.ca_path().display();
    let encrypted = port == dovecot.imaps_port();
    let url = match encrypted {
        true => format!("imaps://{user}@localhost:{port}/INBOX?ca={ca}&only_ca=true&{options}"),
        false => format!("imap://{user}@127.0.0.1:{port}/INBOX?{options}"),
    };
    Arc::new(open(&url, limits).unwrap())
}

fn message(number: usize) -> String {
    format!("From: ada@example.org\r\nSubject: order {number}\r\n\r\n{number} x A-1\r\n")
}

fn deliver(dovecot: &Dovecot, number: usize) {
    dovecot.deliver(dovecot.user(), message(number).as_bytes()).unwrap();
}

fn seen(dovecot: &Dovecot) -> usize {
    let messages = dovecot.messages(dovecot.user()).unwrap();
    messages.iter().filter(|message| message.is_seen()).count()
}

fn proxied(dovecot: &Dovecot) -> FaultProxy {
    FaultProxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, dovecot.imap_port())))
}

async fn idles(source: &MailSource) {
    until("an IDLE", || {
        source.connection().unwrap().state == ConnectionState::Idle
    })
    .await;
}

#[tokio::test]
async fn mail_is_taken_in_when_the_server_says_so_and_marked_while_waiting() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    let (bench, source) = (Bench::new(), source(&dovecot, dovecot.imaps_port(), ONLY_IDLE));
    let running = bench.run(&source);
    for number in 0..3 {
        idles(&source).await;
        deliver(&dovecot, number);
        let delivery = bench.next().await;
        assert_eq!(text(&delivery), message(number));
        bench.complete(delivery).await;
        until("marked", || seen(&dovecot) == number + 1).await;
    }
    idles(&source).await;
    assert_eq!(source.status().errors, 0);
    assert_eq!(source.connection().unwrap().reconnects, 0);
    bench.stop();
    running.await.unwrap().unwrap();
}

/// Mail that comes at any moment of a connection's life: no moment is deaf.
#[tokio::test]
async fn mail_in_a_hurry_is_all_taken_in_once() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    const MAIL: usize = 60;
    let mut random = fastrand::Rng::with_seed(5);
    let (bench, source) = (Bench::new(), source(&dovecot, dovecot.imap_port(), ONLY_IDLE));
    let _running = bench.run(&source);
    let delivering = async {
        for number in 0..MAIL {
            deliver(&dovecot, number);
            tokio::time::sleep(Duration::from_millis(random.u64(0..60))).await;
        }
    };
    let working = async {
        let mut taken = Vec::new();
        while taken.len() < MAIL {
            let delivery = bench.next().await;
            taken.push(text(&delivery));
            bench.complete(delivery).await;
        }
        taken
    };
    let ((), mut taken) = tokio::join!(delivering, working);
    taken.sort_unstable();
    let mut expected: Vec<String> = (0..MAIL).map(message).collect();
    expected.sort_unstable();
    assert_eq!(taken, expected);
    until("all marked", || seen(&dovecot) == MAIL).await;
    assert_eq!(source.status().published, MAIL as u64);
}

#[tokio::test]
async fn a_killed_server_is_come_back_to_and_nothing_is_missed() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    let (bench, source) = (Bench::new(), source(&dovecot, dovecot.imaps_port(), ONLY_IDLE));
    let _running = bench.run(&source);
    idles(&source).await;
    dovecot.stop().await;
    dovecot.kill_sessions();
    deliver(&dovecot, 0);
    until("the loss noticed", || source.status().errors > 0).await;
    dovecot.restart().await.unwrap();
    assert_eq!(bench.take(1).await, [message(0)]);
    idles(&source).await;
    deliver(&dovecot, 1);
    assert_eq!(bench.take(1).await, [message(1)]);
    assert!(source.connection().unwrap().reconnects > 0);
}

/// Failure 44 with limits of a second: everything vanishes in both directions, and no end says so.
#[tokio::test]
async fn a_black_hole_is_found_and_what_came_meanwhile_is_taken_in() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    let proxy = proxied(&dovecot);
    let options = format!("{ONLY_IDLE}&idle=1s");
    let (bench, source) = (Bench::new(), source(&dovecot, proxy.port(), &options));
    let _running = bench.run(&source);
    idles(&source).await;
    proxy.black_hole(Direction::ToServer);
    proxy.black_hole(Direction::ToClient);
    deliver(&dovecot, 0);
    let begin = std::time::Instant::now();
    until("the loss noticed", || source.status().errors > 0).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    proxy.heal();
    assert_eq!(bench.take(1).await, [message(0)]);
}

/// Failure 43 on the real server: the connection breaks after every so many bytes the server sends, from its greeting to
/// the first IDLE's answer and a message that arrives in it.
#[tokio::test]
async fn a_cut_at_every_few_bytes_loses_and_repeats_nothing() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    const STEP: usize = 61;
    let proxy = proxied(&dovecot);
    // What a whole life sends, to know where the cuts can fall.
    let bench = Bench::new();
    let options = format!("{ONLY_IDLE}&since=now");
    let whole = source(&dovecot, proxy.port(), &options);
    let running = bench.run(&whole);
    idles(&whole).await;
    let length = proxy.counts().to_client;
    bench.stop();
    running.await.unwrap().unwrap();

    let (bench, source) = (bench.restarted(), source(&dovecot, proxy.port(), &options));
    let _running = bench.run(&source);
    for (number, cut) in (1..length).step_by(STEP).enumerate() {
        // It falls on the connection that comes after the reset, or on one of the next.
        proxy.cut_after(Direction::ToClient, cut, Ending::Reset);
        proxy.reset_all();
        deliver(&dovecot, number);
        let delivery = bench.next().await;
        assert_eq!(text(&delivery), message(number), "cut {cut}");
        bench.complete(delivery).await;
    }
    proxy.heal();
    let mail = (1..length).step_by(STEP).count();
    until("all marked", || seen(&dovecot) == mail).await;
    assert_eq!(source.status().published, mail as u64);
}

/// One mailbox of several, so that their waits for the server pass together.
struct Lane {
    user: String,
    proxy: FaultProxy,
    source: Arc<MailSource>,
    bench: Bench,
    taken: usize,
}

impl Lane {
    fn open(dovecot: &Dovecot, number: usize) -> Self {
        let (user, proxy) = (format!("lane{number}"), proxied(dovecot));
        let options = "mode=idle&since=all&interval=1s&safety=2s";
        let source = source_of(dovecot, &user, proxy.port(), options);
        Lane {
            user,
            proxy,
            source,
            bench: Bench::new(),
            taken: 0,
        }
    }

    /// One message, from its delivery in an IDLE to its mark, with the connection cut on the way.
    async fn exchange(&mut self, dovecot: &Dovecot, cut: Option<(Direction, u64)>) {
        idles(&self.source).await;
        if let Some((direction, bytes)) = cut {
            self.proxy.cut_after(direction, bytes, Ending::Reset);
        }
        dovecot.deliver(&self.user, message(self.taken).as_bytes()).unwrap();
        let delivery = self.bench.next().await;
        assert_eq!(text(&delivery), message(self.taken), "{cut:?}");
        self.bench.complete(delivery).await;
        self.taken += 1;
        until(&format!("marked, {cut:?}"), || {
            let messages = dovecot.messages(&self.user).unwrap();
            messages.iter().filter(|message| message.is_seen()).count() == self.taken
        })
        .await;
    }
}

/// The same from the moment the server is waited for on: its word, the end of the IDLE with what is asked for behind it, the
/// look after that, and the mark; in both directions.
#[tokio::test]
async fn a_cut_at_every_few_bytes_from_idle_to_idle_loses_and_repeats_nothing() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    const LANES: usize = 8;
    let every = std::env::var_os("PLBA_EVERY_BYTE").is_some();
    let step = if every { 1 } else { 29 };
    let mut first = Lane::open(&dovecot, LANES);
    let running = first.bench.run(&first.source);
    idles(&first.source).await;
    let before = first.proxy.counts();
    first.exchange(&dovecot, None).await;
    idles(&first.source).await;
    let after = first.proxy.counts();
    running.abort();
    let spans = [
        (Direction::ToClient, after.to_client - before.to_client),
        (Direction::ToServer, after.to_server - before.to_server),
    ];
    let cuts = spans
        .into_iter()
        .flat_map(|(direction, length)| (1..=length).map(move |cut| (direction, cut)));
    let cuts: Vec<_> = cuts.step_by(step).collect();
    let lanes = (0..LANES).map(|number| {
        let (dovecot, cuts) = (&dovecot, &cuts);
        async move {
            let mut lane = Lane::open(dovecot, number);
            let running = lane.bench.run(&lane.source);
            for &cut in cuts.iter().skip(number).step_by(LANES) {
                lane.exchange(dovecot, Some(cut)).await;
            }
            lane.proxy.heal();
            assert_eq!(lane.source.status().published, lane.taken as u64);
            running.abort();
            lane.source.status().errors
        }
    });
    let errors: u64 = futures_util::future::join_all(lanes).await.into_iter().sum();
    eprintln!("{} cuts in {spans:?} bytes, {errors} connections lost", cuts.len());
    assert!(errors as usize >= cuts.len() / 2, "{errors} of {} cuts", cuts.len());
}

#[tokio::test]
async fn scram_and_plain_get_in() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    for mechanism in ["plain", "scram-sha-256"] {
        let source = source(&dovecot, dovecot.imaps_port(), &format!("auth={mechanism}"));
        source
            .preview()
            .await
            .unwrap_or_else(|error| panic!("{mechanism}: {error}"));
    }
}
