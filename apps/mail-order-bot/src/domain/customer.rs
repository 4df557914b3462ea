//! Customers, how a sender's address becomes one, and what is known about the way each writes orders.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::number::DecimalStyle;
use super::tolerance::PriceTolerance;

/// Who ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    /// The profile's id, or `guest:ADDRESS` for a sender without a profile.
    pub id: String,
    /// The profile's name, else the sender's display name, else the address.
    pub name: String,
    /// The address the order came from, in lower case.
    pub address: String,
}

/// Where a customer's order lines are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentKind {
    /// Attachments first, then an HTML table, then the text.
    #[default]
    Any,
    /// Only in CSV attachments; anything else is not an order.
    Csv,
    /// Only in XLSX attachments; anything else is not an order.
    Xlsx,
    /// Attachments are ignored.
    None,
}

/// What to do with an order from an address that no profile names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownSenders {
    /// Take it as the order of a guest customer.
    #[default]
    AcceptAsGuest,
    /// Reject every line of it.
    Reject,
    /// Keep the mail on the review list, unanswered, until somebody accepts or rejects it.
    Review,
}

/// What is known about one customer. All fields but `id` and `senders` may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CustomerProfile {
    /// The customer's id in the orders.
    pub id: String,
    /// The customer's name in replies; default: the sender's display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The language of replies, such as `de`; default: that of `replies`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Addresses (`buyer@example.com`) and whole domains (`example.com`); compared exactly, ignoring case.
    pub senders: Vec<String>,
    /// Column headings beyond the built-in ones, per field: `article`, `quantity`, `unit`, `price`, `name`, `currency`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, Vec<String>>,
    /// How this customer writes decimals; default: decide per number, refuse what is ambiguous.
    #[serde(default)]
    pub decimal: DecimalStyle,
    /// The separator of this customer's CSV files, one character; default: found out per file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Where the lines are; default: `any`.
    #[serde(default)]
    pub attachment: AttachmentKind,
    /// Columns by their place, per field: `C` or `3`. Then headings are not looked at.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub positions: BTreeMap<String, String>,
    /// The sheet of a workbook that holds the order; default: the first that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sheet: Option<String>,
    /// The unit of quantities that have none, such as `box`; default: the one that the article is sold in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What this customer's words for units mean: `{ Gebinde = "box" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, String>,
    /// This customer's article numbers and ours: `{ "4400" = "ART-010" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub articles: BTreeMap<String, String>,
    /// How far the customer's prices may be from the catalogue's: `0.05`, `2%` or `any`; default: not at all.
    #[serde(default)]
    pub price_tolerance: PriceTolerance,
}

/// The column that `place` means, from 0: `A` is 0, `3` is 2; at most 256 columns.
#[must_use]
pub fn column_at(place: &str) -> Option<usize> {
    let place = place.trim();
    let by_letter = || {
        let letters = (1..=2).contains(&place.len()) && place.bytes().all(|byte| byte.is_ascii_alphabetic());
        letters.then(|| {
            let value = |byte: u8| usize::from(byte.to_ascii_uppercase() - b'A' + 1);
            place.bytes().fold(0, |sum, byte| sum * 26 + value(byte))
        })
    };
    let from_one = place.parse().ok().or_else(by_letter)?;
    (1..=256).contains(&from_one).then(|| from_one - 1)
}

impl CustomerProfile {
    fn check(&self, report: &mut impl FnMut(String)) {
        for (field, place) in &self.positions {
            if !COLUMN_FIELDS.contains(&field.as_str()) {
                report(format!(
                    "`positions` has no field {field:?}; there are {}",
                    COLUMN_FIELDS.join(", ")
                ));
            }
            if column_at(place).is_none() {
                report(format!(
                    "`positions.{field}` {place:?} is no column: write a letter (`C`) or a number from 1"
                ));
            }
        }
        let needed = ["article", "quantity"]
            .iter()
            .any(|field| !self.positions.contains_key(*field));
        if !self.positions.is_empty() && needed {
            report("`positions` needs both `article` and `quantity`".to_owned());
        }
        let empty = |text: &String| text.trim().is_empty();
        if self.articles.iter().any(|(own, ours)| empty(own) || empty(ours)) {
            report("`articles` must not have an empty number on either side".to_owned());
        }
        if self.sheet.iter().chain(&self.unit).any(empty)
            || self.units.iter().any(|(own, ours)| empty(own) || empty(ours))
        {
            report("`sheet`, `unit` and `units` must not be empty; leave them out instead".to_owned());
        }
    }

    /// Our number of what this customer calls `reference`.
    #[must_use]
    pub fn article<'p>(&'p self, reference: &str) -> Option<&'p str> {
        let own = self.articles.get(reference.trim()).or_else(|| {
            let mut entries = self.articles.iter();
            entries
                .find(|(own, _)| own.eq_ignore_ascii_case(reference.trim()))
                .map(|(_, ours)| ours)
        });
        own.map(String::as_str)
    }
}

/// All profiles, checked.
#[derive(Debug, Clone, Default)]
pub struct Profiles {
    profiles: Vec<CustomerProfile>,
}

/// A profile that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("profile {index} (id {id:?}): {problem}")]
pub struct ProfileError {
    /// Its position in the list, from 1.
    pub index: usize,
    /// Its id.
    pub id: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// The fields that `columns` and `positions` of a profile may name.
pub const COLUMN_FIELDS: [&str; 6] = ["article", "quantity", "unit", "price", "name", "currency"];

impl Profiles {
    /// Takes the profiles after checking ids, senders, columns and delimiters.
    ///
    /// # Errors
    /// Every fault of every profile.
    pub fn new(profiles: Vec<CustomerProfile>) -> Result<Self, Vec<ProfileError>> {
        let mut errors = Vec::new();
        let mut senders = BTreeMap::new();
        for (at, profile) in profiles.iter().enumerate() {
            let mut report = |problem: String| {
                errors.push(ProfileError {
                    index: at + 1,
                    id: profile.id.clone(),
                    problem,
                })
            };
            if profile.id.trim().is_empty() || profile.id.starts_with("guest:") {
                report("`id` must not be empty and must not begin with \"guest:\"".to_owned());
            }
            if profile.senders.is_empty() {
                report("`senders` must name at least one address or domain".to_owned());
            }
            for sender in &profile.senders {
                if let Some(other) = senders.insert(sender.to_lowercase(), &profile.id) {
                    report(format!("sender {sender:?} is also claimed by profile {other:?}"));
                }
            }
            for field in profile
                .columns
                .keys()
                .filter(|field| !COLUMN_FIELDS.contains(&field.as_str()))
            {
                report(format!(
                    "`columns` has no field {field:?}; there are {}",
                    COLUMN_FIELDS.join(", ")
                ));
            }
            profile.check(&mut report);
            if profile
                .delimiter
                .is_some_and(|delimiter| !delimiter.is_ascii() || "\"\r\n".contains(delimiter))
            {
                report("`delimiter` must be one ASCII character other than a quote or a line end".to_owned());
            }
        }
        if errors.is_empty() {
            Ok(Self { profiles })
        } else {
            Err(errors)
        }
    }

    /// The profile of `address`: one that names the address, else one that names its domain.
    #[must_use]
    pub fn find(&self, address: &str) -> Option<&CustomerProfile> {
        let domain = address.rsplit_once('@').map(|(_, domain)| domain);
        let naming = |wanted: &str| {
            let named = |profile: &&CustomerProfile| profile.senders.iter().any(|s| s.eq_ignore_ascii_case(wanted));
            self.profiles.iter().find(named)
        };
        naming(address).or_else(|| domain.and_then(naming))
    }

    /// These profiles, of which the one with this id names `address` too; `None` when there is no such id.
    #[must_use]
    pub fn with_sender(&self, id: &str, address: &str) -> Option<Self> {
        let mut changed = self.clone();
        let forget =
            |profile: &mut CustomerProfile| profile.senders.retain(|sender| !sender.eq_ignore_ascii_case(address));
        changed.profiles.iter_mut().for_each(forget);
        let named = changed.profiles.iter_mut().find(|profile| profile.id == id)?;
        named.senders.push(address.to_owned());
        Some(changed)
    }

    /// The customer behind `address`; `display_name` is what the mail says the sender is called.
    #[must_use]
    pub fn customer(&self, address: &str, display_name: Option<&str>) -> Customer {
        let profile = self.find(address);
        let name = profile
            .and_then(|profile| profile.name.as_deref())
            .or(display_name)
            .unwrap_or(address);
        Customer {
            id: profile.map_or_else(|| format!("guest:{address}"), |profile| profile.id.clone()),
            name: name.to_owned(),
            address: address.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(id: &str, senders: &[&str]) -> CustomerProfile {
        CustomerProfile {
            id: id.to_owned(),
            senders: senders.iter().map(ToString::to_string).collect(),
            ..CustomerProfile::default()
        }
    }

    #[test]
    fn an_address_beats_its_domain_and_domains_match_whole() {
        let profiles = Profiles::new(vec![
            profile("company", &["example.com"]),
            profile("boss", &["Boss@example.com"]),
        ])
        .unwrap();
        let id = |address: &str| profiles.customer(address, None).id;
        assert_eq!(id("boss@example.com"), "boss");
        assert_eq!(id("clerk@example.com"), "company");
        assert_eq!(id("clerk@example.com.evil.org"), "guest:clerk@example.com.evil.org");
        assert_eq!(id("clerk@notexample.com"), "guest:clerk@notexample.com");
    }

    #[test]
    fn columns_are_placed_by_letter_or_number() {
        for (place, column) in [
            ("A", Some(0)),
            ("c", Some(2)),
            ("AA", Some(26)),
            ("3", Some(2)),
            ("0", None),
            ("", None),
            ("ZZ", None),
        ] {
            assert_eq!(column_at(place), column, "{place}");
        }
    }

    #[test]
    fn every_fault_is_reported() {
        let mut bad = profile("", &[]);
        bad.columns.insert("colour".to_owned(), Vec::new());
        bad.delimiter = Some('"');
        bad.positions.insert("article".to_owned(), "0".to_owned());
        bad.sheet = Some(" ".to_owned());
        let twice = profile("b", &["a@b.c"]);
        let errors = Profiles::new(vec![profile("a", &["a@b.c"]), twice, bad]).unwrap_err();
        assert_eq!(errors.len(), 8, "{errors:#?}");
        assert_eq!(errors[0].index, 2);
    }
}
