//! Configuration from a database while orders flow: rows change the running bot, and servers that are killed, restarted or
//! hang, and files that are locked or gone, change nothing until they are back.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use plba_testservers::{PostgresServer, require};
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use crate::bot::{Bot, Home, count, pause};
use crate::signals::fill;

/// How many orders come at a time.
const PART: usize = 20;

/// A bot that works on an inbox by a database, which says how many workers it has.
struct Shop {
    home: Home,
    bot: Bot,
    parts: usize,
}

impl Shop {
    fn open(test: &str, database: &str) -> Self {
        let home = Home::new(test);
        let platform = format!("[platform.config]\ndatabase = \"{database}\"\nprobation = \"0s\"\n");
        let text = format!("{platform}[mail_order_bot]\nsource = \"maildir:inbox\"\nworkers = 1\n");
        fs::write(home.join("bot.toml"), text).unwrap();
        fill(&home, "inbox", 1, 1);
        // The table is made by who asks for it, and by nobody else.
        let sign = if database.contains('?') { '&' } else { '?' };
        let create = format!("platform.config.database={database}{sign}create=on");
        let refused = home.run(&[&CONFIG[..], &["check"]].concat());
        let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.contains("start once with create=on"), "{refused}");
        let made = home.run(&[&CONFIG[..], &["check", "--set", &create]].concat());
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let bot = home.start(&CONFIG);
        let mut shop = Self { home, bot, parts: 0 };
        shop.bot.wait("the first order", || shop.home.replies() == 1);
        shop.becomes(1);
        shop
    }

    fn ask(&self, command: &[&str]) -> Value {
        self.home.ask(&[&CONFIG[..], command].concat())
    }

    /// How many workers there are for orders; none while they are put in the place of others.
    fn workers(&self) -> usize {
        let workers = self.ask(&["workers"]);
        let mut workers = workers.as_array().unwrap().iter();
        let orders = workers.find(|worker| worker["name"] == "orders");
        orders.map_or(0, |orders| orders["slots"].as_array().unwrap().len())
    }

    /// So many workers come to be.
    #[track_caller]
    fn becomes(&mut self, workers: usize) {
        let began = Instant::now();
        while self.workers() != workers {
            let waited = began.elapsed();
            assert!(
                waited < Duration::from_secs(60),
                "{workers} workers: {}",
                self.bot.log()
            );
            pause(Duration::from_millis(50));
        }
        eprintln!("{workers} workers after {:?}", began.elapsed());
    }

    /// Orders come, and are answered.
    #[track_caller]
    fn works(&mut self) {
        self.parts += 1;
        // Each under a name of its own, for a name is known once it was seen.
        let part = format!("part{}", self.parts);
        fill(&self.home, &part, PART, 100 + self.parts as u64);
        for mail in fs::read_dir(self.home.join(&part).join("new")).unwrap() {
            let mail = mail.unwrap();
            let name = format!("{part}-{}", mail.file_name().display());
            fs::rename(mail.path(), self.home.join("inbox/new").join(name)).unwrap();
        }
        let expected = 1 + self.parts * PART;
        self.bot
            .wait("the orders to be answered", || self.home.replies() == expected);
    }

    /// A reload that is asked for now finds the database down, and changes nothing.
    #[track_caller]
    fn outlasts(&mut self, says: &str) {
        let workers = self.workers();
        self.bot.signal(Signal::HUP);
        self.bot.wait_for_line(says);
        self.works();
        assert_eq!(self.workers(), workers);
    }

    fn close(mut self) {
        self.bot.stop();
        let orders = self.home.orders(&CONFIG);
        assert_eq!(orders.len(), 1 + self.parts * PART, "each stored once");
        assert_eq!(self.home.replies(), orders.len(), "each answered once");
        assert_eq!(count(&self.home.join("inbox/new")), 0);
    }
}

const CONFIG: [&str; 2] = ["--config", "bot.toml"];

#[tokio::test]
async fn failure_58_a_bot_outlasts_its_database_in_postgres() {
    let Some(server) = require(PostgresServer::start().await) else {
        return;
    };
    let set = async |value: &str| {
        let text = format!(
            "INSERT INTO plba.config (key, value, note) VALUES ('mail_order_bot.workers', '{value}', 'the sale') \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        );
        server.query(&text).await.unwrap();
    };
    let mut shop = Shop::open("config-postgres", &server.url());
    set("3").await;
    shop.becomes(3);
    let explained = shop.ask(&["config", "explain", "mail_order_bot.workers"]).to_string();
    assert!(
        explained.contains("by plba at") && explained.contains("the sale"),
        "{explained}"
    );
    shop.works();

    server.kill().await;
    shop.outlasts("is down");
    server.start_again().await.unwrap();
    set("2").await;
    shop.becomes(2);

    server.pause();
    shop.outlasts("did not let us in");
    server.resume();
    set("4").await;
    shop.becomes(4);

    // What won't do is refused, with its row; the next one is taken.
    set("0").await;
    shop.bot.wait_for_line("row \"mail_order_bot.workers\"");
    shop.works();
    assert_eq!(shop.workers(), 4);
    server.restart().await.unwrap();
    set("1").await;
    shop.becomes(1);
    server.query("ALTER TABLE plba.config RENAME TO saved").await.unwrap();
    shop.outlasts("plba.config is gone");
    server.query("ALTER TABLE plba.saved RENAME TO config").await.unwrap();
    set("2").await;
    shop.becomes(2);

    // Nothing that is printed has the password.
    let log = shop.bot.log();
    assert!(!log.contains(&format!(":{}@", server.password())), "{log}");
    shop.close();
}

#[test]
fn failure_58_a_bot_outlasts_its_database_in_sqlite() {
    let mut shop = Shop::open("config-sqlite", "sqlite:config.db?poll=50");
    let path = shop.home.join("config.db");
    let set = |value: &str| change(&path, value);
    set("3");
    shop.becomes(3);
    let explained = shop.ask(&["config", "explain", "mail_order_bot.workers"]).to_string();
    assert!(explained.contains("by alice at"), "{explained}");
    shop.works();

    let holder = Connection::open(&path).unwrap();
    holder
        .execute_batch("BEGIN EXCLUSIVE; UPDATE plba_config SET value = 2")
        .unwrap();
    shop.outlasts("look for one that is stopped");
    holder.execute_batch("COMMIT").unwrap();
    drop(holder);
    shop.becomes(2);

    let saved = shop.home.join("saved.db");
    fs::rename(&path, &saved).unwrap();
    shop.outlasts("there is no such file; put it back");
    change(&saved, "4");
    fs::rename(&saved, &path).unwrap();
    shop.becomes(4);

    set("0");
    shop.bot.wait_for_line("row \"mail_order_bot.workers\"");
    shop.works();
    set("1");
    shop.becomes(1);
    shop.close();
}

/// Sets how many workers there are to be.
fn change(path: &Path, value: &str) {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    let text = "INSERT INTO plba_config (key, value, changed_by) VALUES ('mail_order_bot.workers', ?1, 'alice')
                ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    connection.execute(text, [value]).unwrap();
}
