//! How much a program complains: its warnings and errors are counted while a test runs, for what must not flood a log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

/// Counts the warnings and errors that are logged on this thread while it lives: those of everything that runs on a
/// runtime of the testkit.
pub struct Complaints {
    count: Arc<AtomicU64>,
    _guard: DefaultGuard,
}

impl Complaints {
    /// Counts from now on.
    #[expect(clippy::new_without_default, reason = "it does something")]
    pub fn new() -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let counting = Counting(Arc::clone(&count));
        Self {
            count,
            _guard: tracing::subscriber::set_default(counting),
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Hears warnings and errors, prints them for a test that fails, and nothing else.
struct Counting(Arc<AtomicU64>);

/// Prints the fields of an event.
struct Fields(String);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl Subscriber for Counting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        eprintln!("{}{}", event.metadata().level(), fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_and_errors_count_while_it_lives() {
        let complaints = Complaints::new();
        tracing::info!("nothing is wrong");
        tracing::warn!("one");
        tracing::error!("two");
        assert_eq!(complaints.count(), 2);
    }
}
