//! How far a price in an order may be from the catalogue's.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::money::Money;
use super::number::{DecimalStyle, parse_scaled};

/// A tolerance, written `0.05` (in the catalogue's currency), `2%` or `any`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum PriceTolerance {
    /// The prices must be equal.
    #[default]
    None,
    /// They may differ by this much.
    Amount(Money),
    /// They may differ by so many hundredths of a percent of the catalogue's price.
    Percent(i64),
    /// Prices of the customer are not looked at.
    Any,
}

/// A text that is no tolerance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no tolerance: write an amount (`0.05`), a share (`2%`) or `any`")]
pub struct ToleranceError(String);

impl PriceTolerance {
    /// Whether `given` is near enough to `catalogue`.
    #[must_use]
    pub fn allows(self, given: Money, catalogue: Money) -> bool {
        let apart = i128::from(given.minor()) - i128::from(catalogue.minor());
        match self {
            Self::None => apart == 0,
            Self::Amount(most) => apart.abs() <= i128::from(most.minor()),
            Self::Percent(most) => apart.abs() * 10_000 <= i128::from(catalogue.minor()).abs() * i128::from(most),
            Self::Any => true,
        }
    }
}

impl TryFrom<String> for PriceTolerance {
    type Error = ToleranceError;

    fn try_from(text: String) -> Result<Self, ToleranceError> {
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            plain.then(|| parse_scaled(text, 2, DecimalStyle::Point).ok()).flatten()
        };
        let trimmed = text.trim();
        let read = match (trimmed, trimmed.strip_suffix('%')) {
            ("any", _) => Some(Self::Any),
            (_, Some(percent)) => number(percent.trim()).map(Self::Percent),
            (amount, None) => number(amount).map(|amount| Self::Amount(Money::from_minor(amount))),
        };
        read.ok_or(ToleranceError(text))
    }
}

impl From<PriceTolerance> for String {
    fn from(tolerance: PriceTolerance) -> Self {
        tolerance.to_string()
    }
}

impl fmt::Display for PriceTolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("0"),
            Self::Amount(amount) => amount.fmt(f),
            Self::Percent(percent) => write!(f, "{}%", Money::from_minor(*percent)),
            Self::Any => f.write_str("any"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_compared_within_the_tolerance() {
        let allows = |tolerance: &str, given: i64| {
            let tolerance: PriceTolerance = serde_json::from_value(tolerance.into()).unwrap();
            let again: PriceTolerance = serde_json::from_value(serde_json::to_value(tolerance).unwrap()).unwrap();
            assert!(again.allows(Money::from_minor(450), Money::from_minor(450)));
            tolerance.allows(Money::from_minor(given), Money::from_minor(450))
        };
        assert!(allows("0", 450) && !allows("0", 451));
        assert!(allows("0.05", 455) && allows("0.05", 445) && !allows("0.05", 456));
        assert!(allows("2%", 459) && !allows("2%", 460));
        assert!(allows("any", 1));
        for wrong in ["", "little", "-1", "1,5", "2 EUR"] {
            assert!(
                serde_json::from_value::<PriceTolerance>(wrong.into()).is_err(),
                "{wrong:?}"
            );
        }
    }
}
