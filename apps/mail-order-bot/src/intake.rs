//! From a mail that was read to a checked order, or the reason why it is none. Pure: the desk records what comes out,
//! `explain` shows it.

use crate::checking::{Checked, Checker};
use crate::desk::{DeskSettings, NotAnOrder};
use crate::domain::{Catalogue, Customer, CustomerProfile, Intent, UnknownSenders};
use crate::reading::{self, Extracted, IncomingMail, ReadError};
use crate::reply::etiquette;
use crate::store::ReviewReason;

/// A mail that asks for something, understood as far as that goes without knowing earlier orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Understood {
    /// Who asks.
    pub customer: Customer,
    /// Whether a profile names the sender.
    pub registered: bool,
    /// What the mail holds, and what it wants.
    pub extracted: Extracted,
    /// Its lines against the catalogue.
    pub checked: Checked,
}

impl Understood {
    /// Why nobody but a person can say what it asks for, as far as that goes without knowing earlier orders and what was
    /// found out about the sender.
    #[must_use]
    pub fn needs_review(&self, settings: &DeskSettings) -> Option<(ReviewReason, String)> {
        if !self.registered && settings.unknown_senders == UnknownSenders::Review {
            let detail = format!("no profile names {}", self.customer.address);
            return Some((ReviewReason::UnknownSender, detail));
        }
        if !self.extracted.lines.is_empty() {
            return None;
        }
        let unclear = self.extracted.unclear.first();
        let says = unclear.map(|line| format!(": {line}"));
        let detail = match (self.extracted.intent, says) {
            (Intent::Order, Some(says)) if self.extracted.notes.is_empty() => {
                format!("it may be an order, and no line of it is understood{says}")
            }
            (Intent::Order, _) => return None,
            // Nobody is told that their order is changed when it is as it was.
            (Intent::Amendment, says) => {
                let says = says.unwrap_or_default();
                format!("it changes an order, and no line of it is understood{says}")
            }
            // What is taken back as a whole names no article.
            (Intent::Cancellation, says) => {
                format!("it takes back a part of an order, and which is not understood{}", says?)
            }
        };
        Some((ReviewReason::Unclear, detail))
    }
}

/// Looks for order lines in `mail` from whomever it is.
///
/// # Errors
/// As [`reading::extract`].
pub fn extract(mail: &IncomingMail, catalogue: &Catalogue, settings: &DeskSettings) -> Result<Extracted, ReadError> {
    let stranger = CustomerProfile::default();
    let named = mail
        .from
        .as_ref()
        .and_then(|from| settings.profiles.find(&from.address));
    let profile = named.unwrap_or(&stranger);
    let known = |reference: &str| profile.article(reference).is_some() || catalogue.find(reference).is_some();
    reading::extract(mail, profile, &known, &settings.limits, &settings.parser)
}

/// Understands `mail`: who it is from, what it wants, and its lines against the catalogue.
///
/// # Errors
/// [`ReadError::Panicked`] only.
pub fn understand(
    mail: &IncomingMail,
    catalogue: &Catalogue,
    settings: &DeskSettings,
) -> Result<Result<Understood, NotAnOrder>, ReadError> {
    let Some(from) = &mail.from else {
        return Ok(Err(NotAnOrder::NoSender));
    };
    if etiquette::is_ours(mail, &settings.replies) {
        return Ok(Err(NotAnOrder::OwnMail));
    }
    if let Some(automation) = mail.automation.filter(|automation| !automation.may_order()) {
        return Ok(Err(NotAnOrder::Automatic(automation.describe())));
    }
    let stranger = CustomerProfile::default();
    let named = settings.profiles.find(&from.address);
    let profile = named.unwrap_or(&stranger);
    let extracted = extract(mail, catalogue, settings)?;
    if extracted.is_empty() && extracted.unclear.is_empty() && extracted.intent == Intent::Order {
        return Ok(Err(NotAnOrder::NoLines));
    }
    let checker = Checker {
        catalogue,
        profile,
        // Whoever goes to the review list may order once somebody has said so.
        may_order: named.is_some() || settings.unknown_senders != UnknownSenders::Reject,
    };
    Ok(Ok(Understood {
        customer: settings.profiles.customer(&from.address, from.name.as_deref()),
        registered: named.is_some(),
        checked: checker.check(&extracted.lines, !extracted.notes.is_empty()),
        extracted,
    }))
}
