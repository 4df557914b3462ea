//! Reading decimal numbers as people and spreadsheets write them (`1.234,50`, `1,234.50`, `€ 12,50`, `3 pcs`) into
//! scaled integers. No floating point. What units the integers count is decided in `money` and `quantity`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest accepted number, in characters, currency and unit included.
const MAX_LENGTH: usize = 40;
/// Most accepted digits, so that scaling can't overflow an `i64`.
const MAX_DIGITS: usize = 12;

/// Which character separates the fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecimalStyle {
    /// Decide from the number itself; refuse what can be read in two ways (`1.234`).
    #[default]
    Either,
    /// `1,234.50`
    Point,
    /// `1.234,50`
    Comma,
}

/// Why a text is not a number that can be acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum NumberError {
    /// Nothing there.
    #[error("it is missing")]
    Missing,
    /// Not a number.
    #[error("it is not a number")]
    NotANumber,
    /// A date, which is no number however it is written.
    #[error("it is a date")]
    Date,
    /// `1.234` without knowing the sender's decimal separator.
    #[error("it can be read in two ways (decimal or thousands separator)")]
    Ambiguous,
    /// More decimal places than the unit has.
    #[error("it has too many decimal places")]
    TooPrecise,
    /// Larger than any order could be.
    #[error("it is too large")]
    TooLarge,
    /// Below zero.
    #[error("it is negative")]
    Negative,
}

/// Reads `text` as a non-negative number with at most `places` decimals, scaled by `10^places`.
///
/// Surrounding currency signs and unit words are skipped; digits, separators and one sign must form one run.
///
/// # Errors
/// [`NumberError`] says what is wrong with it.
pub fn parse_scaled(text: &str, places: u32, style: DecimalStyle) -> Result<i64, NumberError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(NumberError::Missing);
    }
    if text.chars().count() > MAX_LENGTH {
        return Err(NumberError::TooLarge);
    }
    if is_date(text) {
        return Err(NumberError::Date);
    }
    let core = numeric_core(text)?;
    let (whole, fraction) = split(&core, style)?;
    let fraction = fraction.trim_end_matches('0');
    if whole.len() > MAX_DIGITS {
        return Err(NumberError::TooLarge);
    }
    if fraction.len() > places as usize {
        return Err(NumberError::TooPrecise);
    }
    let digits = format!("{whole}{fraction:0<width$}", width = places as usize);
    digits.parse().map_err(|_| NumberError::TooLarge)
}

/// Whether `text` is a date: `24.12.2026`, `24/12/26`, `2026-12-24`, perhaps with a time behind it.
pub fn is_date(text: &str) -> bool {
    let date = text.trim().split([' ', 'T']).next().unwrap_or_default();
    let Some(separator) = date
        .chars()
        .find(|c| !c.is_ascii_digit())
        .filter(|c| "./-".contains(*c))
    else {
        return false;
    };
    let groups: Vec<&str> = date.split(separator).collect();
    let [first, second, third] = groups.as_slice() else {
        return false;
    };
    let number = |group: &str, digits: std::ops::RangeInclusive<usize>| {
        (digits.contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| group.parse().unwrap_or(0_u16))
    };
    let of_year = |group: Option<u16>| group.is_some_and(|number| (1..=31).contains(&number));
    let year = |group: &str| {
        number(group, 2..=2).is_some() || number(group, 4..=4).is_some_and(|year| (1900..2200).contains(&year))
    };
    let (day, month) = (number(first, 1..=2), number(second, 1..=2));
    // One of both is the month.
    let month_and_day = |a: Option<u16>, b: Option<u16>| of_year(a) && of_year(b) && (a.min(b) <= Some(12));
    month_and_day(day, month) && year(third)
        || first.len() == 4 && year(first) && month_and_day(month, number(third, 1..=2))
}

/// The run of digits and separators inside `text`, without grouping spaces.
fn numeric_core(text: &str) -> Result<String, NumberError> {
    let start = text.find(|c: char| c.is_ascii_digit()).ok_or(NumberError::NotANumber)?;
    let end = text.rfind(|c: char| c.is_ascii_digit()).map_or(start, |at| at + 1);
    let (before, core, after) = (&text[..start], &text[start..end], &text[end..]);
    if before.contains(['-', '−']) {
        return Err(NumberError::Negative);
    }
    let label = |c: char| c.is_alphabetic() || c.is_whitespace() || "€$£¥.+".contains(c);
    // `12.-` and `12,-` are Swiss and German for "no cents".
    let label_after = |c: char| label(c) || ",-–²³".contains(c);
    if !before.chars().all(label) || !after.chars().all(label_after) {
        return Err(NumberError::NotANumber);
    }
    let core: String = core
        .chars()
        .filter(|c| !matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '\u{2007}' | '\'' | '’'))
        .collect();
    if core.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ',') {
        Ok(core)
    } else {
        Err(NumberError::NotANumber)
    }
}

/// Splits `1.234,50` into its whole digits (never empty) and its fraction.
fn split(core: &str, style: DecimalStyle) -> Result<(String, &str), NumberError> {
    let decimal = match style {
        DecimalStyle::Point => Some('.'),
        DecimalStyle::Comma => Some(','),
        DecimalStyle::Either => guess(core)?,
    };
    let (whole, fraction) = match decimal.and_then(|separator| core.split_once(separator)) {
        Some((whole, fraction)) => (whole, fraction),
        None => (core, ""),
    };
    if !fraction.chars().all(|c| c.is_ascii_digit()) {
        return Err(NumberError::NotANumber);
    }
    Ok((ungroup(whole)?, fraction))
}

/// The decimal separator that `core` uses, if any.
fn guess(core: &str) -> Result<Option<char>, NumberError> {
    let (points, commas) = (core.matches('.').count(), core.matches(',').count());
    match (points, commas) {
        (0, 0) => Ok(None),
        (1, 0) | (0, 1) => {
            let separator = if points == 1 { '.' } else { ',' };
            let (whole, fraction) = core.split_once(separator).unwrap_or((core, ""));
            let could_group = fraction.len() == 3 && (1..=3).contains(&whole.len()) && !whole.starts_with('0');
            if could_group {
                Err(NumberError::Ambiguous)
            } else {
                Ok(Some(separator))
            }
        }
        (_, 0) | (0, _) => Ok(None),
        _ => Ok(if core.rfind('.') > core.rfind(',') {
            Some('.')
        } else {
            Some(',')
        }),
    }
}

/// Removes thousands separators, which must be of one kind and stand before groups of three.
fn ungroup(whole: &str) -> Result<String, NumberError> {
    let mut groups = whole.split(['.', ',']);
    let mut digits = groups.next().unwrap_or_default().to_owned();
    let grouped = digits.len() != whole.len();
    if grouped && !(1..=3).contains(&digits.len()) || whole.contains('.') && whole.contains(',') {
        return Err(NumberError::NotANumber);
    }
    for group in groups {
        if group.len() != 3 {
            return Err(NumberError::NotANumber);
        }
        digits.push_str(group);
    }
    let digits = digits.trim_start_matches('0');
    Ok(if digits.is_empty() {
        "0".to_owned()
    } else {
        digits.to_owned()
    })
}

/// Writes a scaled integer with at least `least` decimals: `format_scaled(f, 2500, 3, 0)` is `2.5`.
pub(super) fn format_scaled(f: &mut fmt::Formatter<'_>, value: i64, places: u32, least: usize) -> fmt::Result {
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = places as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places as usize);
    let kept = fraction.trim_end_matches('0').len().max(least);
    if kept == 0 {
        f.pad(&format!("{sign}{whole}"))
    } else {
        f.pad(&format!("{sign}{whole}.{}", &fraction[..kept]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        use DecimalStyle::{Comma, Either, Point};
        let table: &[(&str, DecimalStyle, Result<i64, NumberError>)] = &[
            ("12.50", Either, Ok(1250)),
            ("12,50", Either, Ok(1250)),
            ("12,5", Either, Ok(1250)),
            ("1.234,50", Either, Ok(123_450)),
            ("1,234.50", Either, Ok(123_450)),
            ("1'234.50", Either, Ok(123_450)),
            ("1 234,50 €", Either, Ok(123_450)),
            ("EUR 12.50", Either, Ok(1250)),
            ("€12", Either, Ok(1200)),
            ("12,-", Either, Ok(1200)),
            ("12,-- EUR", Either, Ok(1200)),
            ("1.234.567", Either, Ok(123_456_700)),
            ("0.125", Either, Err(NumberError::TooPrecise)),
            ("1.234", Either, Err(NumberError::Ambiguous)),
            ("1.234", Comma, Ok(123_400)),
            ("1.234", Point, Err(NumberError::TooPrecise)),
            ("12.500", Point, Ok(1250)),
            ("1.23.4", Either, Err(NumberError::NotANumber)),
            ("-3", Either, Err(NumberError::Negative)),
            ("two", Either, Err(NumberError::NotANumber)),
            ("3x4", Either, Err(NumberError::NotANumber)),
            ("", Either, Err(NumberError::Missing)),
            ("9999999999999999999", Either, Err(NumberError::TooLarge)),
            ("12.50.", Either, Ok(1250)),
            ("1e5", Either, Err(NumberError::NotANumber)),
            ("NaN", Either, Err(NumberError::NotANumber)),
            ("1\u{2009}234,5", Either, Ok(123_450)),
            ("1’234.50 CHF", Either, Ok(123_450)),
            ("24.12.2026", Either, Err(NumberError::Date)),
            ("2026-11-24 10:00", Either, Err(NumberError::Date)),
            ("11/24/26", Either, Err(NumberError::Date)),
        ];
        for (text, style, expected) in table {
            assert_eq!(parse_scaled(text, 2, *style), *expected, "{text:?} as {style:?}");
        }
    }
}
