//! A queue that writes down what is asked of it and what it answers, each before the next step can be taken.

use std::sync::Arc;

use async_trait::async_trait;
use plba_tasks::queue::{
    ConsumerId, Delivery, DeliveryToken, EndError, Ending, Exchange, How, PublishError, QueueError, TaskQueue,
};
use plba_tasks::task::{NewTask, QueueName, TaskId};

use super::planted::Planted;
use super::record::{Answer, Event, Held, Recorder, Way};
use crate::decorator::QueueDecorator;

pub(super) struct WatchedQueue {
    pub(super) inner: Arc<dyn TaskQueue>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) planted: Option<Planted>,
}

type Ended = Result<Vec<Result<(), EndError>>, QueueError>;

impl WatchedQueue {
    fn took(&self, deliveries: &[Delivery]) {
        let took = |delivery: &Delivery| Event::Took(held(&delivery.token), delivery.deliveries);
        self.recorder
            .write_all(&deliveries.iter().map(took).collect::<Vec<_>>());
    }

    fn ending(&self, endings: &[Ending]) -> Vec<(Held, Way)> {
        let event = |ending: &Ending| {
            let then = match &ending.how {
                How::Ack { then, .. } => then.as_slice(),
                _ => &[],
            };
            let ids = then.iter().filter_map(|task| task.id.as_ref()).map(TaskId::to_string);
            Event::Ending(held(&ending.token), way(&ending.how), ids.collect())
        };
        self.recorder.write_all(&endings.iter().map(event).collect::<Vec<_>>());
        let pair = |ending: &Ending| (held(&ending.token), way(&ending.how));
        endings.iter().map(pair).collect()
    }

    fn ended(&self, asked: Vec<(Held, Way)>, answers: &Ended) {
        let event = |(index, (held, way)): (usize, (Held, Way))| {
            let answer = match answers {
                Err(_) => Answer::Unknown,
                Ok(answers) => answers.get(index).map_or(Answer::Unknown, answer),
            };
            Event::Ended(held, way, answer)
        };
        let events: Vec<Event> = asked.into_iter().enumerate().map(event).collect();
        self.recorder.write_all(&events);
    }
}

fn held(token: &DeliveryToken) -> Held {
    Held {
        id: token.task.to_string(),
        fence: token.fence,
    }
}

fn way(how: &How) -> Way {
    match how {
        How::Ack { .. } => Way::Ack,
        How::Nack { .. } => Way::Nack,
        How::Bury { .. } => Way::Bury,
        How::Release { .. } => Way::Release,
    }
}

fn answer(answer: &Result<(), EndError>) -> Answer {
    match answer {
        Ok(()) => Answer::Done,
        // The last two changed nothing either; the delivery is ended again.
        Err(EndError::LeaseLost) => Answer::Lost,
        Err(_) => Answer::Unknown,
    }
}

#[async_trait]
impl QueueDecorator for WatchedQueue {
    fn inner(&self) -> &dyn TaskQueue {
        self.inner.as_ref()
    }

    async fn publish(&self, tasks: Vec<NewTask>) -> Result<Vec<TaskId>, PublishError> {
        let ids = || tasks.iter().filter_map(|task| task.id.as_ref()).map(TaskId::to_string);
        let publishing: Vec<Event> = ids().map(Event::Publishing).collect();
        let published: Vec<Event> = ids().map(Event::Published).collect();
        self.recorder.write_all(&publishing);
        let answer = self.inner.publish(tasks).await;
        if answer.is_ok() {
            self.recorder.write_all(&published);
        }
        answer
    }

    async fn consume(&self, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Result<Vec<Delivery>, QueueError> {
        let taken = self.inner.consume(queue, consumer, max).await?;
        if let Some(planted) = self.planted {
            let tokens = taken.iter().map(|delivery| delivery.token.clone()).collect();
            planted.taken(&self.inner, tokens).await;
        }
        self.took(&taken);
        Ok(taken)
    }

    async fn end(&self, endings: Vec<Ending>) -> Ended {
        let asked = self.ending(&endings);
        let answers = match self.planted {
            Some(planted) => planted.end(&self.inner, endings).await,
            None => self.inner.end(endings).await,
        };
        self.ended(asked, &answers);
        answers
    }

    async fn exchange(&self, endings: Vec<Ending>, queue: &QueueName, consumer: &ConsumerId, max: usize) -> Exchange {
        if self.planted.is_some() {
            return Exchange {
                ended: self.end(endings).await,
                taken: Ok(Vec::new()),
            };
        }
        let asked = self.ending(&endings);
        let exchange = self.inner.exchange(endings, queue, consumer, max).await;
        self.ended(asked, &exchange.ended);
        if let Ok(taken) = &exchange.taken {
            self.took(taken);
        }
        exchange
    }

    async fn extend(&self, tokens: &[DeliveryToken]) -> Ended {
        let asked: Vec<Held> = tokens.iter().map(held).collect();
        let extending: Vec<Event> = asked.iter().cloned().map(Event::Extending).collect();
        self.recorder.write_all(&extending);
        let answers = self.inner.extend(tokens).await;
        let event = |(index, held): (usize, Held)| {
            let answer = answers.as_ref().ok().and_then(|answers| answers.get(index));
            Event::Extended(held, answer.map_or(Answer::Unknown, self::answer))
        };
        let extended: Vec<Event> = asked.into_iter().enumerate().map(event).collect();
        self.recorder.write_all(&extended);
        answers
    }
}
