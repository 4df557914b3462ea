//! The suite for queues and the model of them find what is wrong with queues: each fault breaks the cases that are named
//! after the promise it breaks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_tasks::memory::{InMemoryTaskQueue, MemorySettings};
use plba_tasks::queue::{
    ConsumerId, Cursor, DeadFilter, DeadPage, DeadTask, DeliveryToken, EndError, Ending, Exchange, How, PublishError,
    QueueError, QueueRules, TaskFilter, TaskPage, TaskQueue,
};
use plba_tasks::task::{Conflict, NewTask, Priority, QueueName, TaskId, UniqueScope};
use plba_testkit::clock::TokioClock;
use plba_testkit::conformance::queue::QueueUnderTest;
use plba_testkit::conformance::{Time, model, queue};
use plba_testkit::decorator::{Decorated, QueueDecorator};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Priorities,
    Expiry,
    Uniques,
    Periods,
    Replacing,
    Order,
    QueueRules,
    KeyRules,
    Retention,
    Pauses,
    PauseTimes,
    ExchangeMaximum,
    ExchangeEndings,
    TaskFilters,
    DeadFilters,
    DeadPayloads,
    FollowUps,
    Extending,
    Delays,
}

/// The queue in memory with one fault.
struct Faulty {
    memory: InMemoryTaskQueue,
    fault: Fault,
}

impl Faulty {
    fn spoil(&self, task: &mut NewTask) {
        match self.fault {
            Fault::Priorities => task.priority = Priority::Normal,
            Fault::Expiry => task.expires = None,
            Fault::Uniques => task.unique = None,
            Fault::Order => task.ordered = false,
            Fault::Delays => task.delay = Duration::ZERO,
            Fault::Periods => {
                if let Some(unique) = &mut task.unique {
                    unique.scope = UniqueScope::UntilDone;
                }
            }
            Fault::Replacing => {
                if let Some(unique) = &mut task.unique {
                    unique.conflict = Conflict::Keep;
                }
            }
            _ => {}
        }
    }

    fn spoil_endings(&self, mut endings: Vec<Ending>) -> Vec<Ending> {
        for Ending { how, .. } in &mut endings {
            if let How::Ack { then, .. } = how {
                then.iter_mut().for_each(|task| self.spoil(task));
                if self.fault == Fault::FollowUps {
                    then.clear();
                }
            }
        }
        endings
    }
}

#[async_trait]
impl QueueDecorator for Faulty {
    fn inner(&self) -> &dyn TaskQueue {
        &self.memory
    }

    async fn publish(&self, mut tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError> {
        tasks.iter_mut().for_each(|task| self.spoil(task));
        self.memory.publish(tasks).await
    }

    async fn end(&self, endings: Vec<Ending>) -> Result<Vec<Result<(), EndError>>, QueueError> {
        self.memory.end(self.spoil_endings(endings)).await
    }

    async fn exchange(&self, endings: Vec<Ending>, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Exchange {
        let mut endings = self.spoil_endings(endings);
        let max = match self.fault {
            Fault::ExchangeMaximum => max + 1,
            _ => max,
        };
        if self.fault == Fault::ExchangeEndings {
            endings.clear();
        }
        self.memory.exchange(endings, queue, consumer, max).await
    }

    async fn extend(&self, tokens: &[DeliveryToken]) -> Result<Vec<Result<(), EndError>>, QueueError> {
        if self.fault == Fault::Extending {
            return Ok(tokens.iter().map(|_| Ok(())).collect());
        }
        self.memory.extend(tokens).await
    }

    fn govern(&self, queue: &QueueName, mut rules: QueueRules) {
        match self.fault {
            Fault::QueueRules => (rules.concurrency, rules.rate) = (None, None),
            Fault::KeyRules => (rules.key_concurrency, rules.key_rate) = (None, None),
            Fault::Retention => {
                let QueueRules {
                    dead_limit, dead_age, ..
                } = QueueRules::default();
                (rules.dead_limit, rules.dead_age) = (dead_limit, dead_age);
            }
            _ => {}
        }
        self.memory.govern(queue, rules);
    }

    async fn pause(&self, queue: &QueueName, until: Option<Timestamp>) -> Result<(), QueueError> {
        match self.fault {
            Fault::Pauses => Ok(()),
            Fault::PauseTimes => self.memory.pause(queue, None).await,
            _ => self.memory.pause(queue, until).await,
        }
    }

    async fn tasks(&self, filter: &TaskFilter, cursor: Option<Cursor>, limit: usize) -> Result<TaskPage, QueueError> {
        let all = TaskFilter::default();
        let filter = if self.fault == Fault::TaskFilters { &all } else { filter };
        self.memory.tasks(filter, cursor, limit).await
    }

    async fn dead_letters(
        &self,
        filter: &DeadFilter,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<DeadPage, QueueError> {
        let all = DeadFilter::default();
        let filter = if self.fault == Fault::DeadFilters { &all } else { filter };
        self.memory.dead_letters(filter, cursor, limit).await
    }

    async fn dead_task(&self, queue: &QueueName, id: &TaskId) -> Result<Option<DeadTask>, QueueError> {
        let mut dead = self.memory.dead_task(queue, id).await?;
        if let Some(dead) = dead.as_mut().filter(|_| self.fault == Fault::DeadPayloads) {
            dead.payload.clear();
        }
        Ok(dead)
    }
}

async fn faulty(fault: Fault) -> QueueUnderTest {
    let settings = MemorySettings {
        capacity: 64,
        maximum_crashes: 3,
        seed: Some(1),
        ..MemorySettings::default()
    };
    let memory = InMemoryTaskQueue::new(settings, Arc::new(TokioClock::new())).unwrap();
    QueueUnderTest {
        queue: Arc::new(Decorated(Faulty { memory, fault })),
        capacity: Some(64),
        maximum_crashes: 3,
        advance: None,
        keep: Box::new(()),
    }
}

/// What a run reports, if anything.
fn report(run: impl FnOnce()) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else {
        return String::new();
    };
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn the_suite_names_the_promises_that_a_queue_breaks() {
    for (fault, case) in [
        (Fault::Priorities, "higher_priorities_come_first"),
        (Fault::Expiry, "an_expired_task_is_dead_and_not_handed_out"),
        (Fault::Uniques, "a_taken_key_gives_the_id_of_the_task_that_is_there"),
        (Fault::Periods, "a_key_for_a_period_outlives_its_task"),
        (Fault::Replacing, "a_task_that_waits_is_replaced_under_its_own_id"),
        (Fault::Order, "only_the_head_of_a_line_is_handed_out"),
        (Fault::QueueRules, "no_more_leases_than_allowed"),
        (Fault::KeyRules, "a_key_has_no_more_leases_than_allowed"),
        (Fault::Retention, "letters_that_are_too_old_go"),
        (Fault::Pauses, "a_paused_queue_hands_out_nothing"),
        (Fault::PauseTimes, "a_pause_ends_at_its_time"),
        (Fault::ExchangeMaximum, "an_exchange_for_none_takes_none"),
        (Fault::ExchangeEndings, "an_exchange_ends_and_takes"),
        (Fault::TaskFilters, "a_filter_looks_for_text"),
        (Fault::DeadFilters, "letters_are_found_by_their_kind"),
        (Fault::DeadPayloads, "a_letter_is_looked_at_whole"),
        (Fault::FollowUps, "follow_ups_may_be_taken_in_the_same_exchange"),
        (Fault::Extending, "an_extended_lease_holds_on"),
        (Fault::Delays, "a_delayed_head_keeps_its_followers_waiting"),
    ] {
        let report = report(|| queue::queue(Time::Paused, || faulty(fault)));
        assert!(report.contains(&format!("  {case}: ")), "{fault:?}: {report}");
    }
}

#[test]
fn the_model_finds_faults_and_names_the_seed() {
    for fault in [
        Fault::Priorities,
        Fault::Expiry,
        Fault::Uniques,
        Fault::Replacing,
        Fault::Order,
        Fault::QueueRules,
        Fault::Pauses,
        Fault::ExchangeMaximum,
        Fault::ExchangeEndings,
        Fault::FollowUps,
        Fault::Extending,
        Fault::Delays,
    ] {
        let report = report(|| model::queue(Time::Paused, 1, 50, 200, || faulty(fault)));
        assert!(report.contains("seed "), "{fault:?} is not found: {report}");
    }
}
