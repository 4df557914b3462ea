//! The store as its callers see it: once-only, all or nothing, versions, reading beside a writer.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::domain::{Customer, LineStatus, Money, Order, OrderId, OrderLine, OrderStatus, Quantity, RejectReason};
use crate::scratch::Scratch;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn message(id: &str, received: &str) -> NewMessage {
    NewMessage {
        key: MessageKey {
            message_id: id.to_owned(),
            body_hash: "hash".to_owned(),
        },
        sender: "jane@example.com".to_owned(),
        subject: "Order".to_owned(),
        received_at: at(received),
        traceparent: Some(format!("of {id}")),
    }
}

fn order(quantity: i64) -> NewOrder {
    let line = |position, status| OrderLine {
        position,
        article: format!("ART-00{position}"),
        name: None,
        quantity: Some(Quantity::from_thousandths(quantity)),
        quantity_given: "2".to_owned(),
        unit: Some("pcs".to_owned()),
        price_given: Some("4,50".to_owned()),
        place: format!("text line {position}"),
        status,
    };
    let accepted = LineStatus::Accepted {
        unit_price: Money::from_minor(450),
        amount: Money::from_minor(900),
    };
    NewOrder {
        customer: Customer {
            id: "c1".to_owned(),
            name: "Jane".to_owned(),
            address: "jane@example.com".to_owned(),
        },
        status: OrderStatus::PartlyAccepted,
        lines: vec![
            line(1, accepted),
            line(
                2,
                LineStatus::Rejected {
                    reason: RejectReason::UnknownArticle { suggestion: None },
                },
            ),
        ],
        total: Money::from_minor(900),
        currency: "EUR".to_owned(),
        notes: vec!["a note".to_owned()],
        duplicate_window: SignedDuration::from_hours(24 * 7),
    }
}

fn send(_: &Order, _: u64) -> ReplyPlan {
    ReplyPlan::Send {
        recipient: "jane@example.com".to_owned(),
        message: b"reply".to_vec(),
    }
}

fn record(store: &OrderStore, id: &str, received: &str, quantity: i64) -> Order {
    match store
        .record_order(&message(id, received), order(quantity), "jane@example.com", send)
        .unwrap()
    {
        Recorded::New { record, .. } => record,
        Recorded::Known(known) => panic!("known: {known:?}"),
    }
}

const NOW: &str = "2026-11-22T10:00:00Z";

#[test]
fn an_order_comes_back_as_it_was_stored() {
    let scratch = Scratch::new("store");
    let store = OrderStore::open(&scratch.path().join("orders.db")).unwrap();
    let stored = record(&store, "m1", NOW, 2000);
    assert_eq!(store.reads().order(stored.id).unwrap().unwrap(), stored);
    assert_eq!(store.reads().order(OrderId(99)).unwrap(), None);
    assert_eq!(stored.lines.len(), 2);
    let pending = store.outbox().pending(0, 10).unwrap();
    assert_eq!(
        (pending.len(), pending[0].message.as_slice(), pending[0].order_id),
        (1, &b"reply"[..], Some(stored.id))
    );
    assert_eq!(pending[0].traceparent.as_deref(), Some("of m1"));
    let counts = store.reads().counts().unwrap();
    assert_eq!(
        (counts.partly_accepted, counts.replies_pending, counts.replies_sent),
        (1, 1, 0)
    );
}

#[test]
fn a_message_is_recorded_once_however_many_deliver_it_at_once() {
    let scratch = Scratch::new("store-once");
    let store = OrderStore::open(&scratch.path().join("orders.db")).unwrap();
    let new: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let outcome = store.record_order(&message("m1", NOW), order(2000), "jane@example.com", send);
                    usize::from(matches!(outcome.unwrap(), Recorded::New { .. }))
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(new, 1);
    assert_eq!(store.reads().orders(&OrderFilter::default()).unwrap().len(), 1);
    assert_eq!(store.outbox().pending(0, 10).unwrap().len(), 1);

    let known = store.known(&message("m1", NOW).key).unwrap().unwrap();
    let reply = known.pending_reply.unwrap();
    assert!(store.outbox().mark_sent(&reply, at(NOW)).unwrap());
    assert!(store.outbox().mark_sent(&reply, at("2026-11-23T10:00:00Z")).unwrap());
    assert_eq!(
        store.outbox().get(&reply).unwrap().unwrap().sent_at,
        Some(at(NOW)),
        "the first time stays"
    );
    assert_eq!(
        store.known(&message("m1", NOW).key).unwrap().unwrap().pending_reply,
        None
    );
    assert!(store.outbox().pending(0, 10).unwrap().is_empty());
    let stranger = OutboxId::parse(&"0".repeat(32)).unwrap();
    assert!(!store.outbox().mark_sent(&stranger, at(NOW)).unwrap());
}

#[test]
fn a_panic_inside_the_transaction_leaves_nothing_and_the_store_usable() {
    let scratch = Scratch::new("store-panic");
    let store = OrderStore::open(&scratch.path().join("orders.db")).unwrap();
    let panicking = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.record_order(&message("m1", NOW), order(2000), "jane@example.com", |_, _| {
            panic!("in the middle")
        })
    }));
    assert!(panicking.is_err());
    assert_eq!(store.known(&message("m1", NOW).key).unwrap(), None);
    assert!(store.reads().orders(&OrderFilter::default()).unwrap().is_empty());
    record(&store, "m1", NOW, 2000);
}

#[test]
fn the_same_lines_in_another_message_are_flagged_within_the_window() {
    let scratch = Scratch::new("store-duplicate");
    let store = OrderStore::open(&scratch.path().join("orders.db")).unwrap();
    let first = record(&store, "m1", NOW, 2000);
    assert_eq!(first.possible_duplicate_of, None);
    assert_eq!(
        record(&store, "m2", "2026-11-25T10:00:00Z", 2000).possible_duplicate_of,
        Some(first.id)
    );
    assert_eq!(
        record(&store, "m3", "2026-11-25T10:00:00Z", 3000).possible_duplicate_of,
        None
    );
    assert_eq!(
        record(&store, "m4", "2026-12-25T10:00:00Z", 2000).possible_duplicate_of,
        None
    );
}

#[test]
fn recent_replies_are_counted_and_withholding_is_recorded() {
    let scratch = Scratch::new("store-rate");
    let store = OrderStore::open(&scratch.path().join("orders.db")).unwrap();
    record(&store, "m1", "2026-11-22T08:00:00Z", 1000);
    record(&store, "m2", "2026-11-22T09:30:00Z", 2000);
    let plan = |_: &Order, recent| ReplyPlan::Withhold(format!("{recent} recent"));
    let outcome = store
        .record_order(&message("m3", NOW), order(3000), "jane@example.com", plan)
        .unwrap();
    let Recorded::New {
        record,
        outbox_id: None,
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(record.reply_withheld.as_deref(), Some("1 recent"));
    assert_eq!(store.reads().order(record.id).unwrap().unwrap(), record);
}

#[test]
fn a_message_that_is_no_order_is_known_too() {
    let scratch = Scratch::new("store-none");
    let store = OrderStore::open(&scratch.path().join("orders.db")).unwrap();
    let withhold = |_| ReplyPlan::Withhold(String::new());
    let once = || {
        store
            .record_not_an_order(&message("m1", NOW), "a newsletter", "jane@example.com", withhold)
            .unwrap()
    };
    assert_eq!(
        once(),
        Recorded::New {
            record: (),
            outbox_id: None
        }
    );
    assert_eq!(
        once(),
        Recorded::Known(KnownMessage {
            order_id: None,
            pending_reply: None
        })
    );
    assert_eq!(store.reads().counts().unwrap().not_orders, 1);
}

#[test]
fn lists_are_filtered_and_paged() {
    let scratch = Scratch::new("store-list");
    let store = OrderStore::open(&scratch.path().join("orders.db")).unwrap();
    for number in 1..=5 {
        record(&store, &format!("m{number}"), NOW, number * 1000);
    }
    let ids = |filter: OrderFilter| -> Vec<i64> {
        store
            .reads()
            .orders(&filter)
            .unwrap()
            .iter()
            .map(|order| order.id.0)
            .collect()
    };
    let page = OrderFilter {
        limit: 2,
        ..OrderFilter::default()
    };
    assert_eq!(ids(page.clone()), [5, 4]);
    assert_eq!(
        ids(OrderFilter {
            before: Some(OrderId(4)),
            ..page
        }),
        [3, 2]
    );
    assert_eq!(
        ids(OrderFilter {
            status: Some(OrderStatus::Accepted),
            ..OrderFilter::default()
        }),
        [0_i64; 0]
    );
    assert_eq!(
        ids(OrderFilter {
            customer: Some("c1".to_owned()),
            ..OrderFilter::default()
        })
        .len(),
        5
    );
    assert_eq!(
        ids(OrderFilter {
            customer: Some("c2".to_owned()),
            ..OrderFilter::default()
        }),
        [0_i64; 0]
    );
}

#[test]
fn a_store_is_read_beside_a_writer_and_after_it() {
    let scratch = Scratch::new("store-reader");
    let path = scratch.path().join("orders.db");
    assert!(
        matches!(OrderReads::open(&path), Err(StoreError::Open { .. })),
        "reading creates nothing"
    );
    assert!(!path.exists());
    let store = OrderStore::open(&path).unwrap();
    record(&store, "m1", NOW, 1000);
    let beside = OrderReads::open(&path).unwrap();
    assert_eq!(beside.counts().unwrap().partly_accepted, 1);
    record(&store, "m2", NOW, 2000);
    assert_eq!(beside.counts().unwrap().partly_accepted, 2);
    drop((store, beside));
    assert_eq!(OrderReads::open(&path).unwrap().counts().unwrap().partly_accepted, 2);
    let again = OrderStore::open(&path).unwrap();
    assert_eq!(again.reads().counts().unwrap().replies_pending, 2);
}

#[cfg(unix)]
#[test]
fn a_new_store_is_its_owners_alone_and_a_missing_directory_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("store-mode");
    let path = scratch.path().join("orders.db");
    let _store = OrderStore::open(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = OrderStore::open(&scratch.path().join("no").join("orders.db"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no/orders.db") && error.contains("directory exists"),
        "{error}"
    );
}

#[test]
fn a_store_of_the_first_version_becomes_current_with_what_it_holds() {
    let scratch = Scratch::new("store-first");
    let path = scratch.path().join("orders.db");
    drop(OrderStore::open(&path).unwrap());
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "ALTER TABLE outbox DROP COLUMN traceparent;
             INSERT INTO outbox (id, recipient, message, created_at) VALUES ('a', 'jane@example.com', x'00', 0);
             PRAGMA user_version = 1;",
        )
        .unwrap();
    assert!(matches!(
        OrderReads::open(&path),
        Err(StoreError::Older { found: 1, .. })
    ));
    let pending = OrderStore::open(&path).unwrap().outbox().pending(0, 10).unwrap();
    assert_eq!((pending.len(), &pending[0].traceparent), (1, &None));
}

#[test]
fn foreign_and_newer_databases_are_refused_untouched() {
    let scratch = Scratch::new("store-version");
    let foreign = scratch.path().join("foreign.db");
    Connection::open(&foreign)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (a)")
        .unwrap();
    assert!(matches!(OrderStore::open(&foreign), Err(StoreError::NotOurs { .. })));

    let newer = scratch.path().join("newer.db");
    drop(OrderStore::open(&newer).unwrap());
    Connection::open(&newer)
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let error = OrderStore::open(&newer).unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 99, .. }) && !error.is_transient(),
        "{error}"
    );
    assert!(matches!(OrderReads::open(&newer), Err(StoreError::Newer { .. })));

    let text = scratch.path().join("text.db");
    std::fs::write(&text, "this is not a database, and long enough to be looked at as one").unwrap();
    assert!(!OrderStore::open(&text).unwrap_err().is_transient());
}

#[test]
fn a_locked_database_is_a_transient_error() {
    let scratch = Scratch::new("store-busy");
    let path = scratch.path().join("orders.db");
    let store = OrderStore::open(&path).unwrap();
    store.writer().busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store
        .record_order(&message("m1", NOW), order(1000), "jane@example.com", send)
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    record(&store, "m1", NOW, 1000);
}
