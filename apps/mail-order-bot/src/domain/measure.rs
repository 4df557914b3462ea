//! A quantity as a customer writes it: a number, perhaps a unit, perhaps what each of them holds: `2`, `1,5 kg`,
//! `3 Kartons à 12`. What it means for an article is `checking`'s.

use super::number::{DecimalStyle, NumberError};
use super::quantity::Quantity;
use super::unit::unit;

/// Words between a number of packages and what each of them holds: `of`, `à`, `de`.
const EACH: [&str; 16] = [
    "of", "à", "á", "a", "de", "da", "di", "zu", "je", "von", "mit", "van", "po", "av", "x", "×",
];
/// Words that say nothing about the quantity.
const SILENT: [&str; 18] = [
    "ca",
    "about",
    "total",
    "insgesamt",
    "please",
    "bitte",
    "svp",
    "stp",
    "thanks",
    "danke",
    "only",
    "nur",
    "more",
    "mehr",
    "weitere",
    "additional",
    "extra",
    "x",
];

/// A quantity, read but not yet understood as one of an article.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// How many.
    pub amount: Quantity,
    /// Of what, as it was written.
    pub unit: Option<String>,
    /// What each of them holds, where that was said: `12`, `12 pcs`.
    pub each: Option<(Quantity, Option<String>)>,
}

impl Measure {
    /// Reads `2`, `1,5 kg`, `3 x 12`, `2 Kartons à 12 Stk`, `kg 1.5`.
    ///
    /// # Errors
    /// [`NumberError`] when it is missing, no number, a date, ambiguous, negative, or finer than a thousandth.
    pub fn parse(text: &str, style: DecimalStyle) -> Result<Self, NumberError> {
        let text = without_remark(text);
        let words = words(&text);
        let Some(first) = words.iter().position(|word| word.number) else {
            // What is wrong with it is best told about the whole.
            return Quantity::parse(&text, style).map(|amount| Self {
                amount,
                unit: None,
                each: None,
            });
        };
        let amount = Quantity::parse(words[first].text, style)?;
        let before = &words[..first];
        let rest = &words[first + 1..];
        let second = rest.iter().position(|word| word.number).map(|at| first + 1 + at);
        let Some(second) = second else {
            let unit = unit_of(before)?.or(unit_of(rest)?);
            return Ok(Self {
                amount,
                unit,
                each: None,
            });
        };
        let (between, after) = (&words[first + 1..second], &words[second + 1..]);
        // `2 12` says nothing that could be relied on.
        let joined = between
            .iter()
            .any(|word| EACH.contains(&word.text.to_lowercase().as_str()));
        if !joined || after.iter().any(|word| word.number) {
            return Err(NumberError::NotANumber);
        }
        let between: Vec<Word<'_>> = between
            .iter()
            .filter(|word| !EACH.contains(&word.text.to_lowercase().as_str()))
            .copied()
            .collect();
        let held = Quantity::parse(words[second].text, style)?;
        Ok(Self {
            amount,
            unit: unit_of(&between)?,
            each: Some((held, unit_of(after)?)),
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Word<'t> {
    text: &'t str,
    number: bool,
}

/// Numbers apart from words, also where they touch (`2x12`, `5Stk`). Spaces inside a number belong to it: `1 234,5`.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let number = first.is_ascii_digit()
            || "+-−".contains(first) && rest[first.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        let end = if number { number_end(rest) } else { word_end(rest) };
        let (word, after) = rest.split_at(end);
        words.push(Word { text: word, number });
        rest = after.trim_start();
    }
    words
}

fn word_end(text: &str) -> usize {
    let end = text
        .find(|c: char| c.is_whitespace() || c.is_ascii_digit())
        .unwrap_or(text.len());
    end.max(text.chars().next().map_or(0, char::len_utf8))
}

fn number_end(text: &str) -> usize {
    let mut end = 0;
    for (at, c) in text.char_indices() {
        let inside = c.is_ascii_digit() || ".,'’-−+/:–".contains(c);
        // A space groups digits by three.
        let grouping = matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '\u{2007}') && {
            let next = &text[at + c.len_utf8()..];
            next.len() >= 3
                && next.as_bytes()[..3].iter().all(u8::is_ascii_digit)
                && !next[3..].starts_with(|c: char| c.is_ascii_digit())
        };
        if !inside && !grouping {
            return at;
        }
        end = at + c.len_utf8();
    }
    end
}

/// The unit among these words: a known one, else the only one; `None` when there is none.
fn unit_of(words: &[Word<'_>]) -> Result<Option<String>, NumberError> {
    let meaning = words.iter().filter_map(|word| {
        let text = word
            .text
            .trim_matches(|c: char| !c.is_alphanumeric() && !"€$£¥²³".contains(c));
        let silent = text.is_empty() || SILENT.contains(&text.to_lowercase().as_str());
        (!silent).then_some(text)
    });
    let meaning: Vec<&str> = meaning.collect();
    if let Some(known) = meaning.iter().find(|word| unit(word).is_some()) {
        return Ok(Some((*known).to_owned()));
    }
    match meaning.as_slice() {
        [] => Ok(None),
        // `6er` and `12-er` say nothing more than the number.
        ["er" | "er-pack" | "st"] => Ok(None),
        [only] if only.chars().all(char::is_alphabetic) => Ok(Some((*only).to_owned())),
        _ => Err(NumberError::NotANumber),
    }
}

/// `2 (two)` → `2`; what stands in brackets explains, unless nothing else is there.
fn without_remark(text: &str) -> String {
    let mut depth = 0_u32;
    let kept: String = text
        .chars()
        .filter(|c| match c {
            '(' | '[' => {
                depth += 1;
                false
            }
            ')' | ']' => {
                depth = depth.saturating_sub(1);
                false
            }
            _ => depth == 0,
        })
        .collect();
    if kept.contains(|c: char| c.is_ascii_digit()) {
        kept
    } else {
        text.replace(['(', ')', '[', ']'], " ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_their_units() {
        let read = |text: &str| {
            Measure::parse(text, DecimalStyle::Either).map(|measure| {
                let each = measure
                    .each
                    .map(|(held, unit)| format!(" of {held} {}", unit.unwrap_or_default()));
                let told = format!(
                    "{} {}{}",
                    measure.amount,
                    measure.unit.unwrap_or_default(),
                    each.unwrap_or_default()
                );
                told.trim_end().to_owned()
            })
        };
        for (text, expected) in [
            ("2", "2"),
            ("5 Stk.", "5 Stk"),
            ("5Stk", "5 Stk"),
            ("1,5 kg", "1.5 kg"),
            ("kg 1.5", "1.5 kg"),
            ("500g", "500 g"),
            ("3 Kartons à 12", "3 Kartons of 12"),
            ("3 Kartons à 12 Stück", "3 Kartons of 12 Stück"),
            ("2 boxes of 12 pcs", "2 boxes of 12 pcs"),
            ("2x12", "2  of 12"),
            ("3 x 6er", "3  of 6"),
            ("2 (two)", "2"),
            ("(2)", "2"),
            ("1 200 pcs", "1200 pcs"),
            ("1\u{202f}200", "1200"),
            ("1'200", "1200"),
            ("10 please", "10"),
            ("4 Gebinde", "4 Gebinde"),
        ] {
            assert_eq!(read(text), Ok(expected.to_owned()), "{text:?}");
        }
        for (text, expected) in [
            ("", NumberError::Missing),
            ("two", NumberError::NotANumber),
            ("-3 pcs", NumberError::Negative),
            ("2026-12-24", NumberError::Date),
            ("24.12.2026", NumberError::Date),
            ("24/12/26", NumberError::Date),
            ("24.12.", NumberError::Date),
            ("1.234", NumberError::Ambiguous),
            ("2 12", NumberError::NotANumber),
            ("3-5", NumberError::NotANumber),
            ("2 of 3 of 4", NumberError::NotANumber),
            ("5 or so if you have them", NumberError::NotANumber),
        ] {
            assert_eq!(read(text), Err(expected), "{text:?}");
        }
    }
}
