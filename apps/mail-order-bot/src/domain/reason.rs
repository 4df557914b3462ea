//! Why a line of an order is not accepted, as a value that is stored and as the sentence the customer reads.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::money::Money;
use super::number::NumberError;
use super::quantity::Quantity;

/// The reason of one rejected line. JSON: `{"code": "unknown_article", …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum RejectReason {
    /// The line names no article.
    MissingArticle,
    /// The catalogue has no such article.
    UnknownArticle {
        /// The number of the article that may be meant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        suggestion: Option<String>,
    },
    /// The name beside the article's number is that of another article.
    NameContradicts {
        /// The number of the article with that name.
        named: String,
    },
    /// The article is in the catalogue but not sold at the moment.
    NotAvailable,
    /// The quantity can't be read.
    BadQuantity {
        /// What is wrong with it.
        problem: NumberError,
    },
    /// Zero units.
    ZeroQuantity,
    /// A fraction of something sold in whole units.
    WholeUnitsOnly {
        /// The unit it is sold in.
        unit: String,
    },
    /// A unit that can't be counted in the one that the article is sold in.
    UnknownUnit {
        /// The customer's unit.
        given: String,
        /// The unit it is sold in.
        unit: String,
    },
    /// The customer's package holds another number than the catalogue's.
    PackageDiffers {
        /// The package as the customer calls it.
        package: String,
        /// What it holds, in the unit that the article is sold in.
        holds: Quantity,
    },
    /// Not a multiple of what is packed together.
    NotAMultiple {
        /// What is packed together.
        multiple: Quantity,
    },
    /// Less than the smallest quantity that is sold.
    BelowMinimum {
        /// That quantity.
        minimum: Quantity,
    },
    /// More than the largest quantity that is sold at once.
    AboveMaximum {
        /// That quantity.
        maximum: Quantity,
    },
    /// The price can't be read.
    BadPrice {
        /// What is wrong with it.
        problem: NumberError,
    },
    /// The price of the order is not the catalogue's.
    PriceMismatch {
        /// The catalogue's price per unit.
        catalogue: Money,
        /// The catalogue's currency.
        currency: String,
    },
    /// The order names another currency than the catalogue.
    CurrencyMismatch {
        /// The catalogue's currency.
        currency: String,
    },
    /// The amount is beyond what can be counted.
    AmountTooLarge,
    /// The sender is not a customer, and only customers may order.
    UnknownCustomer,
}

impl RejectReason {
    /// The word under `code` in the JSON form.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingArticle => "missing_article",
            Self::UnknownArticle { .. } => "unknown_article",
            Self::NameContradicts { .. } => "name_contradicts",
            Self::NotAvailable => "not_available",
            Self::BadQuantity { .. } => "bad_quantity",
            Self::ZeroQuantity => "zero_quantity",
            Self::WholeUnitsOnly { .. } => "whole_units_only",
            Self::UnknownUnit { .. } => "unknown_unit",
            Self::PackageDiffers { .. } => "package_differs",
            Self::NotAMultiple { .. } => "not_a_multiple",
            Self::BelowMinimum { .. } => "below_minimum",
            Self::AboveMaximum { .. } => "above_maximum",
            Self::BadPrice { .. } => "bad_price",
            Self::PriceMismatch { .. } => "price_mismatch",
            Self::CurrencyMismatch { .. } => "currency_mismatch",
            Self::AmountTooLarge => "amount_too_large",
            Self::UnknownCustomer => "unknown_customer",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingArticle => f.write_str("the line names no article"),
            Self::UnknownArticle { suggestion: None } => f.write_str("we have no article with this number or name"),
            Self::UnknownArticle {
                suggestion: Some(number),
            } => write!(f, "we have no article with this number or name; do you mean {number}?"),
            Self::NameContradicts { named } => write!(
                f,
                "the name beside the number is that of {named}; which one do you mean?"
            ),
            Self::NotAvailable => f.write_str("the article is not available at the moment"),
            Self::BadQuantity { problem } => write!(f, "we cannot use the quantity: {problem}"),
            Self::ZeroQuantity => f.write_str("the quantity is zero"),
            Self::WholeUnitsOnly { unit } => write!(f, "it is sold in whole units ({unit}) only"),
            Self::UnknownUnit { given, unit } => write!(f, "we cannot count \"{given}\" of it; it is sold by {unit}"),
            Self::PackageDiffers { package, holds } => write!(f, "our \"{package}\" holds {holds}"),
            Self::NotAMultiple { multiple } => write!(f, "it is packed by {multiple}; please order a multiple of that"),
            Self::BelowMinimum { minimum } => write!(f, "the smallest quantity is {minimum}"),
            Self::AboveMaximum { maximum } => write!(f, "the largest quantity is {maximum}"),
            Self::BadPrice { problem } => write!(f, "we cannot use the price: {problem}"),
            Self::PriceMismatch { catalogue, currency } => write!(f, "our price is {catalogue} {currency}"),
            Self::CurrencyMismatch { currency } => write!(f, "we sell it in {currency}"),
            Self::AmountTooLarge => f.write_str("the amount is too large"),
            Self::UnknownCustomer => f.write_str("we take orders from registered customers only"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_what_the_json_says() {
        for reason in [
            RejectReason::UnknownArticle { suggestion: None },
            RejectReason::UnknownUnit {
                given: "pallet".to_owned(),
                unit: "kg".to_owned(),
            },
            RejectReason::BadQuantity {
                problem: NumberError::Ambiguous,
            },
            RejectReason::AboveMaximum {
                maximum: Quantity::from_thousandths(5000),
            },
            RejectReason::PriceMismatch {
                catalogue: Money::from_minor(1),
                currency: "EUR".to_owned(),
            },
        ] {
            let json = serde_json::to_value(&reason).unwrap();
            assert_eq!(json["code"], reason.code());
            assert_eq!(serde_json::from_value::<RejectReason>(json).unwrap(), reason);
        }
        let stored = serde_json::json!({ "code": "unknown_article" });
        let read: RejectReason = serde_json::from_value(stored).unwrap();
        assert_eq!(
            read,
            RejectReason::UnknownArticle { suggestion: None },
            "as earlier versions stored it"
        );
    }
}
