//! The promise on a real mail server: each order stored once and answered once, `\Seen` only after the commit, whatever
//! kills the bot on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use mail_order_bot::samples::generate::order_mails;
use plba_testservers::Dovecot;
use plba_testservers::require;

use crate::bot::{Bot, Home, pause};

/// How many orders the big run has.
const ORDERS: usize = 1_000;

/// How often it is killed on the way.
const KILLS: usize = 10;

pub(crate) fn settings(dovecot: &Dovecot) -> Vec<String> {
    let source = format!(
        "imaps://{}@localhost:{}/INBOX?mode=poll&interval=200ms&password_file={}&ca={}",
        dovecot.user(),
        dovecot.imaps_port(),
        dovecot.password_path().display(),
        dovecot.ca_path().display()
    );
    vec![
        "--set".into(),
        format!("mail_order_bot.source={source}"),
        "--set".into(),
        "mail_order_bot.workers=8".into(),
    ]
}

fn start(home: &Home, settings: &[String]) -> Bot {
    home.start(&settings.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The Message-IDs of the mails that are `\Seen` on the server.
pub(crate) fn seen(dovecot: &Dovecot) -> BTreeSet<String> {
    let messages = dovecot.messages(dovecot.user()).unwrap();
    let seen = messages.into_iter().filter(|message| message.is_seen());
    seen.filter_map(|message| message_id(&std::fs::read(message.path).ok()?))
        .collect()
}

fn message_id(raw: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(raw);
    let line = text
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("message-id:"))?;
    Some(line.split_once(':')?.1.trim().trim_matches(['<', '>']).to_owned())
}

fn stored(home: &Home) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for order in home.orders(&[]) {
        *counts
            .entry(order["message_id"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_thousand_orders_are_stored_and_answered_once_each_though_the_bot_is_killed_ten_times() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    let mails: Vec<_> = order_mails(ORDERS, 1).unwrap().map(Result::unwrap).collect();
    dovecot
        .deliver_many(dovecot.user(), mails.iter().map(|mail| &mail.raw))
        .unwrap();
    let expected: BTreeSet<String> = mails.iter().map(|mail| mail.message_id.clone()).collect();

    let home = Home::new("thousand");
    let settings = settings(&dovecot);
    let seed = fastrand::u64(..);
    println!("seed of the kills: {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for kill in 0..KILLS {
        let mut bot = start(&home, &settings);
        // Each life gets somewhere into its share of what is left, so that every kill falls into the work: the first ones
        // while orders are stored, the others while replies are sent. Some end in the start itself.
        let progress = || {
            if kill < KILLS / 2 {
                stored_while_running(&home).len()
            } else {
                home.replies()
            }
        };
        let lives = if kill < KILLS / 2 { KILLS / 2 } else { KILLS };
        let done = progress();
        let target = done + random.usize(0..=(ORDERS - done) / (lives - kill + 1));
        bot.wait("its share of the work", || progress() >= target);
        pause(Duration::from_millis(random.u64(0..20)));
        let before = seen(&dovecot);
        let committed = stored_while_running(&home);
        let early: Vec<_> = before.iter().filter(|id| !committed.contains(*id)).take(5).collect();
        assert!(
            early.is_empty(),
            "kill {kill}: \\Seen before their orders were committed: {early:?}"
        );
        bot.kill();
        println!(
            "life {kill}: {} stored, {} answered",
            stored_while_running(&home).len(),
            home.replies()
        );
    }
    let left = ORDERS - home.replies();
    println!("after {KILLS} kills {left} of {ORDERS} were not answered yet");
    assert!(left > 0, "the kills came too late to show anything");

    let mut bot = start(&home, &settings);
    bot.wait("every mail to be \\Seen", || seen(&dovecot).len() == ORDERS);
    bot.wait("every reply", || home.replies() >= ORDERS);
    bot.stop();
    let stored = stored(&home);
    assert_eq!(
        stored.keys().cloned().collect::<BTreeSet<_>>(),
        expected,
        "each order is stored"
    );
    assert!(stored.values().all(|count| *count == 1), "each once");
    assert_eq!(home.replies(), ORDERS, "each is answered once");
    let answered: BTreeSet<String> = answers(&home.join("var/outbox"));
    assert_eq!(answered, expected, "every answer names its order");
    assert_eq!(
        home.ask(&["dead", "list"])["letters"].as_array().map_or(0, Vec::len),
        0,
        "nothing is dead"
    );
}

/// Which orders are committed, read beside the running bot.
fn stored_while_running(home: &Home) -> BTreeSet<String> {
    let path = home.join("var/orders.db");
    if !path.exists() {
        return BTreeSet::new();
    }
    let Ok(reads) = mail_order_bot::store::OrderReads::open(&path) else {
        return BTreeSet::new();
    };
    let mut filter = mail_order_bot::store::OrderFilter {
        limit: 1_000,
        ..Default::default()
    };
    let mut found = BTreeSet::new();
    while let Ok(page) = reads.orders(&filter) {
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        found.extend(page.into_iter().map(|order| order.message_id));
    }
    found
}

/// The Message-IDs that the replies in the outbox answer.
pub(crate) fn answers(outbox: &Path) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for part in ["new", "cur"] {
        for entry in std::fs::read_dir(outbox.join(part)).unwrap() {
            let raw = std::fs::read(entry.unwrap().path()).unwrap();
            let text = String::from_utf8_lossy(&raw).replace("\r\n ", " ");
            let line = text
                .lines()
                .find(|line| line.starts_with("In-Reply-To:"))
                .unwrap()
                .to_owned();
            ids.insert(line["In-Reply-To:".len()..].trim().trim_matches(['<', '>']).to_owned());
        }
    }
    ids
}

#[tokio::test]
async fn one_line_of_configuration_changes_the_source_from_maildir_to_imap_and_from_polling_to_idle() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    let home = Home::new("swap");
    let maildir = "[mail_order_bot]\nworkers = 2\nsource = \"maildir:inbox\"\n";
    std::fs::write(home.join("bot.toml"), maildir).unwrap();
    let mails: Vec<_> = order_mails(4, 2).unwrap().map(Result::unwrap).collect();
    for part in ["tmp", "new", "cur"] {
        std::fs::create_dir_all(home.join("inbox").join(part)).unwrap();
    }
    std::fs::write(home.join("inbox/new/first"), &mails[0].raw).unwrap();
    let mut bot = home.start(&["--config", "bot.toml"]);
    bot.wait("first order", || stored_while_running(&home).len() == 1);
    bot.stop();

    dovecot.deliver(dovecot.user(), &mails[1].raw).unwrap();
    let imap = maildir.replace("maildir:inbox", settings(&dovecot)[1].split_once('=').unwrap().1);
    assert_eq!(
        imap.lines().zip(maildir.lines()).filter(|(a, b)| a != b).count(),
        1,
        "one line differs"
    );
    std::fs::write(home.join("bot.toml"), &imap).unwrap();
    let mut bot = home.start(&["--config", "bot.toml"]);
    bot.wait("second order", || stored_while_running(&home).len() == 2);
    bot.wait("\\Seen", || seen(&dovecot).len() == 1);
    bot.stop();

    // By the clock it looks once a day only: what comes while it runs, the server has told it.
    let idle = imap.replace("mode=poll&interval=200ms", "mode=idle&interval=24h&safety=24h");
    assert_eq!(
        idle.lines().zip(imap.lines()).filter(|(a, b)| a != b).count(),
        1,
        "one line differs"
    );
    std::fs::write(home.join("bot.toml"), idle).unwrap();
    dovecot.deliver(dovecot.user(), &mails[2].raw).unwrap();
    let mut bot = home.start(&["--config", "bot.toml"]);
    bot.wait("third \\Seen", || seen(&dovecot).len() == 2);
    dovecot.deliver(dovecot.user(), &mails[3].raw).unwrap();
    bot.wait("fourth \\Seen", || seen(&dovecot).len() == 3);
    bot.stop();
    assert_eq!(home.orders(&["--config", "bot.toml"]).len(), 4);
}

#[tokio::test]
async fn a_dry_run_tells_what_a_first_connection_would_take_in() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    let mails: Vec<_> = order_mails(3, 3).unwrap().map(Result::unwrap).collect();
    dovecot
        .deliver_many(dovecot.user(), mails.iter().map(|mail| &mail.raw))
        .unwrap();
    let home = Home::new("dry-run");
    let settings = settings(&dovecot);
    let arguments: Vec<&str> = ["source", "dry-run"]
        .into_iter()
        .chain(settings.iter().map(String::as_str))
        .collect();
    let told = home.ask(&arguments);
    assert_eq!(
        (told["total"].as_u64(), told["count"].as_u64()),
        (Some(3), Some(3)),
        "{told}"
    );
    assert!(seen(&dovecot).is_empty());
    assert!(home.orders(&[]).is_empty());
}
