//! Choosing a queue by URL: what an adapter offers, and the backend in memory. Which backends there are is wired by hand
//! where the program is put together.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::clock::Clock;
use plba_contracts::config::Location;
use plba_contracts::lease::Lease;

use crate::ledger::SourceLedger;
use crate::memory::{InMemoryTaskQueue, MemorySettings};
use crate::queue::TaskQueue;

/// What a backend gets from the program that opens it.
#[derive(Clone)]
pub struct BackendContext {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The ledger of sources, for backends that don't keep tasks themselves.
    pub ledger: Option<Arc<dyn SourceLedger>>,
    /// Seed of ids; `None` takes one from the system.
    pub seed: Option<u64>,
}

/// Opens queues of one kind by their URL.
#[async_trait]
pub trait QueueBackend: Send + Sync + 'static {
    /// The URL schemes it knows, such as `memory`.
    fn schemes(&self) -> &'static [&'static str];

    /// Opens the queue at a location with one of its schemes. Checks what the location says and that the server is
    /// configured for the durability that the backend declares.
    ///
    /// # Errors
    /// The location can't be used, the server can't be reached or is configured below the declared durability; the message
    /// says what to do.
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing open.
    async fn open(&self, location: &Location, context: BackendContext) -> Result<Arc<dyn TaskQueue>, BoxError>;

    /// Opens the ledger that goes with the queue at a location: as durable as its tasks, and shared by all processes that
    /// share the queue, so that sources' cursors follow a take-over. `None` when the backend keeps none; the application
    /// then keeps its ledger on a file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing open.
    async fn open_ledger(
        &self,
        location: &Location,
        context: BackendContext,
    ) -> Result<Option<Arc<dyn SourceLedger>>, BoxError> {
        let _ = (location, context);
        Ok(None)
    }

    /// Opens the leases that go with the queue at a location: shared by all processes that share the queue, so that of a
    /// source that all of them have one runs at a time. `None` when nobody else can share the queue.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Cancel safety
    /// A dropped call leaves nothing open.
    async fn open_leases(
        &self,
        location: &Location,
        context: BackendContext,
    ) -> Result<Option<Arc<dyn Lease>>, BoxError> {
        let _ = (location, context);
        Ok(None)
    }
}

/// Why a queue could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenQueueError {
    /// No backend knows the scheme.
    #[error("no queue is known for \"{location}\"; known are: {known}")]
    Unknown {
        /// The location as configured.
        location: String,
        /// The schemes that are known.
        known: String,
    },
    /// The backend could not open it.
    #[error("the queue \"{scheme}:\" can't be opened: {}", plba_contracts::describe(source.as_ref()))]
    Failed {
        /// The scheme: the rest may hold a password.
        scheme: String,
        /// Why.
        source: BoxError,
    },
}

/// Opens the queue at `location` with the backend that knows its scheme.
///
/// # Errors
/// See [`OpenQueueError`].
pub async fn open_queue(
    backends: &[Arc<dyn QueueBackend>],
    location: &Location,
    context: BackendContext,
) -> Result<Arc<dyn TaskQueue>, OpenQueueError> {
    let opening = backend(backends, location)?.open(location, context);
    opening.await.map_err(|source| failed(location, source))
}

/// Opens the ledger that goes with the queue at `location`, if its backend keeps one.
///
/// # Errors
/// See [`OpenQueueError`].
pub async fn open_ledger(
    backends: &[Arc<dyn QueueBackend>],
    location: &Location,
    context: BackendContext,
) -> Result<Option<Arc<dyn SourceLedger>>, OpenQueueError> {
    let opening = backend(backends, location)?.open_ledger(location, context);
    opening.await.map_err(|source| failed(location, source))
}

/// Opens the leases that go with the queue at `location`, if processes can share it.
///
/// # Errors
/// See [`OpenQueueError`].
pub async fn open_leases(
    backends: &[Arc<dyn QueueBackend>],
    location: &Location,
    context: BackendContext,
) -> Result<Option<Arc<dyn Lease>>, OpenQueueError> {
    let opening = backend(backends, location)?.open_leases(location, context);
    opening.await.map_err(|source| failed(location, source))
}

fn backend<'a>(
    backends: &'a [Arc<dyn QueueBackend>],
    location: &Location,
) -> Result<&'a dyn QueueBackend, OpenQueueError> {
    let scheme = location.scheme();
    let found = backends.iter().find(|backend| backend.schemes().contains(&scheme));
    found.map(AsRef::as_ref).ok_or_else(|| {
        let schemes = backends.iter().flat_map(|backend| backend.schemes());
        let known: Vec<_> = schemes.map(|scheme| format!("{scheme}:")).collect();
        OpenQueueError::Unknown {
            location: scheme.to_owned() + ":",
            known: known.join(", "),
        }
    })
}

fn failed(location: &Location, source: BoxError) -> OpenQueueError {
    OpenQueueError::Failed {
        scheme: location.scheme().to_owned(),
        source,
    }
}

/// The backend in memory: `memory:`, or with bounds `memory:?capacity=10000&bytes=268435456&lease=30`, where `lease` is in
/// seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryBackend;

#[async_trait]
impl QueueBackend for MemoryBackend {
    fn schemes(&self) -> &'static [&'static str] {
        &["memory"]
    }

    async fn open(&self, location: &Location, context: BackendContext) -> Result<Arc<dyn TaskQueue>, BoxError> {
        let settings = MemorySettings {
            seed: context.seed,
            ..memory_settings(location)?
        };
        let queue = match context.ledger {
            Some(ledger) => InMemoryTaskQueue::with_ledger(settings, context.clock, ledger)?,
            None => InMemoryTaskQueue::new(settings, context.clock)?,
        };
        Ok(Arc::new(queue))
    }
}

/// Reads the bounds in a `memory:` location.
///
/// # Errors
/// An unknown name, or a value that is no number or out of range; the sentence names it.
pub fn memory_settings(location: &Location) -> Result<MemorySettings, String> {
    if location.path().is_some_and(|path| !path.is_empty()) || location.rest().starts_with("//") {
        return Err(format!(
            "a queue in memory has no place; write \"memory:\" instead of \"{location}\""
        ));
    }
    let mut settings = MemorySettings::default();
    for (name, value) in location.query() {
        let number = || {
            value
                .parse::<usize>()
                .map_err(|_| format!("{name} takes a whole number, not \"{value}\""))
        };
        match name {
            "capacity" => settings.capacity = number()?,
            "bytes" => settings.bytes = number()?,
            "task_bytes" => settings.task_bytes = number()?,
            "dead_capacity" => settings.dead_capacity = number()?,
            "lease" => settings.lease = Duration::from_secs(number()? as u64),
            "maximum_crashes" => {
                settings.maximum_crashes = u32::try_from(number()?).map_err(|_| format!("{name} is too large"))?;
            }
            _ => {
                return Err(format!(
                    "\"memory:\" knows no \"{name}\", but capacity, bytes, task_bytes, dead_capacity, lease, maximum_crashes"
                ));
            }
        }
    }
    settings.validate()?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_from_the_location() {
        let settings = memory_settings(&Location::from("memory:?capacity=7&lease=60")).unwrap();
        assert_eq!((settings.capacity, settings.lease), (7, Duration::from_secs(60)));
        assert_eq!(
            memory_settings(&Location::from("memory:")).unwrap(),
            MemorySettings::default()
        );
    }

    #[test]
    fn faults_in_a_location_are_named() {
        for (location, fault) in [
            ("memory:?capacity=many", "capacity takes a whole number, not \"many\""),
            ("memory:?capacity=0", "capacity lies between"),
            ("memory:?size=1", "knows no \"size\""),
            ("memory:var/queue", "has no place"),
            ("memory://host", "has no place"),
        ] {
            let error = memory_settings(&Location::from(location)).unwrap_err();
            assert!(error.contains(fault), "{location}: {error}");
        }
    }
}
