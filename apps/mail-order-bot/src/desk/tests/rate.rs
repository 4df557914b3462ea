//! How many replies one correspondent gets, and that this costs nobody an order.

use super::*;

#[test]
fn the_rate_of_replies_to_one_address_is_limited_and_orders_are_not() {
    let mut options = options();
    options.replies.max_per_hour = 3;
    let shop = Shop::open("rate", &options);
    for number in 1..=5 {
        let raw = format!("From: a@b.example\r\nMessage-ID: <{number}@b>\r\n\r\n{number} x ART-001\r\n");
        let Processed::Stored { outbox_id, .. } = shop.process(raw.as_bytes()) else {
            panic!("not stored")
        };
        assert_eq!(outbox_id.is_some(), number <= 3, "reply {number}");
    }
    let raw = "From: a@b.example\r\nMessage-ID: <6@b>\r\n\r\n6 x ART-001\r\n";
    let later = "2026-11-22T11:00:01Z".parse().unwrap();
    let Processed::Stored { outbox_id: Some(_), .. } = shop.desk.process(raw.as_bytes(), later).unwrap() else {
        panic!("an hour later there is an answer again")
    };
}

#[test]
fn whatever_is_answered_counts_for_the_correspondent_and_whatever_comes_is_stored() {
    let mut options = options();
    options.replies.max_per_hour = 2;
    options.replies.answer_unrecognised = true;
    let shop = Shop::open("rate-mixed", &options);
    let process = |id: u32, from: &str, headers: &str, body: &str| {
        let raw =
            format!("From: {from}\r\nReply-To: Desk@B.example\r\nMessage-ID: <{id}@b>\r\n{headers}\r\n{body}\r\n");
        shop.process(raw.as_bytes())
    };
    // A question and an order take what there is, whoever of them writes.
    let question = process(1, "a@b.example", "", "When do you open?");
    assert!(
        matches!(question, Processed::NotAnOrder { outbox_id: Some(_), .. }),
        "{question:?}"
    );
    let order = process(2, "jo@b.example", "", "2 x ART-001");
    assert!(
        matches!(order, Processed::Stored { outbox_id: Some(_), .. }),
        "{order:?}"
    );
    let question = process(3, "jo@b.example", "", "And on Sundays?");
    assert!(
        matches!(question, Processed::NotAnOrder { outbox_id: None, .. }),
        "{question:?}"
    );
    let amending = "Subject: Re: Order - amendment\r\nIn-Reply-To: <2@b>\r\n";
    let amended = process(
        4,
        "jo@b.example",
        amending,
        "Please change my order:\r\n\r\n5 x ART-001",
    );
    assert!(
        matches!(
            amended,
            Processed::Changed {
                version: 2,
                outbox_id: None,
                ..
            }
        ),
        "{amended:?}"
    );
    let order = shop.desk.store().reads().order(OrderId(1)).unwrap().unwrap();
    let why = order.reply_withheld.unwrap();
    assert!(
        why.contains("2 replies went to desk@b.example within the hour"),
        "{why}"
    );
    // Nobody else waits for that.
    let raw = b"From: c@d.example\r\nMessage-ID: <5@d>\r\n\r\n1 x ART-002\r\n";
    assert!(matches!(
        shop.process(raw),
        Processed::Stored { outbox_id: Some(_), .. }
    ));
}
