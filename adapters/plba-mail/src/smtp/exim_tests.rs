//! The sender against a real mail server: every way in, and a connection that is cut after every byte of the dialogue. No
//! mail is lost, and one comes twice only where nobody can know: when the cut lies behind its last line.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use plba_contracts::secret::Secret;
use plba_testkit::proxy::{Direction, Ending, FaultProxy};
use plba_testservers::{Exim, require};

use super::{SmtpError, SmtpSender, SmtpSettings};

const FROM: &str = "bot@shop.example";
const TO: &str = "jane@example.com";

fn mail(id: &str) -> Vec<u8> {
    format!("From: {FROM}\r\nTo: {TO}\r\nSubject: x\r\nMessage-ID: <{id}>\r\n\r\nThank you.\r\n.\r\n..two\r\n")
        .into_bytes()
}

fn sender(location: &str) -> SmtpSender {
    SmtpSender::new(SmtpSettings::parse(location).unwrap(), Some(Secret::from("secret"))).unwrap()
}

/// How often each Message-ID was delivered, once the server has delivered all that it took.
async fn delivered(exim: &Exim) -> BTreeMap<String, u32> {
    let limit = Instant::now() + Duration::from_secs(60);
    let mut before = usize::MAX;
    loop {
        let mails = exim.delivered().unwrap();
        if exim.queued() == 0 && mails.len() == before {
            let mut counts = BTreeMap::new();
            for mail in &mails {
                let text = String::from_utf8_lossy(mail);
                let id = text.lines().find_map(|line| line.strip_prefix("Message-ID: <"));
                *counts
                    .entry(id.unwrap().trim_end_matches(['>', '\r']).to_owned())
                    .or_default() += 1;
                assert!(
                    text.contains("\n.") && text.contains("\n..two"),
                    "dots come through: {text}"
                );
            }
            return counts;
        }
        assert!(Instant::now() < limit, "{} mails are still queued", exim.queued());
        before = mails.len();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn every_way_in_is_taken_and_a_wrong_password_is_told() {
    let Some(exim) = require(Exim::start().await) else {
        return;
    };
    let (plain, tls) = (exim.smtp_port(), exim.smtps_port());
    let ca = exim.ca_path().display().to_string();
    let ways = [
        format!("smtp://127.0.0.1:{plain}"),
        format!("smtp://bot@localhost:{plain}?starttls=required&ca={ca}&only_ca=true"),
        format!("smtps://bot@localhost:{tls}?ca={ca}&only_ca=true"),
        format!(
            "smtps://bot@127.0.0.1:{tls}?ca={ca}&password_file={}",
            exim.password_path().display()
        ),
    ];
    for (way, location) in ways.iter().enumerate() {
        let sender = sender(location);
        // Three mails on one connection.
        for number in 0..3 {
            let id = format!("{way}-{number}@test");
            let sent = sender.send(FROM, TO, &mail(&id)).await;
            assert!(sent.is_ok(), "{location}: {sent:?}");
        }
        let refused = sender.send(FROM, "refused@example.com", &mail("refused@test")).await;
        assert!(matches!(refused, Err(SmtpError::Refused { .. })), "{refused:?}");
        let later = sender.send(FROM, "deferred@example.com", &mail("later@test")).await;
        assert!(matches!(later, Err(SmtpError::Later { .. })), "{later:?}");
        let after = sender.send(FROM, TO, &mail(&format!("{way}-after@test"))).await;
        assert!(after.is_ok(), "{location}: {after:?}");
    }
    let counts = delivered(&exim).await;
    assert_eq!((counts.len(), counts.values().sum::<u32>()), (16, 16), "{counts:?}");

    let untrusted = sender(&format!("smtps://bot@localhost:{tls}"))
        .send(FROM, TO, &mail("x@test"))
        .await;
    assert!(matches!(untrusted, Err(SmtpError::Connect(_))), "{untrusted:?}");
    let location = SmtpSettings::parse(&format!("smtps://bot@localhost:{tls}?ca={ca}")).unwrap();
    let wrong = SmtpSender::new(location, Some(Secret::from("wrong"))).unwrap();
    let wrong = wrong.send(FROM, TO, &mail("y@test")).await;
    assert!(matches!(wrong, Err(SmtpError::Setup { .. })), "{wrong:?}");
    // A server that was restarted meanwhile gets the next mail on a new connection.
    let patient = sender(&format!("smtp://127.0.0.1:{plain}"));
    patient.send(FROM, TO, &mail("before@test")).await.unwrap();
    exim.restart().await.unwrap();
    let mut tries = 0;
    while patient.send(FROM, TO, &mail("after@test")).await.is_err() {
        tries += 1;
        assert!(tries < 3);
    }
    assert_eq!(delivered(&exim).await.get("after@test"), Some(&1));
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_after_every_byte_no_mail_is_lost_and_twice_comes_only_what_nobody_can_know() {
    let Some(exim) = require(Exim::start().await) else {
        return;
    };
    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, exim.smtp_port()));
    let mut twice = 0;
    let mut expected = 0;
    for direction in Direction::BOTH {
        // Each mail goes over a connection of its own, so that the whole dialogue is cut, from the greeting on.
        let proxy = FaultProxy::start(upstream);
        let location = format!("smtp://127.0.0.1:{}?messages=1&timeout=10s", proxy.port());
        let (mut after, mut whole, mut cuts, mut unknown) = (0_u64, 0, 0, Vec::new());
        while whole < 2 {
            let ending = if after % 2 == 0 { Ending::Reset } else { Ending::Close };
            let sender = sender(&location);
            let id = format!("{direction:?}-{after}-{whole}@cut");
            let message = mail(&id);
            proxy.cut_after(direction, after, ending);
            let first = sender.send(FROM, TO, &message).await;
            let was_cut = proxy.bytes_before_cut(direction).is_none();
            proxy.heal();
            match &first {
                // In its farewell, which nobody needs.
                Ok(_) if was_cut => cuts += 1,
                Ok(_) => whole += 1,
                Err(error) => {
                    cuts += 1;
                    if matches!(error, SmtpError::Unknown { .. }) {
                        unknown.push(id.clone());
                    }
                    assert!(!matches!(error, SmtpError::Refused { .. }), "after {after}: {error}");
                    // As the task queue does: once more.
                    sender.send(FROM, TO, &message).await.unwrap();
                }
            }
            expected += 1;
            after += 1;
            assert!(after < 5_000, "the dialogue has no end");
        }
        let counts = delivered(&exim).await;
        assert_eq!(counts.len(), expected, "no mail is lost");
        for (id, count) in counts.iter().filter(|(_, count)| **count > 1) {
            assert!(
                *count == 2 && (unknown.contains(id) || !id.starts_with(&format!("{direction:?}"))),
                "{id}: {count}"
            );
        }
        let doubled = counts.values().filter(|count| **count > 1).count();
        eprintln!(
            "{direction}: {cuts} cuts, {} of unknown outcome, {} mails came twice",
            unknown.len(),
            doubled - twice
        );
        twice = doubled;
        assert!(cuts > 100, "{cuts} cuts");
    }
    assert!(
        twice > 0,
        "a cut behind the last line leads to a second mail: otherwise none was made there"
    );
}
