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
}

impl SyntaxFault {
    pub(crate) fn new(message: impl Into<String>, range: Range<usize>) -> Self {
        Self {
            message: message.into(),
            range,
        }
    }

    pub(crate) fn depth(range: Range<usize>) -> Self {
        Self::new(
            format!("nested more than {MAXIMUM_DEPTH} levels deep; flatten it"),
            range,
        )
    }

    pub(crate) fn values(range: Range<usize>) -> Self {
        let message = format!("more than {MAXIMUM_VALUES} values, aliases counted out; a configuration is smaller");
        Self::new(message, range)
    }

    pub(crate) fn duplicate(key: &str, range: Range<usize>) -> Self {
        Self::new(format!("duplicate key `{key}`; keep one of them"), range)
    }
}

/// What a reader returns: the root table, or what is wrong with the text.
pub(crate) type Parsed = Result<Node, Vec<SyntaxFault>>;
