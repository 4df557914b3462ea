//! Orders all the way: stored where the queue is, answered through a real mail server, told to another system by signed
//! webhooks, changed by mail, looked at by a person, and written out.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use plba::http::webhook::SigningSecret;
use plba_testservers::{Exim, PostgresServer, require};
use serde_json::Value;

use crate::bot::{Bot, Home};
use crate::signals::fill;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Another system: takes webhooks, refuses each the first time, and remembers those that are signed well.
struct Receiver {
    port: u16,
    taken: Arc<Mutex<BTreeMap<String, Value>>>,
    refused: Arc<Mutex<u32>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (taken, refused) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(Mutex::new(0)));
        let receiver = Self {
            port: listener.local_addr().unwrap().port(),
            taken: Arc::clone(&taken),
            refused: Arc::clone(&refused),
        };
        std::thread::spawn(move || {
            let mut seen = BTreeMap::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some((head, body)) = request(&mut stream) else {
                    continue;
                };
                let header = |name: &str| {
                    let of = |line: &str| Some(line.split_once(':')?.1.trim().to_owned());
                    head.lines()
                        .find(|line| line.to_lowercase().starts_with(name))
                        .and_then(of)
                };
                let (id, timestamp) = (header("webhook-id").unwrap(), header("webhook-timestamp").unwrap());
                let secret = SigningSecret::parse(SECRET).unwrap();
                let expected = secret.sign(&id, timestamp.parse().unwrap(), &body);
                assert_eq!(header("webhook-signature").unwrap(), expected);
                let tries: &mut u32 = seen.entry(id.clone()).or_default();
                *tries += 1;
                let answer = if *tries == 1 {
                    *refused.lock().unwrap() += 1;
                    "503 Later"
                } else {
                    taken.lock().unwrap().insert(id, serde_json::from_slice(&body).unwrap());
                    "204 Fine"
                };
                let _ = stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes());
            }
        });
        receiver
    }

    fn events(&self) -> Vec<Value> {
        self.taken.lock().unwrap().values().cloned().collect()
    }
}

fn request(stream: &mut std::net::TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let body = &bytes[end + 4..];
        if body.len() >= length.unwrap_or(0) {
            return Some((head, body.to_vec()));
        }
    }
}

fn deliver(home: &Home, name: &str, headers: &str, body: &str) {
    let raw = format!("{headers}\r\n\r\n{body}\r\n");
    fs::write(home.join(&format!("inbox/new/{name}")), raw).unwrap();
}

/// Replies as the mail server has delivered them, by the message that they answer.
fn replies(exim: &Exim) -> BTreeMap<String, Vec<String>> {
    let mut replies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mail in exim.delivered().unwrap() {
        let text = String::from_utf8_lossy(&mail).into_owned();
        let answered = text.lines().find_map(|line| line.strip_prefix("In-Reply-To: <"));
        replies
            .entry(answered.unwrap_or_default().trim_end_matches(['>', '\r']).to_owned())
            .or_default()
            .push(text);
    }
    replies
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_its_end_its_reply_and_its_webhook_are_one_transaction_in_postgres() {
    let (Some(server), Some(exim)) = (require(PostgresServer::start().await), require(Exim::start().await)) else {
        return;
    };
    let receiver = Receiver::start();
    let home = Home::new("desk");
    fill(&home, "inbox", 20, 23);
    let file = format!(
        "[mail_order_bot]\nsource = \"maildir:inbox?interval=50ms\"\nqueue = \"{url}\"\nstore = \"{url}\"\n\
         replies = \"smtp://127.0.0.1:{smtp}\"\n\
         [mail_order_bot.desk]\nunknown_senders = \"accept_as_guest\"\n\
         [[mail_order_bot.webhooks]]\nname = \"erp\"\nurl = \"http://127.0.0.1:{port}/orders\"\nprivate = true\n\
         secrets = [\"{SECRET}\"]\n",
        url = server.url(),
        smtp = exim.smtp_port(),
        port = receiver.port,
    );
    fs::write(home.join("bot.toml"), file).unwrap();
    let config = ["--config", "bot.toml"];
    let ask = |arguments: &[&str]| home.ask(&[arguments, &config[..]].concat());
    let mut bot: Bot = home.start(&config);
    bot.wait_for_line("mail-order-bot is ready");
    bot.wait("every order", || home.orders(&config).len() == 20);
    bot.wait("every reply", || replies(&exim).len() == 20);
    let orders = home.orders(&config);
    let told = orders.iter().filter(|order| order["status"] != "rejected").count();
    bot.wait("every webhook", || receiver.events().len() == told);
    assert_eq!(*receiver.refused.lock().unwrap() as usize, told, "each was tried twice");
    assert!(receiver.events().iter().all(|event| event["type"] == "order.accepted"));
    // Nothing is kept apart: there is no relay, and the tables of queue and store lie in one database.
    assert!(!bot.log().contains("worker=outbox"));
    let tables = server
        .query("SELECT count(*) FROM mail_order_bot.outbox WHERE sent_at IS NULL")
        .await
        .unwrap();
    assert_eq!(tables.trim(), "0");

    // An order, amended and cancelled by answers to our replies.
    let from = "From: Jane <jane@shopper.example>\r\nTo: orders@mail-order-bot.example\r\nSubject: ";
    deliver(
        &home,
        "a1",
        &format!("{from}Order\r\nMessage-ID: <a1@shopper.example>"),
        "2 x ART-001\r\n1 x ART-002",
    );
    bot.wait("the order's reply", || {
        replies(&exim).contains_key("a1@shopper.example")
    });
    let reply = replies(&exim)["a1@shopper.example"][0].clone();
    let id = reply
        .lines()
        .find_map(|line| line.strip_prefix("Message-ID: <"))
        .unwrap();
    let id = id.trim_end_matches(['>', '\r']).to_owned();
    let amending = format!("{from}Re: Order - amendment\r\nMessage-ID: <a2@shopper.example>\r\nIn-Reply-To: <{id}>");
    deliver(&home, "a2", &amending, "Please change my order:\r\n\r\n5 x ART-001");
    bot.wait("the amendment's reply", || {
        replies(&exim).contains_key("a2@shopper.example")
    });
    let order = home
        .orders(&config)
        .into_iter()
        .find(|order| order["message_id"] == "a1@shopper.example")
        .unwrap();
    assert_eq!(
        (&order["version"], order["lines"].as_array().unwrap().len()),
        (&2.into(), 2),
        "{order:#}"
    );
    let number = order["id"].to_string();
    let shown = ask(&["orders", "show", &number]);
    assert_eq!(shown["earlier_versions"].as_array().unwrap().len(), 1);
    assert!(
        shown["mails"].as_str().unwrap().contains("Please change my order"),
        "{shown:#}"
    );
    let cancelling =
        format!("{from}Cancel my order\r\nMessage-ID: <a3@shopper.example>\r\nIn-Reply-To: <a1@shopper.example>");
    deliver(&home, "a3", &cancelling, "Please cancel my order.");
    bot.wait("the cancellation's reply", || {
        replies(&exim).contains_key("a3@shopper.example")
    });
    bot.wait("three events about it", || {
        let of = |event: &&Value| event["data"]["id"] == order["id"];
        receiver.events().iter().filter(of).count() == 3
    });

    // What fits no order waits for a person, and is not answered.
    let strange = format!("{from}Re: Order\r\nMessage-ID: <a4@shopper.example>\r\nIn-Reply-To: <nothing@of.ours>");
    deliver(&home, "a4", &strange, "Please cancel my order.");
    bot.wait("a review", || {
        ask(&["review"]).as_array().is_some_and(|list| list.len() == 1)
    });
    assert!(!replies(&exim).contains_key("a4@shopper.example"));
    let review = ask(&["review"])[0]["id"].to_string();
    assert_eq!(ask(&["replay", "--review", "--dry-run"]).as_array().unwrap().len(), 1);
    assert_eq!(ask(&["review", "reject", &review])["count"], 1);
    assert_eq!(ask(&["review"]).as_array().unwrap().len(), 0);
    let audit = fs::read_to_string(home.join("var/audit.log")).unwrap_or_default();
    assert!(audit.is_empty() || audit.contains("review.reject"), "{audit}");

    // Written out, in both forms, each order in its place.
    let csv = home.text(&[&["export", "--format", "csv"][..], &config].concat());
    assert!(csv.starts_with("order,version,state,status,"), "{csv}");
    let json: Value =
        serde_json::from_str(&home.text(&[&["export", "--format", "json"][..], &config].concat())).unwrap();
    let numbers: Vec<i64> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|order| order["id"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers.len(), 21);
    assert!(numbers.is_sorted());
    let after = numbers[17].to_string();
    let rest: Value =
        serde_json::from_str(&home.text(&[&["export", "--format", "json", "--after", &after][..], &config].concat()))
            .unwrap();
    assert_eq!(rest.as_array().unwrap().len(), 3);
    assert!(ask(&["orders", "close", "--up-to", &after])["count"].as_u64().unwrap() > 0);
    assert_eq!(ask(&["templates", "check"])["faults"], 0);
    bot.stop();
    assert!(
        replies(&exim).values().all(|mails| mails.len() == 1),
        "each reply was sent once"
    );
}

#[test]
fn unknown_senders_wait_until_somebody_vouches_for_them() {
    let home = Home::new("review");
    fill(&home, "inbox", 0, 1);
    let review = "[mail_order_bot]\nsource = \"maildir:inbox?interval=50ms\"\n[mail_order_bot.desk]\n\
                  unknown_senders = \"review\"\n[[mail_order_bot.desk.profiles]]\nid = \"acme\"\nlanguage = \"de\"\n\
                  senders = [\"buyer@acme.example\"]\n";
    fs::write(home.join("bot.toml"), review).unwrap();
    let config = ["--config", "bot.toml"];
    let ask = |arguments: &[&str]| home.ask(&[arguments, &config[..]].concat());
    let mail =
        |id: &str| format!("From: new@customer.example\r\nSubject: Order\r\nMessage-ID: <{id}@customer.example>");
    deliver(&home, "1", &mail("r1"), "2 x ART-001");
    deliver(&home, "2", &mail("r2"), "3 x ART-001");
    let mut bot = home.start(&config);
    bot.wait_for_line("mail-order-bot is ready");
    bot.wait("two reviews", || {
        ask(&["review"]).as_array().is_some_and(|list| list.len() == 2)
    });
    assert_eq!((home.orders(&config).len(), home.replies()), (0, 0));
    let text = ask(&["review", "show", "1"]);
    assert!(text["mail"].as_str().unwrap().contains("ART-001"), "{text:#}");
    // As a guest, and as a customer whose profile has another address.
    assert!(
        ask(&["review", "accept", "1"])[0]["outcome"]
            .as_str()
            .unwrap()
            .starts_with("order 1")
    );
    ask(&["review", "accept", "2", "--customer", "acme"]);
    assert_eq!(ask(&["orders", "2"])[0]["customer"]["id"], "acme");
    bot.wait("two replies", || home.replies() == 2);
    // By changed settings, once somebody has added the sender.
    deliver(&home, "3", &mail("r3"), "4 x ART-001");
    bot.wait("a third review", || {
        ask(&["review"]).as_array().is_some_and(|list| list.len() == 1)
    });
    bot.stop();
    fs::write(
        home.join("bot.toml"),
        review.replace("\"review\"", "\"accept_as_guest\""),
    )
    .unwrap();
    let replayed = ask(&["replay", "--review"]);
    assert!(
        replayed[0]["outcome"].as_str().unwrap().starts_with("order 3"),
        "{replayed:#}"
    );
    let mut bot = home.start(&config);
    bot.wait_for_line("mail-order-bot is ready");
    bot.wait("the third reply", || home.replies() == 3);
    bot.stop();
}
