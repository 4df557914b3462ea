//! The desk with a real store: every sample mail, generated mails in parallel, crashes between steps, hostile input.

mod rate;
mod unclear;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::desk::{DeskOptions, NotAnOrder, OrderDesk, Processed};
use crate::domain::{Catalogue, Money, OrderId, OrderStatus, UnknownSenders};
use crate::samples::{SAMPLES, generate};
use crate::store::{Counts, OrderFilter, OrderReads, OrderStore};
use jiff::Timestamp;
use plba::mail::maildir::{Delivered, Maildir};

struct Shop {
    directory: PathBuf,
    desk: OrderDesk,
}

impl Shop {
    fn open(name: &str, options: &DeskOptions) -> Self {
        let directory = std::env::temp_dir().join(format!("mail-order-bot-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&directory));
        std::fs::create_dir_all(&directory).unwrap();
        let desk = desk(&directory, options);
        Self { directory, desk }
    }

    fn process(&self, raw: &[u8]) -> Processed {
        self.desk.process(raw, now()).unwrap()
    }

    fn sample(&self, name: &str) -> Processed {
        self.process(SAMPLES.iter().find(|sample| sample.name == name).unwrap().raw)
    }

    fn counts(&self) -> Counts {
        self.desk.store().reads().counts().unwrap()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

fn desk(directory: &Path, options: &DeskOptions) -> OrderDesk {
    let catalogue = Arc::new(Catalogue::open("embedded:").unwrap());
    let store = OrderStore::open(&directory.join("orders.db")).unwrap();
    OrderDesk::new(catalogue, Arc::new(options.validate().unwrap()), store)
}

fn options() -> DeskOptions {
    DeskOptions::for_samples()
}

fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

#[test]
fn every_sample_mail_becomes_what_its_name_says() {
    use OrderStatus::{Accepted, PartlyAccepted, Rejected};
    let shop = Shop::open("samples", &options());
    // Name, customer, status, lines accepted of all, total, answered.
    let orders = [
        (
            "01-text",
            "guest:jane.miller@corner-cafe.example",
            Accepted,
            "3/3",
            5340,
            true,
        ),
        ("02-german-text", "teehaus-gruen", Accepted, "3/3", 10050, true),
        (
            "03-html-table",
            "guest:ravi@gift-island.example",
            Accepted,
            "3/3",
            34060,
            true,
        ),
        ("04-csv", "naturkost-sued", Accepted, "3/3", 35250, true),
        ("05-csv-own-columns", "kaufhaus-nord", Accepted, "3/3", 15570, true),
        ("06-xlsx", "tea-lounge", Accepted, "3/3", 41500, true),
        (
            "07-xlsx-mislabelled",
            "guest:tom@market-stall.example",
            PartlyAccepted,
            "2/3",
            17970,
            true,
        ),
        (
            "08-partly-accepted",
            "guest:anna@bottega.example",
            PartlyAccepted,
            "2/5",
            9180,
            true,
        ),
        (
            "09-rejected",
            "guest:sam@field-and-sons.example",
            Rejected,
            "0/3",
            0,
            true,
        ),
        (
            "14-shop-system",
            "guest:webshop@cups-online.example",
            Accepted,
            "2/2",
            38340,
            false,
        ),
    ];
    for (name, customer, status, accepted, total, answered) in orders {
        let Processed::Stored {
            order_id,
            status: found,
            outbox_id,
            ..
        } = shop.sample(name)
        else {
            panic!("{name} was not stored")
        };
        let order = shop.desk.store().reads().order(order_id).unwrap().unwrap();
        let good = order.lines.iter().filter(|line| line.reason().is_none()).count();
        let reasons: Vec<String> = order
            .lines
            .iter()
            .filter_map(|line| line.reason())
            .map(ToString::to_string)
            .collect();
        assert_eq!((order.status, found), (status, status), "{name}: {reasons:?}");
        assert_eq!(order.customer.id, customer, "{name}");
        assert_eq!(format!("{good}/{}", order.lines.len()), accepted, "{name}: {reasons:?}");
        assert_eq!(order.total, Money::from_minor(total), "{name}");
        assert_eq!(outbox_id.is_some(), answered, "{name}");
        assert_eq!(order.reply_withheld.is_none(), answered, "{name}");
    }
    let others = [
        ("10-newsletter", NotAnOrder::Automatic("mailing list or bulk mail")),
        ("13-out-of-office", NotAnOrder::Automatic("an automatic answer")),
        ("15-question", NotAnOrder::NoLines),
    ];
    for (name, reason) in others {
        assert_eq!(
            shop.sample(name),
            Processed::NotAnOrder {
                reason,
                outbox_id: None
            },
            "{name}"
        );
    }
    let Processed::Duplicate {
        order_id: Some(OrderId(1)),
        pending_reply: Some(_),
    } = shop.sample("11-second-delivery")
    else {
        panic!("the second delivery was not recognised")
    };
    let Processed::Stored {
        possible_duplicate_of: Some(OrderId(1)),
        ..
    } = shop.sample("12-sent-again")
    else {
        panic!("the repeated order was not flagged")
    };
    let counts = shop.counts();
    assert_eq!(
        (
            counts.accepted,
            counts.partly_accepted,
            counts.rejected,
            counts.not_orders
        ),
        (8, 2, 1, 3)
    );
    assert_eq!(counts.replies_pending, 10);
}

#[test]
fn reasons_in_the_samples_are_the_right_ones() {
    let shop = Shop::open("reasons", &options());
    let mut reasons = Vec::new();
    for name in ["08-partly-accepted", "09-rejected", "07-xlsx-mislabelled"] {
        let Processed::Stored { order_id, .. } = shop.sample(name) else {
            panic!("{name} was not stored")
        };
        let order = shop.desk.store().reads().order(order_id).unwrap().unwrap();
        reasons.extend(
            order
                .lines
                .iter()
                .filter_map(|line| line.reason())
                .map(|reason| reason.code()),
        );
    }
    let expected = [
        "unknown_article",
        "price_mismatch",
        "bad_quantity",
        "not_available",
        "below_minimum",
        "zero_quantity",
        "above_maximum",
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn the_json_of_an_order_has_what_scripts_rely_on() {
    let shop = Shop::open("json", &options());
    shop.sample("08-partly-accepted");
    let orders = shop.desk.store().reads().orders(&OrderFilter::default()).unwrap();
    let json = serde_json::to_value(&orders).unwrap();
    let order = &json[0];
    assert_eq!(
        (order["id"].as_i64(), order["status"].as_str()),
        (Some(1), Some("partly_accepted"))
    );
    assert_eq!(order["message_id"], "ord-55@bottega.example");
    assert_eq!(order["customer"]["address"], "anna@bottega.example");
    assert_eq!(order["lines"][0]["status"], "accepted");
    assert_eq!(order["lines"][0]["amount"], 4500);
    assert_eq!(order["lines"][1]["reason"]["code"], "unknown_article");
}

#[test]
fn generated_mails_are_each_stored_and_answered_once_by_many_workers() {
    let seed = 20_261_122;
    println!("seed {seed}");
    let shop = Shop::open("generated", &DeskOptions::default());
    let mails: Vec<generate::OrderMail> = generate::order_mails(200, seed).unwrap().map(Result::unwrap).collect();
    // Every mail is delivered twice, in another order the second time.
    let deliveries: Vec<&generate::OrderMail> = mails.iter().chain(mails.iter().rev()).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(mail) = deliveries.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = shop.process(&mail.raw);
                    assert!(
                        !matches!(outcome, Processed::NotAnOrder { .. }),
                        "{}: {outcome:?}",
                        mail.message_id
                    );
                }
            });
        }
    });
    let orders = shop
        .desk
        .store()
        .reads()
        .orders(&OrderFilter {
            limit: 1000,
            ..OrderFilter::default()
        })
        .unwrap();
    assert_eq!(orders.len(), mails.len());
    for mail in &mails {
        let order = orders.iter().find(|order| order.message_id == mail.message_id).unwrap();
        assert_eq!(
            (order.status, order.lines.len()),
            (mail.status, mail.lines),
            "{} {:?}",
            mail.message_id,
            mail.form
        );
        assert_eq!(
            (&order.customer.address, order.possible_duplicate_of),
            (&mail.sender, None)
        );
    }
    assert_eq!(shop.counts().replies_pending, mails.len() as u64);
}

#[test]
fn a_crash_after_the_commit_neither_loses_nor_doubles_anything() {
    let shop = Shop::open("crash", &options());
    let outbox = Maildir::create(shop.directory.join("outbox")).unwrap();
    let Processed::Stored {
        outbox_id: Some(id), ..
    } = shop.sample("01-text")
    else {
        panic!("not stored")
    };
    // The process died here: order and reply are committed, nobody was told. The message comes again.
    let again = desk(&shop.directory, &options());
    let Processed::Duplicate {
        order_id: Some(OrderId(1)),
        pending_reply: Some(pending),
    } = again.process(SAMPLES[0].raw, now()).unwrap()
    else {
        panic!("not recognised")
    };
    assert_eq!(pending, id);
    let row = again.store().outbox().get(&id).unwrap().unwrap();
    assert_eq!(outbox.deliver(row.id.as_str(), &row.message).unwrap(), Delivered::Now);
    // It died again, between handing over and marking.
    let row = again.store().outbox().pending(0, 10).unwrap().remove(0);
    assert_eq!(
        outbox.deliver(row.id.as_str(), &row.message).unwrap(),
        Delivered::AlreadyThere
    );
    again.store().outbox().mark_sent(&row.id, now()).unwrap();
    assert_eq!(std::fs::read_dir(outbox.root().join("new")).unwrap().count(), 1);
    assert_eq!(
        again.process(SAMPLES[0].raw, now()).unwrap(),
        Processed::Duplicate {
            order_id: Some(OrderId(1)),
            pending_reply: None
        }
    );
    let reads = OrderReads::open(&shop.directory.join("orders.db")).unwrap();
    assert_eq!(
        (reads.counts().unwrap().accepted, reads.counts().unwrap().replies_sent),
        (1, 1)
    );
}

#[test]
fn an_order_under_a_number_that_the_customer_has_used_before_is_flagged() {
    let shop = Shop::open("numbers", &options());
    let process = |id: u32, number: &str, body: &str, received: &str| {
        let raw = format!(
            "From: Jo <jo@b.example>\r\nMessage-ID: <{id}@b>\r\nSubject: Purchase order {number}\r\n\r\n{body}\r\n"
        );
        match shop.desk.process(raw.as_bytes(), received.parse().unwrap()).unwrap() {
            Processed::Stored {
                order_id,
                possible_duplicate_of,
                outbox_id,
                ..
            } => (order_id, possible_duplicate_of, outbox_id.unwrap()),
            other => panic!("{other:?}"),
        }
    };
    let (first, none, _) = process(1, "PO-2026-118", "2 x ART-001", "2026-09-01T10:00:00Z");
    assert_eq!(none, None);
    assert_eq!(process(2, "PO-2026-119", "3 x ART-001", "2026-09-02T10:00:00Z").1, None);
    // Months later, with other lines: typed anew, or corrected.
    let (again, duplicate, reply) = process(3, "po-2026-118", "5 x ART-002", "2026-11-22T10:00:00Z");
    assert_eq!(duplicate, Some(first));
    let reads = shop.desk.store().reads();
    let json = crate::desk::shown(&reads.order(again).unwrap().unwrap());
    assert_eq!(
        (&json["order_number"], &json["possible_duplicate_of"]),
        (&"po-2026-118".into(), &first.0.into())
    );
    let reply = reads.outbox_row(&reply).unwrap().unwrap();
    let text = String::from_utf8_lossy(&reply.message).into_owned();
    assert!(text.contains("looks like your order 1 once more"), "{text}");
}

#[test]
fn strangers_are_rejected_where_the_options_say_so() {
    let shop = Shop::open(
        "strangers",
        &DeskOptions {
            unknown_senders: UnknownSenders::Reject,
            ..options()
        },
    );
    let stranger = shop.sample("01-text");
    assert!(
        matches!(
            stranger,
            Processed::Stored {
                status: OrderStatus::Rejected,
                ..
            }
        ),
        "{stranger:?}"
    );
    let customer = shop.sample("06-xlsx");
    assert!(
        matches!(
            customer,
            Processed::Stored {
                status: OrderStatus::Accepted,
                ..
            }
        ),
        "{customer:?}"
    );
}

#[test]
fn a_message_without_an_order_is_answered_only_where_the_options_say_so() {
    let mut wanted = options();
    wanted.replies.answer_unrecognised = true;
    let shop = Shop::open("unrecognised", &wanted);
    let Processed::NotAnOrder {
        reason: NotAnOrder::NoLines,
        outbox_id: Some(id),
    } = shop.sample("15-question")
    else {
        panic!("not answered")
    };
    assert_eq!(shop.desk.store().outbox().get(&id).unwrap().unwrap().order_id, None);
    assert!(matches!(
        shop.sample("10-newsletter"),
        Processed::NotAnOrder { outbox_id: None, .. }
    ));
    assert!(matches!(
        shop.sample("15-question"),
        Processed::Duplicate {
            order_id: None,
            pending_reply: Some(_)
        }
    ));
}

#[test]
fn mail_by_an_own_list_is_judged_without_the_list() {
    let shop = Shop::open(
        "lists",
        &DeskOptions {
            own_lists: vec!["Orders.shop.example".to_owned()],
            ..options()
        },
    );
    let process = |headers: &str| {
        let raw = format!("From: a@b.example\r\nPrecedence: list\r\n{headers}\r\n\r\n2 x ART-001\r\n");
        shop.process(raw.as_bytes())
    };
    let answered = process("Message-ID: <1@b>\r\nList-Id: Orders <orders.shop.example>");
    assert!(
        matches!(answered, Processed::Stored { outbox_id: Some(_), .. }),
        "{answered:?}"
    );
    let silent = process("Message-ID: <2@b>\r\nList-Id: <orders.shop.example>\r\nAuto-Submitted: auto-generated");
    assert!(
        matches!(silent, Processed::Stored { outbox_id: None, .. }),
        "{silent:?}"
    );
    let foreign = process("Message-ID: <3@b>\r\nList-Id: <news.other.example>");
    assert!(matches!(foreign, Processed::NotAnOrder { .. }), "{foreign:?}");
}

#[test]
fn own_mail_and_mail_from_nobody_is_no_order() {
    let shop = Shop::open("own", &options());
    let own = b"From: orders@mail-order-bot.example\r\n\r\n2 x ART-001\r\n";
    assert_eq!(
        shop.process(own),
        Processed::NotAnOrder {
            reason: NotAnOrder::OwnMail,
            outbox_id: None
        }
    );
    let nobody = b"Subject: order\r\n\r\n2 x ART-001\r\n";
    assert_eq!(
        shop.process(nobody),
        Processed::NotAnOrder {
            reason: NotAnOrder::NoSender,
            outbox_id: None
        }
    );
}

#[test]
fn an_unreadable_attachment_is_a_rejection_and_an_unreadable_message_a_permanent_error() {
    let shop = Shop::open("unreadable", &options());
    let raw =
        "From: a@b.example\r\nContent-Type: application/octet-stream; name=\"order.xlsx\"\r\n\r\nPK\x03\x04 broken";
    let Processed::Stored {
        order_id,
        status: OrderStatus::Rejected,
        outbox_id: Some(_),
        ..
    } = shop.process(raw.as_bytes())
    else {
        panic!("not rejected")
    };
    let order = shop.desk.store().reads().order(order_id).unwrap().unwrap();
    assert!(
        order.lines.is_empty() && order.notes[0].contains("order.xlsx"),
        "{:?}",
        order.notes
    );

    let error = shop.desk.process(b"\0\0\0", now()).unwrap_err();
    assert!(!error.is_transient(), "{error}");
    let error = shop.desk.process(&vec![b'x'; 21 << 20], now()).unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("bytes"), "{error}");
}

#[test]
fn damaged_copies_of_the_samples_never_panic() {
    let seed = 4711_u64;
    println!("seed {seed}");
    let shop = Shop::open("damaged", &options());
    let mut state = seed;
    let mut random = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for round in 0..400 {
        let mut raw = SAMPLES[round % SAMPLES.len()].raw.to_vec();
        for _ in 0..=random(8) {
            let at = random(raw.len());
            match random(4) {
                0 => raw[at] = [0, 0xff, b'\n', b'=', b'<', b';'][random(6)],
                1 => raw.truncate(at.max(1)),
                2 => drop(raw.drain(at..(at + random(40)).min(raw.len()))),
                _ => raw.splice(at..at, [b'A'; 30]).for_each(drop),
            }
            if raw.is_empty() {
                break;
            }
        }
        match shop.desk.process(&raw, now()) {
            Ok(_) => {}
            Err(error) => {
                assert!(!error.to_string().contains("panic"), "round {round}: {error}");
                assert!(!error.is_transient(), "round {round}: {error}");
            }
        }
    }
}
