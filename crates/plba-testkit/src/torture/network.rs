//! Networks that part processes from their queue: one direction swallowed while both sides believe in the connection, or
//! fault after fault for a long time. Who is cut off is told so in time, whoever can reach the queue goes on, and nothing
//! is lost. Cuts at every byte are in `cuts`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use plba_contracts::services::BoxFuture;
use plba_tasks::queue::{ConsumerId, Delivery, EndError, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use tokio::time::{sleep, timeout};

use super::Reach;
use crate::complaints::Complaints;
use crate::proxy::{Chaos, Direction, FaultProxy};
use crate::runtime;

/// How soon a call has to come to an end whatever the network does, and how soon all is well when it is.
const LIMIT: Duration = Duration::from_secs(15);

/// What a task may be late by after its lease.
const BEYOND: Duration = Duration::from_secs(5);

/// How long a network flaps.
const FLAPPING: Duration = Duration::from_secs(12);

/// How many connections may be opened in each second of that. Faults end about four times as many as a queue has in a
/// second; one that tries without pauses opens thousands.
const CONNECTIONS: u64 = 40;

fn orders() -> QueueName {
    QueueName::from("orders")
}

fn task(id: &str) -> NewTask {
    NewTask::new(orders(), "test", "").with_id(id)
}

fn consumer(epoch: u64) -> ConsumerId {
    ConsumerId::new(Incarnation::of_this_process(epoch), "test")
}

/// Does it with a limit: a call that hangs is the worst of answers.
async fn within<T>(what: &str, call: impl Future<Output = T>) -> T {
    let called = timeout(LIMIT, call).await;
    called.unwrap_or_else(|_| panic!("{what} did not come to an end within {LIMIT:?}"))
}

/// What is looked for only when less than half of its lease is left, as in a process that stood still, is not handed out; it
/// comes again at once, with a lease that holds. For a queue with leases of at most two seconds, in real time.
pub async fn late(queue: &dyn TaskQueue) {
    let (orders, consumer) = (orders(), consumer(1));
    queue.publish(vec![task("first")]).await.unwrap();
    let first = within("taking", queue.consume(&orders, &consumer, 1)).await;
    let token = first.unwrap().remove(0).token;
    queue.end_one(token, How::ack(Vec::new())).await.unwrap();
    // The consumer is known from here: the next take is one exchange.
    queue.publish(vec![task("late")]).await.unwrap();
    let mut consuming = Box::pin(queue.consume(&orders, &consumer, 1));
    let first = poll_fn(|context| Poll::Ready(consuming.as_mut().poll(context))).await;
    assert!(first.is_pending(), "no queue answers at once");
    // The answer comes, and nobody looks for it.
    sleep(queue.lease() * 3 / 4).await;
    let taken = within("taking", consuming).await.unwrap().remove(0);
    assert!(
        taken.deliveries > 1,
        "it was handed out with less than half of its lease"
    );
    let ended = within("the end", queue.end_one(taken.token, How::ack(Vec::new()))).await;
    ended.expect("its lease holds");
}

/// Takes what is there, whatever is wrong, for a little while.
async fn take(queue: &dyn TaskQueue, consumer: &ConsumerId) -> Vec<Delivery> {
    let orders = orders();
    let taking = queue.consume(&orders, consumer, 8);
    let taken = timeout(Duration::from_millis(300), taking).await;
    taken.map(Result::unwrap_or_default).unwrap_or_default()
}

/// Whether nothing waits and nothing is in hand.
async fn is_empty(queue: &dyn TaskQueue) -> bool {
    let Ok(stats) = queue.stats().await else { return false };
    stats
        .iter()
        .all(|stats| (stats.ready, stats.delayed, stats.held, stats.leased) == (0, 0, 0, 0))
}

/// Swallows the bytes of one direction, and then of the other, each time between a process and its queue while another
/// process reaches it: the one is told so by each call, the other takes over what the one held, and when all is well
/// again, nothing is missing and the one has lost its lease.
///
/// # Panics
/// When a call hangs, a task is lost, or one is done more often than it has to be.
pub fn partitions(reach: impl Fn() -> BoxFuture<'static, Reach>) {
    for direction in Direction::BOTH {
        runtime::real(async { part(reach().await, direction).await });
    }
}

async fn part(reach: Reach, direction: Direction) {
    let Reach { proxy, through, direct } = reach;
    let (near, far) = (consumer(1), consumer(2));
    direct.publish(vec![task("held"), task("kept")]).await.unwrap();
    let held = within("consuming", through.consume(&orders(), &near, 1))
        .await
        .unwrap()
        .remove(0);
    proxy.black_hole(direction);
    let began = Instant::now();
    let published = within("publishing", through.publish(vec![task("into the hole")])).await;
    assert!(
        published.is_err(),
        "{direction:?}: nobody has said that it was published"
    );
    let acked = within("an ack", through.end_one(held.token.clone(), How::ack(Vec::new()))).await;
    assert!(matches!(acked, Err(EndError::Queue(_))), "{direction:?}: {acked:?}");
    let taken = within("consuming", through.consume(&orders(), &near, 1)).await;
    assert!(taken.is_err(), "{direction:?}: {taken:?}");
    eprintln!(
        "{direction:?}: three calls into the hole were given up after {:?}",
        began.elapsed()
    );

    // Whoever can reach the queue goes on while the hole is there.
    let mut done: BTreeMap<String, u32> = BTreeMap::new();
    let parted = Instant::now();
    while !is_empty(&*direct).await {
        for delivery in take(&*direct, &far).await {
            direct.end_one(delivery.token, How::ack(Vec::new())).await.unwrap();
            *done.entry(delivery.task.id.to_string()).or_default() += 1;
        }
        let late = direct.lease() + BEYOND;
        assert!(
            parted.elapsed() < late,
            "{direction:?}: after {late:?} there is {done:?}"
        );
    }
    assert_eq!(done.get("kept"), Some(&1), "{direction:?}: {done:?}");

    proxy.heal();
    let again = async { while through.publish(vec![task("into the hole")]).await.is_err() {} };
    within("publishing again", again).await;
    let late = async {
        loop {
            match through.end_one(held.token.clone(), How::ack(Vec::new())).await {
                Err(EndError::Queue(_)) => sleep(Duration::from_millis(20)).await,
                answer => return answer,
            }
        }
    };
    let late = within("a late ack", late).await;
    assert!(matches!(late, Err(EndError::LeaseLost)), "{direction:?}: {late:?}");
    let rest = async {
        while !is_empty(&*direct).await {
            for delivery in take(&*through, &near).await {
                through.end_one(delivery.token, How::ack(Vec::new())).await.unwrap();
                *done.entry(delivery.task.id.to_string()).or_default() += 1;
            }
        }
    };
    within("draining", rest).await;
    let count = |id: &str| done.get(id).copied().unwrap_or_default();
    match direction {
        // Nothing of it has arrived.
        Direction::ToServer => assert_eq!((count("held"), count("into the hole")), (1, 1), "{done:?}"),
        // What has arrived took effect, and the same once more is a task of its own if the first is done.
        Direction::ToClient => {
            assert!(
                count("held") <= 1 && (1..=2).contains(&count("into the hole")),
                "{done:?}"
            );
        }
    }
}

/// A network with one fault after the other for a long time, while a process publishes through it and two work: every
/// published task is carried out, nobody tries without pauses, and the log is not flooded.
///
/// # Panics
/// When a call hangs, a task is lost, or somebody is not calm.
pub fn flapping(reach: impl Fn() -> BoxFuture<'static, Reach>) {
    runtime::real(async {
        let Reach { proxy, through, direct } = reach().await;
        let proxy = Arc::new(proxy);
        let complaints = Complaints::new();
        let crowd = Crowd::default();
        proxy.unleash(&Chaos {
            longest_fault: Duration::from_millis(150),
            ..Chaos::new(fastrand::u64(..))
        });
        let began = Instant::now();
        let end = async {
            crowd.publish(&*through, began).await;
            proxy.calm();
            crowd.drained(&*direct).await;
        };
        tokio::join!(end, crowd.work(&*through, 1), crowd.work(&*through, 2));
        crowd.judge(&proxy, complaints.count(), began.elapsed());
        let stats = direct.stats().await.unwrap();
        assert!(stats.iter().all(|stats| stats.dead == 0), "{stats:?}");
    });
}

/// Who is at work while the network flaps, and what they have seen.
#[derive(Default)]
struct Crowd {
    published: RefCell<BTreeSet<String>>,
    done: RefCell<BTreeMap<String, u32>>,
    over: Cell<bool>,
}

impl Crowd {
    /// Publishes one task after the other, each with the same id until it is sure that it is there.
    async fn publish(&self, queue: &dyn TaskQueue, began: Instant) {
        for number in 0.. {
            if began.elapsed() > FLAPPING {
                return;
            }
            let id = format!("{number}");
            let published = async { while queue.publish(vec![task(&id)]).await.is_err() {} };
            within("publishing", published).await;
            self.published.borrow_mut().insert(id);
            // What piles up while nobody can work has to be done in the end.
            sleep(Duration::from_millis(2)).await;
        }
    }

    async fn work(&self, queue: &dyn TaskQueue, number: u64) {
        let consumer = consumer(number);
        while !self.over.get() {
            for delivery in take(queue, &consumer).await {
                let ended = async {
                    while let Err(EndError::Queue(_)) =
                        queue.end_one(delivery.token.clone(), How::ack(Vec::new())).await
                    {}
                };
                within("an ack", ended).await;
                *self.done.borrow_mut().entry(delivery.task.id.to_string()).or_default() += 1;
            }
            // As workers do after an error.
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits, with the network in order again, until everything is done.
    async fn drained(&self, queue: &dyn TaskQueue) {
        let drained = async {
            while !is_empty(queue).await {
                sleep(Duration::from_millis(50)).await;
            }
        };
        within("draining", drained).await;
        self.over.set(true);
    }

    fn judge(&self, proxy: &FaultProxy, complaints: u64, took: Duration) {
        let (published, done) = (self.published.borrow(), self.done.borrow());
        let lost: Vec<&String> = published.iter().filter(|id| !done.contains_key(*id)).collect();
        let (accepted, seconds) = (proxy.counts().accepted, took.as_secs() + 1);
        let again: u32 = done.values().map(|count| count - 1).sum();
        eprintln!(
            "{} published, {again} carried out once more, {accepted} connections and {complaints} complaints in {took:?}",
            published.len()
        );
        assert!(lost.is_empty(), "lost: {lost:?}");
        assert!(published.len() > 20, "{} tasks are no test", published.len());
        assert!(accepted > 10, "{accepted} connections: nothing was broken");
        assert!(accepted <= CONNECTIONS * seconds, "{accepted} connections in {took:?}");
        // One a second of connections, and as many of leases that ran out.
        assert!(complaints <= 2 * seconds, "{complaints} warnings in {took:?}");
    }
}
