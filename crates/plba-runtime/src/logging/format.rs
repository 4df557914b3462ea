//! The calm format for people: time, level, where, what, and fields; nothing that moves a line's parts about.

use std::fmt::{self, Write};
use std::sync::Arc;

use jiff::tz::TimeZone;
use plba_contracts::clock::Clock;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::config::LogTime;

const DIM: &str = "\u{1b}[2m";
const RESET: &str = "\u{1b}[0m";

/// Writes times of an injected clock, to the second for people, exact and with its offset for programs.
#[derive(Clone)]
pub(super) struct Time {
    clock: Arc<dyn Clock>,
    zone: TimeZone,
}

impl Time {
    pub(super) fn new(clock: Arc<dyn Clock>, time: LogTime) -> Self {
        let zone = match time {
            LogTime::Utc => TimeZone::UTC,
            LogTime::Local => TimeZone::system(),
        };
        Self { clock, zone }
    }

    fn seconds(&self, out: &mut impl Write) -> fmt::Result {
        let now = self.clock.now().to_zoned(self.zone.clone());
        write!(out, "{}", now.strftime("%Y-%m-%d %H:%M:%S"))
    }
}

impl FormatTime for Time {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        let now = self.clock.now();
        match self.zone == TimeZone::UTC {
            true => write!(out, "{now:.6}"),
            false => write!(
                out,
                "{}",
                now.to_zoned(self.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.6f%:z")
            ),
        }
    }
}

/// `2026-11-22 14:03:07  INFO supervisor  worker started  worker=orders attempt=1`
pub(super) struct Calm {
    time: Time,
}

impl Calm {
    pub(super) fn new(time: Time) -> Self {
        Self { time }
    }
}

impl<S, N> FormatEvent<S, N> for Calm
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let color = out.has_ansi_escapes();
        let (dim, reset) = if color { (DIM, RESET) } else { ("", "") };
        out.write_str(dim)?;
        self.time.seconds(&mut out)?;
        out.write_str(reset)?;
        let (name, paint) = level(*metadata.level());
        match color {
            true => write!(out, " {paint}{name}{RESET}")?,
            false => write!(out, " {name}")?,
        }
        write!(out, " {dim}{}{reset}", short(metadata.target()))?;
        let mut visitor = Parts::default();
        event.record(&mut visitor);
        if !visitor.message.is_empty() {
            write!(out, "  {}", visitor.message)?;
        }
        if !visitor.fields.is_empty() {
            write!(out, " {dim}{}{reset}", visitor.fields)?;
        }
        writeln!(out)
    }
}

fn level(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::ERROR => ("ERROR", "\u{1b}[31m"),
        Level::WARN => (" WARN", "\u{1b}[33m"),
        Level::INFO => (" INFO", "\u{1b}[32m"),
        Level::DEBUG => ("DEBUG", "\u{1b}[34m"),
        Level::TRACE => ("TRACE", "\u{1b}[35m"),
    }
}

/// The part of a target that tells people where: the module within a crate of the platform, else the crate.
fn short(target: &str) -> &str {
    let mut parts = target.split("::");
    let first = parts.next().unwrap_or(target);
    match first.starts_with("plba") {
        true => parts.next().unwrap_or(first),
        false => first,
    }
}

#[derive(Default)]
struct Parts {
    message: String,
    fields: String,
}

impl Parts {
    fn push(&mut self, field: &Field, value: &str, quote: bool) {
        if field.name() == "message" {
            plain(&mut self.message, value);
            return;
        }
        let _ = write!(self.fields, " {}=", field.name().trim_start_matches("r#"));
        match quote {
            true => {
                let _ = write!(self.fields, "{value:?}");
            }
            false => plain(&mut self.fields, value),
        }
    }
}

/// Adds a text so that it stays one entry of the log: further lines are indented, control characters written out, so
/// that nobody can forge a line or drive the terminal.
fn plain(out: &mut String, text: &str) {
    for character in text.trim_end().chars() {
        match character {
            '\n' => out.push_str("\n    "),
            '\t' => out.push(' '),
            '\r' => {}
            other if other.is_control() => out.extend(other.escape_default()),
            other => out.push(other),
        }
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        let simple =
            |character: char| !character.is_whitespace() && !character.is_control() && !"\"=".contains(character);
        self.push(field, value, value.is_empty() || !value.chars().all(simple));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, &plba_contracts::describe(value), true);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, &format!("{value:?}"), false);
    }
}
