//! Failpoints: the numbered places between receive, handle, ack, nack, extend, recover and publish at which a process can
//! be hit, and what can hit it there. They wrap a queue and a handler from outside, so that production code has none.
//!
//! [`Failpoint::all`] is the whole list, which a machine can count.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use plba_tasks::handler::{HandlerError, Outcome, TaskContext, TaskHandler};
use plba_tasks::queue::{
    ConsumerId, Cursor, Delivery, DeliveryToken, EndError, Ending, Exchange, How, PublishError, QueueError, Recovery,
    TaskQueue,
};
use plba_tasks::task::{NewTask, QueueName, Task, TaskId};

use crate::decorator::{Decorated, QueueDecorator};
use crate::torture::die;

/// How long a call has been under way when it is hit in its midst.
const MIDST: Duration = Duration::from_micros(300);

/// What a process is about when it is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Publishing tasks.
    Publish,
    /// Waiting for tasks, and taking them.
    Consume,
    /// Ending deliveries and taking the next ones in one go.
    Exchange,
    /// Ending a delivery well.
    Ack,
    /// Ending one as a failed attempt.
    Nack,
    /// Ending one for good.
    Bury,
    /// Giving one back.
    Release,
    /// Renewing leases.
    Extend,
    /// Looking for leases that ran out.
    Recover,
    /// Carrying a task out.
    Handle,
}

/// When it is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing has been asked yet.
    Before,
    /// It has been asked and not been answered.
    During,
    /// It has been answered, and the caller does not know yet.
    After,
}

/// What hits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL for the own process.
    Kill,
    /// A panic in the caller's task.
    Panic,
    /// An error instead of an answer.
    Error,
    /// No answer, ever; in a handler, a thread that never comes back.
    Hang,
    /// The call's future is dropped; in a handler, by the worker's time-out.
    Drop,
}

/// A place at which a process can be hit, and what hits it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failpoint {
    /// What the process is about.
    pub step: Step,
    /// When.
    pub moment: Moment,
    /// What hits it.
    pub action: Action,
}

impl Failpoint {
    /// Every failpoint there is: each step at each moment with each action that means something there.
    pub fn all() -> Vec<Self> {
        const STEPS: [Step; 10] = [
            Step::Publish,
            Step::Consume,
            Step::Exchange,
            Step::Ack,
            Step::Nack,
            Step::Bury,
            Step::Release,
            Step::Extend,
            Step::Recover,
            Step::Handle,
        ];
        const MOMENTS: [Moment; 3] = [Moment::Before, Moment::During, Moment::After];
        let each = |step| MOMENTS.into_iter().map(move |moment| (step, moment));
        let actions = |(step, moment): (Step, Moment)| {
            // What is under way has no error of its own: it is dropped, as a time-out or a select would.
            let fourth = if moment == Moment::During {
                Action::Drop
            } else {
                Action::Error
            };
            let actions = [Action::Kill, Action::Panic, Action::Hang, fourth];
            actions.into_iter().map(move |action| Self { step, moment, action })
        };
        STEPS.into_iter().flat_map(each).flat_map(actions).collect()
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|point| point.to_string() == name)
    }
}

/// Its name, such as `ack.during.kill`.
impl fmt::Display for Failpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{:?}.{:?}.{:?}", self.step, self.moment, self.action);
        out.write_str(&name.to_lowercase())
    }
}

/// A failpoint that is armed: it acts once, at its `turn`th time.
pub struct Armed {
    point: Failpoint,
    turns_left: AtomicU32,
    tell: Box<dyn Fn() + Send + Sync>,
}

impl Armed {
    /// Arms a failpoint for the `turn`th time (from 1) that it is reached; `tell` is called just before it acts.
    pub fn new(point: Failpoint, turn: u32, tell: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            point,
            turns_left: AtomicU32::new(turn.max(1)),
            tell: Box::new(tell),
        })
    }

    /// Whether one of these steps is to be hit now, this time.
    fn is_due(&self, steps: &[Step]) -> bool {
        steps.contains(&self.point.step)
            && self
                .turns_left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                == Ok(1)
    }

    /// Acts; comes back when the caller is to get an error.
    async fn act(&self) {
        (self.tell)();
        match self.point.action {
            Action::Kill => die(),
            Action::Panic => panic!("failpoint {}", self.point),
            Action::Hang => std::future::pending().await,
            Action::Error | Action::Drop => {}
        }
    }

    /// Runs a call that stands for some steps, unless they are hit.
    async fn run<T>(&self, steps: &[Step], call: impl Future<Output = T>, error: impl FnOnce() -> T) -> T {
        if !self.is_due(steps) {
            return call.await;
        }
        match self.point.moment {
            Moment::Before => drop(call),
            Moment::During => {
                let mut call = pin!(call);
                // An answer that is there already is not looked at.
                let _early = tokio::time::timeout(MIDST, &mut call).await;
                self.act().await;
                return error();
            }
            Moment::After => drop(call.await),
        }
        self.act().await;
        error()
    }
}

fn unreachable_now() -> QueueError {
    QueueError::new("a failpoint")
}

/// A queue with a failpoint.
pub struct FailingQueue {
    inner: Arc<dyn TaskQueue>,
    armed: Arc<Armed>,
}

impl FailingQueue {
    /// Wraps a queue.
    pub fn around(inner: Arc<dyn TaskQueue>, armed: Arc<Armed>) -> Arc<dyn TaskQueue> {
        Arc::new(Decorated(Self { inner, armed }))
    }
}

fn steps(of: Step, endings: &[Ending]) -> Vec<Step> {
    let step = |ending: &Ending| match ending.how {
        How::Ack { .. } => Step::Ack,
        How::Nack { .. } => Step::Nack,
        How::Bury { .. } => Step::Bury,
        How::Release { .. } => Step::Release,
    };
    std::iter::once(of).chain(endings.iter().map(step)).collect()
}

#[async_trait]
impl QueueDecorator for FailingQueue {
    fn inner(&self) -> &dyn TaskQueue {
        self.inner.as_ref()
    }

    async fn publish(&self, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError> {
        let source = || "a failpoint".into();
        let error = || Err(PublishError::Unknown { source: source() });
        self.armed.run(&[Step::Publish], self.inner.publish(tasks), error).await
    }

    async fn consume(&self, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let call = self.inner.consume(queue, consumer, max);
        self.armed.run(&[Step::Consume], call, || Err(unreachable_now())).await
    }

    async fn end(&self, endings: Vec<Ending>) -> Result<Vec<Result<(), EndError>>, QueueError> {
        // The first one belongs to no call of `end`.
        let steps = &steps(Step::Exchange, &endings)[1..];
        self.armed
            .run(steps, self.inner.end(endings), || Err(unreachable_now()))
            .await
    }

    async fn exchange(&self, endings: Vec<Ending>, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Exchange {
        let steps = steps(Step::Exchange, &endings);
        let call = self.inner.exchange(endings, queue, consumer, max);
        let error = || Exchange {
            ended: Err(unreachable_now()),
            taken: Err(unreachable_now()),
        };
        self.armed.run(&steps, call, error).await
    }

    async fn extend(&self, tokens: &[DeliveryToken]) -> Result<Vec<Result<(), EndError>>, QueueError> {
        let call = self.inner.extend(tokens);
        self.armed.run(&[Step::Extend], call, || Err(unreachable_now())).await
    }

    async fn recover(&self, cursor: Option<Cursor>, limit: usize) -> Result<Recovery, QueueError> {
        let call = self.inner.recover(cursor, limit);
        self.armed.run(&[Step::Recover], call, || Err(unreachable_now())).await
    }
}

/// A handler with a failpoint.
pub struct FailingHandler {
    inner: Arc<dyn TaskHandler>,
    armed: Arc<Armed>,
}

impl FailingHandler {
    /// Wraps a handler.
    pub fn new(inner: Arc<dyn TaskHandler>, armed: Arc<Armed>) -> Self {
        Self { inner, armed }
    }

    async fn hit(&self) {
        match self.armed.point.action {
            Action::Hang => {
                (self.armed.tell)();
                loop {
                    std::thread::park();
                }
            }
            // Dropped by the worker, when the time-out has passed.
            Action::Drop => {
                (self.armed.tell)();
                std::future::pending().await
            }
            _ => self.armed.act().await,
        }
    }
}

#[async_trait]
impl TaskHandler for FailingHandler {
    async fn handle(&self, task: &Task, context: &TaskContext) -> Result<Outcome, HandlerError> {
        if !self.armed.is_due(&[Step::Handle]) {
            return self.inner.handle(task, context).await;
        }
        let mut call = pin!(self.inner.handle(task, context));
        match self.armed.point.moment {
            Moment::Before => {}
            Moment::During => drop(tokio::time::timeout(MIDST, &mut call).await),
            Moment::After => drop(call.await),
        }
        self.hit().await;
        Ok(Outcome::retry("a failpoint"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_failpoint_has_a_name_of_its_own() {
        let all = Failpoint::all();
        let names: BTreeSet<String> = all.iter().map(Failpoint::to_string).collect();
        assert_eq!((all.len(), names.len()), (120, 120));
        assert!(names.contains("ack.during.kill"), "{names:?}");
        assert!(
            all.iter()
                .all(|point| Failpoint::named(&point.to_string()) == Some(*point))
        );
        assert_eq!(Failpoint::named("ack.during.error"), None);
    }

    #[test]
    fn an_armed_failpoint_acts_once_at_its_turn() {
        let point = Failpoint::named("ack.after.error").unwrap();
        let armed = Armed::new(point, 2, || ());
        let due: Vec<bool> = [Step::Ack, Step::Nack, Step::Ack, Step::Ack]
            .into_iter()
            .map(|step| armed.is_due(&[step]))
            .collect();
        assert_eq!(due, [false, false, true, false]);
    }

    #[test]
    fn before_asks_nothing_and_after_forgets_the_answer() {
        for (name, asked) in [("ack.before.error", 0), ("ack.during.drop", 1), ("ack.after.error", 1)] {
            let armed = Armed::new(Failpoint::named(name).unwrap(), 1, || ());
            let count = AtomicU32::new(0);
            let call = async {
                count.fetch_add(1, Ordering::Relaxed);
                "answer"
            };
            let answer = crate::runtime::real(armed.run(&[Step::Ack], call, || "error"));
            assert_eq!((answer, count.into_inner()), ("error", asked), "{name}");
        }
    }
}
