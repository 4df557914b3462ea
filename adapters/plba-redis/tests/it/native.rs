//! Exchanges whose read is the server's own command: what they may not hand out, and what they may not forget.

use plba_redis::RedisTaskQueue;
use plba_tasks::queue::{ConsumerId, Delivery, EndError, Ending, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, Priority, QueueName};
use plba_testkit::runtime;
use plba_testservers::{RedisOptions, RedisServer, require};
use redis::cmd;

use crate::place::on;

fn name() -> QueueName {
    QueueName::from("orders")
}

fn task(id: &str) -> NewTask {
    NewTask::new("orders", "test", "payload").with_id(id)
}

fn acks(taken: &[Delivery]) -> Vec<Ending> {
    let ack = |delivery: &Delivery| Ending {
        token: delivery.token.clone(),
        how: How::ack(Vec::new()),
    };
    taken.iter().map(ack).collect()
}

fn ids(taken: &[Delivery]) -> Vec<String> {
    taken.iter().map(|delivery| delivery.task.id.to_string()).collect()
}

struct Bench {
    server: RedisServer,
    queue: RedisTaskQueue,
    consumer: ConsumerId,
}

impl Bench {
    async fn new() -> Option<Self> {
        let server = require(RedisServer::start_with(RedisOptions::default()).await)?;
        let queue = RedisTaskQueue::open(on(&server.url(), "lease=30")).await.unwrap();
        let consumer = ConsumerId::new(Incarnation::of_this_process(1), "test");
        Some(Self {
            server,
            queue,
            consumer,
        })
    }

    /// Publishes tasks one by one, so that they make no packs: those are the script's.
    async fn publish(&self, tasks: Vec<NewTask>) {
        for task in tasks {
            self.queue.publish(vec![task]).await.unwrap();
        }
    }

    async fn exchange(&self, endings: Vec<Ending>, max: usize) -> (Vec<Result<(), EndError>>, Vec<Delivery>) {
        let exchange = self.queue.exchange(endings, &name(), &self.consumer, max).await;
        (exchange.ended.unwrap(), exchange.taken.unwrap())
    }

    /// How many transactions the server has carried out.
    async fn transactions(&self) -> u64 {
        let client = redis::Client::open(self.server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let text: String = cmd("INFO")
            .arg("commandstats")
            .query_async(&mut connection)
            .await
            .unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("cmdstat_exec:calls="));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }
}

#[test]
fn ids_of_ended_tasks_are_free_and_those_of_the_others_taken() {
    runtime::real(async {
        let Some(bench) = Bench::new().await else { return };
        bench
            .publish((0..6).map(|number| task(&number.to_string())).collect())
            .await;
        let (_, first) = bench.exchange(Vec::new(), 2).await;
        let (ended, second) = bench.exchange(acks(&first), 2).await;
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
        assert_eq!(
            (ids(&first), ids(&second)),
            (vec!["0".into(), "1".into()], vec!["2".into(), "3".into()])
        );
        assert!(bench.transactions().await > 0, "it was not native");
        // A token that comes twice, or again, ends nothing a second time.
        let twice = [&second[..1], &second[..1], &first[..1]]
            .into_iter()
            .flat_map(acks)
            .collect();
        let (ended, third) = bench.exchange(twice, 2).await;
        assert!(
            matches!(ended[..], [Ok(()), Err(EndError::LeaseLost), Err(EndError::LeaseLost)]),
            "{ended:?}"
        );
        assert_eq!(ids(&third), ["4", "5"]);
        // 0 and 2 are free again, 3 to 5 are in hand.
        bench.publish(["0", "2", "3", "4", "5"].map(task).into()).await;
        let (_, fourth) = bench.exchange(acks(&third), 10).await;
        assert_eq!(ids(&fourth), ["0", "2"]);
    });
}

#[test]
fn what_is_more_urgent_or_has_limits_comes_from_the_script() {
    runtime::real(async {
        let Some(bench) = Bench::new().await else { return };
        bench
            .publish((0..9).map(|number| task(&number.to_string())).collect())
            .await;
        let (_, taken) = bench.exchange(Vec::new(), 1).await;
        bench.publish(vec![task("high").with_priority(Priority::High)]).await;
        let (_, taken) = bench.exchange(acks(&taken), 1).await;
        assert_eq!(ids(&taken), ["high"]);
        let (_, taken) = bench.exchange(acks(&taken), 1).await;
        assert_eq!(ids(&taken), ["1"]);
        let expired = task("expired").expires_after(std::time::Duration::from_micros(1));
        bench.publish(vec![expired, task("last")]).await;
        let (_, taken) = bench.exchange(acks(&taken), 20).await;
        assert_eq!(ids(&taken), ["2", "3", "4", "5", "6", "7", "8", "last"]);
        bench.queue.pause(&name(), None).await.unwrap();
        bench.publish(vec![task("later")]).await;
        let (_, none) = bench.exchange(acks(&taken), 20).await;
        assert!(none.is_empty(), "{none:?}");
        bench.queue.resume(&name()).await.unwrap();
        let (_, taken) = bench.exchange(Vec::new(), 20).await;
        assert_eq!(ids(&taken), ["later"]);
    });
}
