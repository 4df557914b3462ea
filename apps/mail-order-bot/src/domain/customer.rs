//! Customers, how a sender's address becomes one, and what is known about the way each writes orders.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::number::DecimalStyle;

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
}

/// What is known about one customer. All fields but `id` and `senders` may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CustomerProfile {
    /// The customer's id in the orders.
    pub id: String,
    /// The customer's name in replies; default: the sender's display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Addresses (`buyer@example.com`) and whole domains (`example.com`); compared exactly, ignoring case.
    pub senders: Vec<String>,
    /// Column headings beyond the built-in ones, per field: `article`, `quantity`, `price`, `name`, `currency`.
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

/// The fields that `columns` of a profile may name.
pub const COLUMN_FIELDS: [&str; 5] = ["article", "quantity", "price", "name", "currency"];

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
    fn every_fault_is_reported() {
        let mut bad = profile("", &[]);
        bad.columns.insert("colour".to_owned(), Vec::new());
        bad.delimiter = Some('"');
        let twice = profile("b", &["a@b.c"]);
        let errors = Profiles::new(vec![profile("a", &["a@b.c"]), twice, bad]).unwrap_err();
        assert_eq!(errors.len(), 5, "{errors:#?}");
        assert_eq!(errors[0].index, 2);
    }
}
