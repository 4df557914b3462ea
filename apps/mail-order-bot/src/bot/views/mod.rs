//! What the bot contributes to the control plane and the command line, one file per group.
//!
//! | name | file |
//! |---|---|
//! | `orders`, `orders.show`, `orders.close`, `orders.reprocess` | `orders` |
//! | `review`, `review.show`, `review.accept`, `review.reject` | `review` |
//! | `mails`, `mails.show` | `mails` |
//! | `replay` | `replay` |
//! | `outbox`, `outbox.show`, `templates.check`, `templates.preview`, `templates.show` | `letters` |
//! | `export` | [`export`](super::export) |
//!
//! The views of mail sources are plba's.

mod letters;
mod listing;
mod mails;
mod orders;
mod replay;
mod review;
mod source_mail;

use std::sync::Arc;

use plba::clock::Clock;
use plba::control::ControlError;
use plba::prelude::*;
use plba::tasks::queue::TaskQueue;

use super::relay::{self, Bell};
use super::services::{OnePlace, OrderPlace};
use crate::OrderDesk;
use crate::desk::{DecideError, Done};
use crate::store::OrderReads;

/// The views.
pub fn endpoints() -> Vec<Endpoint> {
    let mut all = vec![super::export::endpoint(), replay::endpoint()];
    all.extend(orders::endpoints());
    all.extend(review::endpoints());
    all.extend(mails::endpoints());
    all.extend(letters::endpoints());
    all
}

fn failed(error: impl Into<BoxError>) -> ControlError {
    ControlError::Failed(error.into())
}

fn decided(error: DecideError) -> ControlError {
    match error {
        DecideError::Refused(text) => ControlError::Invalid(text),
        other => failed(other),
    }
}

/// Reads the store on a blocking thread; `none` while nothing was ever stored.
async fn reading<T: Send + 'static>(
    services: &Services,
    none: T,
    read: impl FnOnce(OrderReads) -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ControlError> {
    let place = services.get::<OrderPlace>().await.map_err(failed)?;
    let reading = move || match place.reads().map_err(ControlError::Failed)? {
        Some(reads) => read(reads),
        None => Ok(none),
    };
    tokio::task::spawn_blocking(reading).await.map_err(failed)?
}

/// Works at the desk on a blocking thread, at this moment.
async fn at_the_desk<T: Send + 'static>(
    services: &Services,
    work: impl FnOnce(&OrderDesk, jiff::Timestamp) -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ControlError> {
    let desk = services.get::<OrderDesk>().await.map_err(failed)?;
    let now = services.get::<dyn Clock>().await.map_err(failed)?.now();
    let working = move || work(&desk, now);
    tokio::task::spawn_blocking(working).await.map_err(failed)?
}

/// Sees to it that what was put into the outbox is sent soon. If this fails, it is sent later.
async fn announce(services: &Services, done: &[Done]) -> Result<(), ControlError> {
    let queued = done.iter().flat_map(|done| &done.queued);
    let place = services.get::<OnePlace>().await.map_err(failed)?;
    if *place == OnePlace::Apart {
        let bell: Arc<Bell> = services.get().await.map_err(failed)?;
        bell.ring();
        return Ok(());
    }
    let tasks: Vec<_> = queued.map(|queued| relay::task_of(queued, None)).collect();
    if tasks.is_empty() {
        return Ok(());
    }
    let queue = services.get::<dyn TaskQueue>().await.map_err(failed)?;
    if let Err(error) = queue.publish(tasks).await {
        warn!(%error, "what was decided is sent when the bot starts again");
    }
    Ok(())
}
