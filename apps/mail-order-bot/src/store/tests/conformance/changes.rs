//! Promises about what happens to orders and mails after they came: versions, reviews, events, retention, search.

use super::super::record;
use super::super::*;
use crate::authentication::{Finding, Standing, Verdict};
use crate::domain::OrderState;
use crate::store::mails::Forgotten;

/// The order `id` of the customer c1, with these articles and quantities.
fn lines(wanted: &[(&str, i64)]) -> NewOrder {
    let mut new = order(1000);
    let line = |(position, (article, quantity)): (u32, &(&str, i64))| OrderLine {
        position,
        article: (*article).to_owned(),
        quantity: Some(Quantity::from_thousandths(*quantity)),
        status: match quantity {
            0 => LineStatus::Rejected {
                reason: RejectReason::ZeroQuantity,
            },
            _ => LineStatus::Accepted {
                unit_price: Money::from_minor(100),
                amount: Money::from_minor(quantity / 10),
            },
        },
        ..new.lines[0].clone()
    };
    let lines: Vec<OrderLine> = (1..).zip(wanted).map(line).collect();
    new.lines = lines;
    new.notes.clear();
    new.status = OrderStatus::Accepted;
    new
}

fn answering(id: &str, to: &str) -> NewMessage {
    NewMessage {
        references: vec!["somewhere@else".to_owned(), to.to_owned()],
        ..message(id, "2026-11-22T11:00:00Z")
    }
}

fn change(store: &OrderStore, message: &NewMessage, change: Change) -> Changed {
    match store.record_change(message, change, "jane@example.com", send).unwrap() {
        Recorded::New { record, .. } => record,
        Recorded::Known(known) => panic!("known: {known:?}"),
    }
}

fn articles(order: &Order) -> Vec<(String, i64, u32)> {
    let line = |line: &OrderLine| {
        let quantity = line.quantity.map_or(0, Quantity::thousandths);
        (line.article.clone(), quantity, line.position)
    };
    order.lines.iter().map(line).collect()
}

pub(super) fn an_amendment_makes_the_next_version_and_keeps_the_one_before(store: &OrderStore) {
    let mut first = lines(&[("A", 1000), ("B", 2000), ("C", 3000)]);
    first.order_number = Some("PO-8".to_owned());
    let first = store.record_order(&message("m1", NOW), first, "jane@example.com", send);
    let Recorded::New { record: first, .. } = first.unwrap() else {
        panic!("known")
    };
    // An answer to our reply: B is different, C is out, D is new.
    let mut wanted = lines(&[("b", 5000), ("C", 0), ("D", 4000)]);
    wanted.order_number = Some("PO-9".to_owned());
    let amending = answering("m2", "reply-to-m1@bot");
    let Changed::Order(second) = change(store, &amending, Change::Amend(wanted.clone())) else {
        panic!("on the review list")
    };
    assert_eq!(
        (second.id, second.version, second.state),
        (first.id, 2, OrderState::Open)
    );
    assert_eq!(
        second.order_number.as_deref(),
        Some("PO-8"),
        "as the order calls itself"
    );
    assert_eq!(
        articles(&second),
        [
            ("A".to_owned(), 1000, 1),
            ("b".to_owned(), 5000, 2),
            ("D".to_owned(), 4000, 3)
        ]
    );
    assert_eq!(
        (second.total, second.status),
        (Money::from_minor(1000), OrderStatus::Accepted)
    );
    assert_eq!(store.reads().order(first.id).unwrap().unwrap(), *second);
    let earlier = store.reads().earlier_versions(first.id).unwrap();
    assert_eq!(
        (earlier.len(), &earlier[0].order, earlier[0].replaced_by.as_str()),
        (1, &first, "m2")
    );
    // The same mail once more changes nothing, and is answered once.
    let again = store
        .record_change(&amending, Change::Amend(wanted), "jane@example.com", send)
        .unwrap();
    assert!(
        matches!(again, Recorded::Known(KnownMessage { order_id: Some(_), .. })),
        "{again:?}"
    );
    assert_eq!(store.outbox().pending(0, 10).unwrap().len(), 2);
    assert_eq!(store.reads().mails_of(first.id).unwrap().len(), 2);
}

pub(super) fn a_cancellation_takes_out_lines_or_all_of_an_order(store: &OrderStore) {
    let new = lines(&[("A", 1000), ("B", 2000)]);
    let stored = store
        .record_order(&message("m1", NOW), new, "jane@example.com", send)
        .unwrap();
    assert!(matches!(stored, Recorded::New { .. }));
    let mut without = lines(&[("A", 1000)]);
    without.order_number = Some("PO-9".to_owned());
    let part = change(store, &answering("m2", "m1"), Change::Cancel(without));
    let Changed::Order(part) = part else { panic!("{part:?}") };
    assert_eq!((articles(&part), part.version), (vec![("B".to_owned(), 2000, 1)], 2));
    assert_eq!(part.order_number.as_deref(), Some("PO-9"), "it had none before");
    let less = change(store, &answering("m2b", "m2"), Change::Cancel(lines(&[("B", 1000)])));
    assert!(
        matches!(&less, Changed::Review { reason: ReviewReason::Ambiguous, detail } if detail.contains("1 of B")),
        "{less:?}"
    );
    let strange = change(store, &answering("m3", "m2"), Change::Cancel(lines(&[("X", 1000)])));
    assert!(
        matches!(
            strange,
            Changed::Review {
                reason: ReviewReason::NoSuchOrder,
                ..
            }
        ),
        "{strange:?}"
    );
    let all = change(store, &answering("m4", "m2"), Change::Cancel(lines(&[])));
    let Changed::Order(all) = all else { panic!("{all:?}") };
    assert_eq!((all.state, all.version), (OrderState::Cancelled, 2));
    // What is cancelled can't be changed any more, nor counts as the order that another one repeats.
    let late = change(store, &answering("m5", "m1"), Change::Amend(lines(&[("A", 1000)])));
    assert!(
        matches!(
            late,
            Changed::Review {
                reason: ReviewReason::OrderClosed,
                ..
            }
        ),
        "{late:?}"
    );
    let mut again = lines(&[("B", 2000)]);
    again.order_number = Some("PO-9".to_owned());
    let again = store
        .record_order(&message("m6", NOW), again, "jane@example.com", send)
        .unwrap();
    assert!(matches!(again, Recorded::New { record, .. } if record.possible_duplicate_of.is_none()));
}

pub(super) fn what_fits_no_order_waits_on_the_review_list(store: &OrderStore) {
    record(store, "m1", NOW, 1000);
    let mut stranger = lines(&[("A", 1000)]);
    stranger.customer.id = "c2".to_owned();
    // Another customer, though the thread is right; and the right customer without a thread.
    for (id, to, new) in [("m2", "m1", stranger), ("m3", "nowhere", lines(&[("A", 1000)]))] {
        let unfit = change(store, &answering(id, to), Change::Amend(new));
        assert!(
            matches!(
                unfit,
                Changed::Review {
                    reason: ReviewReason::NoSuchOrder,
                    ..
                }
            ),
            "{unfit:?}"
        );
    }
    let closed = store
        .close_orders(&[OrderId(1)], None, OrderState::Exported, at(NOW))
        .unwrap();
    assert_eq!(closed, [OrderId(1)]);
    let late = change(store, &answering("m4", "m1"), Change::Cancel(lines(&[])));
    assert!(
        matches!(&late, Changed::Review { detail, .. } if detail.contains("exported")),
        "{late:?}"
    );
    let open = store.reads().reviews(Some(ReviewState::Open), 0, 10).unwrap();
    assert_eq!(
        open.iter().map(|review| review.message_id.as_str()).collect::<Vec<_>>(),
        ["m2", "m3", "m4"]
    );
    assert_eq!(store.reads().review(open[1].id).unwrap().unwrap().1.unwrap(), b"raw m3");
    assert_eq!(
        store.outbox().pending(0, 10).unwrap().len(),
        1,
        "nobody is answered before"
    );
    assert_eq!(store.reads().counts().unwrap().reviews, 3);
    // A later page, and what has been shipped stays so.
    assert_eq!(store.reads().reviews(None, open[1].id.0, 10).unwrap().len(), 1);
    assert_eq!(
        store
            .close_orders(&[], Some(OrderId(9)), OrderState::Shipped, at(NOW))
            .unwrap(),
        [OrderId(1)]
    );
    assert!(
        store
            .close_orders(&[], Some(OrderId(9)), OrderState::Exported, at(NOW))
            .unwrap()
            .is_empty()
    );
}

pub(super) fn a_review_is_decided_once(store: &OrderStore) {
    let reviewed = |id: &str| {
        let recorded = store.record_review(
            &message(id, NOW),
            ReviewReason::UnknownSender,
            "who?",
            "jane@example.com",
        );
        match recorded.unwrap() {
            Recorded::New { record, .. } => record,
            Recorded::Known(known) => panic!("{known:?}"),
        }
    };
    let (first, second) = (reviewed("m1"), reviewed("m2"));
    let again = store.record_review(
        &message("m1", NOW),
        ReviewReason::UnknownSender,
        "who?",
        "jane@example.com",
    );
    assert!(matches!(
        again.unwrap(),
        Recorded::Known(KnownMessage { order_id: None, .. })
    ));
    let deciding = NewMessage {
        decides: Some(first),
        ..message("m1", "2026-11-22T12:00:00Z")
    };
    let accepted = store
        .record_order(&deciding, order(1000), "jane@example.com", send)
        .unwrap();
    let Recorded::New {
        record: accepted,
        queued,
    } = accepted
    else {
        panic!("{accepted:?}")
    };
    assert_eq!(queued.len(), 1);
    let (review, _) = store.reads().review(first).unwrap().unwrap();
    assert_eq!(
        (review.state, review.order_id),
        (ReviewState::Accepted, Some(accepted.id))
    );
    assert_eq!(store.known(&deciding.key).unwrap().unwrap().order_id, Some(accepted.id));
    assert!(matches!(
        store.record_order(&deciding, order(1000), "jane@example.com", send),
        Err(StoreError::Refused(_))
    ));
    assert!(!store.reject_review(first, at(NOW)).unwrap());
    assert!(store.reject_review(second, at(NOW)).unwrap());
    assert!(!store.reject_review(second, at(NOW)).unwrap());
    assert_eq!(store.reads().reviews(Some(ReviewState::Open), 0, 10).unwrap(), []);
}

pub(super) fn events_lie_in_the_outbox_beside_the_reply(store: &OrderStore) {
    let told = |order: &Order, recent| Answers {
        events: ["erp", "shop"]
            .map(|hook| Event {
                hook: hook.to_owned(),
                body: b"{}".to_vec(),
            })
            .to_vec(),
        ..send(order, recent)
    };
    let stored = store
        .record_order(&message("m1", NOW), order(1000), "jane@example.com", told)
        .unwrap();
    let Recorded::New { record, queued } = stored else {
        panic!("{stored:?}")
    };
    let channels: Vec<Channel> = queued.iter().map(|queued| queued.channel).collect();
    assert_eq!(channels, [Channel::Reply, Channel::Webhook, Channel::Webhook]);
    let rows = store.reads().sent_about(record.id).unwrap();
    let recipients: Vec<&str> = rows.iter().map(|row| row.recipient.as_str()).collect();
    assert_eq!(recipients, ["shop", "erp", "jane@example.com"]);
    assert_ne!(queued[1].id, queued[2].id);
    let counts = store.reads().counts().unwrap();
    assert_eq!((counts.replies_pending, counts.webhooks_pending), (1, 2));
    assert_eq!(store.reads().replies_to("jane@example.com").unwrap(), 1);
}

pub(super) fn what_is_kept_no_longer_goes_and_the_rest_stays(store: &OrderStore) {
    let file = |name: &str| Attachment {
        file_name: name.to_owned(),
        content_type: "text/csv".to_owned(),
        content: b"a;b".to_vec(),
    };
    let old = NewMessage {
        attachments: vec![file("one.csv"), file("two.csv")],
        ..message("m1", "2026-01-01T00:00:00Z")
    };
    let stored = store.record_order(&old, order(1000), "jane@example.com", send).unwrap();
    let Recorded::New { record, queued } = stored else {
        panic!("{stored:?}")
    };
    let old_review = message("m2", "2026-01-01T00:00:00Z");
    store
        .record_review(&old_review, ReviewReason::Authentication, "?", "jane@example.com")
        .unwrap();
    record_at(store, "m3", "2026-11-21T00:00:00Z");
    record_at(store, "m4", "2026-11-22T00:00:00Z");
    assert_eq!(
        store.reads().attachments_of(record.id).unwrap(),
        [file("one.csv"), file("two.csv")]
    );
    store
        .outbox()
        .mark_sent(&queued[0].id, at("2026-01-02T00:00:00Z"))
        .unwrap();
    let days = |days: i64| SignedDuration::from_hours(24 * days);
    let mut keep = Keep {
        mails: days(90),
        most_mails: 100,
        attachments: days(400),
        sent: days(90),
    };
    let gone = store.forget(&keep, at(NOW)).unwrap();
    assert_eq!(
        gone,
        Forgotten {
            mails: 1,
            attachments: 0,
            sent: 1
        }
    );
    assert!(store.reads().mails_of(record.id).unwrap().is_empty());
    assert_eq!(store.reads().attachments_of(record.id).unwrap().len(), 2);
    assert_eq!(store.forget(&keep, at(NOW)).unwrap(), Forgotten::default());
    // By count the oldest goes first, but not what waits to be looked at.
    keep.most_mails = 2;
    keep.attachments = days(90);
    let gone = store.forget(&keep, at(NOW)).unwrap();
    assert_eq!((gone.mails, gone.attachments), (1, 2));
    assert!(store.reads().review(ReviewId(1)).unwrap().unwrap().1.is_some());
    assert_eq!(
        store.reads().replies_to("jane@example.com").unwrap(),
        3,
        "counted for longer than they are kept"
    );
    assert!(store.reads().order(record.id).unwrap().is_some(), "orders stay");
}

pub(super) fn what_was_found_out_about_a_sender_stays_with_the_message(store: &OrderStore) {
    let verdict = Verdict {
        standing: Standing::Fail,
        domain: Some("example.com".to_owned()),
        checked_by: "mx.shop.example".to_owned(),
        dmarc: Finding::Fail,
        spf: Finding::SoftFail,
        ..Verdict::default()
    };
    let doubtful = |id: &str| NewMessage {
        authentication: Some(verdict.clone()),
        ..message(id, NOW)
    };
    let stored = store.record_order(&doubtful("m1"), order(1000), "jane@example.com", send);
    assert!(matches!(stored.unwrap(), Recorded::New { .. }));
    let amended = change(store, &answering("m2", "m1"), Change::Amend(lines(&[("A", 1000)])));
    assert!(matches!(amended, Changed::Order(_)), "{amended:?}");
    let keep = Keep {
        mails: SignedDuration::ZERO,
        most_mails: 0,
        attachments: SignedDuration::ZERO,
        sent: SignedDuration::ZERO,
    };
    assert_eq!(store.forget(&keep, at("2026-12-01T00:00:00Z")).unwrap().mails, 2);
    let kept = store.reads().verdicts_of(OrderId(1)).unwrap();
    assert_eq!(kept, [("m1".to_owned(), verdict.clone())], "for longer than the mail");

    let review = store.record_review(&doubtful("m3"), ReviewReason::Authentication, "?", "jane@example.com");
    let Recorded::New { record: review, .. } = review.unwrap() else {
        panic!("known")
    };
    let (listed, _) = store.reads().review(review).unwrap().unwrap();
    assert_eq!(listed.authentication.as_ref(), Some(&verdict));
    // Somebody vouches for it: what was found when it came is still told.
    let vouched = NewMessage {
        decides: Some(review),
        ..message("m3", NOW)
    };
    let stored = store.record_order(&vouched, order(2000), "jane@example.com", send);
    let Recorded::New { record, .. } = stored.unwrap() else {
        panic!("known")
    };
    assert_eq!(
        store.reads().verdicts_of(record.id).unwrap(),
        [("m3".to_owned(), verdict)]
    );
}

fn record_at(store: &OrderStore, id: &str, received: &str) {
    record(store, id, received, 1000);
}

pub(super) fn a_search_finds_what_people_look_for_and_no_pattern(store: &OrderStore) {
    for (id, subject, article) in [
        ("m1", "Order of 100%", "ART-1"),
        ("m2", "Nothing_special", "x_y"),
        ("m3", "100 cups", "ART-3"),
    ] {
        let mut new = lines(&[(article, 1000)]);
        new.customer.name = format!("Jane {id}");
        let message = NewMessage {
            subject: subject.to_owned(),
            ..message(id, NOW)
        };
        store.record_order(&message, new, "jane@example.com", send).unwrap();
    }
    let found = |text: &str| -> Vec<i64> {
        let filter = OrderFilter {
            text: Some(text.to_owned()),
            ..OrderFilter::default()
        };
        store
            .reads()
            .orders(&filter)
            .unwrap()
            .iter()
            .map(|order| order.id.0)
            .collect()
    };
    assert_eq!(found("100%"), [1]);
    assert_eq!(found("100"), [3, 1]);
    assert_eq!(found("art-3"), [3]);
    assert_eq!(found("x_y"), [2]);
    assert_eq!(found("jane M2"), [2]);
    assert_eq!(found("' OR 1=1 --"), [0_i64; 0]);
    let after = store
        .reads()
        .orders_after(OrderId(1), None, Some(OrderState::Open), Some(at(NOW)), 10)
        .unwrap();
    assert_eq!(after.iter().map(|order| order.id.0).collect::<Vec<_>>(), [2, 3]);
    assert!(
        store
            .reads()
            .orders_after(OrderId(1), Some(OrderStatus::Rejected), None, None, 10)
            .unwrap()
            .is_empty()
    );
}
