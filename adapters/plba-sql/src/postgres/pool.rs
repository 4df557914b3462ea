//! A pool of connections with one purpose each, so that one purpose can't starve another: opened when needed, given back
//! by whoever is done, and after a fault tried again with a growing pause.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plba_net::{Backoff, BackoffSettings};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use super::fault::{Fault, Kind};
use super::link::{Link, Target};

/// How often a statement that met a conflict is tried.
const TRIES: u32 = 6;

/// A value of a statement and its type: told with it, so that a statement needs one round trip.
pub(crate) type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// Connections for one purpose. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    target: Arc<Target>,
    /// What it is for, and the setting that makes it larger.
    purpose: &'static str,
    size: usize,
    permits: Arc<Semaphore>,
    idle: Mutex<VecDeque<Link>>,
    opening: tokio::sync::Mutex<Opening>,
}

/// Who opens connections: one at a time, with pauses after failures.
struct Opening {
    backoff: Backoff,
    not_before: Instant,
    latest: Option<Fault>,
}

/// A connection on loan; back it goes when dropped, unless it broke.
pub(crate) struct Loan {
    link: Option<Link>,
    pool: Arc<Inner>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(target: Arc<Target>, purpose: &'static str, size: usize) -> Self {
        let settings = BackoffSettings {
            first: Duration::from_millis(50),
            ceiling: Duration::from_secs(3),
            jitter: 0.5,
            stable_after: Duration::from_secs(1),
        };
        let opening = Opening {
            backoff: Backoff::new(settings, fastrand::Rng::new()),
            not_before: Instant::now(),
            latest: None,
        };
        Self {
            inner: Arc::new(Inner {
                target,
                purpose,
                size,
                permits: Arc::new(Semaphore::new(size)),
                idle: Mutex::default(),
                opening: tokio::sync::Mutex::new(opening),
            }),
        }
    }

    /// Where it connects to.
    pub(crate) fn server(&self) -> String {
        self.inner.target.site()
    }

    pub(crate) fn size(&self) -> usize {
        self.inner.size
    }

    /// Borrows a connection, and opens one if none is idle.
    pub(crate) async fn loan(&self) -> Result<Loan, Fault> {
        let end = Instant::now() + self.inner.target.settings().deadline();
        let permit = timeout_at(end, Arc::clone(&self.inner.permits).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(Fault::new(
                Kind::Later,
                format!(
                    "all {} connections for {} were in use for {} s; raise it in the location, or hold them for less time",
                    self.inner.size,
                    self.inner.purpose,
                    self.inner.target.settings().deadline().as_secs()
                ),
            ));
        };
        let link = match self.inner.take_idle() {
            Some(link) => link,
            None => self.inner.open(end).await?,
        };
        Ok(Loan {
            link: Some(link),
            pool: Arc::clone(&self.inner),
            _permit: permit,
        })
    }

    /// Carries out one statement, all in one round trip. Conflicts are tried again; a connection that does not answer is
    /// given up.
    ///
    /// # Cancel safety
    /// A dropped call's statement takes effect or does not; the connection stays usable, for a statement is whole.
    pub(crate) async fn query(&self, statement: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        let mut tries = 1;
        loop {
            let mut loan = self.loan().await?;
            let fault = match loan.query(statement, values).await {
                Ok(rows) => return Ok(rows),
                Err(fault) => fault,
            };
            drop(loan);
            if fault.kind != Kind::Conflict || tries == TRIES {
                return Err(fault);
            }
            tries += 1;
            sleep(Duration::from_millis(fastrand::u64(1..=10 * u64::from(tries)))).await;
        }
    }
}

impl Inner {
    fn idle(&self) -> std::sync::MutexGuard<'_, VecDeque<Link>> {
        // A list of connections is sound whoever panicked while it was locked.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self) -> Option<Link> {
        let mut idle = self.idle();
        // The one that was used last, so that the others may be closed by whoever stands between.
        while let Some(link) = idle.pop_back() {
            if !link.is_closed() {
                return Some(link);
            }
        }
        None
    }

    async fn open(&self, end: Instant) -> Result<Link, Fault> {
        let late = || Fault::new(Kind::Later, "no connection to PostgreSQL could be opened in time");
        let mut opening = timeout_at(end, self.opening.lock()).await.map_err(|_| late())?;
        if let Some(link) = self.take_idle() {
            return Ok(link);
        }
        let now = Instant::now();
        if opening.not_before > now {
            // While the server is away all callers are told so at once; the pace of trying is the back-off's.
            if opening.not_before > now + Duration::from_millis(500)
                && let Some(latest) = &opening.latest
            {
                return Err(latest.again());
            }
            tokio::time::sleep_until(opening.not_before).await;
        }
        match self.target.connect(None).await {
            Ok(link) => {
                opening.backoff.connected(now.into_std());
                opening.latest = None;
                Ok(link)
            }
            Err(fault) => {
                let pause = opening.backoff.failed(Instant::now().into_std());
                opening.not_before = Instant::now() + pause;
                opening.latest = Some(fault.again());
                Err(fault)
            }
        }
    }
}

impl Loan {
    /// One statement on this connection, within the client's own deadline.
    pub(crate) async fn query(&mut self, statement: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        let limit = self.pool.target.settings().deadline();
        let target = &self.pool.target;
        let Some(link) = &mut self.link else { return Err(gone()) };
        match timeout(limit, link.query(target, statement, values)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => {
                let forgotten = error.code() == Some(&SqlState::INVALID_SQL_STATEMENT_NAME);
                if forgotten {
                    target.prepare_no_more();
                }
                let fault = Fault::from(error);
                if forgotten || fault.kind == Kind::Connection {
                    self.give_up();
                }
                Err(fault)
            }
            Err(_) => {
                self.give_up();
                Err(Fault::new(
                    Kind::Connection,
                    format!(
                        "PostgreSQL did not answer within {} s; the connection is given up",
                        limit.as_secs_f32()
                    ),
                ))
            }
        }
    }

    pub(crate) fn client(&self) -> Result<&tokio_postgres::Client, Fault> {
        self.link.as_ref().map(|link| &link.client).ok_or_else(gone)
    }

    /// The connection is closed, and not lent again.
    pub(crate) fn give_up(&mut self) {
        self.link = None;
    }
}

fn gone() -> Fault {
    Fault::new(Kind::Connection, "this connection to PostgreSQL was given up")
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(link) = self.link.take().filter(|link| !link.is_closed()) {
            self.pool.idle().push_back(link);
        }
    }
}
