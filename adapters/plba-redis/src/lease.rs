//! Leases on Redis, for processes on any number of machines. The store's time is the server's.
//!
//! Redis replicates after it has answered: after a failover a lease may be given a second time, and its token may have been
//! seen before only if the new primary's clock lags; tokens grow with the time, so the fence refuses the older holder. Data
//! that must not be written by two go to the same Redis by [`RedisLease::write_fenced`], or to a database with a fence of
//! its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::lease::{Fence, FencingToken, Grant, Holding, Lease, LeaseError, check_request};

use crate::check::check;
use crate::failure::Failure;
use crate::link::{Arguments, Link, OpenError, Shared};
use crate::reply::{Parts, integer};
use crate::script::Script;
use crate::settings::RedisSettings;

/// Why a fenced write was not done.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The lease has been given to somebody else since, or was released: act no more under this token.
    #[error("lease \"{name}\": token {token} is not in force any more (the newest is {newest}); the write is refused")]
    Stale {
        /// Which lease.
        name: String,
        /// The writer's token.
        token: FencingToken,
        /// The newest token that was given.
        newest: FencingToken,
    },
    /// Nobody ever took this lease here: leases and data must share one Redis and one prefix.
    #[error("lease \"{name}\" is not kept here; open the leases where the data is")]
    Unknown {
        /// Which lease.
        name: String,
    },
    /// A command of the write failed. Those before it have been done: Redis takes nothing back.
    #[error("a fenced write under lease \"{name}\" failed, what came before it in the same call is done: {problem}")]
    Failed {
        /// Which lease.
        name: String,
        /// What Redis said.
        problem: String,
    },
    /// No answer: whether it was written is unknown.
    #[error("the fence of lease \"{name}\" does not answer: {problem}")]
    Unavailable {
        /// Which lease.
        name: String,
        /// Why.
        problem: String,
    },
}

/// A store of leases on Redis. Clones are the same store.
#[derive(Clone)]
pub struct RedisLease {
    link: Arc<Link>,
}

impl RedisLease {
    /// Opens the store, and checks the server as for a queue.
    ///
    /// # Errors
    /// As [`RedisTaskQueue::open`](crate::RedisTaskQueue::open).
    pub async fn open(settings: RedisSettings) -> Result<Self, OpenError> {
        Self::open_with(Shared::new(settings, None)?).await
    }

    /// Opens a store whose time is the clock's instead of the server's: for tests.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with_clock(settings: RedisSettings, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Self::open_with(Shared::new(settings, Some(clock))?).await
    }

    async fn open_with(shared: Arc<Shared>) -> Result<Self, OpenError> {
        let link = Arc::new(Link::new(&shared));
        check(&link).await?;
        Ok(Self { link })
    }

    /// Carries out commands, in one step with nothing in between, if the fence's token is the newest of its lease. A command
    /// is its name and arguments; in a cluster its keys begin with the prefix in braces, such as `{plba}:invoices`.
    ///
    /// No clock is asked: a holder whose grant has run out may still write while nobody has taken over, because it disturbs
    /// nobody.
    ///
    /// # Errors
    /// [`FenceError`].
    ///
    /// # Cancel safety
    /// The commands of a dropped call have all been carried out, or none.
    pub async fn write_fenced(&self, fence: &Fence, commands: &[Vec<Vec<u8>>]) -> Result<(), FenceError> {
        let name = || fence.name.clone();
        let failed = |problem: &str| FenceError::Failed {
            name: fence.name.clone(),
            problem: problem.to_owned(),
        };
        if commands
            .iter()
            .any(|command| command.is_empty() || command.len() > 7_000)
        {
            return Err(failed("a command has 1 to 7,000 parts"));
        }
        let mut arguments = self.arguments("write");
        arguments.number(fence.token);
        for command in commands {
            arguments.number(command.len());
            for part in command {
                arguments.push(part);
            }
        }
        let unavailable = |failure: Failure| FenceError::Unavailable {
            name: fence.name.clone(),
            problem: failure.sentence,
        };
        let mut parts = self.call(&fence.name, &arguments).await.map_err(unavailable)?;
        match parts.text().map_err(unavailable)?.as_str() {
            "done" => Ok(()),
            "unknown" => Err(FenceError::Unknown { name: name() }),
            "stale" => Err(FenceError::Stale {
                name: name(),
                token: fence.token,
                newest: FencingToken(parts.integer().unwrap_or(0).unsigned_abs()),
            }),
            _ => Err(failed(&parts.text().unwrap_or_default())),
        }
    }

    fn arguments(&self, verb: &str) -> Arguments {
        let mut arguments = Arguments::default();
        arguments.push(self.link.shared.time_argument()).push(verb);
        arguments
    }

    async fn call(&self, name: &str, arguments: &Arguments) -> Result<Parts, Failure> {
        let key = self.link.shared.keys.lease(name);
        let answer = self.link.call(Script::Lease, &[key], arguments).await?;
        Parts::new("lease", answer)
    }

    async fn ask(&self, name: &str, arguments: Arguments) -> Result<Parts, LeaseError> {
        self.call(name, &arguments)
            .await
            .map_err(|failure| LeaseError::Unavailable {
                name: name.to_owned(),
                source: failure.into(),
            })
    }
}

fn grant(parts: &mut Parts) -> Option<Grant> {
    let token = parts.integer().ok()?;
    let deadline = parts.integer().ok()?;
    Some(Grant {
        token: FencingToken(token.unsigned_abs()),
        deadline: Timestamp::from_millisecond(deadline).ok()?,
    })
}

#[async_trait]
impl Lease for RedisLease {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Grant>, LeaseError> {
        check_request(name, holder, ttl)?;
        let mut arguments = self.arguments("acquire");
        arguments.push(holder).number(ttl.as_millis());
        Ok(grant(&mut self.ask(name, arguments).await?))
    }

    async fn renew(&self, name: &str, token: FencingToken, ttl: Duration) -> Result<Option<Grant>, LeaseError> {
        check_request(name, "holder", ttl)?;
        let mut arguments = self.arguments("renew");
        arguments.number(token).number(ttl.as_millis());
        Ok(grant(&mut self.ask(name, arguments).await?))
    }

    async fn release(&self, name: &str, token: FencingToken) -> Result<(), LeaseError> {
        let mut arguments = self.arguments("release");
        arguments.number(token);
        self.ask(name, arguments).await.map(|_| ())
    }

    async fn holding(&self, name: &str) -> Result<Option<Holding>, LeaseError> {
        let mut parts = self.ask(name, self.arguments("holding")).await?;
        let mut read = || {
            let holder = parts.text().ok()?;
            let mut number = || parts.value().ok().as_ref().and_then(integer);
            Some(Holding {
                holder,
                token: FencingToken(number()?.unsigned_abs()),
                since: Timestamp::from_millisecond(number()?).ok()?,
                deadline: Timestamp::from_millisecond(number()?).ok()?,
            })
        };
        Ok(read())
    }
}
