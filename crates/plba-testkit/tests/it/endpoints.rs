//! The toolkit's views and actions, as the control plane calls them.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::clock::Clock;
use plba_contracts::control::{Endpoint, Parameters};
use plba_contracts::services::Services;
use plba_tasks::backend::{BackendContext, MemoryBackend, QueueBackend, open_queue};
use plba_tasks::endpoints::endpoints;
use plba_tasks::file_ledger::{FileLedger, FileLedgerSettings};
use plba_tasks::ledger::{DeliveryEnd, EntryState, SourceLedger};
use plba_tasks::queue::{ConsumerId, DeadFilter, Incarnation, TaskQueue};
use plba_tasks::queue_rules::QueuesConfig;
use plba_tasks::schedule::{Expression, Schedule, Schedules};
use plba_tasks::task::{AttemptEnd, EndedAttempt, NewTask, Origin};
use plba_testkit::clock::TokioClock;
use plba_testkit::runtime::paused;
use plba_testkit::services::FixedServices;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

fn endpoint(name: &str) -> Endpoint {
    endpoints().into_iter().find(|endpoint| endpoint.name == name).unwrap()
}

async fn call(services: &Services, name: &str, parameters: Value) -> Result<Value, String> {
    let Value::Object(parameters) = parameters else {
        panic!("parameters are a table")
    };
    let parameters: Parameters = parameters;
    endpoint(name)
        .call(services.clone(), parameters)
        .await
        .map_err(|error| error.to_string())
}

fn consumer() -> ConsumerId {
    ConsumerId::new(Incarnation::of_this_process(1), "test")
}

async fn with_dead(ids: &[&str]) -> (Services, Arc<dyn TaskQueue>) {
    let backends: [Arc<dyn QueueBackend>; 1] = [Arc::new(MemoryBackend)];
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
    let context = BackendContext {
        clock: Arc::clone(&clock),
        ledger: None,
        seed: Some(1),
    };
    let queue = open_queue(&backends, &"memory:?capacity=100".into(), context)
        .await
        .unwrap();
    let rules = json!({ "orders": { "concurrency": 4, "rate": "100/1m" }, "replies": {} });
    let rules: QueuesConfig = serde_json::from_value(rules).unwrap();
    let nightly = Expression::parse("30 2 * * *", "Europe/Berlin").unwrap();
    let report = Schedule::new("report", nightly, NewTask::new("reports", "report.make", ""));
    for id in ids {
        queue
            .publish(vec![
                NewTask::new("orders", "test", "two pounds")
                    .with_id(*id)
                    .with_header("a", "b"),
            ])
            .await
            .unwrap();
        let delivery = queue.consume(&"orders".into(), &consumer(), 1).await.unwrap().remove(0);
        queue.bury(delivery.token, "beyond help".into()).await.unwrap();
    }
    (
        FixedServices::new()
            .with::<dyn TaskQueue>(Arc::clone(&queue))
            .with::<dyn Clock>(clock)
            .with::<QueuesConfig>(Arc::new(rules))
            .with::<Schedules>(Arc::new(Schedules::new([report]).unwrap()))
            .handle(),
        queue,
    )
}

#[test]
fn queues_are_shown_with_their_counts() {
    paused(async {
        let (services, _) = with_dead(&["a"]).await;
        let view = call(&services, "queues", json!({})).await.unwrap();
        assert_eq!(view["durability"], "volatile");
        assert_eq!(
            (&view["queues"][0]["queue"], &view["queues"][0]["dead"]),
            (&json!("orders"), &json!(1))
        );
    });
}

#[test]
fn dead_letters_are_listed_retried_and_dropped() {
    paused(async {
        let (services, queue) = with_dead(&["a", "b", "c", "d"]).await;
        let page = call(&services, "dead.list", json!({ "limit": "3" })).await.unwrap();
        assert_eq!(page["letters"].as_array().unwrap().len(), 3);
        let rest = call(&services, "dead.list", json!({ "cursor": page["next"] }))
            .await
            .unwrap();
        assert_eq!((&rest["letters"][0]["id"], &rest["next"]), (&json!("d"), &Value::Null));
        assert_eq!(
            call(&services, "dead.retry", json!({ "ids": ["a", "b"] }))
                .await
                .unwrap(),
            json!({ "count": 2 })
        );
        assert_eq!(
            call(&services, "dead.drop", json!({ "ids": ["c"] })).await.unwrap(),
            json!({ "count": 1 })
        );
        assert_eq!(
            call(&services, "dead.retry", json!({ "all": true })).await.unwrap(),
            json!({ "count": 1 })
        );
        assert_eq!(
            call(&services, "dead.drop", json!({ "all": true })).await.unwrap(),
            json!({ "count": 0 })
        );
        assert_eq!(queue.stats().await.unwrap()[0].ready, 3);
    });
}

#[test]
fn a_call_that_can_not_be_meant_is_refused_with_what_would_do() {
    paused(async {
        let (services, _) = with_dead(&["a"]).await;
        for (name, parameters, text) in [
            ("dead.retry", json!({}), "--all"),
            ("dead.retry", json!({ "ids": ["a"], "all": true }), "--all"),
            ("dead.drop", json!({ "ids": ["x"] }), "no dead letter has the id x"),
            ("dead.drop", json!({ "ids": [7] }), "an id is a text"),
            ("dead.list", json!({ "limit": "0" }), "1 to 1,000"),
            ("dead.retry", json!({ "ids": ["a"], "kind": "test" }), "in one way"),
            (
                "dead.retry",
                json!({ "all": true, "rate": "fast" }),
                "\"fast\" is no rate",
            ),
            ("dead.show", json!({}), "name one dead letter"),
            ("dead.show", json!({ "ids": ["x"] }), "no dead letter has the id x"),
            ("tasks", json!({ "state": "dead" }), "ready, delayed, held or leased"),
            (
                "queues.pause",
                json!({ "queue": ["oders"] }),
                "there is no queue \"oders\" (known: orders, replies)",
            ),
            (
                "queues.pause",
                json!({ "queue": ["orders"], "for": "10" }),
                "no span of time",
            ),
            (
                "queues.pause",
                json!({ "queue": ["orders"], "until": "2020-01-01T00:00:00Z" }),
                "over already",
            ),
            (
                "queues.pause",
                json!({ "queue": ["orders"], "until": "soon" }),
                "is a moment such as",
            ),
            ("queues.resume", json!({}), "name one queue"),
        ] {
            let refused = call(&services, name, parameters).await.unwrap_err();
            assert!(refused.contains(text), "{name}: {refused}");
        }
    });
}

#[test]
fn a_bulk_keeps_its_pace_answers_in_time_and_says_how_to_go_on() {
    paused(async {
        let ids: Vec<String> = (0..30).map(|number| format!("task-{number:02}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let (services, queue) = with_dead(&ids).await;
        let began = Instant::now();
        let (mut count, mut calls) = (0, 0);
        let mut parameters = json!({ "queue": "orders", "rate": "60/1m" });
        loop {
            let asked = Instant::now();
            let mut answer = call(&services, "dead.retry", parameters).await.unwrap();
            assert!(asked.elapsed() <= Duration::from_secs(5), "{:?}", asked.elapsed());
            (count, calls) = (count + answer["count"].as_u64().unwrap(), calls + 1);
            // What is retried and dies again meanwhile is not meant.
            let delivery = queue.consume(&"orders".into(), &consumer(), 1).await.unwrap().remove(0);
            sleep(Duration::from_millis(1)).await;
            queue.bury(delivery.token, "once more".into()).await.unwrap();
            if answer["continue"].is_null() {
                break;
            }
            sleep(Duration::from_millis(answer["continue"]["after_ms"].as_u64().unwrap())).await;
            parameters = answer["continue"]["parameters"].take();
        }
        assert_eq!(count, 30);
        assert!(
            calls > 1 && (28..=40).contains(&began.elapsed().as_secs()),
            "{calls} {:?}",
            began.elapsed()
        );
        assert_eq!(queue.stats().await.unwrap()[0].dead, calls);
        let named = json!({ "ids": queue_ids(&queue).await, "rate": "1/1m" });
        let step = call(&services, "dead.drop", named).await.unwrap();
        assert_eq!(
            (&step["count"], step["continue"]["after_ms"].as_u64()),
            (&json!(1), Some(60_000))
        );
    });
}

async fn queue_ids(queue: &Arc<dyn TaskQueue>) -> Vec<String> {
    let page = queue.dead_letters(&DeadFilter::default(), None, 100).await.unwrap();
    page.letters.into_iter().map(|letter| letter.id.to_string()).collect()
}

#[test]
fn a_dead_letter_is_shown_whole_and_a_filter_chooses() {
    paused(async {
        let (services, _queue) = with_dead(&["a", "b"]).await;
        let shown = call(&services, "dead.show", json!({ "ids": ["b"] })).await.unwrap();
        assert_eq!(
            (&shown["payload"], &shown["payload_form"], &shown["payload_bytes"]),
            (&json!("two pounds"), &json!("text"), &json!(10))
        );
        assert_eq!(shown["headers"], json!([{ "name": "a", "value": "b" }]));
        assert_eq!(shown["history"][0]["reason"], "beyond help");
        for (filter, found) in [
            (json!({ "text": "beyond" }), 2),
            (json!({ "queue": "orders", "kind": "test" }), 2),
            (json!({ "queue": "replies" }), 0),
            (json!({ "kind": "tes" }), 0),
        ] {
            let page = call(&services, "dead.list", filter.clone()).await.unwrap();
            assert_eq!(page["letters"].as_array().unwrap().len(), found, "{filter}");
        }
        let dropped = call(&services, "dead.drop", json!({ "kind": "test" })).await.unwrap();
        assert_eq!(dropped, json!({ "count": 2 }));
    });
}

/// A queue that does not count its ledger's letters in, as those on servers, with two letters of its own, of which one is of
/// the source `inbox`, and a ledger with two.
async fn with_ledger() -> (Services, Arc<dyn TaskQueue>, Arc<dyn SourceLedger>) {
    let (_, queue) = with_dead(&["own"]).await;
    let ledger: Arc<dyn SourceLedger> = Arc::new(FileLedger::in_memory(&FileLedgerSettings::default()));
    let mut task = NewTask::new("orders", "mail", "").with_id("inbox/1");
    task.origin = Some(Origin::new("inbox", "1"));
    queue.publish(vec![task]).await.unwrap();
    ledger.record_intake("inbox", &["1".into()]).await.unwrap();
    let delivery = queue.consume(&"orders".into(), &consumer(), 1).await.unwrap().remove(0);
    queue.bury(delivery.token, "no mail".into()).await.unwrap();
    for key in ["2", "3"] {
        let end = DeliveryEnd::Dead {
            attempt: EndedAttempt::new(jiff::Timestamp::UNIX_EPOCH, AttemptEnd::Rejected, "too large"),
            queue: "orders".into(),
            kind: "mail".into(),
        };
        ledger
            .record_ends(vec![(Origin::new("inbox", key), end)])
            .await
            .unwrap();
    }
    let services = FixedServices::new()
        .with::<dyn TaskQueue>(Arc::clone(&queue))
        .with::<dyn Clock>(Arc::new(TokioClock::new()))
        .with::<dyn SourceLedger>(Arc::clone(&ledger))
        .handle();
    (services, queue, ledger)
}

async fn listed(services: &Services, limit: usize, filter: Value) -> Vec<String> {
    let (mut ids, mut parameters) = (Vec::new(), filter);
    loop {
        parameters["limit"] = limit.to_string().into();
        let page = call(services, "dead.list", parameters.clone()).await.unwrap();
        let letters = page["letters"].as_array().unwrap();
        ids.extend(letters.iter().map(|letter| letter["id"].as_str().unwrap().to_owned()));
        if page["next"].is_null() {
            return ids;
        }
        parameters["cursor"] = page["next"].clone();
        assert!(ids.len() < 10, "the pages never end");
    }
}

async fn state(ledger: &Arc<dyn SourceLedger>, key: &str) -> EntryState {
    ledger.known("inbox", &[key.into()]).await.unwrap()[0]
        .as_ref()
        .unwrap()
        .state
}

#[test]
fn what_only_the_ledger_has_is_listed_shown_retried_and_dropped_too() {
    paused(async {
        let (services, _queue, ledger) = with_ledger().await;
        for limit in 1..=5 {
            let all = listed(&services, limit, json!({})).await;
            assert_eq!(all, ["own", "inbox/1", "inbox/2", "inbox/3"], "pages of {limit}");
            let large = listed(&services, limit, json!({ "text": "too large" })).await;
            assert_eq!(large, ["inbox/2", "inbox/3"], "pages of {limit}");
        }
        let shown = call(&services, "dead.show", json!({ "ids": ["inbox/2"] }))
            .await
            .unwrap();
        assert_eq!(
            (&shown["reason"], &shown["payload_form"], &shown["queue"]),
            (&json!("too large"), &json!("with_its_source"), &json!("orders"))
        );
        let one = json!({ "ids": ["inbox/2"] });
        assert_eq!(call(&services, "dead.retry", one).await.unwrap(), json!({ "count": 1 }));
        assert_eq!(state(&ledger, "2").await, EntryState::Open);
        let large = json!({ "text": "too large" });
        assert_eq!(
            call(&services, "dead.drop", large).await.unwrap(),
            json!({ "count": 1 })
        );
        assert_eq!(state(&ledger, "3").await, EntryState::Settled);
    });
}

#[test]
fn what_is_dropped_in_a_queue_is_not_open_in_the_ledger_for_ever() {
    paused(async {
        let (services, queue, ledger) = with_ledger().await;
        assert_eq!(state(&ledger, "1").await, EntryState::Open);
        let all = json!({ "queue": "orders" });
        assert_eq!(call(&services, "dead.drop", all).await.unwrap(), json!({ "count": 4 }));
        assert_eq!(state(&ledger, "1").await, EntryState::Settled);
        assert_eq!(queue.stats().await.unwrap()[0].dead, 0);
        let (services, _queue, ledger) = with_ledger().await;
        let named = json!({ "ids": ["inbox/1"] });
        assert_eq!(
            call(&services, "dead.drop", named).await.unwrap(),
            json!({ "count": 1 })
        );
        assert_eq!(state(&ledger, "1").await, EntryState::Settled);
    });
}

#[test]
fn an_id_that_two_queues_have_needs_the_queue() {
    paused(async {
        let (services, queue) = with_dead(&["a"]).await;
        queue
            .publish(vec![NewTask::new("replies", "test", "").with_id("a")])
            .await
            .unwrap();
        let delivery = queue
            .consume(&"replies".into(), &consumer(), 1)
            .await
            .unwrap()
            .remove(0);
        queue.bury(delivery.token, "beyond help".into()).await.unwrap();
        for name in ["dead.show", "dead.retry", "dead.drop"] {
            let refused = call(&services, name, json!({ "ids": ["a"] })).await.unwrap_err();
            assert!(
                refused.contains("in orders, replies; name one queue by --queue"),
                "{name}: {refused}"
            );
        }
        let one = json!({ "ids": ["a"], "queue": "replies" });
        assert_eq!(
            call(&services, "dead.show", one.clone()).await.unwrap()["queue"],
            "replies"
        );
        assert_eq!(call(&services, "dead.drop", one).await.unwrap(), json!({ "count": 1 }));
        assert_eq!(listed(&services, 10, json!({})).await, ["a"]);
        let elsewhere = json!({ "ids": ["a"], "queue": "replies" });
        let refused = call(&services, "dead.retry", elsewhere).await.unwrap_err();
        assert!(refused.contains("no dead letter has the id a"), "{refused}");
    });
}

#[test]
fn a_paused_queue_is_shown_with_its_rules_and_rates_and_tasks_by_state() {
    paused(async {
        let (services, queue) = with_dead(&["a"]).await;
        let one_minute = json!({ "queue": ["orders"], "for": "1m" });
        let paused = call(&services, "queues.pause", one_minute).await.unwrap();
        assert_eq!(paused["until"], "2026-01-01T00:01:00Z");
        queue
            .publish(vec![NewTask::new("orders", "test", "").with_id("b")])
            .await
            .unwrap();
        let later = NewTask::new("orders", "test", "")
            .with_id("c")
            .after(Duration::from_secs(600));
        queue.publish(vec![later]).await.unwrap();
        sleep(Duration::from_secs(30)).await;
        let row = call(&services, "queues", json!({})).await.unwrap()["queues"][0].take();
        assert_eq!(row["paused"], "until 2026-01-01T00:01:00Z", "{row}");
        assert_eq!(
            (&row["rules"]["rate"], &row["rules"]["concurrency"]),
            (&json!("100/1m"), &json!(4))
        );
        assert!(row["in_per_min"].is_number(), "{row}");
        let listed = call(&services, "tasks", json!({ "state": "delayed", "queue": "orders" }))
            .await
            .unwrap();
        assert_eq!(
            (&listed["tasks"][0]["id"], listed["tasks"].as_array().unwrap().len()),
            (&json!("c"), 1)
        );
        call(&services, "queues.resume", json!({ "queue": ["orders"] }))
            .await
            .unwrap();
        let row = call(&services, "queues", json!({})).await.unwrap()["queues"][0].take();
        assert_eq!(row["paused"], Value::Null);
    });
}

#[test]
fn schedules_are_shown_with_their_next_times_on_the_wall_and_in_words() {
    paused(async {
        let (services, _queue) = with_dead(&[]).await;
        let shown = call(&services, "schedules", json!({})).await.unwrap()["schedules"][0].take();
        assert_eq!(shown["next"], "2026-01-01T02:30:00+01:00", "{shown}");
        assert_eq!(shown["words"], "At 02:30.", "{shown}");
        assert_eq!((&shown["last"], &shown["missed"]), (&Value::Null, &json!(0)));
    });
}

#[test]
fn an_unknown_scheme_names_the_known_ones() {
    paused(async {
        let backends: [Arc<dyn QueueBackend>; 1] = [Arc::new(MemoryBackend)];
        let context = BackendContext {
            clock: Arc::new(TokioClock::new()),
            ledger: None,
            seed: None,
        };
        let error = open_queue(&backends, &"kafka://secret@host".into(), context)
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "no queue is known for \"kafka:\"; known are: memory:"
        );
    });
}
