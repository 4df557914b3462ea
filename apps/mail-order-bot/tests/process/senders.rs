//! Who sent a mail, through the real program: real signatures, policies from a DNS server on loopback, and what the
//! configuration makes of them.

use std::fs;

use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::DkimSigner;
use mail_order_bot::samples::hostile::base64;
use serde_json::Value;

use crate::bot::{Bot, Home, count};
use crate::dns::{Answer, Dns};

fn order(number: u32, from: &str) -> String {
    format!("From: {from}\r\nSubject: Order\r\nMessage-ID: <{number}@customer.example>\r\n\r\n{number} x ART-001\r\n")
}

fn deliver(home: &Home, name: &str, raw: &str) {
    for part in ["tmp", "new", "cur"] {
        fs::create_dir_all(home.join("inbox").join(part)).unwrap();
    }
    fs::write(home.join("inbox/tmp").join(name), raw).unwrap();
    fs::rename(home.join("inbox/tmp").join(name), home.join("inbox/new").join(name)).unwrap();
}

/// A bot that asks this DNS, with a policy.
fn start(home: &Home, dns: &Dns, on_fail: &str) -> Bot {
    let settings = [
        "mail_order_bot.source=maildir:inbox".to_owned(),
        "mail_order_bot.authentication.verify=true".to_owned(),
        format!("mail_order_bot.authentication.dns=\"{}\"", dns.address()),
        format!("mail_order_bot.authentication.on_fail={on_fail}"),
    ];
    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    home.start(&arguments)
}

/// What `orders show` says about who sent an order's only mail.
fn said(home: &Home, order: &Value) -> String {
    let shown = home.ask(&["orders", "show", &order["id"].to_string()]);
    let found = shown["authentication"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{shown:#}");
    found[0]["says"].as_str().unwrap().to_owned()
}

#[test]
fn failure_77_the_policy_says_what_becomes_of_a_spoofed_order() {
    let private = Ed25519Key::generate_pkcs8().unwrap();
    let key = || Ed25519Key::from_pkcs8_maybe_unchecked_der(&private).unwrap();
    let public = format!("v=DKIM1; k=ed25519; p={}", base64(&key().public_key()).trim());
    let dns = Dns::start([
        ("test._domainkey.customer.example".to_owned(), Answer::Txt(public)),
        (
            "_dmarc.customer.example".to_owned(),
            Answer::Txt("v=DMARC1; p=reject".to_owned()),
        ),
        // Looked up for nobody here; that a failure is a later try is tested beside the authenticator.
        ("_dmarc.broken.example".to_owned(), Answer::Failure),
    ]);
    let signed = |message: String| {
        let signer = DkimSigner::from_key(key()).domain("customer.example").selector("test");
        let signature = signer.headers(["From", "Subject"]).sign(message.as_bytes()).unwrap();
        format!("{}{message}", signature.to_header())
    };
    for (on_fail, orders, dead, reviews) in [("note", 2, 0, 0), ("review", 1, 0, 1), ("reject", 1, 1, 0)] {
        let home = Home::new(&format!("policy-{on_fail}"));
        deliver(&home, "honest", &signed(order(1, "jane@customer.example")));
        deliver(&home, "spoofed", &order(2, "jane@customer.example"));
        let mut bot = start(&home, &dns, on_fail);
        bot.wait_for_line("mail-order-bot is ready");
        bot.wait("orders", || home.orders(&[]).len() == orders);
        bot.wait("everything else", || count(&home.join("inbox/new")) == dead);
        let letters = home.ask(&["dead", "list"])["letters"].as_array().map_or(0, Vec::len);
        assert_eq!(letters, dead, "{on_fail}: {}", bot.log());
        let listed = home.ask(&["review"]);
        let listed = listed
            .as_array()
            .or_else(|| listed["reviews"].as_array())
            .map_or(0, Vec::len);
        assert_eq!(listed, reviews, "{on_fail}: {}", bot.log());
        assert!(home.replies() <= orders, "{on_fail}: nobody else is answered");
        // What was found is told wherever the mail went.
        let spoofed = "it is not from customer.example (dmarc=fail";
        match on_fail {
            "note" => {
                let mut said: Vec<String> = home.orders(&[]).iter().map(|order| said(&home, order)).collect();
                said.sort();
                assert!(
                    said[0].starts_with("it is from customer.example (dmarc=pass dkim=pass"),
                    "{said:?}"
                );
                assert!(said[1].starts_with(spoofed), "{said:?}");
            }
            "review" => {
                let shown = home.ask(&["review", "show", "1"]);
                assert_eq!(shown["reason"], "authentication", "{shown:#}");
                assert!(shown["detail"].as_str().unwrap().starts_with(spoofed), "{shown:#}");
                assert_eq!(shown["authentication"]["standing"], "fail", "{shown:#}");
                // Time makes it no more certain, only a person does.
                let dry = home.ask(&["replay", "--review", "--dry-run"]);
                assert!(dry[0]["would_be"].as_str().unwrap().contains(spoofed), "{dry:#}");
                let replayed = home.ask(&["replay", "--all"]);
                assert!(
                    replayed[0]["outcome"].as_str().unwrap().contains(spoofed),
                    "{replayed:#}"
                );
                assert_eq!(home.orders(&[]).len(), 1);
                home.ask(&["review", "accept", "1"]);
                let accepted = home.orders(&[]).into_iter().find(|order| order["id"] == 2).unwrap();
                assert!(said(&home, &accepted).starts_with(spoofed));
            }
            _ => {
                let letters = home.ask(&["dead", "list"]).to_string();
                assert!(letters.contains(spoofed), "{letters}");
            }
        }
        bot.stop();
    }
}
