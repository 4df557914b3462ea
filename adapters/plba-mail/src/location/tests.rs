//! What source URLs are read as, and which mistakes get which error.

use super::*;

fn imap(text: &str) -> ImapLocation {
    match text.parse() {
        Ok(Location::Imap(location)) => location,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_maildir_is_a_path_with_options() {
    for (text, path) in [
        ("maildir:var/inbox", "var/inbox"),
        (
            "maildir:/srv/a%20b?since=all&interval=100ms&max_message=1MiB",
            "/srv/a b",
        ),
        ("maildir:///srv/mail", "/srv/mail"),
    ] {
        let Ok(Location::Maildir(location)) = text.parse() else {
            panic!("{text}");
        };
        assert_eq!(location.path, PathBuf::from(path));
    }
    let Ok(Location::Maildir(location)) = "maildir:x?since=all&interval=100ms&max_message=1MiB".parse() else {
        panic!("not read");
    };
    assert_eq!(location.common.since, Since::All);
    assert_eq!(location.common.interval, Duration::from_millis(100));
    assert_eq!(location.common.max_message, MIB);
}

#[test]
fn an_account_has_defaults_and_options() {
    let location = imap("imaps://bot%40example.org@mail.example.org");
    assert_eq!(
        (location.user.as_str(), location.port, location.folder.as_str()),
        ("bot@example.org", 993, "INBOX")
    );
    assert_eq!(location.common, Common::default());
    assert_eq!(location.name(), "imaps://bot@example.org@mail.example.org:993/INBOX");

    let location =
        imap("imaps://bot@[::1]:1993/Auftr%C3%A4ge/Neu?mode=poll&ca=/etc/ca.pem&only_ca=true&password_file=pw");
    assert_eq!((location.host.as_str(), location.port), ("::1", 1993));
    assert_eq!(location.folder, "Aufträge/Neu");
    assert_eq!(location.tls.ca, Some("/etc/ca.pem".into()));
    assert_eq!(location.password_file, Some("pw".into()));
}

#[test]
fn a_mailbox_is_watched_by_polling_unless_idle_is_asked_for() {
    let idle = |longest, safety| Watch::Idle {
        longest: Duration::from_secs(longest),
        safety: Duration::from_secs(safety),
    };
    for (query, watch) in [
        ("", Watch::Poll),
        ("mode=poll", Watch::Poll),
        ("mode=idle", idle(300, 300)),
        ("mode=idle&idle=60&safety=10m", idle(60, 600)),
    ] {
        assert_eq!(imap(&format!("imaps://bot@host/?{query}")).watch, watch, "{query}");
    }
}

#[test]
fn a_token_is_for_xoauth2_and_makes_a_password_unneeded() {
    let location = imap("imaps://bot@host/?token_command=/usr/bin/token%20--for%20bot");
    assert_eq!(location.mechanism, Mechanism::XOAuth2);
    let words = ["/usr/bin/token", "--for", "bot"].map(str::to_owned).to_vec();
    assert_eq!(location.token, Some(TokenSource::Command(words)));
    assert!(!location.needs_password());
    let location = imap("imaps://bot@host/?auth=scram-sha-256");
    assert!(location.mechanism == Mechanism::ScramSha256 && location.needs_password());
}

#[test]
fn what_becomes_of_messages_that_are_over_is_read() {
    let after = |query: &str| imap(&format!("imaps://bot@host/?{query}")).common.after;
    assert_eq!(after(""), After::default());
    assert_eq!(after("mark=none").marks, []);
    assert!(!after("mark=none").changes_anything());
    let whole = after("mark=seen,flagged,$Ordered&move=Done/2026&errors=Problems");
    let keyword = Mark::Keyword("$Ordered".into());
    assert_eq!(whole.marks, [Mark::Seen, Mark::Flagged, keyword]);
    assert_eq!(
        (whole.done.as_deref(), whole.errors.as_deref()),
        (Some("Done/2026"), Some("Problems"))
    );
    let Ok(Location::Maildir(maildir)) = "maildir:x?mark=answered&move=Done".parse() else {
        panic!("not read");
    };
    assert_eq!(maildir.common.after.marks, [Mark::Answered]);
}

#[test]
fn long_names_are_cut_and_stay_apart() {
    let [one, two] = ["a", "b"].map(|end| bounded(format!("maildir:{}{end}", "ü".repeat(200))));
    assert!(one.len() <= 180 && two.len() <= 180 && one != two, "{one} {two}");
    assert_eq!(bounded("maildir:/x".into()), "maildir:/x");
}

#[test]
fn passwords_are_not_sent_in_the_clear_unless_allowed() {
    for fine in [
        "imap://bot@localhost/",
        "imap://bot@127.0.0.1:1143/",
        "imap://bot@mail.lan/?plaintext=allow",
    ] {
        assert!(!imap(fine).encrypted);
    }
    let error = "imap://bot@mail.lan/".parse::<Location>().unwrap_err();
    assert!(error.to_string().contains("imaps://"), "{error}");
}

#[test]
fn each_mistake_gets_one_clear_error_and_no_password_is_shown() {
    let cases = [
        ("var/inbox", "no scheme"),
        ("pop3://bot@host/", "`pop3`"),
        ("maildir:", "no directory"),
        ("maildir:x?sinc=all", "`sinc`"),
        ("maildir:x?since=yesterday", "yesterday"),
        ("maildir:x?interval=1", "interval"),
        ("maildir:x?interval=-3s", "interval"),
        ("maildir:x?interval=400d", "interval"),
        ("maildir:x?max_message=1GB", "max_message"),
        ("maildir:x?max_message=0", "max_message"),
        ("maildir:%zz", "%25"),
        ("imaps://host/INBOX", "no user"),
        ("imaps:///INBOX", "host"),
        ("imaps://bot@host:99999/", "port"),
        ("imaps://bot:hunter2@host/", "password_file"),
        ("imaps://bot:hunter2@host:99999/", "port"),
        ("imaps://bot@host/?mode=push", "push"),
        ("imaps://bot@host/?idle=60", "mode=idle"),
        ("imaps://bot@host/?mode=idle&idle=10m", "idle"),
        ("imaps://bot@host/?mode=idle&idle=0", "idle"),
        ("imaps://bot@host/?mode=idle&safety=25h", "safety"),
        ("imaps://bot@host/?auth=ntlm", "`ntlm`"),
        ("imaps://bot@host/?auth=xoauth2", "token_file"),
        ("imaps://bot@host/?auth=plain&token_file=x", "xoauth2"),
        ("imaps://bot@host/?token_file=x&token_command=y", "one of"),
        ("imaps://bot@host/?token_command=%20", "no program"),
        ("imaps://bot@host/?only_ca=true", "needs ca"),
        ("imaps://bot@host/?ca=x&only_ca=yes", "true or false"),
        ("imap://bot@localhost/?ca=x", "imaps://"),
        ("imaps://bot@host/a%0d%0ab", "control"),
        ("imaps://bot@host/?colour=red", "`colour`"),
        ("imaps://bot@host/?mark=sean", "`sean`"),
        ("imaps://bot@host/?mark=$a%20b", "`$a b`"),
        ("imaps://bot@host/?mark=seen,,flagged", "``"),
        ("imaps://bot@host/?move=/", "move"),
        ("imaps://bot@host/?errors=a%0d%0ab", "errors"),
        ("imaps://bot@host/?move=inbox", "the folder that is read"),
        ("maildir:x?mark=$Ordered", "keywords"),
    ];
    for (text, expected) in cases {
        let error = text.parse::<Location>().unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
