//! The location in words, and the sender against a server that says what a table tells it to.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::{SmtpError, SmtpSender, SmtpSettings, StartTls};

#[test]
fn a_location_is_read_with_its_options() {
    let settings = SmtpSettings::parse(
        "smtp://bot%40shop.example@mail.example?password_file=/run/secret&hello=bot.example&timeout=30s&messages=5&idle=10s",
    )
    .unwrap();
    assert_eq!((settings.host.as_str(), settings.port), ("mail.example", 587));
    assert_eq!(settings.user.as_deref(), Some("bot@shop.example"));
    assert_eq!(settings.starttls, StartTls::Required);
    assert_eq!((settings.hello.as_str(), settings.messages), ("bot.example", 5));
    assert_eq!(settings.timeout, Duration::from_secs(30));
    assert!(!settings.needs_password());
    let near = SmtpSettings::parse("smtp://127.0.0.1:2525").unwrap();
    assert_eq!((near.starttls, near.port), (StartTls::Off, 2525));
    let wrapped = SmtpSettings::parse("smtps://bot@mail.example").unwrap();
    assert!(wrapped.encrypted && wrapped.port == 465 && wrapped.needs_password());
}

#[test]
fn faults_of_a_location_are_named_without_the_password() {
    for (location, says) in [
        ("mail.example", "write smtps://"),
        ("smtp://", "host"),
        ("smtps://bot:secret@mail.example", "does not belong"),
        ("smtp://bot@mail.example?starttls=off", "unencrypted"),
        ("smtps://mail.example?starttls=off", "is for smtp://"),
        ("smtps://mail.example?only_ca=true", "needs ca"),
        ("smtps://mail.example?timeout=0s", "timeout is a span"),
        ("smtps://mail.example?retries=3", "not known"),
        ("smtps://mail.example/inbox", "no path"),
    ] {
        let error = SmtpSettings::parse(location).unwrap_err();
        assert!(error.contains(says), "{location}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

/// A server that answers each line that begins with a word of the table by what stands there; `""` closes, `"…"` is silent.
/// Everything else is taken.
async fn server(table: &'static [(&'static str, &'static str)]) -> SmtpSettings {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                write.write_all(b"220 here\r\n").await.unwrap();
                let mut in_data = false;
                while let Ok(Some(line)) = lines.next_line().await {
                    let word = if in_data { "." } else { line.split(' ').next().unwrap() };
                    if in_data && line != "." {
                        continue;
                    }
                    in_data = false;
                    let told = table.iter().find(|(asked, _)| *asked == word);
                    let answer = match (told, word) {
                        (Some((_, "")), _) => return,
                        (Some((_, "…")), _) => std::future::pending().await,
                        (Some((_, answer)), _) => (*answer).to_owned(),
                        (None, "EHLO") => "250-here\r\n250 8BITMIME".to_owned(),
                        (None, "DATA") => {
                            in_data = true;
                            "354 go on".to_owned()
                        }
                        (None, _) => "250 ok".to_owned(),
                    };
                    if write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    SmtpSettings::parse(&format!("smtp://127.0.0.1:{port}?timeout=1s")).unwrap()
}

async fn send(table: &'static [(&'static str, &'static str)]) -> Result<String, SmtpError> {
    let sender = SmtpSender::new(server(table).await, None).unwrap();
    let first = sender
        .send("bot@shop.example", "jane@example.com", b"Subject: x\r\n\r\nhello\r\n")
        .await;
    // Whatever was said, the next one gets its own answer.
    let second = sender
        .send("bot@shop.example", "jane@example.com", b"Subject: y\r\n\r\nhello\r\n")
        .await;
    assert_eq!(first.is_ok(), second.is_ok(), "{first:?} {second:?}");
    first
}

#[tokio::test]
async fn answers_are_told_apart_by_what_is_to_be_done() {
    assert_eq!(send(&[]).await.unwrap(), "ok");
    for table in [
        &[("RCPT", "550 5.1.1 nobody here")] as &'static [_],
        &[("MAIL", "553 not you")],
        &[(".", "554 no")],
    ] {
        let refused = send(table).await;
        assert!(
            matches!(refused, Err(SmtpError::Refused { .. })),
            "{table:?}: {refused:?}"
        );
    }
    for table in [
        &[("RCPT", "450 4.2.1 later")] as &'static [_],
        &[("MAIL", "421 going away")],
        &[("MAIL", "530 login first")],
        &[(".", "452 full")],
    ] {
        let later = send(table).await;
        assert!(matches!(later, Err(SmtpError::Later { .. })), "{table:?}: {later:?}");
    }
    for table in [&[("RCPT", "")] as &'static [_], &[("DATA", "")], &[("EHLO", "")]] {
        let broken = send(table).await;
        assert!(matches!(broken, Err(SmtpError::Broken { .. })), "{table:?}: {broken:?}");
    }
    let unknown = send(&[(".", "")]).await;
    assert!(matches!(unknown, Err(SmtpError::Unknown { .. })), "{unknown:?}");
    let unfit = send(&[("EHLO", "554 go away")]).await;
    assert!(matches!(unfit, Err(SmtpError::Setup { .. })), "{unfit:?}");
}

#[tokio::test]
async fn a_server_that_falls_silent_costs_no_more_than_the_deadline() {
    for word in ["EHLO", "MAIL", "DATA", "."] {
        let table: &'static [_] = match word {
            "EHLO" => &[("EHLO", "…")],
            "MAIL" => &[("MAIL", "…")],
            "DATA" => &[("DATA", "…")],
            _ => &[(".", "…")],
        };
        let sender = SmtpSender::new(server(table).await, None).unwrap();
        let sending = sender.send("bot@shop.example", "jane@example.com", b"x\r\n");
        let late = tokio::time::timeout(Duration::from_secs(10), sending).await;
        assert!(matches!(late, Ok(Err(SmtpError::Unknown { .. }))), "{word}: {late:?}");
    }
}

#[tokio::test]
async fn a_far_server_without_starttls_is_not_spoken_to() {
    let mut settings = server(&[]).await;
    settings.starttls = StartTls::Required;
    let sender = match SmtpSender::new(settings, None) {
        Ok(sender) => sender,
        // A machine without any trusted authority gets no further.
        Err(error) => panic!("{error}"),
    };
    let refused = sender.send("bot@shop.example", "jane@example.com", b"x\r\n").await;
    assert!(
        matches!(&refused, Err(SmtpError::Setup { problem, .. }) if problem.contains("STARTTLS")),
        "{refused:?}"
    );
}
