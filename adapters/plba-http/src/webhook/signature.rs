//! Signatures of the Standard Webhooks specification (version 1.0.0): HMAC-SHA256 over `id.timestamp.body`. How old a
//! timestamp may be, and which ids there are, is decided where requests are let in.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use subtle::ConstantTimeEq;

/// The prefix of a symmetric secret.
const SECRET: &str = "whsec_";
/// The prefix of a signature made with one.
const VERSION: &str = "v1,";
/// How many signatures of one request are looked at; a sender that changes its secret sends two.
const SIGNATURES: usize = 10;

/// A secret that a sender signs with, and a receiver checks with. Never shown.
#[derive(Clone)]
pub struct SigningSecret(hmac::Key);

/// Why a text is no secret. The text itself is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It has another form.
    #[error("a webhook's secret is \"whsec_\" with base64 after it; `echo whsec_$(openssl rand -base64 32)` makes one")]
    Form,
    /// It is too short to be safe or longer than the specification allows.
    #[error(
        "a webhook's secret has 24 to 64 bytes, and this one has {0}; `echo whsec_$(openssl rand -base64 32)` makes one"
    )]
    Length(usize),
}

impl SigningSecret {
    /// Reads `whsec_BASE64`.
    ///
    /// # Errors
    /// It has another form or a length outside of 24 to 64 bytes.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.trim().strip_prefix(SECRET).ok_or(SecretError::Form)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError::Form)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(SecretError::Length(bytes.len()));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of the header `webhook-signature` for a request with this id, this timestamp (seconds since 1970) and
    /// this body: for senders, and for tests.
    ///
    /// ```
    /// use plba_http::webhook::SigningSecret;
    ///
    /// let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    /// let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, br#"{"test": 2432232314}"#);
    /// assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    /// ```
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let tag = self.tag(id, timestamp, body);
        format!("{VERSION}{}", STANDARD.encode(tag.as_ref()))
    }

    fn tag(&self, id: &str, timestamp: i64, body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(id.as_bytes());
        context.update(format!(".{timestamp}.").as_bytes());
        context.update(body);
        context.sign()
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SigningSecret(***)")
    }
}

/// Whether one of the signatures in the header was made with one of the secrets. Each secret costs one pass over the body,
/// however many signatures there are, and comparing takes the same time wherever they differ.
pub(super) fn is_signed(secrets: &[SigningSecret], signatures: &str, id: &str, timestamp: i64, body: &[u8]) -> bool {
    let given: Vec<Vec<u8>> = signatures
        .split_ascii_whitespace()
        .filter_map(|signature| signature.strip_prefix(VERSION))
        .take(SIGNATURES)
        .filter_map(|encoded| STANDARD.decode(encoded).ok())
        .collect();
    if given.is_empty() {
        return false;
    }
    let mut signed = subtle::Choice::from(0);
    for secret in secrets {
        let expected = secret.tag(id, timestamp, body);
        for signature in &given {
            signed |= expected.as_ref().ct_eq(signature);
        }
    }
    signed.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDMMn2FYpvqSE=";

    fn secret(text: &str) -> SigningSecret {
        SigningSecret::parse(text).unwrap()
    }

    #[test]
    fn any_of_several_signatures_by_any_of_several_secrets_will_do() {
        let (old, new) = (secret(OLD), secret(NEW));
        let by_old = old.sign("msg_1", 1_700_000_000, b"{}");
        let by_both = format!("{by_old} {}", new.sign("msg_1", 1_700_000_000, b"{}"));
        let signed =
            |secrets: &[SigningSecret], signatures: &str| is_signed(secrets, signatures, "msg_1", 1_700_000_000, b"{}");
        assert!(signed(std::slice::from_ref(&old), &by_old));
        assert!(signed(&[new.clone(), old.clone()], &by_old));
        assert!(signed(std::slice::from_ref(&new), &by_both));
        assert!(signed(std::slice::from_ref(&new), &format!("v1a,AAAA v2,x {by_both}")));
        assert!(!signed(std::slice::from_ref(&new), &by_old));
        assert!(!signed(&[], &by_old));
    }

    #[test]
    fn whatever_was_changed_the_signature_does_not_fit() {
        let secrets = [secret(OLD)];
        let signature = secrets[0].sign("msg_1", 1_700_000_000, b"{}");
        assert!(is_signed(&secrets, &signature, "msg_1", 1_700_000_000, b"{}"));
        assert!(!is_signed(&secrets, &signature, "msg_2", 1_700_000_000, b"{}"));
        assert!(!is_signed(&secrets, &signature, "msg_1", 1_700_000_001, b"{}"));
        assert!(!is_signed(&secrets, &signature, "msg_1", 1_700_000_000, b"{ }"));
        for broken in [
            "",
            "v1,",
            "v1",
            &signature[3..],
            &signature[..20],
            "v1,AAAA",
            &signature.replace("v1", "v2"),
        ] {
            assert!(!is_signed(&secrets, broken, "msg_1", 1_700_000_000, b"{}"), "{broken}");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_without_being_told() {
        let error = |text: &str| SigningSecret::parse(text).unwrap_err();
        assert_eq!(error("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), SecretError::Form);
        assert_eq!(error("whsec_not base64!"), SecretError::Form);
        assert_eq!(error("whsec_AAAA"), SecretError::Length(3));
        assert!(!format!("{:?}", secret(OLD)).contains("MfKQ"));
    }
}
