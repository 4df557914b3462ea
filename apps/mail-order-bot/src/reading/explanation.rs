//! What was recognised in a mail and why, step by step, as the reading went. Told by `explain`, decided elsewhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::Intent;

/// Most steps that are kept; an explanation is for reading.
const MAX_STEPS: usize = 400;
/// Longest piece of the mail in a step, in characters.
const MAX_TEXT: usize = 120;

/// The steps, in the order in which they were taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// At most 400.
    pub steps: Vec<Step>,
    /// How many further steps are not told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub untold: usize,
}

/// One thing that was recognised or decided. JSON: `{"step": "columns", …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// What the mail wants.
    Intent {
        /// That.
        intent: Intent,
        /// By which words, or by which reference.
        why: String,
    },
    /// The customer's own number of the order.
    OrderNumber {
        /// As the customer writes it.
        number: String,
        /// Where it stands.
        place: String,
    },
    /// One part of the mail and what was done with it.
    Part {
        /// Which one: `text body`, `attachment order.xlsx`.
        part: String,
        /// What it declares to be.
        content_type: String,
        /// What it turned out to be, and why its lines were taken or not.
        verdict: String,
        /// Order lines taken from it.
        lines: usize,
    },
    /// The columns of a table.
    Columns {
        /// Which table: `order.csv`, `order.xlsx, sheet Tabelle1`.
        place: String,
        /// The row of the headings, from 1, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        headings: Option<u32>,
        /// Each field with its column.
        columns: Vec<FoundColumn>,
    },
    /// A decision that the customer's profile made.
    Profile {
        /// Which setting, and what it did.
        setting: String,
    },
    /// A row or line that is not an order line although it stands among them.
    Skipped {
        /// Where it stands.
        place: String,
        /// Its beginning.
        text: String,
        /// Why it isn't one.
        why: String,
    },
}

/// A column and why it holds its field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundColumn {
    /// `article`, `quantity`, `unit`, `price`, `name`, `currency`.
    pub field: String,
    /// The column's letter, as spreadsheets count.
    pub column: String,
    /// The heading as it stands there, or why it is this column where no heading says so.
    pub by: String,
}

impl Explanation {
    pub(super) fn add(&mut self, step: Step) {
        if self.steps.len() < MAX_STEPS {
            self.steps.push(step);
        } else {
            self.untold += 1;
        }
    }

    pub(crate) fn skipped(&mut self, place: impl Into<String>, text: &str, why: &str) {
        self.add(Step::Skipped {
            place: place.into(),
            text: shortened(text),
            why: why.to_owned(),
        });
    }
}

/// `text` on one line, without control characters, at most so long that it can stand in a sentence.
pub(crate) fn shortened(text: &str) -> String {
    let plain = super::mail::one_line(text);
    match plain.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &plain[..end]),
        None => plain,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_is_bounded() {
        let mut explanation = Explanation::default();
        for _ in 0..MAX_STEPS + 5 {
            explanation.skipped("row 1", &"x".repeat(1000), "it is a total");
        }
        assert_eq!((explanation.steps.len(), explanation.untold), (MAX_STEPS, 5));
        let Step::Skipped { text, .. } = &explanation.steps[0] else {
            panic!("{:?}", explanation.steps[0])
        };
        assert_eq!(text.chars().count(), MAX_TEXT + 1);
    }
}
