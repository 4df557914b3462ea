//! Sample mails, catalogue and customer profiles inside the program, so that it has something to do from the first
//! minute and from any directory; and a generator of order mails for tests and benches.

pub mod generate;
pub mod hostile;
pub mod workbook;

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

use crate::domain::CustomerProfile;

/// The sample catalogue; `catalogue = "embedded:"` in the configuration.
pub const CATALOGUE_CSV: &str = include_str!("catalogue.csv");

/// The sample customers, as TOML under the key `profiles`.
pub const PROFILES_TOML: &str = include_str!("profiles.toml");

/// A sample mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Its name, which begins with its number.
    pub name: &'static str,
    /// The raw message.
    pub raw: &'static [u8],
}

macro_rules! samples {
    ($($name:literal),+ $(,)?) => {
        [$(Sample { name: $name, raw: include_bytes!(concat!("orders/", $name, ".eml")) }),+]
    };
}

/// All sample mails.
pub const SAMPLES: [Sample; 15] = samples![
    "01-text",
    "02-german-text",
    "03-html-table",
    "04-csv",
    "05-csv-own-columns",
    "06-xlsx",
    "07-xlsx-mislabelled",
    "08-partly-accepted",
    "09-rejected",
    "10-newsletter",
    "11-second-delivery",
    "12-sent-again",
    "13-out-of-office",
    "14-shop-system",
    "15-question",
];

/// The sample customers.
///
/// # Errors
/// Never: a test reads the embedded text. The error is the TOML reader's.
pub fn profiles() -> Result<Vec<CustomerProfile>, toml::de::Error> {
    #[derive(Deserialize)]
    struct File {
        profiles: Vec<CustomerProfile>,
    }
    toml::from_str::<File>(PROFILES_TOML).map(|file| file.profiles)
}

/// Makes the Maildir `inbox` with all sample mails in `new/`, if there is nothing at that path yet. Returns how many
/// mails were written: 0 when the path exists. Blocking.
///
/// The Maildir appears complete or not at all: it is filled beside its place and then renamed. Its parent directory is
/// made if needed.
///
/// # Errors
/// Of the file system, with the path that failed in its text.
pub fn fill(inbox: &Path) -> io::Result<usize> {
    let named = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if inbox.exists() {
        return Ok(0);
    }
    let (Some(parent), Some(name)) = (inbox.parent(), inbox.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{}: no place for a Maildir", inbox.display()),
        ));
    };
    let staging = parent.join(format!(".{}.filling", name.to_string_lossy()));
    if staging.exists() {
        // Left over by a start that was interrupted.
        fs::remove_dir_all(&staging).map_err(|error| named(&staging, error))?;
    }
    for directory in ["tmp", "new", "cur"] {
        let path = staging.join(directory);
        fs::create_dir_all(&path).map_err(|error| named(&path, error))?;
    }
    for sample in SAMPLES {
        let path = staging
            .join("new")
            .join(format!("sample-{}.mail-order-bot", sample.name));
        fs::write(&path, sample.raw).map_err(|error| named(&path, error))?;
    }
    fs::rename(&staging, inbox).map_err(|error| named(inbox, error))?;
    Ok(SAMPLES.len())
}

/// Sample letters, for trying templates: each reply's name with what it may name.
#[must_use]
pub fn letters() -> Vec<(&'static str, serde_json::Value)> {
    let order = |status: &str, state: &str, version: u32, second: serde_json::Value| {
        let order = serde_json::json!({
            "id": 12, "version": version, "status": status, "state": state, "message_id": "1@example.com",
            "subject": "Order", "received_at": "2026-11-22T10:00:00Z", "currency": "EUR", "total": 900,
            "customer": { "id": "sample", "name": "Jane <Buyer>", "address": "jane@example.com" },
            "possible_duplicate_of": (version == 1).then_some(11),
            "notes": ["We could not use the attachment a.xlsx: it is too large."],
            "lines": [{
                "position": 1, "article": "ART-001", "name": "Green <tea>", "quantity": "2", "quantity_given": "2",
                "unit": "pcs", "place": "text line 1", "status": "accepted", "unit_price": 450, "amount": 900
            }, second]
        });
        serde_json::from_value(order)
            .ok()
            .map(|order| crate::reply::letter::about(&order))
    };
    let accepted = || {
        serde_json::json!({
            "position": 2, "article": "ART-002", "name": "Cup", "quantity": "1.5", "quantity_given": "1,5", "unit": "kg",
            "place": "text line 2", "status": "accepted", "unit_price": 100, "amount": 150
        })
    };
    let rejected = |reason: serde_json::Value| {
        serde_json::json!({
            "position": 2, "article": "ART-999", "name": null, "quantity": null, "quantity_given": "some", "unit": null,
            "place": "text line 2", "status": "rejected", "reason": reason
        })
    };
    let mut letters = vec![
        ("order", order("accepted", "open", 1, accepted())),
        (
            "order",
            order(
                "rejected",
                "open",
                1,
                rejected(serde_json::json!({ "code": "unknown_article" })),
            ),
        ),
        ("amendment", order("accepted", "open", 2, accepted())),
        ("cancellation", order("accepted", "cancelled", 1, accepted())),
        ("unrecognised", Some(crate::reply::letter::about_nothing())),
    ];
    for code in [
        "missing_article",
        "not_available",
        "zero_quantity",
        "amount_too_large",
        "unknown_customer",
    ] {
        letters.push((
            "order",
            order(
                "partly_accepted",
                "open",
                1,
                rejected(serde_json::json!({ "code": code })),
            ),
        ));
    }
    letters
        .into_iter()
        .filter_map(|(name, facts)| Some((name, facts?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn an_inbox_is_filled_once_and_never_touched_again() {
        let scratch = Scratch::new("samples");
        let inbox = scratch.path().join("var").join("inbox");
        fs::create_dir_all(scratch.path().join("var").join(".inbox.filling").join("new")).unwrap();
        assert_eq!(fill(&inbox).unwrap(), SAMPLES.len());
        assert_eq!(fs::read_dir(inbox.join("new")).unwrap().count(), SAMPLES.len());
        assert!(inbox.join("cur").is_dir() && inbox.join("tmp").is_dir());
        for entry in fs::read_dir(inbox.join("new")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        assert_eq!(fill(&inbox).unwrap(), 0);
        assert_eq!(fs::read_dir(inbox.join("new")).unwrap().count(), 0);
    }

    #[test]
    fn the_embedded_profiles_are_valid() {
        let profiles = profiles().unwrap();
        assert_eq!(profiles.len(), 4);
        crate::domain::Profiles::new(profiles).unwrap();
    }
}
