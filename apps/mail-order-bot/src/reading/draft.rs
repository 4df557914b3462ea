//! An order line as the customer wrote it, before anybody judged it.

use serde::{Deserialize, Serialize};

/// A cell's content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Value {
    /// The text, trimmed.
    pub text: String,
    /// Whether it is a number in machine form (a spreadsheet's number cell): the decimal separator is a point, whatever
    /// the customer's habits are.
    pub machine: bool,
}

impl Value {
    /// What a person wrote.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self {
            text: text.trim().chars().take(super::text::MAX_LINE_CHARS).collect(),
            machine: false,
        }
    }

    /// A number cell.
    #[must_use]
    pub fn number(number: f64) -> Self {
        // Six places hide the noise of binary fractions (0.1 + 0.2) and are finer than any price or quantity.
        let text = format!("{number:.6}");
        let text = if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.')
        } else {
            &text
        };
        Self {
            text: text.to_owned(),
            machine: true,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// One line of an order, unchecked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DraftLine {
    /// Where it stands, for people.
    pub place: String,
    /// The article's number or name; may be empty.
    pub article: String,
    /// What stands beside it, if the form has a place for that.
    pub name: Option<String>,
    /// The quantity; may be empty.
    pub quantity: Value,
    /// Its unit, if that has a place of its own.
    pub unit: Option<String>,
    /// The price per unit, if given.
    pub price: Option<Value>,
    /// The currency, if it has a place of its own.
    pub currency: Option<String>,
}

/// Whether `text` looks like an article's number: a digit, and letters or at least five digits.
#[must_use]
pub fn is_article_like(text: &str) -> bool {
    let length = text.chars().count();
    let part = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    (3..=40).contains(&length)
        && text.chars().all(part)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && digits > 0
        && (letters > 0 || digits == length && length >= 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_cells_lose_binary_noise() {
        for (number, text) in [
            (12.5, "12.5"),
            (0.1 + 0.2, "0.3"),
            (3.0, "3"),
            (100.0, "100"),
            (-1.0, "-1"),
        ] {
            assert_eq!(Value::number(number).text, text);
        }
    }

    #[test]
    fn article_numbers_look_like_article_numbers() {
        for text in ["ART-001", "A12", "00123", "tea.10", "4711-B"] {
            assert!(is_article_like(text), "{text}");
        }
        for text in ["2024-01-02", "Tel", "12", "-A1", "two words 1", "0123", "12.50"] {
            assert!(!is_article_like(text), "{text}");
        }
    }
}
