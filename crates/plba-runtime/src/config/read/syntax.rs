//! What the readers of the three formats share: limits, and faults of syntax as a message with a place in the text.

use std::ops::Range;

use super::tree::Node;

/// How deeply tables and lists may be nested.
pub(crate) const MAXIMUM_DEPTH: usize = 64;

/// How many values one file may hold, after aliases are written out.
pub(crate) const MAXIMUM_VALUES: usize = 100_000;

/// How many faults of syntax are reported of one file; the later ones mostly follow from the first.
pub(crate) const MAXIMUM_SYNTAX_FAULTS: usize = 5;

/// A fault of syntax.
#[derive(Debug)]
pub(crate) struct SyntaxFault {
    /// What is wrong.
    pub(crate) message: String,
    /// Where, in bytes.
    pub(crate) range: Range<usize>,
    /// What else can be said; boxed, because faults are returned by every function that reads.
    pub(crate) hints: Box<Hints>,
}

/// What helps to mend a fault of syntax.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// What stands at the place, in a few words.
    pub(crate) label: Option<String>,
    /// What to do about it.
    pub(crate) help: Option<String>,
    /// Another place that belongs to it, and what it is.
    pub(crate) related: Option<(Range<usize>, String)>,
}

impl SyntaxFault {
    pub(crate) fn new(message: impl Into<String>, range: Range<usize>) -> Self {
        Self {
            message: message.into(),
            range,
            hints: Box::default(),
        }
    }

    pub(crate) fn depth(range: Range<usize>) -> Self {
        let message = format!("nested more than {MAXIMUM_DEPTH} levels deep");
        Self::new(message, range).help("flatten it: no configuration needs as many levels")
    }

    pub(crate) fn values(range: Range<usize>) -> Self {
        let message = format!("more than {MAXIMUM_VALUES} values, aliases counted out");
        Self::new(message, range)
            .label("the first one too many")
            .help("a configuration is smaller; is this one?")
    }

    /// A key that is there twice; `first` is the other one, if it was found.
    pub(crate) fn duplicate(key: &str, range: Range<usize>, first: Option<Range<usize>>) -> Self {
        let fault = Self::new(format!("duplicate key `{key}`"), range)
            .label("given again here")
            .help("keep one of them");
        fault.related(first, "first given here")
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.hints.label = Some(label.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.hints.help = Some(help.into());
        self
    }

    pub(crate) fn related(mut self, range: Option<Range<usize>>, label: &str) -> Self {
        self.hints.related = range
            .map(|range| (range, label.to_owned()))
            .or(self.hints.related.take());
        self
    }
}

/// What a reader returns: the root table, or what is wrong with the text.
pub(crate) type Parsed = Result<Node, Vec<SyntaxFault>>;

/// The brackets and quotes that are open at the byte `at`, the innermost last, each with what would close it. Strings and
/// comments are those of JSON and YAML's flow style; elsewhere it is a guess, fit for a hint and nothing else.
pub(crate) fn openers(text: &str, at: usize) -> Vec<(usize, char)> {
    let mut open = Vec::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next().filter(|(index, _)| *index < at) {
        match (character, open.last()) {
            ('\\', Some((_, '"'))) => drop(characters.next()),
            ('"', Some((_, '"'))) => drop(open.pop()),
            (_, Some((_, '"'))) => {}
            ('"', _) => open.push((index, '"')),
            ('{', _) => open.push((index, '}')),
            ('[', _) => open.push((index, ']')),
            (closing, Some((_, expected))) if closing == *expected => drop(open.pop()),
            _ => {}
        }
    }
    open
}
