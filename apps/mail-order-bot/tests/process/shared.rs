//! Three bots on one queue: all of them work on orders, one of them runs the source. One is killed, one is stopped, each
//! while it runs the source; nothing is lost, and nothing is done twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use mail_order_bot::samples::generate::{OrderMail, order_mails};
use mail_order_bot::store::{OrderFilter, OrderReads};
use plba_testservers::{Dovecot, PostgresServer, RedisServer, require};
use serde_json::Value;

use crate::bot::{Bot, Home, PATIENCE, pause};
use crate::mailbox::{answers, seen, settings};

/// Orders come in three parts: to three bots, to two, and to the last one.
const PART: usize = 100;

/// How long a bot that runs the source may be out of touch, and how long tasks stay with one that is.
const LEASE: Duration = Duration::from_secs(4);

/// What a take-over may take beyond the lease.
const BEYOND: Duration = Duration::from_secs(5);

#[tokio::test]
async fn three_bots_share_a_queue_on_redis() {
    if let Some(server) = require(RedisServer::start().await) {
        share(&server.url(), "redis").await;
    }
}

#[tokio::test]
async fn three_bots_share_a_queue_in_postgres() {
    if let Some(server) = require(PostgresServer::start().await) {
        share(&server.url(), "postgres").await;
    }
}

/// A bot of the three.
struct Member {
    home: Home,
    bot: Bot,
}

impl Member {
    /// Whether it runs the source, as its status says.
    fn acts(&self) -> bool {
        let workers = self.home.ask(&["workers"]);
        let mail = named(&workers, "mail");
        let note = mail.expect("there is a source").to_string();
        assert!(
            note.contains("acts under token") != note.contains("stands by"),
            "{note}"
        );
        note.contains("acts under token")
    }
}

/// The worker of this name, wherever the view has it.
fn named<'a>(view: &'a Value, name: &str) -> Option<&'a Value> {
    match view {
        Value::Object(fields) if fields.get("name").is_some_and(|found| found == name) => Some(view),
        Value::Object(fields) => fields.values().find_map(|field| named(field, name)),
        Value::Array(list) => list.iter().find_map(|entry| named(entry, name)),
        _ => None,
    }
}

/// Waits until exactly one bot runs the source, and takes it out of the others; never do two.
#[track_caller]
fn acting(members: &mut Vec<Member>, limit: Duration) -> Member {
    let began = Instant::now();
    loop {
        let acting: Vec<bool> = members.iter().map(Member::acts).collect();
        let places: Vec<usize> = (0..members.len()).filter(|place| acting[*place]).collect();
        assert!(places.len() <= 1, "{} bots run the source", places.len());
        if let [place] = places[..] {
            eprintln!("one of {} runs the source after {:?}", members.len(), began.elapsed());
            return members.remove(place);
        }
        assert!(began.elapsed() < limit, "nobody runs the source within {limit:?}");
        pause(Duration::from_millis(50));
    }
}

fn stored(path: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let Ok(reads) = OrderReads::open(path) else {
        return counts;
    };
    let mut filter = OrderFilter {
        limit: 1_000,
        ..OrderFilter::default()
    };
    while let Ok(page) = reads.orders(&filter) {
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        for order in page {
            *counts.entry(order.message_id).or_default() += 1;
        }
    }
    counts
}

async fn share(queue: &str, name: &str) {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    let seed = fastrand::u64(..1 << 32);
    eprintln!("seed of orders and kills: {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mails: Vec<OrderMail> = order_mails(3 * PART, seed).unwrap().map(Result::unwrap).collect();
    let deliver = |part: usize| {
        let part = &mails[part * PART..(part + 1) * PART];
        let raw = part.iter().map(|mail| &mail.raw);
        dovecot.deliver_many(dovecot.user(), raw).unwrap();
    };
    let common = Home::new(&format!("common-{name}"));
    let (store, replies) = (common.join("orders.db"), common.join("outbox"));
    let mut arguments = settings(&dovecot);
    for setting in [
        format!(
            "queue={queue}{}lease={}",
            if queue.contains('?') { '&' } else { '?' },
            LEASE.as_secs()
        ),
        format!("source_lease={}s", LEASE.as_secs()),
        format!("store=sqlite:{}", store.display()),
        format!("replies=maildir:{}", replies.display()),
    ] {
        arguments.extend(["--set".to_owned(), format!("mail_order_bot.{setting}")]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let member = |number: usize| {
        let home = Home::new(&format!("{name}-{number}"));
        let mut bot = home.start(&arguments);
        bot.wait_for_line("mail-order-bot is ready");
        Member { home, bot }
    };
    let mut others: Vec<Member> = (0..3).map(member).collect();

    // The first part comes to three, of which the one is killed that runs the source, in the midst of it.
    let mut first = acting(&mut others, PATIENCE);
    deliver(0);
    let target = random.usize(1..PART * 3 / 4);
    first.bot.wait("some orders", || stored(&store).len() >= target);
    pause(Duration::from_millis(random.u64(0..30)));
    first.bot.kill();
    let killed = Instant::now();
    eprintln!("killed with {} of {PART} stored", stored(&store).len());
    deliver(1);
    let mut second = acting(&mut others, LEASE + BEYOND);
    assert!(killed.elapsed() < LEASE + BEYOND, "{:?}", killed.elapsed());

    // The second part comes to two, of which the one is stopped that runs the source.
    let target = PART + random.usize(0..PART / 2);
    second.bot.wait("more orders", || stored(&store).len() >= target);
    second.bot.stop();
    eprintln!("stopped with {} of {} stored", stored(&store).len(), 2 * PART);
    let mut last = acting(&mut others, LEASE + BEYOND);
    deliver(2);

    // The last one has it all to do.
    last.bot
        .wait("every mail to be \\Seen", || seen(&dovecot).len() == mails.len());
    let answered = || {
        ["new", "cur"]
            .iter()
            .map(|part| crate::bot::count(&replies.join(part)))
            .sum::<usize>()
    };
    last.bot.wait("every reply", || answered() >= mails.len());
    let dead = last.home.ask(&["dead", "list"]);
    assert_eq!(dead["letters"].as_array().map_or(0, Vec::len), 0, "{dead}");
    last.bot.stop();
    let expected: BTreeSet<String> = mails.iter().map(|mail| mail.message_id.clone()).collect();
    let stored = stored(&store);
    assert_eq!(
        stored.keys().cloned().collect::<BTreeSet<_>>(),
        expected,
        "each order is stored"
    );
    assert!(stored.values().all(|count| *count == 1), "each once");
    assert_eq!(answered(), mails.len(), "each is answered once");
    assert_eq!(answers(&replies), expected, "every answer names its order");
}
