//! What a handler wants done in the completion step itself, with the type of the transaction erased.

use std::any::Any;
use std::fmt;

use plba_contracts::BoxError;
use plba_contracts::services::BoxFuture;

use crate::task::NewTask;

type EffectFn =
    dyn for<'a> FnOnce(&'a mut (dyn Any + Send)) -> BoxFuture<'a, Result<Vec<NewTask>, BoxError>> + Send + 'static;

/// What is to happen in the completion step itself: it is run while the lease is known to be held and can't run out, and
/// the ack with all follow-ups takes effect only if it succeeds.
///
/// It gets the backend's transaction, erased: adapters that keep tasks in a database document its type. The queues in
/// memory and on Redis give `()`, for they have none that an application could write in: there, an effect whose process dies
/// before the ack is run again. What it returns are more follow-ups.
pub struct Effect(Box<EffectFn>);

impl Effect {
    /// Wraps an effect.
    pub fn new<F>(effect: F) -> Self
    where
        F: for<'a> FnOnce(&'a mut (dyn Any + Send)) -> BoxFuture<'a, Result<Vec<NewTask>, BoxError>> + Send + 'static,
    {
        Self(Box::new(effect))
    }

    /// Runs it in a transaction. Called by backends, once per delivery.
    ///
    /// # Errors
    /// What the effect fails with; the transaction is then to be rolled back.
    pub fn run<'a>(self, transaction: &'a mut (dyn Any + Send)) -> BoxFuture<'a, Result<Vec<NewTask>, BoxError>> {
        (self.0)(transaction)
    }
}

impl fmt::Debug for Effect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Effect")
    }
}
