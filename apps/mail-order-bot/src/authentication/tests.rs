//! Real signatures with keys made here, policies from a DNS server on loopback.

use std::sync::Arc;

use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter as _;
use mail_auth::dkim::DkimSigner;

use self::dns::{Answer, Dns};
use super::verify::Authenticated;
use super::*;
use crate::reading::ReadingLimits;

#[path = "../../tests/process/dns.rs"]
mod dns;

/// A domain's key: signs, and says what the DNS has to know.
struct Signer {
    private: Vec<u8>,
}

impl Signer {
    fn new() -> Self {
        Self {
            private: Ed25519Key::generate_pkcs8().unwrap(),
        }
    }

    fn key(&self) -> Ed25519Key {
        Ed25519Key::from_pkcs8_maybe_unchecked_der(&self.private).unwrap()
    }

    fn record(&self) -> Answer {
        Answer::Txt(format!("v=DKIM1; k=ed25519; p={}", base64(&self.key().public_key())))
    }

    fn signed(&self, domain: &str, message: &str) -> String {
        let signature = DkimSigner::from_key(self.key())
            .domain(domain)
            .selector("test")
            .headers(["From", "Subject", "Message-ID"])
            .sign(message.as_bytes())
            .unwrap();
        format!("{}{message}", signature.to_header())
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for sextet in 0..4 {
            let letter = ALPHABET[(word >> (18 - 6 * sextet) & 63) as usize] as char;
            text.push(if sextet > chunk.len() { '=' } else { letter });
        }
    }
    text
}

fn message(from: &str) -> String {
    format!("From: {from}\r\nSubject: Order\r\nMessage-ID: <1@customer.example>\r\n\r\n2 x ART-001\r\n")
}

fn txt(name: &str, text: &str) -> (String, Answer) {
    (name.to_owned(), Answer::Txt(text.to_owned()))
}

struct Bench {
    authenticator: Authenticator,
    signer: Signer,
}

impl Bench {
    fn new(change: impl FnOnce(&mut AuthenticationOptions)) -> Self {
        let signer = Signer::new();
        let dns = Dns::start([
            ("test._domainkey.customer.example".to_owned(), signer.record()),
            ("test._domainkey.other.example".to_owned(), signer.record()),
            ("test._domainkey.unlisted.example".to_owned(), signer.record()),
            txt("_dmarc.customer.example", "v=DMARC1; p=reject"),
            txt("customer.example", "v=spf1 ip4:192.0.2.7 -all"),
            ("_dmarc.broken.example".to_owned(), Answer::Failure),
            ("test._domainkey.broken.example".to_owned(), Answer::Failure),
        ]);
        let mut options = AuthenticationOptions {
            verify: true,
            dns: dns.address().to_string(),
            received_by: Some("mx.shop.example".to_owned()),
            on_fail: Policy::Reject,
            on_none: Policy::Review,
            ..AuthenticationOptions::default()
        };
        change(&mut options);
        let authenticator = Authenticator::new(options.validate().unwrap(), ReadingLimits::default()).unwrap();
        Self { authenticator, signer }
    }

    async fn judge(&self, raw: &str) -> Result<Authenticated, AuthenticationError> {
        self.authenticator
            .authenticate(raw.as_bytes())
            .await
            .map(Option::unwrap)
    }
}

#[tokio::test]
async fn failure_77_a_signature_of_the_authors_domain_passes_and_a_spoofed_author_does_not() {
    let bench = Bench::new(|_| {});
    let honest = message("Jane <jane@customer.example>");
    let signed = bench.signer.signed("customer.example", &honest);
    let table: Vec<(&str, String, Standing, Policy)> = vec![
        ("signed", signed.clone(), Standing::Pass, Policy::Ignore),
        ("not signed", honest.clone(), Standing::Fail, Policy::Reject),
        (
            "body changed",
            signed.replace("2 x ART", "9 x ART"),
            Standing::Fail,
            Policy::Reject,
        ),
        (
            "author changed",
            signed.replace("jane@", "joan@"),
            Standing::Fail,
            Policy::Reject,
        ),
        (
            "signed by somebody else",
            bench.signer.signed("other.example", &honest),
            Standing::Fail,
            Policy::Reject,
        ),
        (
            "a domain without policy, signed",
            bench
                .signer
                .signed("unlisted.example", &message("jane@unlisted.example")),
            Standing::Pass,
            Policy::Ignore,
        ),
        (
            "below the domain that signed",
            bench
                .signer
                .signed("unlisted.example", &message("jane@news.unlisted.example")),
            Standing::Pass,
            Policy::Ignore,
        ),
        (
            "a domain without policy, not signed",
            message("jane@unlisted.example"),
            Standing::None,
            Policy::Review,
        ),
        (
            "a second author",
            format!("From: boss@other.example\r\n{signed}"),
            Standing::None,
            Policy::Review,
        ),
        (
            "nobody",
            "Subject: x\r\n\r\nhi".to_owned(),
            Standing::None,
            Policy::Review,
        ),
    ];
    for (name, raw, standing, policy) in table {
        let judged = bench.judge(&raw).await.unwrap();
        assert_eq!(
            (judged.verdict.standing, judged.policy),
            (standing, policy),
            "{name}: {judged:?}"
        );
    }
}

#[tokio::test]
async fn failure_77_the_delivering_machine_counts_where_our_own_server_names_it() {
    let bench = Bench::new(|_| {});
    let from = |address: &str, by: &str| {
        format!(
            "Return-Path: <jane@customer.example>\r\nReceived: from mail.customer.example ({address} [{address}])\r\n \
             by {by} with ESMTP; Sun, 22 Nov 2026 10:00:00 +0000\r\n{}",
            message("jane@customer.example")
        )
    };
    for (raw, spf, standing) in [
        (from("192.0.2.7", "mx.shop.example"), Finding::Pass, Standing::Pass),
        (from("192.0.2.8", "mx.shop.example"), Finding::Fail, Standing::Fail),
        // Anybody can write what another server saw.
        (from("192.0.2.7", "mx.evil.example"), Finding::None, Standing::Fail),
    ] {
        let judged = bench.judge(&raw).await.unwrap();
        assert_eq!(
            (judged.verdict.spf, judged.verdict.standing),
            (spf, standing),
            "{raw}\n{judged:?}"
        );
    }
}

#[tokio::test]
async fn failure_77_a_failed_look_up_is_neither_a_pass_nor_a_failure() {
    let bench = Bench::new(|_| {});
    let raw = bench.signer.signed("broken.example", &message("jane@broken.example"));
    let judged = bench.judge(&raw).await;
    assert!(
        matches!(
            judged,
            Err(AuthenticationError::LookUp { .. } | AuthenticationError::TimedOut { .. })
        ),
        "{judged:?}"
    );
    assert!(judged.unwrap_err().to_string().contains("broken.example"));
}

#[tokio::test]
async fn a_trusted_server_is_believed_and_anybody_elses_words_are_checked() {
    let bench = Bench::new(|options| options.trusted_server = Some("MX.shop.example".to_owned()));
    let honest = message("jane@customer.example");
    let trusted =
        format!("Authentication-Results: mx.shop.example;\r\n dmarc=pass header.from=customer.example\r\n{honest}");
    let judged = bench.judge(&trusted).await.unwrap().verdict;
    assert_eq!(
        (judged.standing, judged.checked_by.as_str()),
        (Standing::Pass, "mx.shop.example")
    );
    let forged = trusted.replace("mx.shop.example", "mx.evil.example");
    let judged = bench.judge(&forged).await.unwrap().verdict;
    assert_eq!(
        (judged.standing, judged.checked_by.as_str()),
        (Standing::Fail, "mail-order-bot")
    );
}

#[tokio::test]
async fn nothing_is_looked_up_unless_it_is_configured() {
    let off = AuthenticationOptions::default().validate().unwrap();
    let authenticator = Arc::new(Authenticator::new(off, ReadingLimits::default()).unwrap());
    let judged = authenticator.authenticate(message("a@b.example").as_bytes()).await;
    assert_eq!(judged, Ok(None));
    let strict = AuthenticationOptions {
        on_none: Policy::Reject,
        ..AuthenticationOptions::default()
    };
    assert!(
        strict.validate().is_err(),
        "a policy without anything that could fulfil it"
    );
}

#[test]
fn alignment_is_the_domain_itself_or_one_above_or_below() {
    for (domain, author, expected) in [
        ("example.com", "Example.com", true),
        ("mail.example.com", "example.com", true),
        ("example.com", "news.example.com", true),
        ("a.example.com", "b.example.com", false),
        ("notexample.com", "example.com", false),
        ("com", "example.com", false),
        ("", "example.com", false),
        ("example.com", "", false),
    ] {
        assert_eq!(aligned(domain, author), expected, "{domain} {author}");
    }
}
