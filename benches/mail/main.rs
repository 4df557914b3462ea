//! The IMAP source beside bare clients on the same Dovecot, in one run: 10,000 messages of 5 KB fetched, plain and over
//! TLS, beside UID FETCH by ranges of 100 that keeps nothing; the whole path (fetch, parse, store, mark) beside a loop
//! that does all of it message by message, as most clients do; and how long a delivered message takes to its handler,
//! beside the moment at which the server tells another connection of it.
//!
//! `cargo xtask bench mail [--json]`; of the binary itself, `--latency` measures that alone.

mod bare;
mod latency;
mod ours;
mod store;
mod tap;

use std::error::Error;

use plba_benches::report::{Figure, Goal, Good, not_run};
use plba_testservers::{Dovecot, StartError};

type Failure = Box<dyn Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

const MESSAGES: usize = 10_000;
/// How many of them the loop does that works one by one.
const ONE_BY_ONE: usize = 1_500;
const ROUNDS: usize = 5;

/// How a server is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Plain,
    Tls,
}

impl Link {
    fn name(self) -> &'static str {
        match self {
            Link::Plain => "plain",
            Link::Tls => "TLS",
        }
    }

    fn port(self, dovecot: &Dovecot) -> u16 {
        match self {
            Link::Plain => dovecot.imap_port(),
            Link::Tls => dovecot.imaps_port(),
        }
    }
}

fn main() -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?;
    runtime.block_on(async { tokio::spawn(run()).await })?
}

async fn run() -> Result<()> {
    let dovecot = match Dovecot::start().await {
        Ok(dovecot) => dovecot,
        Err(StartError::NotRun(reason)) => return Ok(not_run("mail", "Dovecot", &reason.to_string())?),
        Err(error) => return Err(error.into()),
    };
    if std::env::args().any(|argument| argument == "--latency") {
        return latency::measure(&dovecot).await;
    }
    dovecot.deliver_many(dovecot.user(), (0..MESSAGES).map(message))?;
    // Dovecot remembers what it has worked out of a message once: nobody is to pay for that.
    bare::fetch(&dovecot, Link::Plain).await?;
    for link in [Link::Plain, Link::Tls] {
        fetching(&dovecot, link).await?;
        whole_path(&dovecot, link).await?;
    }
    latency::measure(&dovecot).await
}

/// The text of an order in 5 KB.
fn message(number: usize) -> String {
    let head = format!(
        "From: Ada <ada@example.org>\r\nTo: orders@example.org\r\nSubject: order {number}\r\nMessage-ID: <{number}@example.org>\r\n\
         Date: Sun, 22 Nov 2026 06:30:00 +0000\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    );
    let line = format!(
        "{number} x ART-{:04} blue, in boxes of ten, to the usual place please\r\n",
        number % 1000
    );
    let lines = (5_000 - head.len()) / line.len();
    head + &line.repeat(lines)
}

async fn fetching(dovecot: &Dovecot, link: Link) -> Result<()> {
    let (mut client, mut source) = (Vec::new(), Vec::new());
    let (mut alone, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let bare = bare::fetch(dovecot, link).await?;
        alone.push(MESSAGES as f64 / bare.alone.as_secs_f64());
        whole.push(MESSAGES as f64 / bare.whole.as_secs_f64());
        client.push(MESSAGES as f64 / ours::fetch(dovecot, link).await?.as_secs_f64());
        source.push(MESSAGES as f64 / ours::take_in(dovecot, link).await?.as_secs_f64());
    }
    // The source dials, logs in and opens the folder within its time, so its peer does, too.
    for (what, pace, peer, peer_pace) in [
        (
            "checked client",
            &mut client,
            "bare UID FETCH by ranges of 100",
            &mut alone,
        ),
        (
            "source: dialled, found, fetched, recorded on disk, published",
            &mut source,
            "bare: dialled, UID FETCH by ranges of 100",
            &mut whole,
        ),
    ] {
        let (value, peer_value) = (median(pace), median(peer_pace));
        Figure {
            name: &format!("{}, {what}", link.name()),
            value,
            unit: "messages a second",
            good: Good::High,
            peer,
            peer_value,
            ratio: value / peer_value,
            goal: Some(Goal::RatioAtLeast(0.8)),
        }
        .report()?;
    }
    Ok(())
}

async fn whole_path(dovecot: &Dovecot, link: Link) -> Result<()> {
    let (mut source, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS.min(3) {
        bare::clear_marks(dovecot).await?;
        bare.push(ONE_BY_ONE as f64 / bare::one_by_one(dovecot, link, ONE_BY_ONE).await?.as_secs_f64());
        bare::clear_marks(dovecot).await?;
        source.push(MESSAGES as f64 / ours::whole_path(dovecot, link).await?.as_secs_f64());
    }
    let (value, peer_value) = (median(&mut source), median(&mut bare));
    Figure {
        name: &format!("{}, fetch, parse, store, mark", link.name()),
        value,
        unit: "messages a second",
        good: Good::High,
        peer: "a loop that does it one by one",
        peer_value,
        ratio: value / peer_value,
        goal: Some(Goal::RatioAtLeast(8.0)),
    }
    .report()?;
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
