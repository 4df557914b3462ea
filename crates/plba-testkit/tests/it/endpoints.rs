//! The toolkit's views and actions, as the control plane calls them.

use std::sync::Arc;

use plba_contracts::control::{Endpoint, Parameters};
use plba_contracts::services::Services;
use plba_tasks::backend::{BackendContext, MemoryBackend, QueueBackend, open_queue};
use plba_tasks::endpoints::endpoints;
use plba_tasks::queue::{ConsumerId, Incarnation, TaskQueue};
use plba_tasks::task::NewTask;
use plba_testkit::clock::TokioClock;
use plba_testkit::runtime::paused;
use plba_testkit::services::FixedServices;
use serde_json::{Value, json};

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

async fn with_dead(ids: &[&str]) -> (Services, Arc<dyn TaskQueue>) {
    let backends: [Arc<dyn QueueBackend>; 1] = [Arc::new(MemoryBackend)];
    let context = BackendContext {
        clock: Arc::new(TokioClock::new()),
        ledger: None,
        seed: Some(1),
    };
    let queue = open_queue(&backends, &"memory:?capacity=100".into(), context)
        .await
        .unwrap();
    let consumer = ConsumerId::new(Incarnation::of_this_process(1), "test");
    for id in ids {
        queue
            .publish(vec![NewTask::new("orders", "test", "").with_id(*id)])
            .await
            .unwrap();
        let delivery = queue.consume(&"orders".into(), &consumer, 1).await.unwrap().remove(0);
        queue.bury(delivery.token, "beyond help".into()).await.unwrap();
    }
    (
        FixedServices::new().with::<dyn TaskQueue>(Arc::clone(&queue)).handle(),
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
        ] {
            let refused = call(&services, name, parameters).await.unwrap_err();
            assert!(refused.contains(text), "{name}: {refused}");
        }
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
