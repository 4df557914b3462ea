//! What is SQLite's alone: the file, its versions, reading beside a writer. What every store promises is in `conformance`.

mod conformance;

use std::sync::Arc;
use std::time::Duration;

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
        references: Vec::new(),
        raw: Arc::from(format!("raw {id}").as_bytes()),
        authentication: None,
        attachments: Vec::new(),
        decides: None,
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
        order_number: None,
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

fn send(order: &Order, _: u64) -> Answers {
    ReplyPlan::Send {
        recipient: "jane@example.com".to_owned(),
        message: b"reply".to_vec(),
        message_id: format!("reply-to-{}@bot", order.message_id),
    }
    .into()
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
    let first = Connection::open(&path).unwrap();
    first.execute_batch(schema::sqlite::MIGRATIONS[0]).unwrap();
    first
        .execute_batch(&format!(
            "INSERT INTO orders (status, customer_id, customer_name, customer_address, message_id, subject, received_at,
                 total, currency, lines_fingerprint, notes)
             VALUES ('accepted', 'c1', 'Jane', 'jane@example.com', 'm1', 'Order', 5, 900, 'EUR', 'x', '[]');
             INSERT INTO outbox (id, order_id, recipient, message, created_at)
             VALUES ('{}', 1, 'jane@example.com', x'00', 0);
             PRAGMA user_version = 1; PRAGMA application_id = {};",
            "a".repeat(32),
            0x6d6f_6274
        ))
        .unwrap();
    drop(first);
    assert!(matches!(
        OrderReads::open(&path),
        Err(StoreError::Older { found: 1, .. })
    ));
    let store = OrderStore::open(&path).unwrap();
    let pending = store.outbox().pending(0, 10).unwrap();
    assert_eq!(
        (pending.len(), &pending[0].traceparent, pending[0].channel),
        (1, &None, Channel::Reply)
    );
    let order = store.reads().order(OrderId(1)).unwrap().unwrap();
    assert_eq!((order.version, order.state), (1, crate::domain::OrderState::Open));
    assert_eq!(order.changed_at, order.received_at);
    assert_eq!(store.reads().replies_to("jane@example.com").unwrap(), 1);
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
    let Database::Sqlite(file) = store.database() else {
        panic!("another database")
    };
    file.lock().busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store
        .record_order(&message("m1", NOW), order(1000), "jane@example.com", send)
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    record(&store, "m1", NOW, 1000);
}
