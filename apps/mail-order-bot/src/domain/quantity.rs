//! Quantities as whole thousandths of the article's unit, so that `1.5 kg` needs no floating point.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::number::{DecimalStyle, NumberError, format_scaled, parse_scaled};

/// How many units, in thousandths. Serialised as decimal text (`"1.5"`), which no reader can round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i64);

impl Quantity {
    /// A quantity of `thousandths` / 1000 units.
    #[must_use]
    pub const fn from_thousandths(thousandths: i64) -> Self {
        Self(thousandths)
    }

    /// The quantity in thousandths of a unit.
    #[must_use]
    pub const fn thousandths(self) -> i64 {
        self.0
    }

    /// Whether it is a whole number of units.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.0 % 1000 == 0
    }

    /// Reads `2`, `1,5`, `3 pcs`.
    ///
    /// # Errors
    /// [`NumberError`] when it is missing, no number, ambiguous, negative, or finer than a thousandth.
    pub fn parse(text: &str, style: DecimalStyle) -> Result<Self, NumberError> {
        // `24.12.` is a day of the month; a sum of money may end a sentence.
        let day = |text: &str| {
            let (day, month) = text.trim().strip_suffix('.')?.split_once('.')?;
            let fits = |number: &str, most: u8| {
                (1..=2).contains(&number.len()) && number.parse::<u8>().is_ok_and(|number| (1..=most).contains(&number))
            };
            (fits(day, 31) && fits(month, 12)).then_some(())
        };
        if day(text).is_some() {
            return Err(NumberError::Date);
        }
        parse_scaled(text, 3, style).map(Self)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_scaled(f, self.0, 3, 0)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text, DecimalStyle::Point).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_print_without_trailing_zeros_and_read_back() {
        for (thousandths, text) in [(2000, "2"), (1500, "1.5"), (125, "0.125"), (1_234_000, "1234")] {
            let quantity = Quantity::from_thousandths(thousandths);
            assert_eq!(quantity.to_string(), text);
            let json = serde_json::to_string(&quantity).unwrap();
            assert_eq!(serde_json::from_str::<Quantity>(&json).unwrap(), quantity);
        }
    }
}
