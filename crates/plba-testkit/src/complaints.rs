//! How much a program complains: its warnings and errors are counted while a test runs, for what must not flood a log.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

/// Counts the warnings and errors that are logged on this thread while it lives: those of everything that runs on a
/// runtime of the testkit.
pub struct Complaints {
    lines: Lines,
    _guard: DefaultGuard,
}

type Lines = Arc<Mutex<Vec<(Level, String)>>>;

impl Complaints {
    /// Counts from now on.
    #[expect(clippy::new_without_default, reason = "it does something")]
    pub fn new() -> Self {
        Self::up_to(Level::WARN)
    }

    /// Hears what is logged at this level as well, which [`said`](Self::said) tells; [`count`](Self::count) does not count it.
    pub fn up_to(level: Level) -> Self {
        let lines = Lines::default();
        let hearing = Hearing {
            level,
            lines: Arc::clone(&lines),
        };
        Self {
            lines,
            _guard: tracing::subscriber::set_default(hearing),
        }
    }

    /// How many warnings and errors there were.
    pub fn count(&self) -> u64 {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|(level, _)| *level <= Level::WARN).count() as u64
    }

    /// How many of the lines that were heard at this level have this text in them.
    pub fn said(&self, level: Level, text: &str) -> usize {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |(of, line): &&(Level, String)| *of == level && line.contains(text);
        lines.iter().filter(fits).count()
    }
}

/// Hears what is logged up to a level, and prints warnings and errors for a test that fails.
struct Hearing {
    level: Level,
    lines: Lines,
}

/// Prints the fields of an event.
struct Fields(String);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl Subscriber for Hearing {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = *event.metadata().level();
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        if level <= Level::WARN {
            eprintln!("{level}{}", fields.0);
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push((level, fields.0));
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
        assert_eq!(complaints.said(Level::WARN, "one"), 1);
        assert_eq!(complaints.said(Level::INFO, "nothing"), 0);
    }

    #[test]
    fn what_is_told_may_be_heard_too() {
        let complaints = Complaints::up_to(Level::INFO);
        tracing::info!(queue = "orders", "nothing is wrong");
        assert_eq!(
            (complaints.said(Level::INFO, "nothing is wrong"), complaints.count()),
            (1, 0)
        );
    }
}
