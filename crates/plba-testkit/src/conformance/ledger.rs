//! The suite for ledgers of sources.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use plba_tasks::ledger::{Counts, DeliveryEnd, EntryState, Known, SourceLedger};
use plba_tasks::task::{AttemptEnd, EndedAttempt, Origin, QueueName, TaskId};

use super::{Time, cases, run};

type Opening = Pin<Box<dyn Future<Output = Arc<dyn SourceLedger>>>>;

/// A place for a ledger, empty at first, and how a ledger is opened there.
pub struct LedgerUnderTest {
    /// Opens the ledger as a process does that starts; the suite has dropped the one before.
    pub open: Box<dyn Fn() -> Opening>,
    /// What must live as long as the place.
    pub keep: Box<dyn std::any::Any>,
}

/// Runs the suite, each case in a place of its own.
///
/// # Panics
/// With a report, when a promise is broken.
pub fn ledger<Fut: Future<Output = LedgerUnderTest>>(time: Time, make: impl Fn() -> Fut) {
    run("the ledger", time, CASES, make);
}

fn keys(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn origins(names: &[&str]) -> Vec<Origin> {
    names.iter().map(|name| Origin::new("inbox", *name)).collect()
}

/// The queue of the dead.
fn orders() -> QueueName {
    QueueName::from("orders")
}

fn attempt(reason: &str) -> EndedAttempt {
    EndedAttempt::new(Timestamp::UNIX_EPOCH, AttemptEnd::Failed, reason)
}

fn dead(reason: &str) -> DeliveryEnd {
    DeliveryEnd::Dead {
        attempt: EndedAttempt::new(Timestamp::UNIX_EPOCH, AttemptEnd::Rejected, reason),
        queue: "orders".into(),
        kind: "mail".into(),
    }
}

async fn end(ledger: &dyn SourceLedger, key: &str, end: DeliveryEnd) {
    ledger
        .record_ends(vec![(Origin::new("inbox", key), end)])
        .await
        .unwrap();
}

async fn known(ledger: &dyn SourceLedger, key: &str) -> Option<Known> {
    ledger.known("inbox", &keys(&[key])).await.unwrap().remove(0)
}

async fn state(ledger: &dyn SourceLedger, key: &str) -> Option<EntryState> {
    known(ledger, key).await.map(|known| known.state)
}

async fn counts(ledger: &dyn SourceLedger, key: &str) -> (u32, u32, u32) {
    let Counts {
        deliveries,
        attempts,
        crashes,
    } = known(ledger, key).await.unwrap().counts;
    (deliveries, attempts, crashes)
}

async fn deliver(ledger: &dyn SourceLedger, key: &str) -> Option<Counts> {
    ledger.count_deliveries(&origins(&[key])).await.unwrap().remove(0)
}

cases! { LedgerUnderTest;
    async fn what_was_never_taken_in_is_not_known(s) {
        let ledger = (s.open)().await;
        assert_eq!(known(&*ledger, "1").await, None);
        assert!(ledger.pending("inbox", 10).await.unwrap().is_empty());
        assert_eq!(ledger.cursor("inbox").await.unwrap(), None);
    }

    async fn what_was_taken_in_is_open_and_not_pending(s) {
        let ledger = (s.open)().await;
        ledger.record_intake("inbox", &keys(&["1", "2"])).await.unwrap();
        let entry = known(&*ledger, "1").await.unwrap();
        assert_eq!((entry.state, entry.published), (EntryState::Open, true));
        assert!(ledger.pending("inbox", 10).await.unwrap().is_empty());
    }

    async fn after_a_restart_open_entries_are_pending_in_order(s) {
        let ledger = (s.open)().await;
        ledger.record_intake("inbox", &keys(&["c", "a", "b"])).await.unwrap();
        drop(ledger);
        let ledger = (s.open)().await;
        assert_eq!(ledger.pending("inbox", 10).await.unwrap(), keys(&["c", "a", "b"]));
        assert_eq!(ledger.pending("inbox", 2).await.unwrap(), keys(&["c", "a"]));
    }

    async fn publishing_again_ends_being_pending(s) {
        let ledger = (s.open)().await;
        ledger.record_intake("inbox", &keys(&["1"])).await.unwrap();
        drop(ledger);
        let ledger = (s.open)().await;
        ledger.record_intake("inbox", &keys(&["1"])).await.unwrap();
        assert!(ledger.pending("inbox", 10).await.unwrap().is_empty());
    }

    async fn deliveries_are_counted(s) {
        let ledger = (s.open)().await;
        ledger.record_intake("inbox", &keys(&["1"])).await.unwrap();
        assert_eq!(deliver(&*ledger, "1").await.unwrap().deliveries, 1);
        end(&*ledger, "1", DeliveryEnd::Released).await;
        assert_eq!(deliver(&*ledger, "1").await.unwrap().deliveries, 2);
        assert_eq!(counts(&*ledger, "1").await, (2, 0, 0));
    }

    async fn counts_come_back_in_order(s) {
        let ledger = (s.open)().await;
        deliver(&*ledger, "b").await;
        end(&*ledger, "b", DeliveryEnd::Released).await;
        end(&*ledger, "d", DeliveryEnd::Done).await;
        let counted = ledger.count_deliveries(&origins(&["a", "b", "d", "c"])).await.unwrap();
        let deliveries: Vec<_> = counted.into_iter().map(|counts| counts.map(|counts| counts.deliveries)).collect();
        assert_eq!(deliveries, [Some(1), Some(2), None, Some(1)]);
    }

    async fn a_delivery_of_an_unknown_key_opens_it(s) {
        let ledger = (s.open)().await;
        deliver(&*ledger, "1").await;
        assert_eq!(state(&*ledger, "1").await, Some(EntryState::Open));
    }

    async fn a_delivery_whose_process_died_is_a_crash(s) {
        for crashes in 0..4 {
            let ledger = (s.open)().await;
            assert_eq!(deliver(&*ledger, "1").await.unwrap().crashes, crashes);
        }
    }

    async fn a_released_delivery_is_no_crash(s) {
        let ledger = (s.open)().await;
        deliver(&*ledger, "1").await;
        end(&*ledger, "1", DeliveryEnd::Released).await;
        drop(ledger);
        let ledger = (s.open)().await;
        assert_eq!(counts(&*ledger, "1").await, (1, 0, 0));
    }

    async fn opening_twice_counts_a_crash_once(s) {
        let ledger = (s.open)().await;
        deliver(&*ledger, "1").await;
        drop(ledger);
        drop((s.open)().await);
        let ledger = (s.open)().await;
        assert_eq!(counts(&*ledger, "1").await, (1, 0, 1));
    }

    async fn a_delivery_without_an_end_before_the_next_is_a_crash(s) {
        let ledger = (s.open)().await;
        deliver(&*ledger, "1").await;
        assert_eq!(deliver(&*ledger, "1").await.unwrap().crashes, 1);
    }

    async fn failed_attempts_are_counted_with_their_history(s) {
        let ledger = (s.open)().await;
        for reason in ["first", "second"] {
            deliver(&*ledger, "1").await;
            end(&*ledger, "1", DeliveryEnd::Failed(attempt(reason))).await;
        }
        drop(ledger);
        let ledger = (s.open)().await;
        assert_eq!(counts(&*ledger, "1").await, (2, 2, 0));
        let history = known(&*ledger, "1").await.unwrap().history;
        assert_eq!(history, [attempt("first"), attempt("second")]);
    }

    async fn what_is_done_stays_done(s) {
        let ledger = (s.open)().await;
        deliver(&*ledger, "1").await;
        end(&*ledger, "1", DeliveryEnd::Done).await;
        ledger.record_intake("inbox", &keys(&["1"])).await.unwrap();
        end(&*ledger, "1", DeliveryEnd::Failed(attempt("late"))).await;
        end(&*ledger, "1", dead("late")).await;
        assert_eq!(deliver(&*ledger, "1").await, None);
        drop(ledger);
        let ledger = (s.open)().await;
        assert_eq!(state(&*ledger, "1").await, Some(EntryState::Done));
        assert!(ledger.pending("inbox", 10).await.unwrap().is_empty());
    }

    async fn what_is_done_is_unsettled_until_it_is_settled(s) {
        let ledger = (s.open)().await;
        for key in ["b", "a"] {
            end(&*ledger, key, DeliveryEnd::Done).await;
        }
        drop(ledger);
        let ledger = (s.open)().await;
        assert_eq!(ledger.unsettled("inbox", 10).await.unwrap(), keys(&["b", "a"]));
        assert_eq!(ledger.unsettled("inbox", 1).await.unwrap(), keys(&["b"]));
        ledger.settle("inbox", &keys(&["b"])).await.unwrap();
        drop(ledger);
        let ledger = (s.open)().await;
        assert_eq!(ledger.unsettled("inbox", 10).await.unwrap(), keys(&["a"]));
        assert_eq!(state(&*ledger, "b").await, Some(EntryState::Settled));
    }

    async fn settled_keys_are_forgotten_when_told_so(s) {
        let ledger = (s.open)().await;
        end(&*ledger, "1", DeliveryEnd::Done).await;
        ledger.forget("inbox", &keys(&["1"])).await.unwrap();
        assert_eq!(state(&*ledger, "1").await, Some(EntryState::Done), "only settled ones are forgotten");
        ledger.settle("inbox", &keys(&["1"])).await.unwrap();
        ledger.forget("inbox", &keys(&["1"])).await.unwrap();
        assert_eq!(state(&*ledger, "1").await, None);
        drop(ledger);
        assert_eq!(state(&*(s.open)().await, "1").await, None);
    }

    async fn settling_what_is_unknown_changes_nothing(s) {
        let ledger = (s.open)().await;
        ledger.settle("inbox", &keys(&["1"])).await.unwrap();
        assert_eq!(state(&*ledger, "1").await, None);
    }

    async fn the_dead_are_listed_with_their_history(s) {
        let ledger = (s.open)().await;
        deliver(&*ledger, "1").await;
        end(&*ledger, "1", DeliveryEnd::Failed(attempt("no luck"))).await;
        deliver(&*ledger, "1").await;
        end(&*ledger, "1", dead("beyond help")).await;
        drop(ledger);
        let ledger = (s.open)().await;
        let page = ledger.dead_letters(None, 10).await.unwrap();
        let letter = &page.letters[0];
        assert_eq!((letter.id.as_str(), letter.deliveries), ("inbox/1", 2));
        assert_eq!((letter.queue.as_str(), letter.kind.as_str()), ("orders", "mail"));
        assert_eq!((letter.reason.as_str(), letter.history.len()), ("beyond help", 2));
        assert!(page.next.is_none());
    }

    async fn the_dead_are_listed_page_by_page(s) {
        let ledger = (s.open)().await;
        for key in ["c", "a", "b"] {
            end(&*ledger, key, dead("beyond help")).await;
        }
        ledger.record_ends(vec![(Origin::new("another", "z"), dead("beyond help"))]).await.unwrap();
        for limit in 1..=5 {
            let (mut cursor, mut all) = (None, Vec::new());
            loop {
                let page = ledger.dead_letters(cursor, limit).await.unwrap();
                all.extend(page.letters.into_iter().map(|letter| letter.id.to_string()));
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
                assert!(all.len() < 10, "the pages never end");
            }
            assert_eq!(all, ["inbox/c", "inbox/a", "inbox/b", "another/z"], "pages of {limit}");
        }
    }

    async fn a_retried_entry_is_open_pending_and_anew(s) {
        let mut ledger = (s.open)().await;
        deliver(&*ledger, "1").await;
        end(&*ledger, "1", dead("beyond help")).await;
        assert_eq!(ledger.retry_dead(&orders(), &[TaskId::from("inbox/1")]).await.unwrap(), 1);
        for round in 0..2 {
            if round == 1 {
                drop(ledger);
                ledger = (s.open)().await;
            }
            assert_eq!(ledger.pending("inbox", 10).await.unwrap(), keys(&["1"]), "round {round}");
            assert_eq!(counts(&*ledger, "1").await, (0, 0, 0));
            assert_eq!(known(&*ledger, "1").await.unwrap().history.len(), 1);
        }
    }

    async fn a_dropped_entry_is_settled(s) {
        let ledger = (s.open)().await;
        end(&*ledger, "1", dead("beyond help")).await;
        assert_eq!(ledger.drop_dead(&orders(), &[TaskId::from("inbox/1")]).await.unwrap(), 1);
        drop(ledger);
        let ledger = (s.open)().await;
        assert_eq!(state(&*ledger, "1").await, Some(EntryState::Settled));
        assert!(ledger.unsettled("inbox", 10).await.unwrap().is_empty());
        assert!(ledger.dead_letters(None, 10).await.unwrap().letters.is_empty());
    }

    async fn only_the_dead_are_retried_or_dropped(s) {
        let ledger = (s.open)().await;
        ledger.record_intake("inbox", &keys(&["open"])).await.unwrap();
        end(&*ledger, "done", DeliveryEnd::Done).await;
        let ids = ["inbox/open", "inbox/done", "inbox/unknown", "nonsense"].map(TaskId::from);
        assert_eq!(ledger.retry_dead(&orders(), &ids).await.unwrap(), 0);
        assert_eq!(ledger.drop_dead(&orders(), &ids).await.unwrap(), 0);
        assert_eq!(state(&*ledger, "done").await, Some(EntryState::Done));
    }

    async fn the_dead_of_another_queue_are_neither_retried_nor_dropped(s) {
        let ledger = (s.open)().await;
        end(&*ledger, "1", dead("beyond help")).await;
        let (other, ids) = (QueueName::from("others"), [TaskId::from("inbox/1")]);
        assert_eq!(ledger.retry_dead(&other, &ids).await.unwrap(), 0);
        assert_eq!(ledger.drop_dead(&other, &ids).await.unwrap(), 0);
        assert_eq!(state(&*ledger, "1").await, Some(EntryState::Dead));
    }

    async fn names_and_keys_may_contain_slashes(s) {
        let ledger = (s.open)().await;
        let origin = Origin::new("mailbox/orders", "INBOX/2026/17");
        ledger.record_ends(vec![(origin.clone(), dead("beyond help"))]).await.unwrap();
        assert_eq!(ledger.retry_dead(&orders(), &[origin.task_id()]).await.unwrap(), 1);
        assert_eq!(ledger.pending("mailbox/orders", 1).await.unwrap(), keys(&["INBOX/2026/17"]));
    }

    async fn any_text_may_be_a_key(s) {
        let odd = ["", " ", "\n", "\"\\", "\u{0}", "ä\u{1f980}", "Müller <m@example.org>"];
        let ledger = (s.open)().await;
        ledger.record_intake("inbox", &keys(&odd)).await.unwrap();
        drop(ledger);
        assert_eq!((s.open)().await.pending("inbox", 100).await.unwrap(), keys(&odd));
    }

    async fn what_is_too_long_is_refused(s) {
        let ledger = (s.open)().await;
        let long = "k".repeat(1_001);
        assert!(ledger.record_intake("inbox", &keys(&[&long])).await.is_err());
        assert!(ledger.count_deliveries(&origins(&[&long])).await.is_err());
        assert!(ledger.set_cursor("inbox", &"c".repeat(64 * 1024 + 1)).await.is_err());
        assert!(ledger.record_intake(&"s".repeat(201), &keys(&["1"])).await.is_err());
        assert!(ledger.record_intake("", &keys(&["1"])).await.is_err());
    }

    async fn sources_do_not_see_each_other(s) {
        let ledger = (s.open)().await;
        ledger.record_intake("inbox", &keys(&["1"])).await.unwrap();
        ledger.record_ends(vec![(Origin::new("another", "1"), DeliveryEnd::Done)]).await.unwrap();
        assert_eq!(state(&*ledger, "1").await, Some(EntryState::Open));
        assert!(ledger.unsettled("inbox", 10).await.unwrap().is_empty());
        let stats = ledger.stats().await.unwrap();
        assert_eq!(stats.iter().map(|stats| stats.source.as_str()).collect::<Vec<_>>(), ["another", "inbox"]);
        assert_eq!((stats[0].unsettled, stats[1].open), (1, 1));
    }

    async fn a_cursor_is_the_latest(s) {
        let ledger = (s.open)().await;
        for cursor in ["1", "2\n", "3 \"x\""] {
            ledger.set_cursor("inbox", cursor).await.unwrap();
        }
        assert_eq!(ledger.cursor("inbox").await.unwrap().as_deref(), Some("3 \"x\""));
        drop(ledger);
        let ledger = (s.open)().await;
        assert_eq!(ledger.cursor("inbox").await.unwrap().as_deref(), Some("3 \"x\""));
        assert_eq!(ledger.cursor("another").await.unwrap(), None);
    }

    async fn many_at_once_are_all_recorded(s) {
        let ledger = (s.open)().await;
        let at_once: Vec<_> = (0..100)
            .map(|number| {
                let ledger = Arc::clone(&ledger);
                tokio::spawn(async move {
                    let key = number.to_string();
                    deliver(&*ledger, &key).await.unwrap();
                    end(&*ledger, &key, DeliveryEnd::Done).await;
                })
            })
            .collect();
        for task in at_once {
            task.await.unwrap();
        }
        drop(ledger);
        let ledger = (s.open)().await;
        assert_eq!(ledger.unsettled("inbox", 1_000).await.unwrap().len(), 100);
    }
}
