//! Random sequences of operations against a queue and a small model of it: after each step both must say the same. A failing
//! run names its seed.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use plba_tasks::queue::{ConsumerId, Delivery, EndError, How, Incarnation};
use plba_tasks::task::{NewTask, QueueName, TaskId};
use tokio::time::timeout;

use super::queue::QueueUnderTest;
use crate::runtime;

/// Where the model has a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Leased,
    Dead,
}

#[derive(Clone, Debug)]
struct Modelled {
    state: State,
    deliveries: u32,
    attempts: u32,
}

/// Runs `sequences` random sequences of `steps` steps under paused time, from `seed` on; one fresh queue for each.
///
/// # Panics
/// When queue and model disagree; the message names the seed of the sequence.
pub fn queue<Fut: Future<Output = QueueUnderTest>>(seed: u64, sequences: u64, steps: usize, make: impl Fn() -> Fut) {
    for seed in seed..seed + sequences {
        runtime::paused(async {
            let subject = make().await;
            Sequence::new(seed, subject).run(steps).await;
        });
    }
}

struct Sequence {
    seed: u64,
    random: fastrand::Rng,
    subject: QueueUnderTest,
    name: QueueName,
    consumer: ConsumerId,
    model: BTreeMap<String, Modelled>,
    held: Vec<Delivery>,
    stale: Vec<Delivery>,
    next: u32,
}

impl Sequence {
    fn new(seed: u64, subject: QueueUnderTest) -> Self {
        Self {
            seed,
            random: fastrand::Rng::with_seed(seed),
            subject,
            name: QueueName::from("model"),
            consumer: ConsumerId::new(Incarnation::of_this_process(seed), "model"),
            model: BTreeMap::new(),
            held: Vec::new(),
            stale: Vec::new(),
            next: 0,
        }
    }

    async fn run(mut self, steps: usize) {
        for _ in 0..steps {
            match self.random.u8(0..100) {
                0..25 => self.publish().await,
                25..50 => self.consume().await,
                50..80 => self.end().await,
                80..85 => self.end_stale().await,
                85..90 => self.let_leases_run_out().await,
                90..95 => self.extend().await,
                _ => self.dead().await,
            }
            self.compare().await;
        }
    }

    async fn publish(&mut self) {
        let repeat = self.random.bool() && !self.model.is_empty();
        let id = if repeat {
            let place = self.random.usize(0..self.model.len());
            self.model.keys().nth(place).cloned().unwrap_or_default()
        } else {
            self.next += 1;
            format!("t{}", self.next)
        };
        let living = self.model.values().filter(|task| task.state != State::Dead).count();
        if self.subject.capacity.is_some_and(|capacity| living >= capacity) {
            return;
        }
        let task = NewTask::new(&self.name, "model", "").with_id(id.as_str());
        self.subject.queue.publish(vec![task]).await.unwrap();
        self.model.entry(id).or_insert(Modelled {
            state: State::Ready,
            deliveries: 0,
            attempts: 0,
        });
    }

    async fn consume(&mut self) {
        let max = self.random.usize(1..4);
        let ready = self.model.values().any(|task| task.state == State::Ready);
        let wait = Duration::from_millis(1);
        let taken = timeout(wait, self.subject.queue.consume(&self.name, &self.consumer, max)).await;
        let Ok(taken) = taken else {
            // Suspects wait for each other, so that something ready need not come while one is in hand.
            assert!(
                !ready || !self.held.is_empty(),
                "seed {}: nothing came though {:?}",
                self.seed,
                self.model
            );
            return;
        };
        for delivery in taken.unwrap() {
            let task = self
                .model
                .get_mut(delivery.task.id.as_str())
                .expect("a task that was published");
            assert_eq!(
                task.state,
                State::Ready,
                "seed {}: {} was handed out",
                self.seed,
                delivery.task.id
            );
            task.state = State::Leased;
            task.deliveries += 1;
            assert_eq!(delivery.deliveries, task.deliveries, "seed {}", self.seed);
            assert_eq!(delivery.attempt, task.attempts + 1, "seed {}", self.seed);
            self.held.push(delivery);
        }
    }

    async fn end(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let delivery = self.held.swap_remove(self.random.usize(0..self.held.len()));
        let id = delivery.task.id.to_string();
        let (delay, reason) = (Duration::ZERO, "the model says so".to_owned());
        let kind = self.random.u8(0..4);
        let how = match kind {
            0 => {
                self.next += 1;
                let follow_up = format!("t{}", self.next);
                self.model.remove(&id);
                self.model.insert(
                    follow_up.clone(),
                    Modelled {
                        state: State::Ready,
                        deliveries: 0,
                        attempts: 0,
                    },
                );
                How::ack(vec![NewTask::new(&self.name, "model", "").with_id(follow_up)])
            }
            1 => How::Nack { delay, reason },
            2 => How::Bury { reason },
            _ => How::Release { delay },
        };
        if let Some(task) = self.model.get_mut(&id) {
            task.state = if kind == 2 { State::Dead } else { State::Ready };
            task.attempts += u32::from(kind == 1 || kind == 2);
        }
        let ended = self.subject.queue.end_one(delivery.token.clone(), how).await;
        assert!(ended.is_ok(), "seed {}: {id}: {ended:?}", self.seed);
        self.stale.push(delivery);
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

    async fn let_leases_run_out(&mut self) {
        tokio::time::sleep(self.subject.queue.lease() * 11 / 10).await;
        self.stale.append(&mut self.held);
        let dead = self
            .subject
            .queue
            .dead_letters(&plba_tasks::queue::DeadFilter::default(), None, 1_000)
            .await
            .unwrap();
        self.subject.queue.recover(None, 1_000).await.unwrap();
        let dead_now = self
            .subject
            .queue
            .dead_letters(&plba_tasks::queue::DeadFilter::default(), None, 1_000)
            .await
            .unwrap();
        assert!(dead_now.letters.len() >= dead.letters.len());
        for (id, task) in self.model.iter_mut().filter(|(_, task)| task.state == State::Leased) {
            let dead = dead_now.letters.iter().any(|letter| letter.id.as_str() == id);
            task.state = if dead { State::Dead } else { State::Ready };
            assert!(
                !dead || task.deliveries >= self.subject.maximum_crashes,
                "seed {}: {id} died early",
                self.seed
            );
        }
    }

    async fn extend(&mut self) {
        let tokens: Vec<_> = self.held.iter().map(|delivery| delivery.token.clone()).collect();
        let results = self.subject.queue.extend(&tokens).await.unwrap();
        assert!(results.iter().all(Result::is_ok), "seed {}: {results:?}", self.seed);
    }

    async fn dead(&mut self) {
        let dead = self
            .model
            .iter()
            .find(|(_, task)| task.state == State::Dead)
            .map(|(id, _)| id.clone());
        let Some(id) = dead else { return };
        let ids = [TaskId::from(id.as_str())];
        if self.random.bool() {
            assert_eq!(
                self.subject.queue.drop_dead(&ids).await.unwrap(),
                1,
                "seed {}",
                self.seed
            );
            self.model.remove(&id);
        } else {
            assert_eq!(
                self.subject.queue.retry_dead(&ids).await.unwrap(),
                1,
                "seed {}",
                self.seed
            );
            self.model.insert(
                id,
                Modelled {
                    state: State::Ready,
                    deliveries: 0,
                    attempts: 0,
                },
            );
        }
    }

    async fn compare(&self) {
        let stats = self.subject.queue.stats().await.unwrap();
        let stats = stats
            .into_iter()
            .find(|stats| stats.queue == self.name.as_str())
            .unwrap_or_default();
        let count = |state| self.model.values().filter(|task| task.state == state).count() as u64;
        assert_eq!(
            (stats.ready, stats.delayed, stats.leased, stats.dead),
            (count(State::Ready), 0, count(State::Leased), count(State::Dead)),
            "seed {}: (ready, delayed, leased, dead) of the queue, and of the model {:?}",
            self.seed,
            self.model
        );
    }
}
