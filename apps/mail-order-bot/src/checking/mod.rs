//! Order lines against the catalogue: article, quantity, price; what is accepted and why the rest is not. Pure.

mod quantity;

use crate::domain::money::Money;
use crate::domain::{
    Article, Catalogue, CustomerProfile, LineStatus, NumberError, OrderLine, OrderStatus, RejectReason,
};
use crate::reading::DraftLine;
use quantity::Counted;

/// Lines of one order for which an article is suggested; looking for one is the dearest step.
const MAX_SUGGESTIONS: u32 = 100;

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
    /// How the customer orders.
    pub profile: &'a CustomerProfile,
    /// Whether the sender may order at all; if not, every line is rejected for that reason.
    pub may_order: bool,
}

impl Checker<'_> {
    /// Judges every line. `incomplete` says that a part of the mail could not be read, so that an order whose lines are
    /// all fine is still only partly accepted.
    #[must_use]
    pub fn check(&self, drafts: &[DraftLine], incomplete: bool) -> Checked {
        let mut total = Money::ZERO;
        let mut suggestions = MAX_SUGGESTIONS;
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
            if let LineStatus::Rejected {
                reason: RejectReason::UnknownArticle { suggestion },
            } = &mut line.status
                && suggestions > 0
            {
                suggestions -= 1;
                let near = self.catalogue.suggest(&draft.article, draft.name.as_deref());
                *suggestion = near.map(|article| article.number.clone());
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

    /// The article that `reference` means to this customer.
    fn article(&self, reference: &str) -> Option<&Article> {
        match self.profile.article(reference) {
            Some(ours) => self.catalogue.find(ours),
            None => self.catalogue.find(reference),
        }
    }

    fn line(&self, position: u32, draft: &DraftLine) -> OrderLine {
        let article = self.article(&draft.article);
        let counted = quantity::count(draft, article, self.profile);
        let quantity = counted.as_ref().ok().map(|counted| counted.quantity);
        let status = match self.judge(draft, article, counted) {
            Ok(accepted) => accepted,
            Err(reason) => LineStatus::Rejected { reason },
        };
        OrderLine {
            position,
            article: article.map_or_else(|| draft.article.clone(), |article| article.number.clone()),
            name: article
                .map(|article| article.name.clone())
                .or_else(|| draft.name.clone()),
            quantity,
            quantity_given: quantity::given(draft),
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
        counted: Result<Counted, RejectReason>,
    ) -> Result<LineStatus, RejectReason> {
        if !self.may_order {
            return Err(RejectReason::UnknownCustomer);
        }
        if draft.article.is_empty() {
            return Err(RejectReason::MissingArticle);
        }
        let article = article.ok_or(RejectReason::UnknownArticle { suggestion: None })?;
        self.check_name(draft, article)?;
        if !article.available {
            return Err(RejectReason::NotAvailable);
        }
        let counted = counted?;
        quantity::check(article, counted.quantity)?;
        self.check_price(draft, article, &counted)?;
        let amount = article
            .price
            .times(counted.quantity)
            .ok_or(RejectReason::AmountTooLarge)?;
        Ok(LineStatus::Accepted {
            unit_price: article.price,
            amount,
        })
    }

    /// A number with a slip in it may be another article's; the name beside it tells. Where the customer has own numbers,
    /// the names may be own ones too.
    fn check_name(&self, draft: &DraftLine, article: &Article) -> Result<(), RejectReason> {
        let named = draft.name.as_deref().and_then(|name| self.catalogue.named(name));
        match named.filter(|named| named.number != article.number && self.profile.article(&draft.article).is_none()) {
            Some(named) => Err(RejectReason::NameContradicts {
                named: named.number.clone(),
            }),
            None => Ok(()),
        }
    }

    /// A price is optional; one that is given must be the catalogue's within the customer's tolerance: per unit, or per
    /// package where the quantity is in packages.
    fn check_price(&self, draft: &DraftLine, article: &Article, counted: &Counted) -> Result<(), RejectReason> {
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
        let style = quantity::style(given, self.profile);
        let price = match Money::parse(&given.text, style) {
            Ok(price) => price,
            // More than two places are how a program writes a division; the cents decide.
            Err(NumberError::TooPrecise) => Money::parse_rounded(&given.text, style).map_err(bad_price)?,
            Err(problem) => return Err(bad_price(problem)),
        };
        let tolerance = self.profile.price_tolerance;
        let per_package = counted.package.and_then(|holds| article.price.times(holds));
        if tolerance.allows(price, article.price) || per_package.is_some_and(|ours| tolerance.allows(price, ours)) {
            Ok(())
        } else {
            Err(RejectReason::PriceMismatch {
                catalogue: article.price,
                currency: currency.to_owned(),
            })
        }
    }
}

fn bad_price(problem: NumberError) -> RejectReason {
    RejectReason::BadPrice { problem }
}

/// The currency that `text` names by sign or code, if any.
fn currency_in(text: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 16] = [
        ("€", "EUR"),
        ("eur", "EUR"),
        ("$", "USD"),
        ("usd", "USD"),
        ("£", "GBP"),
        ("gbp", "GBP"),
        ("chf", "CHF"),
        ("sfr", "CHF"),
        ("¥", "JPY"),
        ("pln", "PLN"),
        ("zł", "PLN"),
        ("czk", "CZK"),
        ("kč", "CZK"),
        ("sek", "SEK"),
        ("dkk", "DKK"),
        ("nok", "NOK"),
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
    use crate::domain::{DecimalStyle, Quantity};
    use crate::reading::Value;

    const CATALOGUE: &str = "article,name,price,unit,min_quantity,max_quantity,multiple,packages,available\n\
        T-1,Tea,4.50,pcs,,100,,,yes\nT-2,Loose tea,28.00,kg,0.5,50,,bag=5,yes\nT-3,Rare tea,9,pcs,,,,,no\n\
        T-4,Cup,6.75,pcs,2,,,,yes\nT-5,Spoon,1.20,pcs,,,6,Karton=12,yes\n";

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
            profile: &CustomerProfile::default(),
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
            (
                draft("T-9", "2", None),
                Some(RejectReason::UnknownArticle { suggestion: None }),
            ),
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
            profile: &CustomerProfile {
                decimal: DecimalStyle::Comma,
                ..CustomerProfile::default()
            },
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
            profile: &CustomerProfile::default(),
            may_order: false,
        };
        let checked = checker.check(&[draft("T-1", "1", None)], false);
        assert_eq!(checked.lines[0].reason(), Some(&RejectReason::UnknownCustomer));
    }
}
