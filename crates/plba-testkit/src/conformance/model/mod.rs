//! Random sequences of operations against a queue and a small model of it: after each step both must say the same. A failing
//! run names its seed.

mod state;

use std::future::Future;
use std::time::Duration;

use plba_tasks::queue::{ConsumerId, DeadFilter, Delivery, EndError, Ending, How, Incarnation, QueueRules};
use plba_tasks::task::{NewTask, Priority, QueueName, TaskId};
use tokio::time::{Instant, timeout};

use self::state::{Model, Modelled, State};
use super::Time;
use super::queue::QueueUnderTest;
use crate::runtime;

/// Time moves around whatever would change by its passing, at this distance: the model and the queue need not agree on
/// the very moment.
const MARGIN: Duration = Duration::from_millis(50);

/// Runs `sequences` random sequences of `steps` steps, from `seed` on; one fresh queue for each. In real time the queue
/// must have [`advance`](QueueUnderTest::advance), and a time that stands still otherwise.
///
/// # Panics
/// When queue and model disagree; the message names the seed of the sequence.
pub fn queue<Fut>(time: Time, seed: u64, sequences: u64, steps: usize, make: impl Fn() -> Fut)
where
    Fut: Future<Output = QueueUnderTest>,
{
    for seed in seed..seed + sequences {
        let sequence = async { Sequence::new(seed, make().await).run(steps).await };
        match time {
            Time::Paused => runtime::paused(sequence),
            Time::Real => runtime::real(sequence),
        }
    }
}

struct Sequence {
    seed: u64,
    random: fastrand::Rng,
    subject: QueueUnderTest,
    name: QueueName,
    consumer: ConsumerId,
    model: Model,
    held: Vec<Delivery>,
    stale: Vec<Delivery>,
    next: u32,
    began: Instant,
    moved: Duration,
}

impl Sequence {
    fn new(seed: u64, subject: QueueUnderTest) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let name = QueueName::from("model");
        let concurrency = random.bool().then_some(4);
        if concurrency.is_some() {
            let rules = QueueRules {
                concurrency,
                ..QueueRules::default()
            };
            subject.queue.govern(&name, rules);
        }
        Self {
            seed,
            random,
            subject,
            name,
            consumer: ConsumerId::new(Incarnation::of_this_process(seed), "model"),
            model: Model {
                concurrency,
                ..Model::default()
            },
            held: Vec::new(),
            stale: Vec::new(),
            next: 0,
            began: Instant::now(),
            moved: Duration::ZERO,
        }
    }

    async fn run(mut self, steps: usize) {
        for _ in 0..steps {
            match self.random.u8(0..100) {
                0..28 => self.publish().await,
                28..50 => self.consume().await,
                50..75 => self.end().await,
                75..80 => self.end_stale().await,
                80..86 => self.pass().await,
                86..90 => self.extend().await,
                90..93 => self.pause().await,
                _ => self.dead().await,
            }
            self.keep_off_edges().await;
            self.compare().await;
        }
    }

    fn now(&self) -> Duration {
        match self.subject.advance {
            None => self.began.elapsed(),
            Some(_) => self.moved,
        }
    }

    /// A quarter of a lease, so many times.
    fn quarters(&mut self, most: u32) -> Duration {
        self.subject.queue.lease() / 4 * self.random.u32(0..=most)
    }

    async fn advance(&mut self, span: Duration) {
        match &self.subject.advance {
            None => tokio::time::sleep(span).await,
            Some(advance) => {
                self.moved += span;
                advance(span).await;
            }
        }
    }

    async fn keep_off_edges(&mut self) {
        loop {
            let now = self.now();
            if !self.model.edges().any(|edge| edge > now && edge < now + MARGIN) {
                break;
            }
            self.advance(MARGIN).await;
        }
        let lost = self.model.let_run_out(self.now(), self.subject.maximum_crashes);
        let (lost, held) = self
            .held
            .drain(..)
            .partition(|delivery| lost.contains(&delivery.task.id.to_string()));
        self.held = held;
        self.stale.extend::<Vec<_>>(lost);
    }

    async fn pass(&mut self) {
        let span = self.quarters(6);
        self.advance(span).await;
    }

    /// A task of any kind, with what the model is to know of it.
    fn any_task(&mut self, id: &str) -> (NewTask, Modelled) {
        let priority = Priority::ALL[self.random.usize(0..3)];
        let mut task = NewTask::new(&self.name, "model", "")
            .with_id(id)
            .with_priority(priority);
        let mut modelled = Modelled {
            state: State::Waiting(self.now()),
            deliveries: 0,
            attempts: 0,
            crashes: 0,
            priority,
            line: None,
            unique: None,
            expires: None,
        };
        if self.random.u8(0..4) == 0 {
            let delay = self.quarters(4);
            task = task.after(delay);
            modelled.state = State::Waiting(self.now() + delay);
        }
        if self.random.u8(0..5) == 0 {
            let after = self.quarters(5) + self.subject.queue.lease() / 4;
            task = task.expires_after(after);
            modelled.expires = Some(self.now() + after);
        }
        if self.random.u8(0..3) == 0 {
            let line = self.random.u8(0..3);
            task = task.in_order_of(format!("line {line}"));
            modelled.line = Some(line);
        }
        if self.random.u8(0..4) == 0 {
            let unique = self.random.u8(0..3);
            task = task.unique(format!("unique {unique}"));
            if self.random.bool() {
                task = task.replacing();
            }
            modelled.unique = Some(unique);
        }
        (task, modelled)
    }

    async fn publish(&mut self) {
        let repeat = self.random.u8(0..5) == 0 && !self.model.tasks.is_empty();
        let id = if repeat {
            let place = self.random.usize(0..self.model.tasks.len());
            self.model.tasks.keys().nth(place).cloned().unwrap_or_default()
        } else {
            self.next += 1;
            format!("t{}", self.next)
        };
        if self
            .subject
            .capacity
            .is_some_and(|capacity| self.model.living() >= capacity)
        {
            return;
        }
        let (task, modelled) = self.any_task(&id);
        let expected = self.model_publish(&id, &task, modelled);
        let given = self.subject.queue.publish(vec![task]).await.unwrap().remove(0);
        assert_eq!(given.as_str(), expected, "seed {}: the id that came back", self.seed);
    }

    /// What publishing does to the model; gives the id that is to come back.
    fn model_publish(&mut self, id: &str, task: &NewTask, modelled: Modelled) -> String {
        if self.model.tasks.contains_key(id) {
            return id.to_owned();
        }
        if let (Some(key), Some(unique)) = (modelled.unique, &task.unique) {
            if let Some(holder) = self.model.uniques.get(&key).cloned() {
                let other = self.model.tasks.get_mut(&holder).expect("a holder lives");
                if unique.conflict == plba_tasks::task::Conflict::Keep {
                    return holder;
                }
                if matches!(other.state, State::Waiting(_)) {
                    other.state = modelled.state;
                    other.priority = modelled.priority;
                    other.expires = modelled.expires;
                    return holder;
                }
            }
            self.model.uniques.insert(key, id.to_owned());
        }
        self.model.insert(id, modelled);
        id.to_owned()
    }

    async fn consume(&mut self) {
        let max = self.random.usize(1..4);
        let now = self.now();
        let innocent = |id: &&String| self.model.is_ready(id, now) && !self.model.tasks[*id].is_suspect();
        let expected = !self.model.is_shut() && self.model.tasks.keys().any(|id| innocent(&id));
        // On servers an answer takes a moment.
        let wait = Duration::from_millis(if self.subject.advance.is_some() { 150 } else { 1 });
        let taken = timeout(wait, self.subject.queue.consume(&self.name, &self.consumer, max)).await;
        let Ok(taken) = taken else {
            assert!(!expected, "seed {}: nothing came though {:?}", self.seed, self.model);
            return;
        };
        let taken = taken.unwrap();
        let died = self.learn_of_expiry().await;
        self.take_over(taken, max, now, died);
    }

    /// What has been handed out was to be handed out. What died on the way may have made way for something of a higher
    /// priority when it was too late for that.
    fn take_over(&mut self, taken: Vec<Delivery>, max: usize, now: Duration, died: bool) {
        let seed = self.seed;
        assert!(taken.len() <= max, "seed {seed}");
        let suspects = taken
            .iter()
            .filter(|delivery| self.model.tasks[delivery.task.id.as_str()].is_suspect())
            .count();
        assert!(
            suspects == 0 || taken.len() == 1,
            "seed {seed}: a suspect came in company"
        );
        let deadline = now + self.subject.queue.lease();
        for delivery in taken {
            let id = delivery.task.id.to_string();
            assert!(
                !self.model.is_shut() && self.model.is_ready(&id, now),
                "seed {seed}: {id} was handed out, though {:?}",
                self.model
            );
            let task = self.model.tasks[&id].clone();
            let first = |other: &String| {
                let candidate = &self.model.tasks[other];
                !candidate.is_suspect() && candidate.priority < task.priority && self.model.is_ready(other, now)
            };
            let overtaken = self.model.tasks.keys().find(|other| first(other));
            assert!(
                died || task.is_suspect() || overtaken.is_none(),
                "seed {seed}: {id} came before {overtaken:?}"
            );
            let task = self.model.tasks.get_mut(&id).expect("a task that was published");
            task.state = State::Leased(deadline);
            task.deliveries += 1;
            assert_eq!(delivery.deliveries, task.deliveries, "seed {seed}: deliveries of {id}");
            assert_eq!(delivery.attempt, task.attempts + 1, "seed {seed}: attempts of {id}");
            self.held.push(delivery);
        }
    }

    async fn end(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let delivery = self.held.swap_remove(self.random.usize(0..self.held.len()));
        let id = delivery.task.id.to_string();
        let (delay, now) = (self.quarters(3), self.now());
        let reason = "the model says so".to_owned();
        let how = match self.random.u8(0..4) {
            0 => {
                self.model.remove(&id);
                self.next += 1;
                let follow_up = format!("t{}", self.next);
                let (task, modelled) = self.any_task(&follow_up);
                self.model_publish(&follow_up, &task, modelled);
                How::ack(vec![task])
            }
            1 => How::Nack { delay, reason },
            2 => How::Bury { reason },
            _ => How::Release { delay },
        };
        match &how {
            How::Ack { .. } => {}
            How::Bury { .. } => self.model.die(&id),
            How::Nack { .. } | How::Release { .. } => {
                let task = self.model.tasks.get_mut(&id).expect("a task in hand");
                task.state = State::Waiting(now + delay);
                task.attempts += u32::from(matches!(how, How::Nack { .. }));
            }
        }
        let token = delivery.token.clone();
        self.stale.push(delivery);
        if self.random.bool() {
            let ended = self.subject.queue.end_one(token, how).await;
            assert!(ended.is_ok(), "seed {}: {id}: {ended:?}", self.seed);
            return;
        }
        let max = self.random.usize(0..3);
        let queue = self.subject.queue.clone();
        let exchange = queue
            .exchange(vec![Ending { token, how }], &self.name, &self.consumer, max)
            .await;
        let ended = exchange.ended.unwrap().pop();
        assert!(matches!(ended, Some(Ok(()))), "seed {}: {id}: {ended:?}", self.seed);
        let now = self.now();
        let died = self.learn_of_expiry().await;
        self.take_over(exchange.taken.unwrap(), max, now, died);
    }

    async fn end_stale(&mut self) {
        let Some(delivery) = self.stale.last() else { return };
        let how = How::ack(vec![NewTask::new(&self.name, "model", "").with_id("never")]);
        let ended = self.subject.queue.end_one(delivery.token.clone(), how).await;
        assert!(
            matches!(ended, Err(EndError::LeaseLost)),
            "seed {}: {ended:?}",
            self.seed
        );
    }

    async fn extend(&mut self) {
        let tokens: Vec<_> = self.held.iter().map(|delivery| delivery.token.clone()).collect();
        let results = self.subject.queue.extend(&tokens).await.unwrap();
        assert!(results.iter().all(Result::is_ok), "seed {}: {results:?}", self.seed);
        let deadline = self.now() + self.subject.queue.lease();
        for delivery in &self.held {
            if let Some(task) = self.model.tasks.get_mut(delivery.task.id.as_str()) {
                task.state = State::Leased(deadline);
            }
        }
    }

    async fn pause(&mut self) {
        self.model.paused = !self.model.paused;
        if self.model.paused {
            self.subject.queue.pause(&self.name, None).await.unwrap();
        } else {
            self.subject.queue.resume(&self.name).await.unwrap();
        }
    }

    async fn dead(&mut self) {
        let dead: Vec<_> = self
            .model
            .tasks
            .iter()
            .filter(|(_, task)| task.state == State::Dead)
            .map(|(id, _)| id.clone())
            .collect();
        if dead.is_empty() {
            return;
        }
        let id = &dead[self.random.usize(0..dead.len())];
        let ids = [TaskId::from(id.as_str())];
        let changed = if self.random.bool() {
            self.model.remove(id);
            self.subject.queue.drop_dead(&self.name, &ids).await.unwrap()
        } else {
            self.model.retry(id, self.now());
            self.subject.queue.retry_dead(&self.name, &ids).await.unwrap()
        };
        assert_eq!(changed, 1, "seed {}: {id}", self.seed);
    }

    async fn compare(&mut self) {
        self.subject.queue.recover(None, 1_000).await.unwrap();
        self.learn_of_expiry().await;
        let stats = self.subject.queue.stats().await.unwrap();
        let stats = stats
            .into_iter()
            .find(|stats| stats.queue == self.name.as_str())
            .unwrap_or_default();
        assert_eq!(
            (stats.ready, stats.delayed, stats.held, stats.leased, stats.dead),
            self.model.counts(self.now()),
            "seed {}: (ready, delayed, held, leased, dead) of the queue, and of the model {:?}",
            self.seed,
            self.model
        );
        assert_eq!(stats.paused, self.model.paused, "seed {}", self.seed);
    }

    /// A task that is overdue dies when the queue comes to it, at the latest when a consumer would have got it.
    /// Says whether something has died.
    async fn learn_of_expiry(&mut self) -> bool {
        let now = self.now();
        let overdue = |(id, task): (&String, &Modelled)| task.is_overdue(now).then(|| id.clone());
        let overdue: Vec<String> = self.model.tasks.iter().filter_map(overdue).collect();
        if overdue.is_empty() {
            return false;
        }
        let filter = DeadFilter::of_queue(&self.name);
        let page = self.subject.queue.dead_letters(&filter, None, 1_000).await.unwrap();
        let is_dead = |id: &String| page.letters.iter().any(|letter| letter.id.as_str() == id);
        let died: Vec<String> = overdue.into_iter().filter(is_dead).collect();
        for id in &died {
            self.model.die(id);
        }
        !died.is_empty()
    }
}
