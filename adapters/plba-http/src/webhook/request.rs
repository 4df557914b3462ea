//! What a request has to be before its body is read, and who sent it: the headers of Standard Webhooks, the kind of body,
//! and the time.

use std::time::Duration;

use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use super::{Hook, signature};
use crate::failure::Refusal;

/// By how much a request's timestamp may differ from the clock here, either way.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// How many bytes the id of a request may have.
pub const MAXIMUM_ID: usize = 200;

pub(super) const ID: &str = "webhook-id";
pub(super) const TIMESTAMP: &str = "webhook-timestamp";
pub(super) const SIGNATURE: &str = "webhook-signature";

/// What the headers of a request say; who sent it is not known before the body is.
#[derive(Debug)]
pub(super) struct Letterhead {
    pub(super) id: String,
    pub(super) timestamp: i64,
    pub(super) content_type: String,
    signatures: String,
}

impl Letterhead {
    /// Reads the headers, and refuses what no body could make acceptable.
    pub(super) fn read(hook: &Hook, headers: &HeaderMap, now: Timestamp) -> Result<Self, Refusal> {
        if headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .any(|coding| coding != "identity")
        {
            let message = "compressed bodies are not taken; send it as it is, without Content-Encoding";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "compressed", message).closing());
        }
        let content_type = only(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !hook
            .content_types
            .iter()
            .any(|taken| taken.eq_ignore_ascii_case(essence))
        {
            let message = format!(
                "this takes {}, in the header Content-Type",
                hook.content_types.join(", ")
            );
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", message).closing());
        }
        let header = |name| {
            let missing = || unsigned(format!("exactly one header {name} is needed"));
            only(headers, name).ok_or_else(missing)
        };
        let (id, timestamp, signatures) = (header(ID)?, header(TIMESTAMP)?, header(SIGNATURE)?);
        // With a dot in the id the signed text, `id.timestamp.body`, could be taken apart in two ways.
        let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
        if !(1..=MAXIMUM_ID).contains(&id.len()) || !id.bytes().all(legal) {
            let message = format!("{ID} is 1 to {MAXIMUM_ID} visible ASCII characters without a dot");
            return Err(Refusal::invalid(message).closing());
        }
        let digits = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let timestamp = timestamp.parse().ok().filter(|_| digits);
        let timestamp: i64 =
            timestamp.ok_or_else(|| unsigned(format!("{TIMESTAMP} is in whole seconds since 1970")))?;
        if timestamp.abs_diff(now.as_second()) > TOLERANCE.as_secs() {
            let message = format!(
                "{TIMESTAMP} is more than {} min away from the time here, {now:.0}; is one of the clocks wrong?",
                TOLERANCE.as_secs() / 60
            );
            return Err(unsigned(message));
        }
        Ok(Self {
            id: id.to_owned(),
            timestamp,
            content_type: content_type.to_owned(),
            signatures: signatures.to_owned(),
        })
    }

    /// Whether the sender knows one of the hook's secrets.
    pub(super) fn check(&self, hook: &Hook, body: &[u8]) -> Result<(), Refusal> {
        if signature::is_signed(&hook.secrets, &self.signatures, &self.id, self.timestamp, body) {
            return Ok(());
        }
        let message = "no signature in webhook-signature fits; is the secret the one that is configured here?";
        Err(Refusal::new(StatusCode::UNAUTHORIZED, "unsigned", message))
    }
}

/// The body has not been read: the connection can't be used again.
fn unsigned(message: String) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "unsigned", message).closing()
}

/// The value of a header that comes exactly once and is plain text.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use plba_tasks::task::NewTask;

    use super::*;
    use crate::webhook::SigningSecret;

    const NOW: i64 = 1_700_000_000;

    fn read(change: impl FnOnce(&mut HeaderMap)) -> Result<Letterhead, u16> {
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let hook = Hook::new(
            "shop",
            "/shop",
            vec![secret],
            NewTask::new("orders", "order.received", ""),
        );
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/json; charset=utf-8"),
            (ID, "msg_1"),
            (TIMESTAMP, "1700000000"),
            (SIGNATURE, "v1,AAAA"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        change(&mut headers);
        let now = Timestamp::from_second(NOW).unwrap();
        Letterhead::read(&hook, &headers, now).map_err(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn only_what_a_body_could_make_acceptable_is_read_on() {
        assert_eq!(read(|_| ()).unwrap().id, "msg_1");
        let set = |name: &'static str, value: String| {
            read(|headers| drop(headers.insert(name, value.parse().unwrap()))).err()
        };
        for (name, value, status) in [
            ("content-encoding", "gzip", Some(415)),
            ("content-encoding", "identity", None),
            ("content-type", "text/plain", Some(415)),
            ("content-type", "APPLICATION/JSON", None),
            (ID, "msg.1", Some(400)),
            (ID, "msg 1", Some(400)),
            (ID, "", Some(400)),
            (TIMESTAMP, "+1700000000", Some(401)),
            (TIMESTAMP, "1700000000.5", Some(401)),
            (TIMESTAMP, "99999999999999999999", Some(401)),
            (TIMESTAMP, "1700000300", None),
            (TIMESTAMP, "1700000301", Some(401)),
            (TIMESTAMP, "1699999700", None),
            (TIMESTAMP, "1699999699", Some(401)),
        ] {
            assert_eq!(set(name, value.to_owned()), status, "{name}: {value}");
        }
        assert_eq!(set(ID, "m".repeat(MAXIMUM_ID + 1)), Some(400));
        for name in [ID, TIMESTAMP, SIGNATURE] {
            assert_eq!(read(|headers| drop(headers.remove(name))).err(), Some(401), "{name}");
            let twice = read(|headers| {
                headers.append(name, "1700000000".parse().unwrap());
            });
            assert_eq!(twice.err(), Some(401), "{name} twice");
        }
    }
}
