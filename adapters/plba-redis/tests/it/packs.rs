//! Packs: tasks that are kept and leased as one entry, and are carried out, ended, lost and found one by one all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use plba_contracts::config::Location;
use plba_redis::{RedisSettings, RedisTaskQueue};
use plba_tasks::queue::{ConsumerId, DeadFilter, Delivery, EndError, Ending, How, Incarnation, TaskFilter, TaskQueue};
use plba_tasks::task::{NewTask, Priority, QueueName};
use plba_testkit::proxy::{Direction, Ending as CutEnding, FaultProxy};
use plba_testkit::runtime;
use plba_testservers::{RedisOptions, RedisServer, require};
use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::time::timeout;

use crate::place::on;

fn name() -> QueueName {
    QueueName::from("orders")
}

fn tasks(ids: impl IntoIterator<Item = impl ToString>) -> Vec<NewTask> {
    let task = |id: String| NewTask::new("orders", "test", format!("payload of {id}")).with_id(id);
    ids.into_iter().map(|id| task(id.to_string())).collect()
}

fn ids(taken: &[Delivery]) -> Vec<String> {
    taken.iter().map(|delivery| delivery.task.id.to_string()).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

struct Stage {
    server: RedisServer,
    queue: RedisTaskQueue,
    prefix: String,
    consumer: ConsumerId,
}

impl Stage {
    async fn new(query: &str) -> Option<Self> {
        let options = RedisOptions {
            in_memory: true,
            ..RedisOptions::default()
        };
        let server = require(RedisServer::start_with(options).await)?;
        let settings = on(&server.url(), query);
        Some(Self {
            prefix: settings.prefix.clone(),
            queue: RedisTaskQueue::open(settings).await.unwrap(),
            server,
            consumer: ConsumerId::new(Incarnation::of_this_process(1), "test"),
        })
    }

    async fn publish(&self, ids: impl IntoIterator<Item = impl ToString>) {
        self.queue.publish(tasks(ids)).await.unwrap();
    }

    async fn take(&self, most: usize) -> Vec<Delivery> {
        let taken = self
            .queue
            .exchange(Vec::new(), &name(), &self.consumer, most)
            .await
            .taken;
        taken.unwrap()
    }

    /// Takes what is ready or will be.
    async fn wait(&self, most: usize) -> Vec<Delivery> {
        let (name, patience) = (name(), Duration::from_secs(15));
        let taking = self.queue.consume(&name, &self.consumer, most);
        timeout(patience, taking).await.expect("something is ready").unwrap()
    }

    async fn end(&self, deliveries: &[Delivery], how: fn() -> How) -> Vec<bool> {
        let ending = |delivery: &Delivery| Ending {
            token: delivery.token.clone(),
            how: how(),
        };
        let ended = self.queue.end(deliveries.iter().map(ending).collect()).await.unwrap();
        let held = |result: Result<(), EndError>| match result {
            Ok(()) => true,
            Err(EndError::LeaseLost) => false,
            Err(error) => panic!("{error}"),
        };
        ended.into_iter().map(held).collect()
    }

    async fn ack(&self, deliveries: &[Delivery]) -> Vec<bool> {
        self.end(deliveries, || How::ack(Vec::new())).await
    }

    /// Ready and leased.
    async fn counts(&self) -> (u64, u64) {
        let stats = self.queue.stats().await.unwrap().remove(0);
        (stats.ready, stats.leased)
    }

    fn key(&self, part: &str) -> String {
        format!("{{{}}}:q:orders:{part}", self.prefix)
    }

    async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.server.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// How many transactions the server has carried out.
    async fn transactions(&self) -> usize {
        let stats = self.server.cli(["INFO", "commandstats"]).await.unwrap();
        stats.lines().filter(|line| line.starts_with("cmdstat_exec:")).count()
    }

    /// Nothing is left, in no key.
    async fn is_empty(&self) {
        assert_eq!(self.counts().await, (0, 0));
        let mut connection = self.connection().await;
        for part in ["over", "ids", "aside", "heads"] {
            let there: bool = cmd("EXISTS")
                .arg(self.key(part))
                .query_async(&mut connection)
                .await
                .unwrap();
            assert!(!there, "{part} is left");
        }
        let counts = cmd("HMGET").arg(self.key("c")).arg(&["px", "hx", "bytes"]).to_owned();
        let counts: Vec<Option<i64>> = counts.query_async(&mut connection).await.unwrap();
        assert!(counts.iter().all(|count| count.unwrap_or(0) == 0), "{counts:?}");
    }
}

fn staged<F: Future<Output = ()>>(query: &'static str, test: impl FnOnce(Stage) -> F) {
    runtime::real(async {
        if let Some(stage) = Stage::new(query).await {
            test(stage).await;
        }
    });
}

#[test]
fn members_are_ended_one_by_one() {
    staged("", |stage| async move {
        stage.publish(0..5).await;
        let mut connection = stage.connection().await;
        let entries: u64 = cmd("XLEN")
            .arg(stage.key("normal"))
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(entries, 1);
        let taken = stage.take(10).await;
        assert_eq!(ids(&taken), numbers(0..5));
        assert_eq!(&taken[3].task.payload[..], b"payload of 3");
        assert_eq!(stage.counts().await, (0, 5));
        assert_eq!(stage.ack(&taken[2..3]).await, [true]);
        assert_eq!(stage.counts().await, (0, 4));
        // Its id is free again, those of the others are not.
        stage.publish([1, 2]).await;
        assert_eq!(stage.counts().await, (1, 4));
        assert_eq!(stage.ack(&taken).await, [true, true, false, true, true]);
        assert_eq!(stage.ack(&taken).await, [false; 5]);
        let again = stage.take(10).await;
        assert_eq!(ids(&again), ["2"]);
        // A token that comes twice ends once.
        assert_eq!(stage.ack(&[again[0].clone(), again[0].clone()]).await, [true, false]);
        stage.is_empty().await;
    });
}

#[test]
fn a_pack_is_acked_whole_and_not_twice() {
    staged("", |stage| async move {
        stage.publish(0..32).await;
        let taken = stage.take(32).await;
        assert_eq!(stage.ack(&taken).await, [true; 32]);
        assert_eq!(stage.ack(&taken).await, [false; 32]);
        stage.is_empty().await;
    });
}

#[test]
fn who_wants_less_than_a_pack_gets_as_many_as_it_wants_in_order() {
    staged("", |stage| async move {
        stage.publish(0..70).await;
        let mut all = Vec::new();
        for most in [1, 2, 4, 8, 16, 32, 64] {
            let taken = stage.take(most).await;
            let wanted = most.min(70 - all.len());
            assert_eq!(taken.len(), wanted);
            let left = 70 - all.len() - wanted;
            assert_eq!(stage.counts().await, (left as u64, wanted as u64));
            all.extend(ids(&taken));
            assert!(stage.ack(&taken).await.iter().all(|held| *held));
        }
        assert_eq!(all, numbers(0..70));
        stage.is_empty().await;
    });
}

#[test]
fn what_is_given_back_comes_first_and_urgent_tasks_before_all() {
    staged("", |stage| async move {
        stage.publish(0..6).await;
        let taken = stage.take(2).await;
        stage.end(&taken[1..], || How::Release { delay: Duration::ZERO }).await;
        let urgent = tasks(["high"]).remove(0).with_priority(Priority::High);
        let low = tasks(["low"]).remove(0).with_priority(Priority::Low);
        stage
            .queue
            .publish([vec![urgent, low], tasks(6..8)].concat())
            .await
            .unwrap();
        let all = stage.take(20).await;
        assert_eq!(ids(&all), ["high", "1", "2", "3", "4", "5", "6", "7", "low"]);
        assert_eq!((all[1].deliveries, all[1].attempt), (2, 1));
        stage.ack(&taken[..1]).await;
        stage.ack(&all).await;
        stage.is_empty().await;
    });
}

#[test]
fn known_ids_are_left_as_they_are() {
    staged("", |stage| async move {
        stage.publish(["a", "b", "a"]).await;
        stage.publish(["b", "c", "c"]).await;
        stage.publish(["a", "b", "c"]).await;
        let taken = stage.take(10).await;
        assert_eq!(ids(&taken), ["a", "b", "c"]);
        stage.ack(&taken).await;
        stage.is_empty().await;
    });
}

#[test]
fn what_a_lost_holder_had_not_ended_comes_again_and_nothing_else() {
    staged("lease=0.5", |stage| async move {
        stage.publish(0..4).await;
        let taken = stage.take(4).await;
        assert_eq!(stage.ack(&taken[1..2]).await, [true]);
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        stage.publish(["new"]).await;
        let again = stage.wait(10).await;
        assert_eq!(ids(&again), ["0", "2", "3", "new"]);
        assert!(again[..3].iter().all(|delivery| delivery.deliveries == 2));
        assert_eq!(stage.ack(&again).await, [true; 4]);
        assert_eq!(stage.ack(&taken).await, [false; 4]);
        stage.is_empty().await;
    });
}

#[test]
fn members_whose_leases_are_not_renewed_are_lost_alone() {
    staged("lease=1", |stage| async move {
        stage.publish(0..3).await;
        let taken = stage.take(3).await;
        assert_eq!(stage.ack(&taken[..1]).await, [true]);
        let mut extended = Vec::new();
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(350)).await;
            let tokens = [taken[0].token.clone(), taken[1].token.clone()];
            extended = stage.queue.extend(&tokens).await.unwrap();
        }
        assert!(
            matches!(extended[..], [Err(EndError::LeaseLost), Ok(())]),
            "{extended:?}"
        );
        let lost = stage.wait(10).await;
        assert_eq!(ids(&lost), ["2"]);
        assert_eq!(stage.ack(&taken).await, [false, true, false]);
        assert_eq!(stage.ack(&lost).await, [true]);
        stage.is_empty().await;
    });
}

#[test]
fn a_group_that_was_destroyed_gives_again_what_was_not_ended() {
    staged("", |stage| async move {
        stage.publish(0..4).await;
        let taken = stage.take(4).await;
        stage.ack(&taken[2..3]).await;
        let mut connection = stage.connection().await;
        let group: String = cmd("HGET")
            .arg(stage.key("c"))
            .arg("gen")
            .query_async(&mut connection)
            .await
            .unwrap();
        let destroy = cmd("XGROUP")
            .arg("DESTROY")
            .arg(stage.key("normal"))
            .arg(group)
            .to_owned();
        let () = destroy.query_async(&mut connection).await.unwrap();
        let again = stage.take(2).await;
        assert_eq!(ids(&again), ["0", "1"]);
        assert_eq!(stage.counts().await, (1, 2));
        let last = stage.take(2).await;
        assert_eq!(ids(&last), ["3"]);
        assert_eq!(stage.ack(&taken).await, [false; 4]);
        assert_eq!(stage.ack(&[again, last].concat()).await, [true; 3]);
        stage.is_empty().await;
    });
}

#[test]
fn the_capacity_is_one_of_tasks() {
    staged("capacity=10", |stage| async move {
        stage.publish(0..8).await;
        let taken = stage.take(8).await;
        let waiting = stage.queue.publish(tasks(8..11));
        tokio::pin!(waiting);
        assert!(timeout(Duration::from_millis(300), &mut waiting).await.is_err());
        stage.ack(&taken[..1]).await;
        timeout(Duration::from_secs(5), &mut waiting).await.unwrap().unwrap();
        assert_eq!(stage.counts().await, (3, 7));
        stage.ack(&taken[1..]).await;
        let rest = stage.take(10).await;
        stage.ack(&rest).await;
        stage.is_empty().await;
    });
}

#[test]
fn pages_of_a_list_are_no_longer_than_asked_for_and_miss_nothing() {
    staged("", |stage| async move {
        stage.publish(0..50).await;
        let taken = stage.take(5).await;
        stage.ack(&taken[..2]).await;
        let (mut cursor, mut seen) = (None, BTreeMap::new());
        loop {
            let page = stage.queue.tasks(&TaskFilter::default(), cursor, 7).await.unwrap();
            assert!(page.tasks.len() <= 7);
            for task in page.tasks {
                let before = seen.insert(task.id.to_string(), task.deliveries);
                assert_eq!(before, None, "{} comes twice", task.id);
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let wanted = (2..50).map(|number| (number.to_string(), u32::from(number < 5)));
        assert_eq!(seen, wanted.collect());
    });
}

#[test]
fn failure_10_a_pack_that_nobody_can_read_is_a_dead_letter_with_its_bytes() {
    staged("", |stage| async move {
        stage.publish(0..3).await;
        let mut connection = stage.connection().await;
        let (key, damaged) = (stage.key("normal"), b"\x02\x05no pack");
        let add = cmd("XADD").arg(key).arg("*").arg("d").arg(damaged).to_owned();
        let _: String = add.query_async(&mut connection).await.unwrap();
        stage.publish(3..6).await;
        let mut all = Vec::new();
        while all.len() < 6 {
            all.extend(stage.wait(2).await);
        }
        assert_eq!(ids(&all), numbers(0..6));
        stage.ack(&all).await;
        let page = stage
            .queue
            .dead_letters(&DeadFilter::default(), None, 10)
            .await
            .unwrap();
        let [letter] = &page.letters[..] else {
            panic!("{page:?}")
        };
        let dead = stage.queue.dead_task(&name(), &letter.id).await.unwrap().unwrap();
        assert_eq!((dead.decoded, &dead.payload[..]), (false, &damaged[..]));
        assert_eq!(stage.counts().await, (0, 0));
    });
}

/// Batches that are appended by the server's own command: all of a batch or nothing, whatever is known of it.
#[test]
fn a_large_batch_is_published_whole_and_what_is_known_is_left() {
    staged("capacity=200", |stage| async move {
        stage.publish(large(0..100)).await;
        assert!(stage.transactions().await > 0, "it was not native");
        // Known ones, twice the same ones, and more than there is room for.
        stage.publish(large(50..120)).await;
        stage.publish([large(120..160), large(120..160)].concat()).await;
        let waiting = stage.queue.publish(tasks(large(160..240)));
        tokio::pin!(waiting);
        assert!(timeout(Duration::from_millis(300), &mut waiting).await.is_err());
        assert_eq!(stage.counts().await, (160, 0));
        let taken = stage.take(100).await;
        assert_eq!(ids(&taken), large(0..100));
        assert_eq!(stage.ack(&taken).await, [true; 100]);
        timeout(Duration::from_secs(5), &mut waiting).await.unwrap().unwrap();
        let rest = stage.take(200).await;
        assert_eq!(ids(&rest), large(100..240));
        assert_eq!(stage.ack(&rest).await, [true; 140]);
        stage.is_empty().await;
    });
}

/// A publish whose transaction is cut and is then made again: each task is there once.
#[test]
fn failure_27_a_large_batch_whose_publish_is_cut_is_there_once() {
    staged("", |stage| async move {
        let proxy = FaultProxy::start(([127, 0, 0, 1], stage.server.port()).into());
        let location = format!("redis://127.0.0.1:{}?prefix={}", proxy.port(), stage.prefix);
        let settings = RedisSettings::read(&Location::from(&*location)).unwrap();
        let through = RedisTaskQueue::open(settings).await.unwrap();
        let (mut first, mut unknown) = (0, 0);
        for (direction, step, end) in [(Direction::ToServer, 211, 14_000), (Direction::ToClient, 3, 400)] {
            for after in (0..end).step_by(step) {
                let ids = large(first..first + 60);
                first += 60;
                through.publish(tasks(["warm"])).await.unwrap();
                proxy.cut_after(direction, after, CutEnding::Reset);
                let cut = through.publish(tasks(&ids)).await;
                proxy.heal();
                if cut.is_err() {
                    unknown += 1;
                    through.publish(tasks(&ids)).await.unwrap();
                }
                let taken = stage.take(100).await;
                assert_eq!(
                    self::ids(&taken),
                    [vec!["warm".to_owned()], ids].concat(),
                    "{direction:?} {after}"
                );
                assert!(stage.ack(&taken).await.iter().all(|held| *held));
            }
        }
        assert!(unknown > 50, "{unknown} were cut");
        stage.is_empty().await;
    });
}

/// Ids of tasks that take some room.
fn large(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{number}-{}", "x".repeat(100))).collect()
}

fn failed() -> How {
    How::Nack {
        delay: Duration::from_millis(5),
        reason: "no".into(),
    }
}

/// Random batches, random hands, random parts of them ended in random ways: each task is acked once, and the counts are right.
#[test]
fn whatever_is_done_with_members_each_is_acked_once() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    staged("lease=60", |stage| async move {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut published, mut acked, mut held) = (0, BTreeSet::new(), Vec::new());
        for step in 0.. {
            if step < 120 && random.bool() {
                let count = random.usize(1..80);
                stage.publish(published..published + count).await;
                published += count;
            }
            held.extend(stage.take(random.usize(1..100)).await);
            random.shuffle(&mut held);
            let in_order = random.bool();
            if in_order {
                held.sort_by_key(|delivery: &Delivery| delivery.token.fence);
            }
            let ended: Vec<Delivery> = held.drain(..random.usize(0..=held.len())).collect();
            let results = match random.u8(0..4) {
                0 => stage.end(&ended, || How::Release { delay: Duration::ZERO }).await,
                1 if step < 120 => stage.end(&ended, failed).await,
                _ => {
                    for delivery in &ended {
                        assert!(
                            acked.insert(delivery.task.id.clone()),
                            "{} was acked before",
                            delivery.task.id
                        );
                    }
                    stage.ack(&ended).await
                }
            };
            assert!(results.iter().all(|held| *held), "seed {seed}, step {step}");
            if step >= 120 && acked.len() == published {
                break;
            }
            assert!(step < 5_000, "{} of {published} are left", published - acked.len());
        }
        stage.is_empty().await;
    });
}
