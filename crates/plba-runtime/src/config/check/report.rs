//! What is wrong with a configuration, for people and for programs. How faults are found lives in `sections`, `layers` and
//! the readers of the formats; how they are drawn for people in `draw`.

use plba_contracts::config::Origin;
use serde::Serialize;

use crate::config::read::mask::without_credentials;
use crate::config::read::sources::{Place, Sources};

/// How many faults a report names; beyond that nobody mends them one by one.
pub const MAXIMUM_REPORTED: usize = 200;

/// How many further places one fault names.
pub const MAXIMUM_RELATED: usize = 4;

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
    /// What the marked part of the line is, in a few words.
    pub label: Option<String>,
    /// What else there is to know: what the key is for, and its default.
    pub note: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// The line it stands in. Secrets are masked.
    pub excerpt: Option<Excerpt>,
    /// Other places that belong to it, such as the first of two equal keys, at most [`MAXIMUM_RELATED`].
    pub related: Vec<RelatedPlace>,
}

/// Another place that belongs to a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RelatedPlace {
    /// Where it is.
    pub origin: Origin,
    /// What it has to do with the fault, in a few words.
    pub label: String,
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
    /// Not a fault but a warning: the key is old, and what took its place is named.
    Deprecated,
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

/// A fault before its places are put into words.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) place: Option<Place>,
    pub(crate) kind: ConfigFaultKind,
    pub(crate) key: String,
    pub(crate) message: String,
    pub(crate) label: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) remedy: Option<String>,
    /// Other places, each with what it has to do with the fault.
    pub(crate) related: Vec<(Place, String)>,
}

impl Located {
    /// A fault that says no more than what is wrong.
    pub(crate) fn new(kind: ConfigFaultKind, message: impl Into<String>) -> Self {
        Self {
            place: None,
            kind,
            key: String::new(),
            message: message.into(),
            label: None,
            note: None,
            remedy: None,
            related: Vec::new(),
        }
    }

    /// The fault as it is reported.
    pub(crate) fn report(self, sources: &Sources) -> ConfigFault {
        let related = self.related.into_iter().take(MAXIMUM_RELATED);
        ConfigFault {
            kind: self.kind,
            key: clipped(self.key),
            origin: self.place.map(|place| sources.origin(place)),
            message: clipped(without_credentials(&self.message)),
            label: self.label.map(clipped),
            note: self.note.map(clipped),
            remedy: self.remedy.map(clipped),
            excerpt: self.place.and_then(|place| sources.excerpt(place)),
            related: related
                .map(|(place, label)| RelatedPlace {
                    origin: sources.origin(place),
                    label,
                    excerpt: sources.excerpt(place),
                })
                .collect(),
        }
    }
}

/// A text in one line of bounded length: keys and values may hold anything.
fn clipped(text: String) -> String {
    let text = match text.contains(char::is_control) {
        true => text.chars().map(shown).collect(),
        false => text,
    };
    match text.char_indices().nth(MAXIMUM_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn shown(character: char) -> String {
    match character {
        '\n' | '\r' | '\t' => " ".to_owned(),
        control if control.is_control() => control.escape_unicode().to_string(),
        other => other.to_string(),
    }
}

/// A fault of no place.
pub(crate) fn bare(kind: ConfigFaultKind, message: String) -> ConfigFault {
    Located::new(kind, message).report(&Sources::default())
}

/// A refusal by a part of the running process.
pub(crate) fn vetoed(name: &str, reason: &str) -> ConfigFault {
    bare(ConfigFaultKind::Vetoed, format!("refused by {name}: {reason}"))
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

impl ConfigFault {
    /// Whether it only warns: such a configuration is accepted.
    pub fn is_warning(&self) -> bool {
        self.kind == ConfigFaultKind::Deprecated
    }
}

impl std::error::Error for ConfigReport {}
