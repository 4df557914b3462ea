//! Whether a message comes from where it says: SPF, DKIM and DMARC (RFC 7208, 6376, 7489), and what is done about it.
//! What an order is worth whose sender isn't certain, the desk decides with what is found here.
//!
//! Two ways to find out, of which either, both or none may be configured:
//! - `results`: what the company's own mail server wrote into the message when it took it in (RFC 8601), believed by the
//!   server's name,
//! - `verify`: the bot checks signatures and policies itself, which asks the DNS. SPF needs the address of the machine that
//!   delivered, so it is checked only for a message whose `Received` field of our own server tells it.
//!
//! A failed look-up is neither a pass nor a failure: the message is tried again.

pub mod options;
pub mod results;
pub mod verdict;
pub mod verify;

pub use options::{AuthenticationOptions, AuthenticationSettings, Policy};
pub use verdict::{Finding, Standing, Verdict};
pub use verify::{AuthenticationError, Authenticator};

/// Whether a signature or envelope of `domain` speaks for `author`, the domain in `From`: the same one, or one above or
/// below it. DMARC's relaxed alignment also takes two domains below a common one; without a list of the registries that
/// can't be told from two customers of one registry, so here it doesn't count.
fn aligned(domain: &str, author: &str) -> bool {
    let below = |inner: &str, outer: &str| {
        outer.contains('.') && inner.strip_suffix(outer).is_some_and(|rest| rest.ends_with('.'))
    };
    let (domain, author) = (domain.trim_end_matches('.'), author.trim_end_matches('.'));
    let (domain, author) = (domain.to_ascii_lowercase(), author.to_ascii_lowercase());
    !domain.is_empty() && (domain == author || below(&domain, &author) || below(&author, &domain))
}

#[cfg(test)]
mod tests;
