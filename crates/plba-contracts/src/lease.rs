//! Leases: how one process of many gets the right to act, for a while, and how what it does is told from what an earlier
//! holder still does. Stores of leases are adapters; the worker that runs only while it holds one is the runtime's.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::BoxError;

/// The longest name of a lease or a holder, in bytes.
pub const MAXIMUM_NAME: usize = 200;
/// The shortest time to live: below it, renewals would be the main work.
pub const MINIMUM_TTL: Duration = Duration::from_millis(100);
/// The longest time to live: a killed holder blocks the others for as long.
pub const MAXIMUM_TTL: Duration = Duration::from_secs(24 * 3600);

/// A store of leases, each known by a name. At most one grant of a name is in force at any time of the store.
///
/// **Time** is the store's alone. A grant is in force from the moment at which the store gives it until its time to live
/// has passed there; no clock of a holder is ever compared with it. The holder counts the same span on its own monotonic
/// clock, *from before it asked*, and stops acting by its end; so its idea of the deadline comes before the store's, unless
/// its clock runs slower or stands still (a suspended machine) or the store's is set forward. For those cases there is the
/// token.
///
/// **The fencing token** of a grant is greater than that of every earlier grant of this name, also after releases and
/// restarts of the store. What a holder writes carries its token, and what receives the write refuses a token that is
/// not the newest. So a holder that was paused in mid-write can't undo what its successor did.
///
/// Calls come from any task, any number at once, and leave no trace on an error that says so.
///
/// ```
/// use std::time::Duration;
/// use plba_contracts::lease::{Lease, LeaseError};
///
/// /// Acts once, if nobody else does.
/// async fn act_alone(leases: &dyn Lease) -> Result<bool, LeaseError> {
///     let Some(grant) = leases.acquire("monthly-invoices", "host-a/4711", Duration::from_secs(30)).await? else {
///         return Ok(false);
///     };
///     // Work for less than 30 s, every write fenced by `grant.token`; longer work renews.
///     leases.release("monthly-invoices", grant.token).await?;
///     Ok(true)
/// }
/// ```
#[async_trait]
pub trait Lease: Send + Sync + 'static {
    /// Takes the lease for `ttl` if it is free: never taken, released, or past its deadline.
    ///
    /// `holder` names the taker for people, such as `host/pid`; what identifies a holder is its token alone, so a holder of
    /// the same name waits like any other. `None`: somebody holds it.
    ///
    /// # Errors
    /// [`LeaseError::Invalid`] for arguments beyond the limits; [`LeaseError::Unavailable`]: nobody knows whether it was
    /// taken, and if it was, it ends by itself after `ttl`.
    ///
    /// # Cancel safety
    /// A dropped call may have taken the lease, which then ends by itself after `ttl`.
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Grant>, LeaseError>;

    /// Extends the grant with this token, if it is still in force, to `ttl` from now; the token stays.
    ///
    /// `None`: it is not in force any more, and never will be again. Whoever held it stops acting at once.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); the grant is in force until its old deadline at least.
    ///
    /// # Cancel safety
    /// A dropped call may have extended the grant; nothing else changes.
    async fn renew(&self, name: &str, token: FencingToken, ttl: Duration) -> Result<Option<Grant>, LeaseError>;

    /// Ends the grant with this token, so that the next one to ask gets the lease. Legal at any time and any number of times;
    /// a token that is not in force any more changes nothing.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`]: if it was not released, it ends by itself at its deadline.
    ///
    /// # Cancel safety
    /// A dropped call has released the lease or not.
    async fn release(&self, name: &str, token: FencingToken) -> Result<(), LeaseError>;

    /// Who holds the lease now, for people; `None` if nobody does.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`].
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    async fn holding(&self, name: &str) -> Result<Option<Holding>, LeaseError>;
}

/// Tells grants of one lease apart by age: the greater is the newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct FencingToken(pub u64);

impl std::fmt::Display for FencingToken {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(out)
    }
}

/// The right to act, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What every write of the holder carries.
    pub token: FencingToken,
    /// When it ends, in the store's time: to be shown, not to be compared with another clock.
    pub deadline: Timestamp,
}

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Holding {
    /// The holder's name.
    pub holder: String,
    /// Its token.
    pub token: FencingToken,
    /// When it took the lease, in the store's time.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// When its grant ends unless it is renewed, in the store's time.
    #[schemars(with = "String")]
    pub deadline: Timestamp,
}

/// What a worker that runs under a lease fences its writes with. It belongs to one grant: an instance that outlives its
/// grant keeps the old token, and its writes are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The lease.
    pub name: String,
    /// The token of the grant under which the instance runs.
    pub token: FencingToken,
}

/// Why a store of leases did not answer.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// An argument is beyond its limits; asking again does not help.
    #[error("lease {name:?}: {problem}")]
    Invalid {
        /// Which lease.
        name: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// The store failed or could not be reached; asking again may help.
    #[error("lease {name:?}: the store does not answer: {source}")]
    Unavailable {
        /// Which lease.
        name: String,
        /// Why.
        source: BoxError,
    },
}

/// Checks what a store is asked for against the limits; every store calls this first.
///
/// # Errors
/// [`LeaseError::Invalid`], with what is allowed.
pub fn check_request(name: &str, holder: &str, ttl: Duration) -> Result<(), LeaseError> {
    let problem = if name.is_empty() || name.len() > MAXIMUM_NAME {
        format!("a name has 1 to {MAXIMUM_NAME} bytes, not {}", name.len())
    } else if holder.is_empty() || holder.len() > MAXIMUM_NAME {
        format!("a holder's name has 1 to {MAXIMUM_NAME} bytes, not {}", holder.len())
    } else if !(MINIMUM_TTL..=MAXIMUM_TTL).contains(&ttl) {
        format!("a time to live lies between {MINIMUM_TTL:?} and {MAXIMUM_TTL:?}, not at {ttl:?}")
    } else {
        return Ok(());
    };
    Err(LeaseError::Invalid {
        name: name.chars().take(MAXIMUM_NAME).collect(),
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_beyond_the_limits_say_what_is_allowed() {
        let second = Duration::from_secs(1);
        assert!(check_request("a", "b", second).is_ok());
        for (name, holder, ttl, says) in [
            ("", "b", second, "1 to 200 bytes, not 0"),
            (&*"n".repeat(201), "b", second, "not 201"),
            ("a", "", second, "a holder's name"),
            ("a", "b", Duration::ZERO, "between 100ms and 86400s"),
            ("a", "b", Duration::MAX, "between 100ms and 86400s"),
        ] {
            let refused = check_request(name, holder, ttl).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
        }
    }
}
