//! The texts that configuration was read from, and places in them: line, column and excerpt of a value. Which keys are
//! secret is decided elsewhere; once a place is hidden here, no excerpt shows it again.

use std::ops::Range;
use std::path::{Path, PathBuf};

use plba_contracts::config::Origin;
use plba_contracts::secret::MASK;

use crate::config::check::report::Excerpt;

/// How many characters of a line an excerpt shows.
const EXCERPT_WIDTH: usize = 120;

/// A place in one of the [`Sources`]: a range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The index of the source.
    pub(crate) source: usize,
    /// The first byte.
    pub(crate) start: usize,
    /// The byte after the last.
    pub(crate) end: usize,
}

impl Place {
    /// The place of built-in defaults.
    pub(crate) const DEFAULT: Self = Self {
        source: 0,
        start: 0,
        end: 0,
    };

    /// A range in a source.
    pub(crate) fn new(source: usize, range: Range<usize>) -> Self {
        Self {
            source,
            start: range.start,
            end: range.end.max(range.start),
        }
    }
}

/// What kind of source a text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// The built-in defaults; there is no text.
    Default,
    /// A file, as it was named.
    File(PathBuf),
    /// An environment variable; the text is `NAME=value`.
    Environment(String),
    /// A `--set`; the text is `--set key=value`.
    CommandLine,
    /// A file whose content is one secret; there is no text.
    Secret(PathBuf),
    /// An override; there is no text.
    Override(Origin),
    /// A provider's value; the text is its place.
    Provider {
        /// The provider's name.
        name: String,
    },
}

/// One text.
#[derive(Debug)]
struct Source {
    kind: SourceKind,
    text: String,
    /// Where lines start.
    lines: Vec<usize>,
    /// The bytes that continue a character, so that columns are found without walking a line.
    continuations: Vec<usize>,
    /// What must not be shown.
    hidden: Vec<Range<usize>>,
}

/// All texts of one load, in the order they were read.
#[derive(Debug)]
pub(crate) struct Sources(Vec<Source>);

impl Default for Sources {
    fn default() -> Self {
        let mut sources = Self(Vec::new());
        sources.add(SourceKind::Default, String::new());
        sources
    }
}

impl Sources {
    /// Adds a text and returns its index.
    pub(crate) fn add(&mut self, kind: SourceKind, text: String) -> usize {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(starts.map(|(at, _)| at + 1)).collect();
        let continues = |(at, byte): (usize, u8)| (byte & 0xC0 == 0x80).then_some(at);
        let continuations = text.bytes().enumerate().filter_map(continues).collect();
        self.0.push(Source {
            kind,
            text,
            lines,
            continuations,
            hidden: Vec::new(),
        });
        self.0.len() - 1
    }

    /// The text of a source.
    pub(crate) fn text(&self, source: usize) -> &str {
        self.0.get(source).map_or("", |source| source.text.as_str())
    }

    /// The kind of a source.
    pub(crate) fn kind(&self, source: usize) -> &SourceKind {
        self.0.get(source).map_or(&SourceKind::Default, |source| &source.kind)
    }

    /// The files that were read, each with its text.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.0.iter().filter_map(|source| match &source.kind {
            SourceKind::File(path) => Some((path.as_path(), source.text.as_str())),
            _ => None,
        })
    }

    /// The directory against which relative paths of a source are resolved.
    pub(crate) fn directory(&self, source: usize) -> Option<&Path> {
        match self.kind(source) {
            SourceKind::File(path) => path.parent().filter(|parent| !parent.as_os_str().is_empty()),
            _ => None,
        }
    }

    /// Never shows a place again.
    pub(crate) fn hide(&mut self, place: Place) {
        if let Some(source) = self.0.get_mut(place.source).filter(|_| place.start < place.end) {
            source.hidden.push(place.start..place.end);
        }
    }

    /// Line and column of a place, counted from 1, columns in characters.
    pub(crate) fn position(&self, place: Place) -> (u32, u32) {
        self.0
            .get(place.source)
            .map_or((1, 1), |source| source.position(place.start))
    }

    /// Where a value came from.
    pub(crate) fn origin(&self, place: Place) -> Origin {
        let (line, column) = self.position(place);
        match self.kind(place.source) {
            SourceKind::Default => Origin::Default,
            SourceKind::File(path) => Origin::File {
                path: path.clone(),
                line,
                column,
            },
            SourceKind::Secret(path) => Origin::File {
                path: path.clone(),
                line,
                column,
            },
            SourceKind::Override(origin) => origin.clone(),
            SourceKind::Environment(variable) => Origin::Environment {
                variable: variable.clone(),
            },
            SourceKind::CommandLine => Origin::CommandLine {
                argument: self.0[place.source].shown(0..self.text(place.source).len()),
            },
            SourceKind::Provider { name } => Origin::Provider {
                provider: name.clone(),
                place: self.text(place.source).to_owned(),
            },
        }
    }

    /// The line of a place with what is hidden masked; `None` where there is no text to show.
    pub(crate) fn excerpt(&self, place: Place) -> Option<Excerpt> {
        let source = self.0.get(place.source)?;
        match source.kind {
            SourceKind::File(_) | SourceKind::Environment(_) | SourceKind::CommandLine => source.excerpt(place),
            SourceKind::Default | SourceKind::Provider { .. } | SourceKind::Secret(_) | SourceKind::Override(_) => None,
        }
    }
}

impl Source {
    fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at).saturating_sub(1)
    }

    fn position(&self, at: usize) -> (u32, u32) {
        let at = at.min(self.text.len());
        let line = self.line_of(at);
        let start = self.lines[line];
        let before = |at: usize| self.continuations.partition_point(|byte| *byte < at);
        let column = (at - start) - (before(at) - before(start)) + 1;
        (as_u32(line + 1), as_u32(column))
    }

    /// The bytes of a line, without its end.
    fn line_range(&self, line: usize) -> Range<usize> {
        let start = self.lines[line];
        let end = self.lines.get(line + 1).map_or(self.text.len(), |next| next - 1);
        start..start + self.text[start..end].trim_end_matches('\r').len()
    }

    /// A range of the text, masked.
    fn shown(&self, range: Range<usize>) -> String {
        let mut shown = String::new();
        let mut hidden: Vec<_> = self
            .hidden
            .iter()
            .filter(|hidden| hidden.start < range.end && hidden.end > range.start)
            .collect();
        hidden.sort_by_key(|hidden| hidden.start);
        let mut at = range.start;
        for hidden in hidden {
            if hidden.end <= at {
                continue;
            }
            shown.push_str(self.text.get(at..hidden.start.max(at)).unwrap_or_default());
            shown.push_str(MASK);
            at = hidden.end.min(range.end);
        }
        shown.push_str(self.text.get(at..range.end).unwrap_or_default());
        super::mask::without_credentials(&shown)
    }

    fn excerpt(&self, place: Place) -> Option<Excerpt> {
        let at = place.start.min(self.text.len());
        let line = self.line_of(at);
        let range = self.line_range(line);
        let at = at.min(range.end);
        let mut before = self.shown(range.start..at);
        let marked = self.shown(at..place.end.clamp(at, range.end));
        let after = self.shown(place.end.clamp(at, range.end)..range.end);
        // A mask that the caret falls into would otherwise be written twice.
        if marked.starts_with(MASK) && self.hidden.iter().any(|hidden| hidden.start < at && at < hidden.end) {
            before.truncate(before.len() - MASK.len().min(before.len()));
        }
        let after = if marked.ends_with(MASK) {
            after.trim_start_matches(MASK)
        } else {
            &after
        };
        Some(clip(&before, &marked, after, as_u32(line + 1)))
    }
}

/// Cuts a long line down to what surrounds the marked part.
fn clip(before: &str, marked: &str, after: &str, line: u32) -> Excerpt {
    let tidy = |character: char| match character {
        '\t' => ' ',
        other if other.is_control() => '\u{FFFD}',
        other => other,
    };
    let mut lead: Vec<char> = before.chars().map(tidy).collect();
    if lead.len() > EXCERPT_WIDTH / 2 {
        lead.drain(..lead.len() - EXCERPT_WIDTH / 2);
        lead.insert(0, '…');
    }
    let indent = lead.len();
    let width = marked.chars().count().clamp(1, EXCERPT_WIDTH - indent);
    let rest = marked.chars().chain(after.chars()).map(tidy);
    let mut text: String = lead.into_iter().chain(rest.take(EXCERPT_WIDTH - indent)).collect();
    if indent + marked.chars().count() + after.chars().count() > EXCERPT_WIDTH {
        text.push('…');
    }
    Excerpt {
        line,
        text: text.trim_end().to_owned(),
        indent,
        width,
    }
}

fn as_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
