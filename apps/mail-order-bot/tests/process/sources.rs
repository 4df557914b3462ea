//! Several sources: from one line to a table of them by a reload, what the command line shows of each, and looking through a
//! folder again.

use std::fs;

use mail_order_bot::samples::generate::order_mails;
use plba_testservers::{Dovecot, require};
use rustix::process::Signal;
use serde_json::Value;

use crate::bot::{Home, count};
use crate::mailbox::seen;
use crate::signals::fill;

const CONFIG: [&str; 2] = ["--config", "bot.toml"];

fn ask(home: &Home, command: &[&str]) -> Value {
    home.ask(&[command, &CONFIG[..]].concat())
}

fn source<'v>(sources: &'v Value, name: &str) -> &'v Value {
    let found = sources.as_array().unwrap().iter().find(|source| source["name"] == name);
    found.unwrap_or_else(|| panic!("no source {name}: {sources}"))
}

#[tokio::test]
async fn a_reload_adds_a_mailbox_and_each_source_has_a_cursor_and_a_worker_of_its_own() {
    let Some(dovecot) = require(Dovecot::start().await) else {
        return;
    };
    let home = Home::new("sources");
    fill(&home, "inbox", 3, 11);
    let one = "[mail_order_bot]\nworkers = 2\nsource = \"maildir:inbox?move=Done\"\n";
    fs::write(home.join("bot.toml"), one).unwrap();
    let mut bot = home.start(&CONFIG);
    bot.wait("three orders moved", || count(&home.join("inbox/.Done/cur")) == 3);

    let mails: Vec<_> = order_mails(5, 12).unwrap().map(Result::unwrap).collect();
    for mail in &mails[..2] {
        dovecot.deliver(dovecot.user(), &mail.raw).unwrap();
    }
    let (user, port) = (dovecot.user(), dovecot.imap_port());
    let password = dovecot.password_path();
    let url = |user: &str| {
        let password = password.display();
        format!("imap://{user}@127.0.0.1:{port}/INBOX?mode=idle&interval=200ms&password_file={password}")
    };
    let tables = format!(
        "[mail_order_bot.sources.shop]\nurl = \"{}\"\n[mail_order_bot.sources.stand]\nurl = \"{}\"\n",
        url(user),
        url("stand")
    );
    fs::write(home.join("bot.toml"), format!("{one}{tables}")).unwrap();
    bot.signal(Signal::HUP);
    bot.wait_for_line("mail-order-bot runs by the new configuration");
    bot.wait("the shop's orders marked", || seen(&dovecot).len() == 2);
    dovecot.deliver("stand", &mails[2].raw).unwrap();
    bot.wait("the stand's order stored", || home.replies() == 6);
    fs::write(home.join("inbox/new/later"), &mails[3].raw).unwrap();
    bot.wait("the Maildir goes on", || home.replies() == 7);

    bot.wait("all told upstream", || {
        let sources = ask(&home, &["sources"]);
        let all = sources.as_array().unwrap();
        all.len() == 3 && all.iter().all(|source| source["open"] == 0 && source["untold"] == 0)
    });
    let sources = ask(&home, &["sources"]);
    let (shop, stand) = (source(&sources, "shop"), source(&sources, "stand"));
    assert_eq!(
        (&shop["state"], &shop["mode"]),
        (&"idle".into(), &"idle".into()),
        "{shop}"
    );
    assert_eq!((&shop["cursor"], &stand["cursor"]), (&2.into(), &1.into()), "{sources}");
    assert!(shop["uid_validity"].is_u64() && shop["last_idle"].is_string(), "{shop}");
    assert!(
        shop["last_reconcile"].is_string() && shop["health"]["state"] != "unhealthy",
        "{shop}"
    );
    let workers = ask(&home, &["workers"]);
    for name in ["mail", "mail-shop", "mail-stand"] {
        assert!(
            workers.as_array().unwrap().iter().any(|worker| worker["name"] == name),
            "{workers}"
        );
    }

    // Two of them have to be told apart.
    let refused = home.run(&[&["source", "dry-run"][..], &CONFIG].concat());
    let says = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && says.contains("mail, shop, stand"),
        "{says}"
    );
    let told = ask(&home, &["source", "dry-run", "--source", "shop"]);
    assert_eq!((&told["total"], &told["count"]), (&2.into(), &0.into()), "{told}");

    // Somebody marks a message as unread again, and wants it looked at: it is recognised, and no second order.
    let again = ask(
        &home,
        &["source", "resync", "--source", "shop", "--since", "all", "--dry-run"],
    );
    assert_eq!(
        (&again["dry_run"], &again["found"]["count"]),
        (&true.into(), &2.into()),
        "{again}"
    );
    ask(&home, &["source", "resync", "--source", "shop", "--since", "all"]);
    bot.wait("both taken in again", || {
        source(&ask(&home, &["sources"]), "shop")["settled"].as_u64() >= Some(4)
    });
    bot.stop();
    assert_eq!(home.orders(&CONFIG).len(), 7, "each stored once");

    // Nothing runs: the ledger still knows.
    let sources = ask(&home, &["sources"]);
    assert_eq!(source(&sources, "shop")["cursor"], 2, "{sources}");
    assert_eq!(source(&sources, "shop")["state"], "closed");
}
