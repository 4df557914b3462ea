//! Faults that are planted to see the torture find them: what a careless backend would do.

use std::sync::Arc;
use std::time::Duration;

use plba_tasks::queue::{DeliveryToken, EndError, Ending, How, QueueError, TaskQueue};

use super::workload;

/// A fault of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A task is acked when it is handed out, before its handler runs.
    AcksFirst,
    /// A failed attempt is two steps: the task is removed, and then published again.
    NacksInTwoSteps,
}

impl Planted {
    pub(super) const ALL: [(Self, &'static str); 2] = [
        (Self::AcksFirst, "acks first"),
        (Self::NacksInTwoSteps, "nacks in two steps"),
    ];

    pub(super) fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(planted, _)| *planted == self);
        named.map_or("", |(_, name)| name)
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(planted, _)| *planted)
    }

    /// What is done with deliveries before anybody sees them.
    pub(super) async fn taken(self, queue: &Arc<dyn TaskQueue>, tokens: Vec<DeliveryToken>) {
        if self == Self::AcksFirst {
            let how = || How::ack(Vec::new());
            let acks = tokens.into_iter().map(|token| Ending { token, how: how() });
            // Whatever becomes of it.
            drop(queue.end(acks.collect()).await);
        }
    }

    /// How deliveries are ended.
    pub(super) async fn end(
        self,
        queue: &Arc<dyn TaskQueue>,
        endings: Vec<Ending>,
    ) -> Result<Vec<Result<(), EndError>>, QueueError> {
        if self == Self::AcksFirst {
            return Ok(endings.iter().map(|_| Ok(())).collect());
        }
        let mut answers = Vec::new();
        for ending in endings {
            let Ending { token, how } = ending;
            let id = token.task.to_string();
            if let How::Nack { .. } = how {
                answers.push(queue.end_one(token, How::ack(Vec::new())).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
                drop(queue.publish(vec![workload::task(&id)]).await);
            } else {
                answers.push(queue.end_one(token, how).await);
            }
        }
        Ok(answers)
    }
}
