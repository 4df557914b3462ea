//! A line's quantity in the unit that its article is sold in: units converted, packages opened, rules kept.

use crate::domain::unit::unit;
use crate::domain::{Article, CustomerProfile, DecimalStyle, Measure, Quantity, RejectReason};
use crate::reading::{DraftLine, Value};

/// A quantity in the article's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) quantity: Quantity,
    /// What each package holds, where the customer counts in packages.
    pub(super) package: Option<Quantity>,
}

/// How the customer writes the decimals of `value`.
pub(super) fn style(value: &Value, profile: &CustomerProfile) -> DecimalStyle {
    if value.machine {
        DecimalStyle::Point
    } else {
        profile.decimal
    }
}

/// The quantity as the customer wrote it, its unit with it.
pub(super) fn given(draft: &DraftLine) -> String {
    match &draft.unit {
        Some(unit) if !draft.quantity.is_empty() => format!("{} {unit}", draft.quantity.text),
        _ => draft.quantity.text.clone(),
    }
}

/// Counts a line's quantity in its article's unit; without an article, as it stands.
pub(super) fn count(
    draft: &DraftLine,
    article: Option<&Article>,
    profile: &CustomerProfile,
) -> Result<Counted, RejectReason> {
    let measure = Measure::parse(&draft.quantity.text, style(&draft.quantity, profile))
        .map_err(|problem| RejectReason::BadQuantity { problem })?;
    let Some(article) = article else {
        return Ok(Counted {
            quantity: measure.amount,
            package: None,
        });
    };
    let own = |word: &String| {
        let mut meanings = profile.units.iter();
        let meaning = meanings.find(|(own, _)| own.eq_ignore_ascii_case(word.trim_end_matches('.')));
        meaning.map_or_else(|| word.clone(), |(_, ours)| ours.clone())
    };
    let word = measure
        .unit
        .as_ref()
        .or(draft.unit.as_ref())
        .or(profile.unit.as_ref())
        .map(own);
    let given = given(draft);
    let unknown = || RejectReason::UnknownUnit {
        given: word.clone().unwrap_or_else(|| given.clone()),
        unit: article.unit.clone(),
    };
    if let Some((held, held_unit)) = &measure.each {
        let held = in_unit_of(article, *held, held_unit.as_deref()).ok_or_else(unknown)?;
        let ours = word.as_deref().and_then(|word| article.package(word));
        if let Some(holds) = ours.filter(|ours| *ours != held) {
            let package = word.clone().unwrap_or_default();
            return Err(RejectReason::PackageDiffers { package, holds });
        }
        return packages(measure.amount, held).ok_or(RejectReason::AmountTooLarge);
    }
    match word.as_deref() {
        Some(word) if article.package(word).is_some() => {
            let holds = article.package(word).unwrap_or(Quantity::from_thousandths(1_000));
            packages(measure.amount, holds).ok_or(RejectReason::AmountTooLarge)
        }
        word => Ok(Counted {
            quantity: in_unit_of(article, measure.amount, word).ok_or_else(unknown)?,
            package: None,
        }),
    }
}

fn packages(number: Quantity, holds: Quantity) -> Option<Counted> {
    let exact = i128::from(number.thousandths()) * i128::from(holds.thousandths());
    let quantity = i64::try_from(exact / 1_000).ok().filter(|_| exact % 1_000 == 0)?;
    Some(Counted {
        quantity: Quantity::from_thousandths(quantity),
        package: Some(holds),
    })
}

/// `amount` of `word` in the article's unit. Without a word it is the article's. A piece of something that is sold by the
/// bottle is a bottle; a piece of what is sold by the kilogram or by the box could be anything.
fn in_unit_of(article: &Article, amount: Quantity, word: Option<&str>) -> Option<Quantity> {
    let Some(word) = word.filter(|word| !word.trim_end_matches('.').eq_ignore_ascii_case(&article.unit)) else {
        return Some(amount);
    };
    let given = unit(word)?;
    match unit(&article.unit) {
        Some(sold) => match given.convert(amount, sold) {
            None if given.is_piece() && sold.is_package() && !matches!(sold.name, "box" | "pack" | "pallet") => {
                Some(amount)
            }
            converted => converted,
        },
        // A unit of the catalogue's own is counted like pieces.
        None => given.is_piece().then_some(amount),
    }
}

/// The article's rules about quantities.
pub(super) fn check(article: &Article, quantity: Quantity) -> Result<(), RejectReason> {
    if quantity.thousandths() == 0 {
        return Err(RejectReason::ZeroQuantity);
    }
    if !quantity.is_whole() && !article.divisible() {
        return Err(RejectReason::WholeUnitsOnly {
            unit: article.unit.clone(),
        });
    }
    match (article.minimum, article.maximum) {
        (Some(minimum), _) if quantity < minimum => return Err(RejectReason::BelowMinimum { minimum }),
        (_, Some(maximum)) if quantity > maximum => return Err(RejectReason::AboveMaximum { maximum }),
        _ => {}
    }
    match article.multiple {
        Some(multiple) if quantity.thousandths() % multiple.thousandths() != 0 => {
            Err(RejectReason::NotAMultiple { multiple })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Catalogue, NumberError};

    const CATALOGUE: &str = "article,name,price,unit,multiple,packages\nP,Cup,1,pcs,6,box=12 pallet=480\nK,Tea,1,kg,,sack=25\n\
                             B,Oil,1,bottle,,\nX,Filters,1,box,,\n";

    fn counted(article: &str, text: &str, profile: &CustomerProfile) -> Result<String, RejectReason> {
        let catalogue = Catalogue::from_csv(CATALOGUE.as_bytes(), "c").unwrap();
        let article = catalogue.find(article).unwrap();
        let (quantity, unit) = text
            .split_once('|')
            .map_or((text, None), |(text, unit)| (text, Some(unit.to_owned())));
        let draft = DraftLine {
            quantity: Value::text(quantity),
            unit,
            ..DraftLine::default()
        };
        let counted = count(&draft, Some(article), profile)?;
        check(article, counted.quantity)?;
        Ok(counted.quantity.to_string())
    }

    #[test]
    fn quantities_are_counted_in_the_articles_unit() {
        let plain = CustomerProfile::default();
        for (article, text, expected) in [
            ("P", "12", "12"),
            ("P", "12 Stk", "12"),
            ("P", "2 Kartons", "24"),
            ("P", "2|Krt", "24"),
            ("P", "2 boxes of 12", "24"),
            ("P", "3 Beutel à 4 Stk", "12"),
            ("P", "1 dozen", "12"),
            ("P", "0,5 Karton", "6"),
            ("K", "500 g", "0.5"),
            ("K", "2 sacks", "50"),
            ("K", "1,25|kg", "1.25"),
            ("B", "3 pcs", "3"),
            ("B", "3 Flaschen", "3"),
        ] {
            assert_eq!(
                counted(article, text, &plain),
                Ok(expected.to_owned()),
                "{article} {text}"
            );
        }
    }

    #[test]
    fn what_can_not_be_counted_is_said() {
        let plain = CustomerProfile::default();
        let unknown = |given: &str, unit: &str| RejectReason::UnknownUnit {
            given: given.to_owned(),
            unit: unit.to_owned(),
        };
        for (article, text, expected) in [
            ("P", "2 kg", unknown("kg", "pcs")),
            ("P", "2 Gebinde", unknown("Gebinde", "pcs")),
            ("K", "2 Stk", unknown("Stk", "kg")),
            ("X", "5 pcs", unknown("pcs", "box")),
            (
                "P",
                "2 boxes of 10",
                RejectReason::PackageDiffers {
                    package: "boxes".to_owned(),
                    holds: Quantity::from_thousandths(12_000),
                },
            ),
            (
                "P",
                "10",
                RejectReason::NotAMultiple {
                    multiple: Quantity::from_thousandths(6_000),
                },
            ),
            (
                "P",
                "24.12.2026",
                RejectReason::BadQuantity {
                    problem: NumberError::Date,
                },
            ),
        ] {
            assert_eq!(counted(article, text, &plain), Err(expected), "{article} {text}");
        }
    }

    #[test]
    fn the_profile_says_what_units_mean() {
        let profile = CustomerProfile {
            unit: Some("box".to_owned()),
            units: [("Gebinde".to_owned(), "pallet".to_owned())].into(),
            ..CustomerProfile::default()
        };
        assert_eq!(counted("P", "2", &profile), Ok("24".to_owned()));
        assert_eq!(counted("P", "1 Gebinde", &profile), Ok("480".to_owned()));
        assert_eq!(counted("P", "6 Stk", &profile), Ok("6".to_owned()));
    }
}
