//! Singleton workers: a definition turned into one whose worker runs on one instance of many, while that instance holds a
//! lease. How a worker stands by, acts and lets go lives in `guard`; stores of leases are `lease` and adapters.
//!
//! ```
//! use std::sync::Arc;
//! use plba_contracts::lease::{Fence, Lease};
//! use plba_runtime::singleton::Singleton;
//! use plba_runtime::worker::{self, secs};
//!
//! fn invoices(leases: Arc<dyn Lease>) -> plba_contracts::worker::WorkerDefinition {
//!     let write = worker::every_with("invoices", secs(60), |services| async move {
//!         let fence = services.get::<Fence>().await?;
//!         // Every write is fenced by `fence.token`.
//!         tracing::info!("writes under token {}", fence.token);
//!         Ok(())
//!     });
//!     write.singleton(leases)
//! }
//! ```

mod guard;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::lease::{Lease, MAXIMUM_TTL, MINIMUM_TTL};
use plba_contracts::services::{Build, Services};
use plba_contracts::worker::{Worker, WorkerDefinition};

use self::guard::SingletonWorker;

/// Where a singleton finds its store of leases.
pub struct LeaseSource {
    build: Build<Arc<dyn Lease>>,
    /// By what one source is told from another, where it can be.
    known_by: Option<usize>,
}

impl LeaseSource {
    /// The service `dyn Lease`.
    pub fn service() -> Self {
        Self {
            build: Build::new(|services: Services| async move { Ok(services.get::<dyn Lease>().await?) }),
            known_by: Some(0),
        }
    }
}

impl From<Arc<dyn Lease>> for LeaseSource {
    fn from(lease: Arc<dyn Lease>) -> Self {
        let known_by = Some(Arc::as_ptr(&lease).addr());
        let build = Build::new(move |_| {
            let lease = Arc::clone(&lease);
            async move { Ok(lease) }
        });
        Self { build, known_by }
    }
}

impl From<Build<Arc<dyn Lease>>> for LeaseSource {
    fn from(build: Build<Arc<dyn Lease>>) -> Self {
        Self { build, known_by: None }
    }
}

/// How a singleton holds its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingletonOptions {
    /// The lease's name, the same on all instances that take turns. Default: the worker's name; give another where several
    /// applications share a store.
    pub name: Option<String>,
    /// How long a grant lasts, which is how long a killed holder blocks the others. It is renewed three times as often.
    /// Default: 30 s; values beyond the limits of leases are moved to them.
    pub ttl: Duration,
    /// What this instance is called on the others' status. Default: host and process id, as `host/4711`.
    pub holder: Option<String>,
}

impl Default for SingletonOptions {
    fn default() -> Self {
        Self {
            name: None,
            ttl: Duration::from_secs(30),
            holder: None,
        }
    }
}

/// Turns what becomes a worker into a singleton.
pub trait Singleton: Into<WorkerDefinition> + Sized {
    /// A worker that runs only while it holds the lease, with every default of [`SingletonOptions`].
    fn singleton(self, lease: impl Into<LeaseSource>) -> WorkerDefinition {
        self.singleton_with(lease, SingletonOptions::default())
    }

    /// A worker that runs only while it holds the lease.
    ///
    /// - It is **ready** at once, as standby; those who start after it don't wait for the take-over. A fresh inner worker
    ///   is built and started each time the lease is gained, and finds a [`Fence`](plba_contracts::lease::Fence) among
    ///   its services. That it could not be built or started counts as a failed attempt.
    /// - **Taking over** needs no more than the rest of the lease and a second; after a stop of the holder, a second.
    /// - A grant that is **not renewed** by five sixths of its time on the process's own monotonic clock forces the inner
    ///   worker to stop; at its end the inner worker is dropped and never polled again, also if the process was paused
    ///   meanwhile. A thread can't be dropped: what a blocking routine or a spawned task still writes, the fence refuses.
    ///   Then the worker stands by again; this is no failed attempt.
    /// - Its **end**, whether it finished, stopped, failed or panicked, releases the lease.
    /// - A reload lets it go on if it would be [made from](WorkerDefinition::made_from) the same and take turns alike. Where
    ///   the lease comes from a factory, that can't be told, and it starts anew.
    /// - It has **one instance**: a second one on the same process would only stand by.
    fn singleton_with(self, lease: impl Into<LeaseSource>, options: SingletonOptions) -> WorkerDefinition {
        let inner: WorkerDefinition = self.into();
        let mut outer = inner.clone();
        let LeaseSource { build: lease, known_by } = lease.into();
        let SingletonOptions { name, ttl, holder } = &options;
        outer.made_from.detail(("singleton", name, ttl, holder, known_by));
        if known_by.is_none() {
            outer.made_from.unclear();
        }
        let terms = Arc::new(Terms {
            name: options.name.unwrap_or_else(|| inner.name.clone()),
            holder: options.holder.unwrap_or_else(this_process),
            ttl: options.ttl.clamp(MINIMUM_TTL, MAXIMUM_TTL),
            start_timeout: inner.start_timeout,
            build: inner.build,
        });
        outer.concurrency = 1;
        outer.build = Build::new(move |services: Services| {
            let (lease, terms) = (lease.clone(), Arc::clone(&terms));
            async move {
                let lease = lease.call(services.clone()).await?;
                Ok(Arc::new(SingletonWorker::new(terms, lease, services)) as Arc<dyn Worker>)
            }
        });
        outer
    }
}

impl<T: Into<WorkerDefinition>> Singleton for T {}

/// What all attempts of a singleton have in common.
struct Terms {
    name: String,
    holder: String,
    ttl: Duration,
    start_timeout: Duration,
    build: Build<Arc<dyn Worker>>,
}

fn this_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() {
        "localhost"
    } else {
        host.trim()
    };
    format!("{host}/{}", std::process::id())
}
