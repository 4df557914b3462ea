//! Amounts of money as whole hundredths (cents) of a currency. Which currency stands beside the amount; there is no
//! conversion.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::number::{DecimalStyle, NumberError, format_scaled, parse_scaled};
use super::quantity::Quantity;

/// An amount in hundredths of its currency's unit. Serialised as that integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of `minor` hundredths.
    #[must_use]
    pub const fn from_minor(minor: i64) -> Self {
        Self(minor)
    }

    /// The amount in hundredths.
    #[must_use]
    pub const fn minor(self) -> i64 {
        self.0
    }

    /// Reads a price such as `12.50`, `12,50 EUR` or `€ 1.234,50`.
    ///
    /// # Errors
    /// [`NumberError`] when it is missing, no number, ambiguous, or finer than a hundredth.
    pub fn parse(text: &str, style: DecimalStyle) -> Result<Self, NumberError> {
        parse_scaled(text, 2, style).map(Self)
    }

    /// As [`parse`](Self::parse), but up to six places are rounded half up to a hundredth.
    ///
    /// # Errors
    /// [`NumberError`] as there.
    pub fn parse_rounded(text: &str, style: DecimalStyle) -> Result<Self, NumberError> {
        let millionths = parse_scaled(text, 6, style)?;
        Ok(Self(millionths / 10_000 + i64::from(millionths % 10_000 >= 5_000)))
    }

    /// The sum; `None` past the range of an `i64`.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// This unit price times `quantity`, rounded half up to a hundredth; `None` past the range of an `i64`.
    #[must_use]
    pub fn times(self, quantity: Quantity) -> Option<Self> {
        let exact = i128::from(self.0) * i128::from(quantity.thousandths());
        i64::try_from((exact + 500).div_euclid(1000)).ok().map(Self)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_scaled(f, self.0, 2, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_multiplies_exactly_and_prints_two_places() {
        let price = Money::from_minor(1250);
        assert_eq!(price.to_string(), "12.50");
        assert_eq!(Money::from_minor(5).to_string(), "0.05");
        assert_eq!(Money::from_minor(-1205).to_string(), "-12.05");
        assert_eq!(
            price.times(Quantity::from_thousandths(1_500)),
            Some(Money::from_minor(1875))
        );
        assert_eq!(
            Money::from_minor(1).times(Quantity::from_thousandths(500)),
            Some(Money::from_minor(1))
        );
        assert_eq!(
            Money::from_minor(i64::MAX).times(Quantity::from_thousandths(2_000)),
            None
        );
    }
}
