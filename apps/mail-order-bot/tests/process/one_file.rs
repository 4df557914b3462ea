//! Tasks and orders in one file: an order is stored, its task completed and its reply's task published in one
//! transaction, whatever happens to the process.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;

use crate::bot::{Home, count, pause};
use crate::signals::fill;

const ORDERS: usize = 150;

/// As a killed process left it: no order is stored whose task still waits, and no reply that nobody will send.
fn check(file: &Path) {
    let connection = Connection::open(file).unwrap();
    let texts = |sql: &str| -> BTreeSet<String> {
        let mut read = connection.prepare(sql).unwrap();
        let rows = read.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let stored = texts("SELECT message_id FROM messages");
    let waiting = texts(
        "SELECT CAST(coalesce(plba_tasks.payload, plba_payloads.payload) AS TEXT) FROM plba_tasks
             LEFT JOIN plba_payloads ON plba_payloads.seq = plba_tasks.seq
         WHERE queue = (SELECT number FROM plba_queues WHERE name = 'orders')",
    );
    for mail in &waiting {
        let id = mail
            .lines()
            .find_map(|line| line.strip_prefix("Message-ID: <"))
            .unwrap();
        let id = id.trim_end_matches('>');
        assert!(!stored.contains(id), "{id} is stored, and its task still waits");
    }
    let unsent = texts("SELECT id FROM outbox WHERE sent_at IS NULL");
    let tasks =
        texts("SELECT id FROM plba_tasks WHERE queue = (SELECT number FROM plba_queues WHERE name = 'replies')");
    assert_eq!(unsent, tasks, "each reply that was not sent has its task");
    let found: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, "ok");
}

fn distinct(orders: &[Value]) -> usize {
    let messages: BTreeSet<String> = orders.iter().map(|order| order["message_id"].to_string()).collect();
    messages.len()
}

#[test]
fn killed_again_and_again_it_stores_each_order_once_and_answers_it_once() {
    let home = Home::new("one-file");
    fill(&home, "inbox", ORDERS, 11);
    std::fs::create_dir_all(home.join("var")).unwrap();
    let place = [
        "--set",
        "mail_order_bot.source=maildir:inbox",
        "--set",
        "mail_order_bot.queue=sqlite:var/orders.db?lease=2",
        "--set",
        "mail_order_bot.store=sqlite:var/orders.db",
    ];
    let mut kills = 0;
    // Each run gets a little further, and is killed while it works.
    for run in 0..8_u64 {
        let mut bot = home.start(&place);
        let before = home.replies();
        bot.wait("a few replies", || {
            home.replies() > before || count(&home.join("inbox/new")) == 0
        });
        pause(Duration::from_millis(run * 23 % 70));
        bot.kill();
        check(&home.join("var/orders.db"));
        kills += 1;
    }
    let mut bot = home.start(&place);
    bot.wait("all orders", || home.orders(&[]).len() >= ORDERS);
    bot.wait("all mails as read", || count(&home.join("inbox/new")) == 0);
    let answered = |orders: &[Value]| orders.iter().filter(|order| order["reply_withheld"].is_null()).count();
    let expected = answered(&home.orders(&[]));
    bot.wait("all replies", || home.replies() >= expected);
    bot.stop();
    check(&home.join("var/orders.db"));
    let orders = home.orders(&[]);
    assert_eq!(
        (orders.len(), distinct(&orders)),
        (ORDERS, ORDERS),
        "after {kills} kills"
    );
    assert_eq!(home.replies(), expected, "a reply is handed over once");
    assert!(expected > 0);
}
