//! What Redis can go through while a queue is on it. Failures are named by their numbers in the catalogue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plba_redis::{RedisSettings, RedisTaskQueue};
use plba_tasks::queue::{
    ConsumerId, DeadFilter, Delivery, EndError, How, Incarnation, Presence, PublishError, TaskQueue, UNDECODABLE,
};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::complaints::Complaints;
use plba_testkit::runtime;
use plba_testservers::{RedisOptions, RedisServer, require};
use tokio::time::timeout;
use tracing::Level;

use crate::place::on;

const PATIENCE: Duration = Duration::from_secs(15);

/// A queue on a server of its own, and its verbs.
struct Stage {
    server: RedisServer,
    settings: RedisSettings,
    queue: Arc<RedisTaskQueue>,
    name: QueueName,
}

fn consumer(epoch: u64) -> ConsumerId {
    ConsumerId::new(Incarnation::of_this_process(epoch), "test")
}

impl Stage {
    async fn start(options: RedisOptions, query: &str) -> Option<Self> {
        let server = require(RedisServer::start_with(options).await)?;
        let settings = on(&server.url(), query);
        let queue = Arc::new(RedisTaskQueue::open(settings.clone()).await.unwrap());
        Some(Self {
            server,
            settings,
            queue,
            name: QueueName::from("orders"),
        })
    }

    fn key(&self, part: &str) -> String {
        format!("{{{}}}:q:orders:{part}", self.settings.prefix)
    }

    fn task(&self, id: &str) -> NewTask {
        NewTask::new(&self.name, "test", id.to_owned()).with_id(id)
    }

    async fn publish(&self, ids: &[&str]) {
        let tasks = ids.iter().map(|id| self.task(id)).collect();
        self.queue.publish(tasks).await.unwrap();
    }

    async fn take(&self, max: usize) -> Vec<Delivery> {
        let consumer = consumer(1);
        let taking = self.queue.consume(&self.name, &consumer, max);
        timeout(PATIENCE, taking).await.expect("something is ready").unwrap()
    }

    /// Takes one, through whatever errors come.
    async fn take_at_last(&self) -> Delivery {
        let trying = async {
            loop {
                if let Ok(mut taken) = self.queue.consume(&self.name, &consumer(1), 1).await {
                    return taken.remove(0);
                }
            }
        };
        timeout(PATIENCE, trying).await.expect("tasks flow again")
    }

    async fn ack(&self, delivery: Delivery) {
        self.queue.end_one(delivery.token, How::ack(Vec::new())).await.unwrap();
    }
}

fn ids(taken: &[Delivery]) -> Vec<&str> {
    taken.iter().map(|delivery| delivery.task.id.as_str()).collect()
}

fn in_memory() -> RedisOptions {
    RedisOptions {
        in_memory: true,
        ..RedisOptions::default()
    }
}

/// Runs a test on a server, if this machine has one.
fn staged<Fut: Future<Output = ()>>(options: RedisOptions, query: &str, test: impl FnOnce(Stage) -> Fut) {
    runtime::real(async {
        if let Some(stage) = Stage::start(options, query).await {
            test(stage).await;
        }
    });
}

#[test]
fn failure_19_after_a_kill_tasks_flow_again_and_none_is_lost() {
    staged(in_memory(), "lease=2", |stage| async move {
        stage.publish(&["held", "waits"]).await;
        let held = stage.take(1).await.remove(0);
        // Everything is in the file by now, or this would test the disk.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        stage.server.kill().await;
        stage.server.start_again().await.unwrap();
        let began = Instant::now();
        let next = stage.take_at_last().await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(next.task.id.as_str(), "waits");
        stage.ack(next).await;
        // The lease is in the file, too; it ends in its time, if the holder does not end it.
        let again = stage.take_at_last().await;
        assert_eq!((again.task.id.as_str(), again.deliveries), ("held", 2));
        let late = stage.queue.end_one(held.token, How::ack(Vec::new())).await;
        assert!(matches!(late, Err(EndError::LeaseLost)), "{late:?}");
        stage.ack(again).await;
        assert_eq!(stage.queue.status().restarts, 1);
    });
}

#[test]
fn failure_19_a_server_with_empty_data_is_noticed_loudly_and_used() {
    staged(in_memory(), "", |stage| async move {
        stage.publish(&["a", "b"]).await;
        let held = stage.take(1).await.remove(0);
        stage.server.wipe().await.unwrap();
        // The first call after a restart may find the connection broken.
        while stage.queue.publish(vec![stage.task("c")]).await.is_err() {}
        let next = stage.take_at_last().await;
        assert_eq!(next.task.id.as_str(), "c");
        stage.ack(next).await;
        let late = stage.queue.end_one(held.token, How::ack(Vec::new())).await;
        assert!(matches!(late, Err(EndError::LeaseLost)), "{late:?}");
        assert_eq!(stage.queue.status().data_lost, 1);
    });
}

#[test]
fn failure_19_a_group_that_was_destroyed_is_made_anew_from_the_beginning() {
    staged(in_memory(), "", |stage| async move {
        stage.publish(&["held", "waits"]).await;
        let held = stage.take(1).await.remove(0);
        let groups = stage
            .server
            .cli(["XINFO", "GROUPS", &stage.key("normal")])
            .await
            .unwrap();
        let group = groups.lines().find(|line| line.starts_with('g')).unwrap().to_owned();
        stage
            .server
            .cli(["XGROUP", "DESTROY", &stage.key("normal"), &group])
            .await
            .unwrap();
        assert_eq!(ids(&stage.take(10).await), ["held", "waits"]);
        let late = stage.queue.end_one(held.token, How::ack(Vec::new())).await;
        assert!(
            matches!(late, Err(EndError::LeaseLost)),
            "the same entry is in another's hand: {late:?}"
        );
        assert_eq!(stage.queue.status().data_lost, 1);
    });
}

#[test]
fn failure_21_without_memory_publishing_waits_and_consumers_drain() {
    let options = RedisOptions {
        maxmemory: Some(20 << 20),
        ..in_memory()
    };
    staged(options, "", |stage| async move {
        let payload = vec![0; 64 << 10];
        let mut published = 0;
        let large = |number: i32| NewTask::new("orders", "test", payload.clone()).with_id(format!("{number}"));
        while timeout(Duration::from_millis(700), stage.queue.publish(vec![large(published)]))
            .await
            .is_ok()
        {
            published += 1;
            assert!(published < 1_000, "20 MiB are never full");
        }
        assert!(stage.queue.status().out_of_memory > 0);
        let waiting = stage.queue.publish(vec![large(published)]);
        let drained = async {
            for _ in 0..published {
                let delivery = stage.take(1).await.remove(0);
                stage.ack(delivery).await;
            }
        };
        let (waited, ()) = tokio::join!(timeout(PATIENCE, waiting), drained);
        waited.expect("it goes on by itself").unwrap();
        let last = stage.take(1).await.remove(0);
        assert_eq!(last.task.id.as_str(), published.to_string());
    });
}

#[test]
fn failure_21_a_server_that_evicts_is_refused() {
    runtime::real(async {
        let options = RedisOptions {
            maxmemory_policy: "allkeys-lru".into(),
            ..in_memory()
        };
        let Some(server) = require(RedisServer::start_with(options).await) else {
            return;
        };
        let refused = RedisTaskQueue::open(on(&server.url(), ""))
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(refused.contains("set maxmemory-policy noeviction"), "{refused}");
    });
}

#[test]
fn failure_22_a_silent_server_costs_its_connection_and_no_answer_goes_astray() {
    staged(in_memory(), "lease=30&response_timeout=0.3", |stage| async move {
        stage.publish(&["a", "b"]).await;
        let held = stage.take(1).await.remove(0);
        stage.server.cli(["CLIENT", "PAUSE", "1000", "ALL"]).await.unwrap();
        let began = Instant::now();
        assert!(stage.queue.stats().await.is_err());
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
        let next = stage.take_at_last().await;
        assert_eq!(
            next.task.id.as_str(),
            "b",
            "an answer meant for another call would be something else"
        );
        let connections = stage.queue.status().connections;
        assert!(connections >= 2, "the link was made anew, not {connections}");
        stage.ack(held).await;
    });
}

#[test]
fn failure_24_a_pending_list_of_dead_consumers_is_worked_off_in_bounded_passes() {
    staged(in_memory(), "lease=0.5&maximum_crashes=5", |stage| async move {
        let count = 4_000;
        for first in (0..count).step_by(500) {
            let tasks = (first..first + 500).map(|number| stage.task(&format!("{number}")));
            stage.queue.publish(tasks.collect()).await.unwrap();
        }
        let mut held = 0;
        while held < count {
            held += stage
                .queue
                .consume(&stage.name, &consumer(2), 1_000)
                .await
                .unwrap()
                .len();
        }
        tokio::time::sleep(Duration::from_millis(600)).await;
        let (mut cursor, mut recovered, mut passes) = (None, 0, 0);
        loop {
            let pass = stage.queue.recover(cursor, 300).await.unwrap();
            assert!(pass.recovered <= 300, "{}", pass.recovered);
            recovered += pass.recovered;
            passes += 1;
            cursor = pass.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(recovered, count);
        assert!(passes >= count / 300, "{passes}");
    });
}

#[test]
fn what_a_process_held_that_has_ended_comes_at_once() {
    staged(in_memory(), "lease=600", |stage| async move {
        stage.publish(&["a"]).await;
        let held = stage.take(1).await.remove(0);
        // The holder's name becomes that of a process that has ended.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (own, ended) = (Presence::of_this_process().unwrap(), Presence::of(child.id()).unwrap());
        child.wait().unwrap();
        let groups = stage
            .server
            .cli(["XINFO", "GROUPS", &stage.key("normal")])
            .await
            .unwrap();
        let group = groups.lines().find(|line| line.starts_with('g')).unwrap().to_owned();
        let holders = stage
            .server
            .cli(["XINFO", "CONSUMERS", &stage.key("normal"), &group])
            .await
            .unwrap();
        let name = holders.lines().find(|line| line.contains('|')).unwrap();
        let dead = name.replace(&own.to_string(), &ended.to_string());
        assert_ne!(name, dead);
        let entry = held.token.place.as_deref().unwrap().rsplit(' ').next().unwrap();
        let claim = ["XCLAIM", &stage.key("normal"), &group, &dead, "0", entry, "JUSTID"];
        stage.server.cli(claim).await.unwrap();
        // As the process does that starts after it.
        let told = Complaints::up_to(Level::INFO);
        let next = RedisTaskQueue::open(stage.settings.clone()).await.unwrap();
        let began = Instant::now();
        let taken = timeout(PATIENCE, next.consume(&stage.name, &consumer(3), 1))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((ids(&taken), taken[0].deliveries), (vec!["a"], 2));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(told.said(Level::INFO, "what they held is ready again"), 1);
        let late = stage.queue.end_one(held.token, How::ack(Vec::new())).await;
        assert!(matches!(late, Err(EndError::LeaseLost)), "{late:?}");
    });
}

#[test]
fn a_process_that_ended_with_nothing_in_hand_is_not_worth_a_line() {
    staged(in_memory(), "lease=600", |stage| async move {
        stage.publish(&["a"]).await;
        let held = stage.take(1).await.remove(0);
        stage.ack(held).await;
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (own, ended) = (Presence::of_this_process().unwrap(), Presence::of(child.id()).unwrap());
        child.wait().unwrap();
        let cli = async |arguments: &[&str]| stage.server.cli(arguments).await.unwrap();
        let groups = cli(&["XINFO", "GROUPS", &stage.key("normal")]).await;
        let group = groups.lines().find(|line| line.starts_with('g')).unwrap();
        let holders = cli(&["XINFO", "CONSUMERS", &stage.key("normal"), group]).await;
        let name = holders.lines().find(|line| line.contains('|')).unwrap();
        let dead = name.replace(&own.to_string(), &ended.to_string());
        cli(&["XGROUP", "CREATECONSUMER", &stage.key("normal"), group, &dead]).await;
        let told = Complaints::up_to(Level::DEBUG);
        let next = RedisTaskQueue::open(stage.settings.clone()).await.unwrap();
        next.recover(None, 100).await.unwrap();
        assert_eq!(told.said(Level::INFO, "processes of this machine have ended"), 0);
        assert_eq!(told.said(Level::DEBUG, "they held nothing"), 1);
        let holders = cli(&["XINFO", "CONSUMERS", &stage.key("normal"), group]).await;
        assert!(!holders.contains(&dead), "{holders}");
    });
}

#[test]
fn failure_25_entries_that_a_foreign_hand_removed_are_given_up_and_counted() {
    staged(in_memory(), "lease=0.5", |stage| async move {
        stage.publish(&["gone"]).await;
        stage.publish(&["there"]).await;
        let taken = stage.take(2).await;
        let entry = taken[0].token.place.as_deref().unwrap().rsplit(' ').next().unwrap();
        stage.server.cli(["XDEL", &stage.key("normal"), entry]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
        let next = stage.take(10).await;
        assert_eq!(ids(&next), ["there"]);
        assert_eq!(stage.queue.status().vanished, 1);
        stage.ack(next.into_iter().next().unwrap()).await;
        let stats = stage.queue.stats().await.unwrap().remove(0);
        assert_eq!((stats.ready, stats.leased), (0, 0));
    });
}

#[test]
fn failure_25_a_queue_that_was_flushed_goes_on() {
    staged(in_memory(), "", |stage| async move {
        stage.publish(&["a"]).await;
        let held = stage.take(1).await.remove(0);
        stage.server.cli(["FLUSHALL"]).await.unwrap();
        stage.publish(&["a"]).await;
        let again = stage.take(1).await.remove(0);
        assert_eq!(again.deliveries, 1);
        let late = stage.queue.end_one(held.token, How::ack(Vec::new())).await;
        assert!(matches!(late, Err(EndError::LeaseLost)), "{late:?}");
        assert_eq!(stage.queue.status().data_lost, 1);
    });
}

#[test]
fn failure_10_what_nobody_can_read_becomes_a_dead_letter_with_its_bytes() {
    staged(in_memory(), "", |stage| async move {
        stage.publish(&["before"]).await;
        stage
            .server
            .cli(["XADD", &stage.key("normal"), "*", "d", "no envelope"])
            .await
            .unwrap();
        stage
            .server
            .cli(["XADD", &stage.key("normal"), "*", "some", "thing"])
            .await
            .unwrap();
        stage.publish(&["after"]).await;
        assert_eq!(ids(&stage.take(10).await), ["before", "after"]);
        let page = stage
            .queue
            .dead_letters(&DeadFilter::default(), None, 10)
            .await
            .unwrap();
        assert_eq!(page.letters.len(), 2);
        let letter = &page.letters[0];
        assert_eq!(letter.kind, UNDECODABLE);
        let whole = stage.queue.dead_task(&stage.name, &letter.id).await.unwrap().unwrap();
        assert_eq!((&whole.payload[..], whole.decoded), (&b"no envelope"[..], false));
        let all: Vec<_> = page.letters.into_iter().map(|letter| letter.id).collect();
        assert_eq!(stage.queue.retry_dead(&stage.name, &all).await.unwrap(), 0);
        assert_eq!(stage.queue.drop_dead(&stage.name, &all).await.unwrap(), 2);
    });
}

#[test]
fn scripts_that_the_server_forgot_are_given_again() {
    staged(in_memory(), "", |stage| async move {
        stage.publish(&["a"]).await;
        stage.server.cli(["SCRIPT", "FLUSH"]).await.unwrap();
        let delivery = stage.take(1).await.remove(0);
        stage.server.cli(["SCRIPT", "FLUSH"]).await.unwrap();
        stage.ack(delivery).await;
    });
}

#[test]
fn failure_28_wrong_accounts_and_missing_rights_say_what_to_do() {
    let options = RedisOptions {
        password: Some("open-sesame".into()),
        ..in_memory()
    };
    staged(options, "", |stage| async move {
        let mut settings = stage.settings.clone();
        settings.password = Some("wrong".into());
        let refused = RedisTaskQueue::open(settings.clone()).await.err().unwrap().to_string();
        assert!(refused.contains("check user and password"), "{refused}");
        settings.password = None;
        let refused = RedisTaskQueue::open(settings.clone()).await.err().unwrap().to_string();
        assert!(refused.contains("check user and password"), "{refused}");
        let user = [
            "ACL",
            "SETUSER",
            "poor",
            "on",
            ">poor",
            "~*",
            "+info",
            "+time",
            "+select",
            "+config|get",
        ];
        stage.server.cli(user).await.unwrap();
        (settings.user, settings.password) = (Some("poor".into()), Some("poor".into()));
        let queue = RedisTaskQueue::open(settings).await.unwrap();
        let refused = queue.publish(vec![stage.task("a")]).await.unwrap_err();
        assert!(matches!(refused, PublishError::Unknown { .. }));
        assert!(refused.to_string().contains("does not permit it"), "{refused}");
    });
}

#[test]
fn a_location_that_nobody_answers_is_an_error_that_names_it() {
    runtime::real(async {
        let refused = RedisTaskQueue::open(on("redis://127.0.0.1:1", ""))
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(refused.contains("127.0.0.1:1"), "{refused}");
    });
}
