//! Order lines against the catalogue: article, quantity, price; what is accepted and why the rest is not. Pure.

use crate::domain::money::Money;
use crate::domain::{
    Article, Catalogue, DecimalStyle, LineStatus, NumberError, OrderLine, OrderStatus, Quantity, RejectReason,
};
use crate::reading::{DraftLine, Value};

/// The verdict on a whole order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The lines in the order of the mail.
    pub lines: Vec<OrderLine>,
    /// The outcome for the whole.
    pub status: OrderStatus,
    /// The sum of the accepted lines.
    pub total: Money,
}

/// What the lines are judged by.
#[derive(Debug, Clone, Copy)]
pub struct Checker<'a> {
    /// What is sold.
    pub catalogue: &'a Catalogue,
    /// How the customer writes decimals.
    pub decimal: DecimalStyle,
    /// Whether the sender may order at all; if not, every line is rejected for that reason.
    pub may_order: bool,
}

impl Checker<'_> {
    /// Judges every line. `incomplete` says that a part of the mail could not be read, so that an order whose lines are
    /// all fine is still only partly accepted.
    #[must_use]
    pub fn check(&self, drafts: &[DraftLine], incomplete: bool) -> Checked {
        let mut total = Money::ZERO;
        let mut lines = Vec::with_capacity(drafts.len());
        for (position, draft) in (1..).zip(drafts) {
            let mut line = self.line(position, draft);
            if let Some(amount) = line.amount() {
                match total.checked_add(amount) {
                    Some(sum) => total = sum,
                    None => {
                        line.status = LineStatus::Rejected {
                            reason: RejectReason::AmountTooLarge,
                        }
                    }
                }
            }
            lines.push(line);
        }
        let accepted = lines.iter().filter(|line| line.reason().is_none()).count();
        let status = match accepted {
            0 => OrderStatus::Rejected,
            all if all == lines.len() && !incomplete => OrderStatus::Accepted,
            _ => OrderStatus::PartlyAccepted,
        };
        Checked { lines, status, total }
    }

    fn line(&self, position: u32, draft: &DraftLine) -> OrderLine {
        let article = self.catalogue.find(&draft.article);
        let quantity = self.number(&draft.quantity, Quantity::parse);
        let status = match self.judge(draft, article, quantity) {
            Ok(accepted) => accepted,
            Err(reason) => LineStatus::Rejected { reason },
        };
        OrderLine {
            position,
            article: article.map_or_else(|| draft.article.clone(), |article| article.number.clone()),
            name: article
                .map(|article| article.name.clone())
                .or_else(|| draft.name.clone()),
            quantity: quantity.ok(),
            quantity_given: draft.quantity.text.clone(),
            unit: article.map(|article| article.unit.clone()),
            price_given: draft.price.as_ref().map(|price| price.text.clone()),
            place: draft.place.clone(),
            status,
        }
    }

    fn judge(
        &self,
        draft: &DraftLine,
        article: Option<&Article>,
        quantity: Result<Quantity, NumberError>,
    ) -> Result<LineStatus, RejectReason> {
        if !self.may_order {
            return Err(RejectReason::UnknownCustomer);
        }
        if draft.article.is_empty() {
            return Err(RejectReason::MissingArticle);
        }
        let article = article.ok_or(RejectReason::UnknownArticle)?;
        if !article.available {
            return Err(RejectReason::NotAvailable);
        }
        let quantity = quantity.map_err(|problem| RejectReason::BadQuantity { problem })?;
        check_quantity(article, quantity)?;
        self.check_price(draft, article)?;
        let amount = article.price.times(quantity).ok_or(RejectReason::AmountTooLarge)?;
        Ok(LineStatus::Accepted {
            unit_price: article.price,
            amount,
        })
    }

    /// A price is optional; one that is given must be the catalogue's.
    fn check_price(&self, draft: &DraftLine, article: &Article) -> Result<(), RejectReason> {
        let currency = self.catalogue.currency();
        let Some(given) = &draft.price else { return Ok(()) };
        let named = draft
            .currency
            .as_deref()
            .and_then(currency_in)
            .or_else(|| currency_in(&given.text));
        if named.is_some_and(|named| named != currency) {
            return Err(RejectReason::CurrencyMismatch {
                currency: currency.to_owned(),
            });
        }
        let price = self
            .number(given, Money::parse)
            .map_err(|problem| RejectReason::BadPrice { problem })?;
        if price == article.price {
            Ok(())
        } else {
            Err(RejectReason::PriceMismatch {
                catalogue: article.price,
                currency: currency.to_owned(),
            })
        }
    }

    fn number<T>(
        &self,
        value: &Value,
        parse: impl Fn(&str, DecimalStyle) -> Result<T, NumberError>,
    ) -> Result<T, NumberError> {
        parse(
            &value.text,
            if value.machine {
                DecimalStyle::Point
            } else {
                self.decimal
            },
        )
    }
}

fn check_quantity(article: &Article, quantity: Quantity) -> Result<(), RejectReason> {
    if quantity.thousandths() == 0 {
        return Err(RejectReason::ZeroQuantity);
    }
    if !quantity.is_whole() && !article.divisible() {
        return Err(RejectReason::WholeUnitsOnly {
            unit: article.unit.clone(),
        });
    }
    match (article.minimum, article.maximum) {
        (Some(minimum), _) if quantity < minimum => Err(RejectReason::BelowMinimum { minimum }),
        (_, Some(maximum)) if quantity > maximum => Err(RejectReason::AboveMaximum { maximum }),
        _ => Ok(()),
    }
}

/// The currency that `text` names by sign or code, if any.
fn currency_in(text: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 9] = [
        ("€", "EUR"),
        ("eur", "EUR"),
        ("$", "USD"),
        ("usd", "USD"),
        ("£", "GBP"),
        ("gbp", "GBP"),
        ("chf", "CHF"),
        ("sfr", "CHF"),
        ("¥", "JPY"),
    ];
    let text = text.to_lowercase();
    NAMES
        .iter()
        .find(|(sign, _)| text.contains(sign))
        .map(|(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOGUE: &str = "article,name,price,unit,min_quantity,max_quantity,available\n\
        T-1,Tea,4.50,pcs,,100,yes\nT-2,Loose tea,28.00,kg,0.5,50,yes\nT-3,Rare tea,9,pcs,,,no\nT-4,Cup,6.75,pcs,2,,yes\n";

    fn draft(article: &str, quantity: &str, price: Option<&str>) -> DraftLine {
        let price = price.map(Value::text);
        DraftLine {
            article: article.to_owned(),
            quantity: Value::text(quantity),
            price,
            ..DraftLine::default()
        }
    }

    fn check(drafts: &[DraftLine], incomplete: bool) -> Checked {
        let catalogue = Catalogue::from_csv(CATALOGUE.as_bytes(), "test").unwrap();
        let checker = Checker {
            catalogue: &catalogue,
            decimal: DecimalStyle::Either,
            may_order: true,
        };
        checker.check(drafts, incomplete)
    }

    #[test]
    fn every_reason_is_given() {
        let quantity = Quantity::from_thousandths;
        let eur = || "EUR".to_owned();
        let table: Vec<(DraftLine, Option<RejectReason>)> = vec![
            (draft("T-1", "2", None), None),
            (draft("t-1", "2 pcs", Some("4,50 €")), None),
            (draft("tea", "2", Some("EUR 4.5")), None),
            (draft("T-2", "1,5", None), None),
            (draft("", "2", None), Some(RejectReason::MissingArticle)),
            (draft("T-9", "2", None), Some(RejectReason::UnknownArticle)),
            (draft("T-3", "2", None), Some(RejectReason::NotAvailable)),
            (
                draft("T-1", "", None),
                Some(RejectReason::BadQuantity {
                    problem: NumberError::Missing,
                }),
            ),
            (
                draft("T-1", "some", None),
                Some(RejectReason::BadQuantity {
                    problem: NumberError::NotANumber,
                }),
            ),
            (
                draft("T-1", "-2", None),
                Some(RejectReason::BadQuantity {
                    problem: NumberError::Negative,
                }),
            ),
            (
                draft("T-1", "1.000", None),
                Some(RejectReason::BadQuantity {
                    problem: NumberError::Ambiguous,
                }),
            ),
            (draft("T-1", "0", None), Some(RejectReason::ZeroQuantity)),
            (
                draft("T-1", "1.5", None),
                Some(RejectReason::WholeUnitsOnly { unit: "pcs".to_owned() }),
            ),
            (
                draft("T-4", "1", None),
                Some(RejectReason::BelowMinimum {
                    minimum: quantity(2000),
                }),
            ),
            (
                draft("T-1", "101", None),
                Some(RejectReason::AboveMaximum {
                    maximum: quantity(100_000),
                }),
            ),
            (
                draft("T-1", "1", Some("cheap")),
                Some(RejectReason::BadPrice {
                    problem: NumberError::NotANumber,
                }),
            ),
            (
                draft("T-1", "1", Some("4.40")),
                Some(RejectReason::PriceMismatch {
                    catalogue: Money::from_minor(450),
                    currency: eur(),
                }),
            ),
            (
                draft("T-1", "1", Some("$4.50")),
                Some(RejectReason::CurrencyMismatch { currency: eur() }),
            ),
        ];
        for (draft, reason) in table {
            let checked = check(std::slice::from_ref(&draft), false);
            assert_eq!(checked.lines[0].reason(), reason.as_ref(), "{draft:?}");
        }
    }

    #[test]
    fn the_status_follows_from_the_lines() {
        let (good, bad) = (draft("T-1", "2", None), draft("T-9", "1", None));
        assert_eq!(
            check(&[good.clone(), good.clone()], false).status,
            OrderStatus::Accepted
        );
        assert_eq!(
            check(std::slice::from_ref(&good), true).status,
            OrderStatus::PartlyAccepted
        );
        let mixed = check(&[good, bad.clone()], false);
        assert_eq!(mixed.status, OrderStatus::PartlyAccepted);
        assert_eq!(mixed.total, Money::from_minor(900));
        assert_eq!(check(&[bad], false).status, OrderStatus::Rejected);
        assert_eq!(check(&[], true).status, OrderStatus::Rejected);
    }

    #[test]
    fn a_number_cell_is_read_as_the_machine_meant_it() {
        let catalogue = Catalogue::from_csv(CATALOGUE.as_bytes(), "test").unwrap();
        let checker = Checker {
            catalogue: &catalogue,
            decimal: DecimalStyle::Comma,
            may_order: true,
        };
        let mut line = draft("T-2", "", None);
        line.quantity = Value::number(1.125);
        assert_eq!(
            checker.check(&[line], false).lines[0].quantity,
            Some(Quantity::from_thousandths(1125))
        );
    }

    #[test]
    fn strangers_are_told_so_where_only_customers_may_order() {
        let catalogue = Catalogue::from_csv(CATALOGUE.as_bytes(), "test").unwrap();
        let checker = Checker {
            catalogue: &catalogue,
            decimal: DecimalStyle::Either,
            may_order: false,
        };
        let checked = checker.check(&[draft("T-1", "1", None)], false);
        assert_eq!(checked.lines[0].reason(), Some(&RejectReason::UnknownCustomer));
    }
}
