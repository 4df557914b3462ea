//! Extending leases, on a connection that does nothing else.

use std::collections::HashSet;
use std::sync::Arc;

use plba_tasks::queue::{DeliveryToken, EndError, QueueError};
use tokio_postgres::types::Type;

use super::super::fault::Fault;
use super::Inner;
use super::end::Outcome;
use super::record::microseconds;
use super::token::Held;

pub(super) async fn extend(inner: &Arc<Inner>, tokens: &[DeliveryToken]) -> Result<Vec<Outcome>, QueueError> {
    let mut queues: Vec<i32> = Vec::with_capacity(1);
    let (mut places, mut fences) = (Vec::with_capacity(tokens.len()), Vec::with_capacity(tokens.len()));
    for token in tokens {
        let number = inner.room(&token.queue).await?.number;
        if !queues.contains(&number) {
            queues.push(number);
        }
        let held = Held::read(token);
        places.push(held.place);
        fences.push(held.fence);
    }
    if places.is_empty() {
        return Ok(Vec::new());
    }
    places.sort_unstable();
    let (now, lease) = (inner.now(), microseconds(inner.settings.lease));
    let values = [
        (&now as _, Type::INT8),
        (&queues as _, Type::INT4_ARRAY),
        (&places as _, Type::INT8_ARRAY),
        (&fences as _, Type::INT8_ARRAY),
        (&lease as _, Type::INT8),
    ];
    let rows = inner.leases.query(&inner.texts.extend, &values).await?;
    let held: Vec<i64> = match rows.first() {
        Some(row) => row.try_get(0).map_err(Fault::from)?,
        None => Vec::new(),
    };
    let held: HashSet<i64> = held.into_iter().collect();
    let outcome = |token: &DeliveryToken| {
        let holds = held.contains(&token.fence.cast_signed());
        holds.then_some(()).ok_or(EndError::LeaseLost)
    };
    Ok(tokens.iter().map(outcome).collect())
}
