//! SIGHUP under load: what changes, what does not, and that nothing is lost on the way.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::bot::{Bot, Home, count};
use crate::signals::fill;

/// The configuration file, with these lines in the bot's section and these after it.
fn configure(home: &Home, bot: &str, rest: &str) {
    fs::write(home.join("bot.toml"), format!("[mail_order_bot]\n{bot}\n{rest}")).unwrap();
}

const CONFIG: [&str; 2] = ["--config", "bot.toml"];

fn ask(home: &Home, command: &str) -> Value {
    home.ask(&[&CONFIG[..], &[command]].concat())
}

fn reload(bot: &mut Bot, says: &str) {
    bot.signal(Signal::HUP);
    bot.wait_for_line(says);
}

#[test]
fn reloads_change_what_they_name_refuse_what_is_broken_and_lose_nothing() {
    const FIRST: usize = 300;
    const SECOND: usize = 40;
    let home = Home::new("reload");
    fill(&home, "inbox", FIRST, 5);
    fill(&home, "other", SECOND, 6);
    configure(&home, "source = \"maildir:inbox\"\nworkers = 1", "");
    let mut bot = home.start(&CONFIG);
    bot.wait("some orders", || home.replies() > 5);

    // More workers, while one is at work.
    configure(&home, "source = \"maildir:inbox\"\nworkers = 4", "");
    reload(&mut bot, "configuration 2 runs; changed: mail_order_bot");
    bot.wait_for_line("mail-order-bot runs by the new configuration");
    let workers = ask(&home, "workers");
    let orders = workers
        .as_array()
        .unwrap()
        .iter()
        .find(|worker| worker["name"] == "orders")
        .unwrap();
    assert_eq!(orders["slots"].as_array().map(Vec::len), Some(4), "{orders}");

    // A broken file: its fault is told with its place, and the old configuration goes on.
    configure(&home, "source = \"maildir:inbox\"\nworkers = 0", "");
    reload(&mut bot, "the running configuration (generation 2) stays");
    assert!(bot.log().contains("bot.toml:3:11"), "{}", bot.log());
    assert_eq!(ask_running(&bot, "/api/v1/status")["configuration_generation"], 2);

    // The log's level, which no module has to be touched for.
    let debug = "[platform.logging]\nlevel = \"debug\"\n";
    configure(&home, "source = \"maildir:inbox\"\nworkers = 4", debug);
    reload(&mut bot, "log levels changed");
    bot.wait_for_line("DEBUG");

    // Another source. What is in hand is finished; what waits still lies in its mailbox, and is taken up another day.
    configure(&home, "source = \"maildir:other\"\nworkers = 4", debug);
    reload(&mut bot, "configuration 4 runs; changed: mail_order_bot");
    bot.wait("the other inbox to be seen", || count(&home.join("other/new")) == 0);
    bot.wait("the other inbox to be answered", || home.replies() >= SECOND);
    bot.stop();

    // And back, so that all is taken in.
    configure(&home, "source = \"maildir:inbox\"\nworkers = 4", "");
    let mut bot = home.start(&CONFIG);
    bot.wait("every reply", || home.replies() == FIRST + SECOND);
    bot.wait("the inbox to be seen", || count(&home.join("inbox/new")) == 0);
    bot.stop();
    assert_eq!(home.orders(&CONFIG).len(), FIRST + SECOND, "each stored once");
    assert_eq!(home.replies(), FIRST + SECOND, "each answered once");
}

fn ask_running(bot: &Bot, path: &str) -> Value {
    serde_json::from_str(&bot.get(path).unwrap().1).unwrap()
}
