//! One exchange of a verb, cut or whole, and what has to be there afterwards.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use plba_tasks::queue::{
    ConsumerId, DeadFilter, Delivery, DeliveryToken, EndError, Ending, How, Incarnation, QueueError, TaskFilter,
};
use plba_tasks::task::{NewTask, QueueName, TaskId};
use tokio::time::{Instant, timeout};

use super::{Reach, Verb};
use crate::proxy::{Direction, Ending as CutEnding};

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often a call is tried after its cut.
const TRIES: usize = 5;

/// How long tasks whose hand-out was cut may take until they are handed out again: their lease, and some.
const AGAIN: Duration = Duration::from_secs(10);

/// Where a connection is cut.
pub(super) type Cut = (Direction, u64, CutEnding);

type Checked<T> = Result<T, String>;

/// How an exchange went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// It was cut.
    pub(super) cut: bool,
    /// The caller got an error, or no answer.
    pub(super) noticed: bool,
}

/// Exchanges of one verb on one queue.
pub(super) struct Scenario {
    reach: Reach,
    verb: Verb,
    queue: QueueName,
    then: QueueName,
    consumer: ConsumerId,
    number: u64,
    /// Bytes of the latest exchange.
    passed: u64,
    /// Of tasks whose hand-out may be cut: how often each was acked.
    acked: BTreeMap<TaskId, u32>,
    pub(super) faults: Vec<String>,
}

/// What an ending came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    Done,
    Lost,
    Unknown,
}

fn came(answer: Result<Vec<Result<(), EndError>>, QueueError>) -> Checked<Came> {
    match answer.map(|mut answers| answers.pop()) {
        Ok(Some(Ok(()))) => Ok(Came::Done),
        Ok(Some(Err(EndError::LeaseLost))) => Ok(Came::Lost),
        Ok(Some(Err(EndError::Queue(_)))) | Err(_) => Ok(Came::Unknown),
        Ok(other) => Err(format!("an ending was answered with {other:?}")),
    }
}

impl Scenario {
    pub(super) fn new(reach: Reach, verb: Verb) -> Self {
        Self {
            reach,
            verb,
            queue: QueueName::from("cuts"),
            then: QueueName::from("then"),
            consumer: ConsumerId::new(Incarnation::of_this_process(7), "cuts"),
            number: 0,
            passed: 0,
            acked: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// A whole exchange; gives its bytes.
    pub(super) async fn clean(&mut self, direction: Direction) -> u64 {
        self.run((direction, 1 << 40, CutEnding::Close)).await;
        self.passed
    }

    /// One exchange.
    pub(super) async fn run(&mut self, cut: Cut) -> Outcome {
        self.number += 1;
        // Of one length, so that all exchanges are.
        let id = TaskId::from(format!("task-{:08}", self.number));
        let outcome = match self.verb {
            Verb::Publish => self.publish(&id, cut).await,
            Verb::Consume => self.consume(&id, cut).await,
            Verb::Exchange => self.exchange(&id, cut).await,
            Verb::Extend => self.extend(&id, cut).await,
            Verb::Ack | Verb::Nack | Verb::Bury | Verb::Release => self.end_one(&id, cut).await,
        };
        outcome.unwrap_or_else(|fault| {
            self.faults
                .push(format!("{:?} cut at {cut:?}: {id}: {fault}", self.verb));
            self.reach.proxy.heal();
            Outcome::default()
        })
    }

    async fn publish(&mut self, id: &TaskId, cut: Cut) -> Checked<Outcome> {
        let through = self.reach.through.clone();
        let task = || vec![NewTask::new(&self.queue, "test", "payload").with_id(id)];
        let (mut answer, cut, passed) = self.under(cut, through.publish(task())).await?;
        let noticed = answer.is_err();
        for _ in 0..TRIES {
            if answer.is_err() {
                answer = within(through.publish(task())).await?;
            }
        }
        answer.map_err(|error| format!("can't be published: {}", plba_contracts::describe(&error)))?;
        let delivery = self.only(&self.queue, id).await?;
        self.ack(delivery.token).await?;
        self.nothing_left().await?;
        self.passed = passed;
        Ok(Outcome { cut, noticed })
    }

    async fn end_one(&mut self, id: &TaskId, cut: Cut) -> Checked<Outcome> {
        let delivery = self.taken(id).await?;
        let through = self.reach.through.clone();
        let follow = TaskId::from(format!("then-{id}"));
        let ending = || Ending {
            token: delivery.token.clone(),
            how: match self.verb {
                Verb::Nack => How::Nack {
                    delay: Duration::ZERO,
                    reason: "cut".into(),
                },
                Verb::Bury => How::Bury { reason: "cut".into() },
                Verb::Release => How::Release { delay: Duration::ZERO },
                _ => How::ack(vec![NewTask::new(&self.then, "then", "").with_id(&follow)]),
            },
        };
        let (answer, cut, passed) = self.under(cut, through.end(vec![ending()])).await?;
        let mut came = came(answer)?;
        let noticed = came == Came::Unknown;
        for _ in 0..TRIES {
            if came == Came::Unknown {
                came = self::came(within(through.end(vec![ending()])).await?)?;
            }
        }
        match came {
            Came::Unknown => return Err("can't be ended".to_owned()),
            Came::Lost if !noticed => return Err("the lease was lost without any error before".to_owned()),
            Came::Done | Came::Lost => {}
        }
        self.ended(id, &follow).await?;
        self.nothing_left().await?;
        self.passed = passed;
        Ok(Outcome { cut, noticed })
    }

    /// What an ending has to leave behind.
    async fn ended(&self, id: &TaskId, follow: &TaskId) -> Checked<()> {
        let direct = &self.reach.direct;
        match self.verb {
            Verb::Nack | Verb::Release => {
                let delivery = self.only(&self.queue, id).await?;
                let attempt = if self.verb == Verb::Nack { 2 } else { 1 };
                if delivery.attempt != attempt {
                    return Err(format!("comes again as attempt {}", delivery.attempt));
                }
                self.ack(delivery.token).await
            }
            Verb::Bury => {
                let filter = DeadFilter::of_queue(&self.queue);
                let page = direct
                    .dead_letters(&filter, None, 10)
                    .await
                    .map_err(|error| error.to_string())?;
                let ids: Vec<_> = page.letters.into_iter().map(|letter| letter.id).collect();
                if ids != [id.clone()] {
                    return Err(format!("the dead letters are {ids:?}"));
                }
                let dropped = direct
                    .drop_dead(&self.queue, &ids)
                    .await
                    .map_err(|error| error.to_string())?;
                (dropped == 1).then_some(()).ok_or_else(|| format!("{dropped} dropped"))
            }
            _ => {
                let delivery = self.only(&self.then, follow).await?;
                self.ack(delivery.token).await
            }
        }
    }

    async fn extend(&mut self, id: &TaskId, cut: Cut) -> Checked<Outcome> {
        let delivery = self.taken(id).await?;
        let through = self.reach.through.clone();
        let tokens = [delivery.token];
        let (answer, cut, passed) = self.under(cut, through.extend(&tokens)).await?;
        let mut came = came(answer)?;
        let noticed = came == Came::Unknown;
        for _ in 0..TRIES {
            if came == Came::Unknown {
                came = self::came(within(through.extend(&tokens)).await?)?;
            }
        }
        if came != Came::Done {
            return Err("can't be extended".to_owned());
        }
        let [token] = tokens;
        self.ack(token).await?;
        self.nothing_left().await?;
        self.passed = passed;
        Ok(Outcome { cut, noticed })
    }

    async fn consume(&mut self, id: &TaskId, cut: Cut) -> Checked<Outcome> {
        self.put(id).await?;
        let rescue = TaskId::from(format!("more-{:08}", self.number));
        let (reach, queue, consumer) = (&self.reach, self.queue.clone(), self.consumer.clone());
        let mut rescued = false;
        let (through, proxy) = (reach.through.clone(), &reach.proxy);
        let (direction, bytes, ending) = cut;
        proxy.cut_after(direction, bytes, ending);
        let mut call = pin!(through.consume(&queue, &consumer, 1));
        let began = Instant::now();
        let answer = loop {
            if let Ok(answer) = timeout(Duration::from_millis(20), &mut call).await {
                break answer;
            }
            // It may have been given what the cut then kept from it, so that there is nothing more to get.
            if !rescued && proxy.bytes_before_cut(direction).is_none() {
                rescued = true;
                put_into(reach, &queue, &rescue).await?;
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("consume gave nothing within {PATIENCE:?}"));
            }
        };
        let left = proxy.bytes_before_cut(direction);
        proxy.heal();
        if rescued {
            self.acked.insert(rescue, 0);
        }
        self.passed = bytes.saturating_sub(left.unwrap_or(0));
        let noticed = answer.is_err() || rescued;
        self.ack_all(answer.unwrap_or_default()).await?;
        Ok(Outcome {
            cut: left.is_none(),
            noticed,
        })
    }

    async fn exchange(&mut self, id: &TaskId, cut: Cut) -> Checked<Outcome> {
        self.put(id).await?;
        let other = TaskId::from(format!("more-{:08}", self.number));
        self.put(&other).await?;
        let (through, queue, consumer) = (self.reach.through.clone(), self.queue.clone(), self.consumer.clone());
        let mut taken = within(through.consume(&queue, &consumer, 1))
            .await?
            .map_err(|error| error.to_string())?;
        let delivery = taken.pop().ok_or("nothing was handed out")?;
        let ending = || Ending {
            token: delivery.token.clone(),
            how: How::ack(Vec::new()),
        };
        let call = through.exchange(vec![ending()], &queue, &consumer, 1);
        let (answer, cut, passed) = self.under(cut, call).await?;
        let mut came = came(answer.ended)?;
        let noticed = came == Came::Unknown || answer.taken.is_err();
        for _ in 0..TRIES {
            if came == Came::Unknown {
                came = self::came(within(through.end(vec![ending()])).await?)?;
            }
        }
        if came == Came::Unknown || (came == Came::Lost && !noticed) {
            return Err("can't be ended".to_owned());
        }
        *self.acked.entry(delivery.task.id.clone()).or_default() += 1;
        self.ack_all(answer.taken.unwrap_or_default()).await?;
        self.passed = passed;
        Ok(Outcome { cut, noticed })
    }

    /// Publishes a task past the proxy whose hand-out may be cut.
    async fn put(&mut self, id: &TaskId) -> Checked<()> {
        put_into(&self.reach, &self.queue, id).await?;
        self.acked.insert(id.clone(), 0);
        Ok(())
    }

    /// Acks whatever was handed out, none of which may have been acked before.
    async fn ack_all(&mut self, deliveries: Vec<Delivery>) -> Checked<()> {
        for delivery in deliveries {
            let id = delivery.task.id.clone();
            self.ack(delivery.token).await?;
            let acked = self.acked.entry(id.clone()).or_default();
            *acked += 1;
            if *acked > 1 {
                return Err(format!("{id} was handed out again after its ack"));
            }
        }
        Ok(())
    }

    /// A task that was just published, in this caller's hands.
    async fn taken(&self, id: &TaskId) -> Checked<Delivery> {
        put_into(&self.reach, &self.queue, id).await?;
        let taken = within(self.reach.through.consume(&self.queue, &self.consumer, 10)).await?;
        only(taken.map_err(|error| error.to_string())?, id)
    }

    /// The one task that is ready in a queue.
    async fn only(&self, queue: &QueueName, id: &TaskId) -> Checked<Delivery> {
        let taken = timeout(PATIENCE, self.reach.direct.consume(queue, &self.consumer, 10)).await;
        let taken = taken.map_err(|_| "the task is lost".to_owned())?;
        only(taken.map_err(|error| error.to_string())?, id)
    }

    async fn ack(&self, token: DeliveryToken) -> Checked<()> {
        let ended = self.reach.direct.end_one(token, How::ack(Vec::new())).await;
        ended.map_err(|error| format!("can't be acked afterwards: {error}"))
    }

    /// Neither queue has anything, in whatever state.
    async fn nothing_left(&self) -> Checked<()> {
        let page = self.reach.direct.tasks(&TaskFilter::default(), None, 10).await;
        let tasks = page.map_err(|error| error.to_string())?.tasks;
        tasks
            .is_empty()
            .then_some(())
            .ok_or_else(|| format!("what is left: {tasks:?}"))
    }

    /// Makes a call whose connection is cut; gives its answer, whether it was cut, and how many bytes passed.
    async fn under<T>(&self, cut: Cut, call: impl Future<Output = T>) -> Checked<(T, bool, u64)> {
        let (direction, bytes, ending) = cut;
        let proxy = &self.reach.proxy;
        proxy.cut_after(direction, bytes, ending);
        let answer = within(call).await;
        let left = proxy.bytes_before_cut(direction);
        proxy.heal();
        Ok((answer?, left.is_none(), bytes.saturating_sub(left.unwrap_or(0))))
    }

    /// What is still to come comes, and then everything is there once; gives all faults.
    pub(super) async fn end(mut self) -> Vec<String> {
        let limit = Instant::now() + AGAIN;
        while self.acked.values().any(|acked| *acked == 0) && Instant::now() < limit {
            let taking = self.reach.direct.consume(&self.queue, &self.consumer, 100);
            let taken = timeout(Duration::from_millis(500), taking).await;
            let taken = taken.unwrap_or_else(|_| Ok(Vec::new())).unwrap_or_default();
            if let Err(fault) = self.ack_all(taken).await {
                self.faults.push(fault);
            }
        }
        let lost: Vec<&TaskId> = self
            .acked
            .iter()
            .filter(|(_, acked)| **acked == 0)
            .map(|(id, _)| id)
            .collect();
        if !lost.is_empty() {
            self.faults
                .push(format!("{} tasks are lost, such as {}", lost.len(), lost[0]));
        }
        if let Err(fault) = self.nothing_left().await {
            self.faults.push(fault);
        }
        self.faults
    }
}

async fn put_into(reach: &Reach, queue: &QueueName, id: &TaskId) -> Checked<()> {
    let task = NewTask::new(queue, "test", "payload").with_id(id);
    let published = reach.direct.publish(vec![task]).await;
    published.map(drop).map_err(|error| error.to_string())
}

fn only(mut taken: Vec<Delivery>, id: &TaskId) -> Checked<Delivery> {
    match taken.pop() {
        Some(delivery) if taken.is_empty() && delivery.task.id == *id => Ok(delivery),
        Some(delivery) => {
            taken.push(delivery);
            let ids: Vec<_> = taken.iter().map(|delivery| &delivery.task.id).collect();
            Err(format!("there are {ids:?}"))
        }
        None => Err("the task is lost".to_owned()),
    }
}

async fn within<T>(call: impl Future<Output = T>) -> Checked<T> {
    let answer = timeout(PATIENCE, call).await;
    answer.map_err(|_| format!("there was no answer within {PATIENCE:?}"))
}
