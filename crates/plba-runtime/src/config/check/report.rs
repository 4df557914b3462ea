//! What is wrong with a configuration, for people and for programs. How faults are found lives in `check`, `layers` and
//! the readers of the formats.

use std::fmt;

use plba_contracts::config::Origin;
use serde::Serialize;

use crate::config::read::sources::{Place, Sources};

/// How many faults a report names; beyond that nobody mends them one by one.
pub const MAXIMUM_REPORTED: usize = 200;

/// How many characters of a key or a message are kept.
const MAXIMUM_TEXT: usize = 400;

/// All faults of a configuration at once.
///
/// `Display` is the report for people; serialised, it is `{"faults": [..], "consequence": ..}`.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigReport {
    /// The faults, in the order of their places, at most [`MAXIMUM_REPORTED`].
    pub faults: Vec<ConfigFault>,
    /// How many more there are.
    pub omitted: usize,
    /// What follows from them.
    pub consequence: Consequence,
}

/// What follows from a refused configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Consequence {
    /// It was the first load.
    NothingStarted,
    /// It was a reload: this generation keeps running.
    StaysRunning {
        /// The generation that stays.
        generation: u64,
    },
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigFault {
    /// What kind of fault it is.
    pub kind: ConfigFaultKind,
    /// The key it is about, such as `mail_order_bot.workers`; empty for faults of a whole file.
    pub key: String,
    /// Where it is; `None` when it is nowhere, such as a missing table without any file.
    pub origin: Option<Origin>,
    /// What is wrong. Secrets are masked.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// The line it stands in. Secrets are masked.
    pub excerpt: Option<Excerpt>,
}

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigFaultKind {
    /// A source can't be read: a missing file, a wrong encoding, a provider that fails.
    Unreadable,
    /// A text doesn't follow its format.
    Syntax,
    /// There is no such key or table.
    Unknown,
    /// A value can't be used, or is missing.
    Invalid,
    /// A part of the running process refuses the new configuration.
    Vetoed,
}

/// A line of a source with the part that is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// The number of the line, from 1.
    pub line: u32,
    /// The line, cut to a readable length.
    pub text: String,
    /// How many characters stand before the meant part.
    pub indent: usize,
    /// How many characters are meant.
    pub width: usize,
}

/// A fault before its place is put into words.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) place: Option<Place>,
    pub(crate) kind: ConfigFaultKind,
    pub(crate) key: String,
    pub(crate) message: String,
    pub(crate) remedy: Option<String>,
}

impl Located {
    /// The fault as it is reported.
    pub(crate) fn report(self, sources: &Sources) -> ConfigFault {
        ConfigFault {
            kind: self.kind,
            key: clipped(self.key),
            origin: self.place.map(|place| sources.origin(place)),
            message: clipped(crate::config::read::mask::without_credentials(&self.message)),
            remedy: self.remedy,
            excerpt: self.place.and_then(|place| sources.excerpt(place)),
        }
    }
}

fn clipped(text: String) -> String {
    match text.char_indices().nth(MAXIMUM_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A fault of no place.
pub(crate) fn bare(kind: ConfigFaultKind, message: String) -> ConfigFault {
    ConfigFault {
        kind,
        key: String::new(),
        origin: None,
        message,
        remedy: None,
        excerpt: None,
    }
}

impl ConfigReport {
    pub(crate) fn new(mut faults: Vec<ConfigFault>, consequence: Consequence) -> Self {
        let omitted = faults.len().saturating_sub(MAXIMUM_REPORTED);
        faults.truncate(MAXIMUM_REPORTED);
        Self {
            faults,
            omitted,
            consequence,
        }
    }
}

impl std::error::Error for ConfigReport {}

impl fmt::Display for ConfigReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(out, "{fault}")?;
        }
        let count = match (self.faults.len(), self.omitted) {
            (1, 0) => "1 fault".to_owned(),
            (count, 0) => format!("{count} faults"),
            (count, omitted) => format!("{} faults, of which the first {count} are shown,", count + omitted),
        };
        write!(out, "{count} in the configuration; ")?;
        match self.consequence {
            Consequence::NothingStarted => out.write_str("nothing was started"),
            Consequence::StaysRunning { generation } => {
                write!(out, "the running configuration (generation {generation}) stays")
            }
        }
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            match origin {
                Origin::CommandLine { .. } => out.write_str("command line: ")?,
                origin => write!(out, "{origin}: ")?,
            }
        }
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        writeln!(out, "{}", self.message)?;
        let numbered = matches!(self.origin, Some(Origin::File { .. }));
        let number = |excerpt: &Excerpt| {
            if numbered {
                excerpt.line.to_string()
            } else {
                String::new()
            }
        };
        let gutter = self.excerpt.as_ref().map_or(0, |excerpt| number(excerpt).len().max(4));
        if let Some(excerpt) = &self.excerpt {
            writeln!(out, "{:>gutter$} | {}", number(excerpt), excerpt.text)?;
            let (indent, width) = (excerpt.indent, excerpt.width);
            writeln!(out, "{:gutter$} | {:indent$}{}", "", "", "^".repeat(width))?;
        }
        if let Some(remedy) = &self.remedy {
            writeln!(out, "{:gutter$} = {remedy}", "", gutter = gutter.max(4))?;
        }
        Ok(())
    }
}
