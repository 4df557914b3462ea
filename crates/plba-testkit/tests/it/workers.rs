//! Task workers from end to end on the queue in memory, under paused time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use plba_contracts::health::Health;
use plba_contracts::worker::Exit;
use plba_tasks::handler::{HandlerError, Outcome, TaskHandler};
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::{QueueStats, TaskQueue};
use plba_tasks::retry::RetryPolicy;
use plba_tasks::task::NewTask;
use plba_tasks::worker::{TaskWorker, TaskWorkerSettings, task_worker};
use plba_testkit::clock::TokioClock;
use plba_testkit::handler::FakeHandler;
use plba_testkit::runtime::{paused, real};
use plba_testkit::services::FixedServices;
use plba_testkit::worker::{Supervised, context};
use tokio::time::{Instant, sleep};

fn queue() -> Arc<InMemoryTaskQueue> {
    let settings = MemorySettings {
        seed: Some(1),
        ..MemorySettings::default()
    };
    Arc::new(InMemoryTaskQueue::new(settings, Arc::new(TokioClock::new())).unwrap())
}

fn settings() -> TaskWorkerSettings {
    TaskWorkerSettings {
        seed: Some(1),
        ..TaskWorkerSettings::default()
    }
}

async fn start(queue: &Arc<InMemoryTaskQueue>, handler: Arc<FakeHandler>, settings: TaskWorkerSettings) -> Supervised {
    let worker = TaskWorker::new(queue.clone(), "orders".into(), handler, None, settings);
    Supervised::start(Arc::new(worker), context("orders", Arc::new(TokioClock::new())))
        .await
        .unwrap()
}

async fn publish(queue: &dyn TaskQueue, ids: &[&str]) {
    let task = |id: &&str| NewTask::new("orders", "test", "").with_id(*id);
    queue.publish(ids.iter().map(task).collect()).await.unwrap();
}

async fn stats(queue: &dyn TaskQueue) -> QueueStats {
    queue
        .stats()
        .await
        .unwrap()
        .into_iter()
        .find(|stats| stats.queue == "orders")
        .unwrap()
}

/// Time enough for what takes none.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[test]
fn tasks_are_carried_out_in_order_and_acked() {
    paused(async {
        let (queue, handler) = (queue(), FakeHandler::done());
        let worker = start(&queue, handler.clone(), settings()).await;
        let names: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        publish(&*queue, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        settle().await;
        assert_eq!(handler.handled(), names);
        assert_eq!(stats(&*queue).await.acked, 200);
        assert_eq!(worker.worker.status().succeeded, 200);
        assert!(matches!(worker.stop(false).await, Exit::Stopped));
    });
}

#[test]
fn follow_ups_carry_the_trace_context_on() {
    paused(async {
        let queue = queue();
        let handler = FakeHandler::new(|_, _| async { Ok(Outcome::done().then(NewTask::new("replies", "reply", ""))) });
        let worker = start(&queue, handler, settings()).await;
        let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        queue
            .publish(vec![
                NewTask::new("orders", "test", "").with_header("traceparent", context),
            ])
            .await
            .unwrap();
        let consumer = plba_tasks::queue::ConsumerId::new(plba_tasks::queue::Incarnation::of_this_process(1), "test");
        let reply = queue.consume(&"replies".into(), &consumer, 1).await.unwrap().remove(0);
        assert_eq!(reply.task.headers["traceparent"], context);
        worker.stop(false).await;
    });
}

#[test]
fn an_error_is_retried_after_the_policy_until_its_attempts_are_used_up() {
    paused(async {
        let queue = queue();
        let times = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&times);
        let handler = FakeHandler::new(move |_, context| {
            seen.lock().unwrap().push((context.attempt, Instant::now()));
            async { Err(HandlerError::from(std::io::Error::other("the disk is full"))) }
        });
        let retry = RetryPolicy {
            maximum_attempts: 4,
            ..RetryPolicy::default()
        };
        let worker = start(&queue, handler, TaskWorkerSettings { retry, ..settings() }).await;
        publish(&*queue, &["a"]).await;
        sleep(Duration::from_secs(600)).await;
        let times = times.lock().unwrap().clone();
        assert_eq!(
            times.iter().map(|(attempt, _)| *attempt).collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
        for (pair, expected) in times.windows(2).zip([1.0, 16.0, 81.0]) {
            let share = (pair[1].1 - pair[0].1).as_secs_f64() / expected;
            assert!((0.89..=1.11).contains(&share), "{share} of {expected} s");
        }
        let letter = queue
            .dead_letters(&plba_tasks::queue::DeadFilter::default(), None, 10)
            .await
            .unwrap()
            .letters
            .remove(0);
        assert_eq!(letter.reason, "the disk is full (attempt 4, the last)");
        assert_eq!(letter.history.len(), 4);
        worker.stop(false).await;
    });
}

#[test]
fn panics_are_failed_attempts_and_the_others_go_on() {
    paused(async {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        let queue = queue();
        let handler = FakeHandler::new(|task, _| async move {
            match task.id.as_str() {
                "text" => panic!("boom"),
                "number" => std::panic::panic_any(17),
                "nested" => std::panic::panic_any(Bomb),
                "later" => {
                    sleep(Duration::from_millis(5)).await;
                    panic!("boom later")
                }
                _ => Ok(Outcome::done()),
            }
        });
        let retry = RetryPolicy {
            maximum_attempts: 1,
            ..RetryPolicy::default()
        };
        let worker = start(&queue, handler, TaskWorkerSettings { retry, ..settings() }).await;
        publish(&*queue, &["good 1", "text", "number", "nested", "later", "good 2"]).await;
        sleep(Duration::from_secs(1)).await;
        let letters = queue
            .dead_letters(&plba_tasks::queue::DeadFilter::default(), None, 10)
            .await
            .unwrap()
            .letters;
        let reasons: Vec<_> = letters.iter().map(|letter| letter.reason.as_str()).collect();
        let last = "(attempt 1, the last)";
        assert_eq!(
            reasons,
            [
                format!("the handler panicked: boom {last}"),
                format!("the handler panicked: with a payload that is not text {last}"),
                format!("the handler panicked: with a payload that is not text {last}"),
                format!("the handler panicked: boom later {last}"),
            ]
        );
        assert_eq!(stats(&*queue).await.acked, 2);
        worker.stop(false).await;
    });
}

#[test]
fn a_handler_that_hangs_is_dropped_at_its_time_out() {
    paused(async {
        let queue = queue();
        let handler = FakeHandler::new(|task, _| async move {
            if task.id.as_str() == "hangs" {
                std::future::pending::<()>().await;
            }
            Ok(Outcome::done())
        });
        let worker = start(&queue, handler, settings()).await;
        publish(&*queue, &["hangs", "good"]).await;
        let began = Instant::now();
        while stats(&*queue).await.acked == 0 {
            sleep(Duration::from_secs(1)).await;
        }
        // The lease of 30 s was renewed all the while: one delivery, one attempt.
        assert!(
            (300..=302).contains(&began.elapsed().as_secs()),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(stats(&*queue).await.lost, 0);
        assert_eq!(
            worker.worker.status().last_error.as_deref(),
            Some("the handler took longer than 300 s")
        );
        worker.stop(false).await;
    });
}

#[test]
fn a_lease_is_renewed_while_the_handler_runs() {
    paused(async {
        let queue = queue();
        let handler = FakeHandler::new(|_, _| async {
            sleep(Duration::from_secs(200)).await;
            Ok(Outcome::done())
        });
        let (first, second) = (
            start(&queue, handler.clone(), settings()).await,
            start(&queue, handler.clone(), settings()).await,
        );
        publish(&*queue, &["slow"]).await;
        sleep(Duration::from_secs(250)).await;
        assert_eq!(handler.handled(), ["slow"]);
        assert_eq!(stats(&*queue).await.acked, 1);
        first.stop(false).await;
        second.stop(false).await;
    });
}

#[test]
fn outcomes_name_what_happens_next() {
    paused(async {
        let queue = queue();
        let handler = FakeHandler::new(|task, context| async move {
            Ok(match (task.id.as_str(), context.deliveries) {
                ("snooze", 1) => Outcome::snooze(Duration::from_secs(60)),
                ("retry", 1) => Outcome::retry_after(Duration::from_secs(60), "not yet"),
                ("reject", _) => Outcome::reject("nonsense"),
                ("effect", _) => Outcome::done_with(|_| Box::pin(async { Ok(Vec::new()) })),
                ("fails", 1) => Outcome::done_with(|_| Box::pin(async { Err("constraint".into()) })),
                _ => {
                    let expected = if task.id.as_str() == "snooze" { 1 } else { 2 };
                    assert_eq!(context.attempt, expected, "{}", task.id);
                    Outcome::done()
                }
            })
        });
        let worker = start(&queue, handler, settings()).await;
        publish(&*queue, &["snooze", "retry", "reject", "effect", "fails"]).await;
        sleep(Duration::from_secs(30)).await;
        assert_eq!(stats(&*queue).await.acked, 2);
        sleep(Duration::from_secs(60)).await;
        let stats = stats(&*queue).await;
        assert_eq!((stats.acked, stats.dead, stats.leased), (4, 1, 0));
        worker.stop(false).await;
    });
}

#[test]
fn health_says_what_fails_since_when_and_recovers() {
    paused(async {
        let queue = queue();
        let broken = Arc::new(AtomicUsize::new(1));
        let switch = Arc::clone(&broken);
        let handler = FakeHandler::new(move |_, _| {
            let broken = switch.load(Ordering::Relaxed) == 1;
            async move {
                if broken {
                    Err(HandlerError::retry("no database"))
                } else {
                    Ok(Outcome::done())
                }
            }
        });
        let worker = start(&queue, handler, settings()).await;
        publish(&*queue, &["a"]).await;
        settle().await;
        let Health::Degraded { reason } = worker.worker.health() else {
            panic!("one failure degrades")
        };
        assert_eq!(
            reason,
            "1 in a row failed since 2026-01-01T00:00:00Z, the latest: no database"
        );
        publish(&*queue, &["b", "c", "d", "e"]).await;
        settle().await;
        assert!(matches!(worker.worker.health(), Health::Unhealthy { .. }));
        broken.store(0, Ordering::Relaxed);
        publish(&*queue, &["f"]).await;
        settle().await;
        assert_eq!(worker.worker.health(), Health::Ok);
        worker.stop(false).await;
    });
}

#[test]
fn a_graceful_stop_finishes_what_is_in_hand_and_releases_the_rest() {
    paused(async {
        let queue = queue();
        let handler = FakeHandler::new(|task, _| async move {
            if task.id.as_str() == "slow" {
                sleep(Duration::from_secs(10)).await;
            }
            Ok(Outcome::done())
        });
        let worker = start(&queue, handler.clone(), settings()).await;
        // Quick ones first, so that the worker takes several at once.
        let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        publish(&*queue, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        settle().await;
        publish(&*queue, &["slow", "x", "y", "z"]).await;
        settle().await;
        assert_eq!(worker.activity.current().unwrap().what.as_ref(), "slow");
        assert!(stats(&*queue).await.leased > 1, "it took more than the one");
        let began = Instant::now();
        assert!(matches!(worker.stop(false).await, Exit::Stopped));
        assert_eq!(began.elapsed().as_secs(), 9);
        let stats = stats(&*queue).await;
        assert_eq!((stats.acked, stats.ready, stats.leased), (101, 3, 0));
        let worker = start(&queue, handler.clone(), settings()).await;
        settle().await;
        assert_eq!(handler.handled()[101..], ["x", "y", "z"]);
        worker.stop(false).await;
    });
}

#[test]
fn a_forced_stop_releases_at_once_and_costs_no_attempt() {
    paused(async {
        let queue = queue();
        let handler = FakeHandler::new(|_, _| std::future::pending());
        let worker = start(&queue, handler, settings()).await;
        publish(&*queue, &["a"]).await;
        settle().await;
        let began = Instant::now();
        assert!(matches!(worker.stop(true).await, Exit::Stopped));
        assert!(began.elapsed() < Duration::from_millis(10));
        let attempts = FakeHandler::new(|_, context| async move {
            assert_eq!((context.attempt, context.deliveries), (1, 2));
            Ok(Outcome::done())
        });
        let worker = start(&queue, attempts, settings()).await;
        settle().await;
        assert_eq!(stats(&*queue).await.acked, 1);
        worker.stop(false).await;
    });
}

#[test]
fn tasks_of_a_killed_worker_are_done_by_another() {
    paused(async {
        let queue = queue();
        let hangs = start(&queue, FakeHandler::new(|_, _| std::future::pending()), settings()).await;
        publish(&*queue, &["a"]).await;
        settle().await;
        let other = FakeHandler::done();
        let worker = start(&queue, other.clone(), settings()).await;
        hangs.kill().await;
        sleep(Duration::from_secs(40)).await;
        assert_eq!(other.handled(), ["a"]);
        worker.stop(false).await;
    });
}

#[test]
fn poison_does_not_hold_up_the_good_ones() {
    paused(async {
        let queue = queue();
        let handler = FakeHandler::new(|task, _| async move {
            if task.id.as_str().starts_with("poison") {
                Err(HandlerError::retry("always"))
            } else {
                Ok(Outcome::done())
            }
        });
        let retry = RetryPolicy {
            maximum_attempts: 3,
            ..RetryPolicy::default()
        };
        let worker = start(&queue, handler.clone(), TaskWorkerSettings { retry, ..settings() }).await;
        for number in 0..500 {
            publish(&*queue, &[&format!("poison {number}"), &format!("good {number}")]).await;
        }
        settle().await;
        assert_eq!(stats(&*queue).await.acked, 500);
        sleep(Duration::from_secs(120)).await;
        assert_eq!(stats(&*queue).await.dead, 500);
        let handled = handler.handled();
        assert_eq!(handled.len(), 500 + 3 * 500);
        assert_eq!(handled.into_iter().collect::<BTreeSet<_>>().len(), 1_000);
        worker.stop(false).await;
    });
}

#[test]
fn a_backlog_without_end_leaves_others_their_turn() {
    // On one thread, in real time: without its turn, this test would never go on.
    real(async {
        let queue = queue();
        let handler = FakeHandler::new(|_, _| async { Ok(Outcome::done().then(NewTask::new("orders", "test", ""))) });
        let worker = start(&queue, handler.clone(), settings()).await;
        publish(&*queue, &["a"]).await;
        while handler.handled().len() < 100 {
            tokio::task::yield_now().await;
        }
        worker.stop(false).await;
        assert_eq!(stats(&*queue).await.ready, 1);
    });
}

#[test]
fn a_definition_builds_its_instances_from_services() {
    paused(async {
        let (queue, handler) = (queue(), FakeHandler::done());
        let services = FixedServices::new()
            .with::<dyn TaskQueue>(queue.clone())
            .with::<dyn TaskHandler>(handler.clone())
            .handle();
        let definition = task_worker("orders", "orders", settings(), |services| async move {
            Ok(services.get::<dyn TaskHandler>().await?)
        });
        let worker = definition.build.call(services).await.unwrap();
        let worker = Supervised::start(worker, context("orders", Arc::new(TokioClock::new())))
            .await
            .unwrap();
        publish(&*queue, &["a"]).await;
        settle().await;
        assert_eq!(handler.handled(), ["a"]);
        worker.stop(false).await;
        let missing = definition
            .build
            .call(FixedServices::new().handle())
            .await
            .map(drop)
            .unwrap_err();
        assert!(missing.to_string().contains("TaskQueue"), "{missing}");
    });
}
