//! What every store promises, whatever keeps it: run on SQLite and on PostgreSQL.

mod changes;
mod mails;

use std::sync::atomic::{AtomicI64, Ordering};

use plba::config::Location;
use plba_testservers::{PostgresServer, require};

use super::*;

/// One promise.
type Promise = fn(&OrderStore);

/// All of them, each on a store of its own.
const PROMISES: &[(&str, Promise)] = &[
    (
        "an_order_comes_back_as_it_was_stored",
        an_order_comes_back_as_it_was_stored,
    ),
    (
        "a_message_is_recorded_once_however_many_deliver_it_at_once",
        a_message_is_recorded_once_however_many_deliver_it_at_once,
    ),
    (
        "a_panic_inside_the_transaction_leaves_nothing_and_the_store_usable",
        a_panic_inside_the_transaction_leaves_nothing_and_the_store_usable,
    ),
    (
        "the_same_lines_in_another_message_are_flagged_within_the_window",
        the_same_lines_in_another_message_are_flagged_within_the_window,
    ),
    (
        "the_same_number_of_the_customers_is_flagged_however_old_it_is",
        the_same_number_of_the_customers_is_flagged_however_old_it_is,
    ),
    (
        "of_orders_with_one_number_at_once_all_but_one_are_flagged",
        of_orders_with_one_number_at_once_all_but_one_are_flagged,
    ),
    (
        "recent_replies_are_counted_and_withholding_is_recorded",
        recent_replies_are_counted_and_withholding_is_recorded,
    ),
    (
        "a_message_that_is_no_order_is_known_too",
        a_message_that_is_no_order_is_known_too,
    ),
    ("lists_are_filtered_and_paged", lists_are_filtered_and_paged),
    (
        "an_amendment_makes_the_next_version_and_keeps_the_one_before",
        changes::an_amendment_makes_the_next_version_and_keeps_the_one_before,
    ),
    (
        "a_cancellation_takes_out_lines_or_all_of_an_order",
        changes::a_cancellation_takes_out_lines_or_all_of_an_order,
    ),
    (
        "what_fits_no_order_waits_on_the_review_list",
        changes::what_fits_no_order_waits_on_the_review_list,
    ),
    ("a_review_is_decided_once", changes::a_review_is_decided_once),
    (
        "events_lie_in_the_outbox_beside_the_reply",
        changes::events_lie_in_the_outbox_beside_the_reply,
    ),
    (
        "what_is_kept_no_longer_goes_and_the_rest_stays",
        changes::what_is_kept_no_longer_goes_and_the_rest_stays,
    ),
    (
        "what_was_found_out_about_a_sender_stays_with_the_message",
        changes::what_was_found_out_about_a_sender_stays_with_the_message,
    ),
    (
        "every_mail_is_listed_with_what_became_of_it",
        mails::every_mail_is_listed_with_what_became_of_it,
    ),
    (
        "a_search_finds_what_people_look_for_and_no_pattern",
        changes::a_search_finds_what_people_look_for_and_no_pattern,
    ),
];

#[test]
fn sqlite_keeps_every_promise() {
    for (name, promise) in PROMISES {
        eprintln!("sqlite: {name}");
        let scratch = Scratch::new(&format!("conformance-{name}"));
        promise(&OrderStore::open(&scratch.path().join("orders.db")).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_every_promise() {
    let Some(server) = require(PostgresServer::start().await) else {
        return;
    };
    for (name, promise) in PROMISES {
        let database = server.fresh_database().await.unwrap();
        let location = Location::from(database.url().as_str());
        let kept = tokio::task::spawn_blocking(move || {
            eprintln!("postgres: {name}");
            // Nothing is made by who only looks.
            assert!(OrderReads::connect(&location).unwrap().is_none());
            promise(&OrderStore::connect(&location).unwrap());
            // A second start finds the tables.
            let again = OrderReads::connect(&location).unwrap().unwrap();
            again.counts().unwrap();
        });
        kept.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_start_at_once_make_the_tables_once() {
    let Some(server) = require(PostgresServer::start().await) else {
        return;
    };
    let database = server.fresh_database().await.unwrap();
    let location = Location::from(database.url().as_str());
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let location = location.clone();
            tokio::task::spawn_blocking(move || drop(OrderStore::connect(&location).unwrap()))
        })
        .collect();
    for start in starts {
        start.await.unwrap();
    }
    let sql = "SELECT count(*) FROM mail_order_bot.order_store";
    assert_eq!(
        database.query(sql).await.unwrap().trim(),
        "3",
        "each migration ran once"
    );
    database
        .query("INSERT INTO mail_order_bot.order_store (version) VALUES (99)")
        .await
        .unwrap();
    let newer = tokio::task::spawn_blocking(move || OrderStore::connect(&location))
        .await
        .unwrap();
    assert!(matches!(newer, Err(StoreError::Newer { found: 99, .. })), "{newer:?}");
}

/// One customer may write from two addresses, so that neither the message nor the correspondent holds the second one up.
#[tokio::test(flavor = "multi_thread")]
async fn two_addresses_of_one_customer_wait_for_each_other_in_postgres() {
    let Some(server) = require(PostgresServer::start().await) else {
        return;
    };
    let database = server.fresh_database().await.unwrap();
    let location = Location::from(database.url().as_str());
    let store = tokio::task::spawn_blocking(move || OrderStore::connect(&location).unwrap());
    let store = store.await.unwrap();
    let (entered, in_transaction) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel();
    let by = |id: &'static str, address: &'static str, held: Option<_>| {
        let store = store.clone();
        let mut new = order(1000);
        new.order_number = Some("PO-1".to_owned());
        tokio::task::spawn_blocking(move || {
            let plan = |order: &Order, recent| {
                if let Some((entered, gone)) = held {
                    let (entered, gone): (std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>) = (entered, gone);
                    entered.send(()).unwrap();
                    gone.recv().unwrap();
                }
                send(order, recent)
            };
            match store.record_order(&message(id, NOW), new, address, plan).unwrap() {
                Recorded::New { record, .. } => record,
                known @ Recorded::Known(_) => panic!("{known:?}"),
            }
        })
    };
    let first = by("m1", "jane@example.com", Some((entered, gone)));
    tokio::task::spawn_blocking(move || in_transaction.recv().unwrap())
        .await
        .unwrap();
    let second = by("m2", "john@example.com", None);
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while database.query(waiting).await.unwrap().trim() != "1" {
        assert!(!second.is_finished(), "the second order did not wait for the first one");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    go.send(()).unwrap();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(
        (first.possible_duplicate_of, second.possible_duplicate_of),
        (None, Some(first.id))
    );
}

fn an_order_comes_back_as_it_was_stored(store: &OrderStore) {
    let stored = record(store, "m1", NOW, 2000);
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

fn a_message_is_recorded_once_however_many_deliver_it_at_once(store: &OrderStore) {
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

fn a_panic_inside_the_transaction_leaves_nothing_and_the_store_usable(store: &OrderStore) {
    let panicking = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.record_order(
            &message("m1", NOW),
            order(2000),
            "jane@example.com",
            |_, _| -> Answers { panic!("in the middle") },
        )
    }));
    assert!(panicking.is_err());
    assert_eq!(store.known(&message("m1", NOW).key).unwrap(), None);
    assert!(store.reads().orders(&OrderFilter::default()).unwrap().is_empty());
    record(store, "m1", NOW, 2000);
}

fn the_same_lines_in_another_message_are_flagged_within_the_window(store: &OrderStore) {
    let first = record(store, "m1", NOW, 2000);
    assert_eq!(first.possible_duplicate_of, None);
    assert_eq!(
        record(store, "m2", "2026-11-25T10:00:00Z", 2000).possible_duplicate_of,
        Some(first.id)
    );
    assert_eq!(
        record(store, "m3", "2026-11-25T10:00:00Z", 3000).possible_duplicate_of,
        None
    );
    assert_eq!(
        record(store, "m4", "2026-12-25T10:00:00Z", 2000).possible_duplicate_of,
        None
    );
}

/// An order with this number of the customer's; no two have the same lines.
fn numbered(store: &OrderStore, id: &str, received: &str, number: Option<&str>, customer: &str) -> Order {
    static QUANTITY: AtomicI64 = AtomicI64::new(1);
    let mut new = order(QUANTITY.fetch_add(1, Ordering::Relaxed));
    new.order_number = number.map(str::to_owned);
    customer.clone_into(&mut new.customer.id);
    // Each from an address of its own, so that only the customer connects them.
    let outcome = store.record_order(&message(id, received), new, &format!("{id}@example.com"), send);
    match outcome.unwrap() {
        Recorded::New { record, .. } => record,
        Recorded::Known(known) => panic!("known: {known:?}"),
    }
}

fn the_same_number_of_the_customers_is_flagged_however_old_it_is(store: &OrderStore) {
    let first = numbered(store, "m1", "2026-01-05T08:00:00Z", Some("PO-4711"), "c1");
    assert_eq!(
        (first.order_number.as_deref(), first.possible_duplicate_of),
        (Some("PO-4711"), None)
    );
    assert_eq!(store.reads().order(first.id).unwrap().unwrap(), first);
    let again = numbered(store, "m2", NOW, Some("po-4711"), "c1");
    assert_eq!(again.possible_duplicate_of, Some(first.id));
    for (id, number, customer) in [
        ("m3", Some("PO-4712"), "c1"),
        ("m4", None, "c1"),
        ("m5", None, "c1"),
        ("m6", Some("PO-4711"), "c2"),
    ] {
        let other = numbered(store, id, NOW, number, customer);
        assert_eq!(other.possible_duplicate_of, None, "{id}");
    }
    let found = store.reads().orders(&OrderFilter {
        text: Some("po-4711".to_owned()),
        ..OrderFilter::default()
    });
    assert_eq!(found.unwrap().len(), 3);
    // Where the settings switch it off, nothing is named.
    let mut off = order(77);
    off.order_number = Some("PO-4711".to_owned());
    off.duplicate_window = SignedDuration::ZERO;
    let off = store.record_order(&message("m7", NOW), off, "jane@example.com", send);
    let Recorded::New { record, .. } = off.unwrap() else {
        panic!("known")
    };
    assert_eq!(record.possible_duplicate_of, None);
}

fn of_orders_with_one_number_at_once_all_but_one_are_flagged(store: &OrderStore) {
    let unflagged: usize = std::thread::scope(|scope| {
        let worker = |number: i32| {
            move || {
                let order = numbered(store, &format!("m{number}"), NOW, Some("PO-1"), "c1");
                usize::from(order.possible_duplicate_of.is_none())
            }
        };
        let workers: Vec<_> = (0..8).map(|number| scope.spawn(worker(number))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(unflagged, 1);
}

fn recent_replies_are_counted_and_withholding_is_recorded(store: &OrderStore) {
    record(store, "m1", "2026-11-22T08:00:00Z", 1000);
    record(store, "m2", "2026-11-22T09:30:00Z", 2000);
    let plan = |_: &Order, recent| Answers::from(ReplyPlan::Withhold(format!("{recent} recent")));
    let outcome = store
        .record_order(&message("m3", NOW), order(3000), "jane@example.com", plan)
        .unwrap();
    let Recorded::New { record, queued } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(queued.is_empty());
    assert_eq!(record.reply_withheld.as_deref(), Some("1 recent"));
    assert_eq!(store.reads().order(record.id).unwrap().unwrap(), record);
}

fn a_message_that_is_no_order_is_known_too(store: &OrderStore) {
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
            queued: Vec::new()
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

fn lists_are_filtered_and_paged(store: &OrderStore) {
    for number in 1..=5 {
        record(store, &format!("m{number}"), NOW, number * 1000);
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
