//! The configuration changed again and again while orders flow: what a change does not concern goes on as if nothing were, and
//! no order is lost or taken twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mail_order_bot::samples::generate::order_mails;
use rustix::process::Signal;
use serde_json::Value;

use crate::bot::{Bot, Home, pause};
use crate::signals::fill;

const CONFIG: [&str; 2] = ["--config", "bot.toml"];

/// What the file says; each change differs in one of them.
#[derive(Clone)]
struct Settings {
    queue: &'static str,
    interval: &'static str,
    workers: u32,
    other: bool,
    /// The customer's own number of an article, where the customer is known.
    own_number: Option<&'static str>,
    rate: &'static str,
    platform: &'static str,
}

impl Settings {
    fn text(&self) -> String {
        let Self {
            queue,
            interval,
            workers,
            rate,
            platform,
            ..
        } = self;
        let source = format!("source = \"maildir:inbox?interval={interval}\"");
        let mut text = format!("[mail_order_bot]\n{source}\nqueue = \"{queue}\"\nworkers = {workers}\n");
        text.push_str(&format!("[mail_order_bot.queues.orders]\nrate = \"{rate}\"\n"));
        if self.other {
            text.push_str("[mail_order_bot.sources.other]\nurl = \"maildir:other\"\n");
        }
        if let Some(number) = self.own_number {
            let profile = "[[mail_order_bot.desk.profiles]]\nid = \"new\"\nsenders = [\"new.example\"]\n";
            text.push_str(&format!("{profile}articles = {{ \"{number}\" = \"ART-001\" }}\n"));
        }
        text + platform
    }
}

/// Lays a mail into a mailbox every few milliseconds, until it is told to stop.
struct Customers {
    enough: Arc<AtomicBool>,
    delivered: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Customers {
    fn start(home: &Home, boxes: [&str; 2], others_too: Arc<AtomicBool>) -> Self {
        let (enough, delivered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stop, count) = (Arc::clone(&enough), Arc::clone(&delivered));
        let boxes = boxes.map(|name| home.join(name));
        let thread = std::thread::spawn(move || {
            for (number, mail) in order_mails(100_000, 17).unwrap().enumerate() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let second = number % 2 == 1 && others_too.load(Ordering::Acquire);
                deliver(&boxes[usize::from(second)], &format!("{number:06}"), &mail.unwrap().raw);
                count.fetch_add(1, Ordering::AcqRel);
                pause(Duration::from_millis(10));
            }
        });
        Self {
            enough,
            delivered,
            thread,
        }
    }

    fn stop(self) -> usize {
        self.enough.store(true, Ordering::Release);
        self.thread.join().unwrap();
        self.delivered.load(Ordering::Acquire)
    }
}

fn deliver(mailbox: &Path, name: &str, raw: &[u8]) {
    let written: PathBuf = mailbox.join("tmp").join(name);
    fs::write(&written, raw).unwrap();
    fs::rename(written, mailbox.join("new").join(name)).unwrap();
}

/// A mail of the customer who has a number of her own for what she orders.
fn own_order(home: &Home, name: &str) {
    let mail = format!(
        "From: Nina New <nina@new.example>\r\nTo: orders@example.net\r\nSubject: order {name}\r\n\
         Message-ID: <{name}@new.example>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\n{} x OWN-7\r\n",
        name.len()
    );
    deliver(&home.join("inbox"), name, mail.as_bytes());
}

/// Which attempt of a worker's each instance is, and since when it runs; and how often the worker was restarted.
fn attempts(bot: &Bot, worker: &str) -> (Vec<(u64, String)>, u64) {
    let workers: Value = serde_json::from_str(&bot.get("/api/v1/workers").unwrap().1).unwrap();
    let workers = workers.as_array().unwrap();
    let Some(worker) = workers.iter().find(|one| one["name"] == worker) else {
        return (Vec::new(), 0);
    };
    let slots = worker["slots"].as_array().unwrap().iter();
    let slots = slots.map(|slot| {
        let since = slot["since"].as_str().unwrap().to_owned();
        (slot["incarnation"].as_u64().unwrap(), since)
    });
    (slots.collect(), worker["restarts"].as_u64().unwrap())
}

struct Shop {
    home: Home,
    bot: Bot,
    settings: Settings,
    generation: u64,
}

impl Shop {
    /// Changes the file and asks for a reload, while orders come in before, meanwhile and after.
    fn change(&mut self, customers: &Customers, change: impl FnOnce(&mut Settings)) {
        let known = customers.delivered.load(Ordering::Acquire);
        let some_more = |bot: &mut Bot, than: usize| {
            bot.wait("more orders", || customers.delivered.load(Ordering::Acquire) > than + 5);
        };
        some_more(&mut self.bot, known);
        change(&mut self.settings);
        let written = self.home.join("bot.toml.new");
        fs::write(&written, self.settings.text()).unwrap();
        fs::rename(written, self.home.join("bot.toml")).unwrap();
        self.bot.signal(Signal::HUP);
        self.generation += 1;
        self.bot
            .wait_for_line(&format!("configuration {} runs", self.generation));
        some_more(&mut self.bot, known + 5);
    }

    fn order(&self, name: &str) -> Option<Value> {
        let id = format!("{name}@new.example");
        let orders = self.home.orders(&CONFIG);
        orders.into_iter().find(|order| order["message_id"] == id)
    }
}

fn changed_while_orders_flow(queue: &'static str, name: &str) {
    let home = Home::new(name);
    fill(&home, "inbox", 0, 1);
    fill(&home, "other", 0, 1);
    let settings = Settings {
        queue,
        interval: "250ms",
        workers: 1,
        other: false,
        own_number: None,
        rate: "10000/1s",
        platform: "",
    };
    fs::write(home.join("bot.toml"), settings.text()).unwrap();
    let mut bot = home.start(&CONFIG);
    bot.wait_for_line("mail-order-bot is ready");
    let others_too = Arc::new(AtomicBool::new(false));
    let customers = Customers::start(&home, ["inbox", "other"], Arc::clone(&others_too));
    let (mail, orders) = (attempts(&bot, "mail"), attempts(&bot, "orders"));
    let mut shop = Shop {
        home,
        bot,
        settings,
        generation: 1,
    };

    // More hands: those that work go on.
    shop.change(&customers, |settings| settings.workers = 4);
    let now = attempts(&shop.bot, "orders");
    assert_eq!((&now.0[0], now.0.len(), now.1), (&orders.0[0], 4, 0));
    assert_eq!(attempts(&shop.bot, "mail"), mail);

    // Another account: the first one's worker keeps its attempt, and so do those who work on orders.
    let orders = attempts(&shop.bot, "orders");
    shop.change(&customers, |settings| settings.other = true);
    others_too.store(true, Ordering::Release);
    // With sources in a table, the first one is there because it is set.
    assert_eq!(attempts(&shop.bot, "mail"), mail, "{}", shop.bot.log());
    assert_eq!(attempts(&shop.bot, "orders"), orders);
    let other = attempts(&shop.bot, "mail-other");
    assert_eq!(other.0.len(), 1);

    // A customer of whom nothing was known becomes one whose own numbers are: only who works on orders starts anew.
    own_order(&shop.home, "before");
    let mut bot = shop.bot;
    bot.wait("her first order", || {
        let orders = shop.home.orders(&CONFIG);
        orders.iter().any(|order| order["message_id"] == "before@new.example")
    });
    shop.bot = bot;
    assert_eq!(shop.order("before").unwrap()["status"], "rejected");
    shop.change(&customers, |settings| settings.own_number = Some("OWN-7"));
    own_order(&shop.home, "afterwards");
    let incarnations: Vec<u64> = attempts(&shop.bot, "orders").0.iter().map(|slot| slot.0).collect();
    assert_eq!(incarnations, [2, 2, 2, 2]);
    assert_eq!(
        (attempts(&shop.bot, "mail"), attempts(&shop.bot, "mail-other")),
        (mail, other.clone())
    );

    // Another interval of one account; other limits of a queue; other rules for single workers.
    shop.change(&customers, |settings| settings.interval = "100ms");
    assert_eq!(attempts(&shop.bot, "mail").0[0].0, 2);
    assert_eq!(attempts(&shop.bot, "mail-other"), other);
    let (mail, orders) = (attempts(&shop.bot, "mail"), attempts(&shop.bot, "orders"));
    shop.change(&customers, |settings| settings.rate = "5000/1s");
    shop.change(&customers, |settings| {
        settings.platform =
            "[platform.workers.retention]\ninterval = \"2h\"\n[platform.workers.orders.restart]\nintensity = 9\n";
    });
    assert_eq!(
        (attempts(&shop.bot, "mail"), attempts(&shop.bot, "orders")),
        (mail, orders)
    );

    // Fewer hands, and back to one account, whose last mails are taken in another day.
    shop.change(&customers, |settings| settings.workers = 2);
    let own = 2;
    let total = customers.stop() + own;
    let Shop { home, mut bot, .. } = shop;
    bot.wait("every reply", || home.replies() >= total);
    bot.stop();
    let orders = home.orders(&CONFIG);
    let ids: std::collections::BTreeSet<&str> = orders
        .iter()
        .map(|order| order["message_id"].as_str().unwrap())
        .collect();
    assert_eq!((orders.len(), ids.len()), (total, total), "each stored once");
    assert_eq!(home.replies(), total, "each answered once");
    let hers = orders
        .iter()
        .find(|order| order["message_id"] == "afterwards@new.example");
    assert_eq!(hers.unwrap()["status"], "accepted");
}

#[test]
fn with_a_queue_in_memory_every_change_leaves_alone_what_it_does_not_concern() {
    changed_while_orders_flow("memory:", "changes-memory");
}

#[test]
fn with_orders_and_tasks_in_one_file_too() {
    changed_while_orders_flow("sqlite:var/orders.db", "changes-file");
}
