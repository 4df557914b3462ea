//! Who sent a mail, through the real program: real signatures, policies from a DNS server on loopback, and what the
//! configuration makes of them.

use std::fs;

use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::DkimSigner;
use mail_order_bot::samples::hostile::base64;

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
        bot.stop();
    }
}
