//! What servers do and clients overlook: each row of the fault table that disqualified the usual client methods, and
//! more, against a scripted server under paused time. Whoever changes the IMAP crate has to keep these green.

use std::time::Duration;

use tokio::time::Instant;

use super::fetch::Body;
use super::scripted::{Step, answer, greeting, logged_in, login, try_log_in};
use super::*;

const FETCH_TWO: &str = "* 1 FETCH (UID 1 BODY[] {5}\r\nhello)\r\n";

fn one_of_two(then: &str) -> Step {
    answer("UID FETCH 1:2", format!("{FETCH_TWO}{then}"))
}

async fn fetch_two(script: Vec<Step>) -> (Result<Vec<(u32, Body)>, ImapError>, ImapSession) {
    let mut session = logged_in(script).await;
    let result = session.bodies(&[1, 2], 10, 1000).await;
    (result, session)
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_refused_is_an_error() {
    let mut session = logged_in(vec![answer("UID STORE 7", "{tag} NO [READ-ONLY] no\r\n")]).await;
    let error = session.mark(&[7], &["\\Seen"], 100).await.unwrap_err();
    assert!(matches!(error, ImapError::Refused { .. }), "{error}");
    assert!(session.is_usable());
}

#[tokio::test(start_paused = true)]
async fn a_search_that_is_refused_is_not_an_empty_inbox() {
    let mut session = logged_in(vec![answer("UID SEARCH UNSEEN", "{tag} NO [SERVERBUG] sorry\r\n")]).await;
    let error = session.uid_search("UNSEEN").await.unwrap_err();
    assert_eq!(error.next_move(), NextMove::RetryLater);
    assert!(error.to_string().contains("SERVERBUG"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_throttled_half_way_is_an_error_with_the_pause() {
    let script = vec![one_of_two(
        "{tag} NO Throttled. Suggested Backoff Time: 5000 milliseconds\r\n",
    )];
    let (result, session) = fetch_two(script).await;
    assert_eq!(
        result.unwrap_err().next_move(),
        NextMove::Pause(Some(Duration::from_secs(5)))
    );
    assert!(session.is_usable());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_cut_by_the_end_of_the_connection_is_an_error() {
    let (result, mut session) = fetch_two(vec![one_of_two(""), Step::Close]).await;
    assert!(matches!(result, Err(ImapError::Lost { .. })));
    assert!(!session.is_usable());
    assert!(
        matches!(session.noop().await, Err(ImapError::Lost { .. })),
        "a dead stream answers nothing with Ok"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetch_cut_by_bye_is_an_error_that_quotes_it() {
    let (result, _) = fetch_two(vec![one_of_two("* BYE AccessTokenExpired\r\n"), Step::Close]).await;
    let error = result.unwrap_err();
    assert!(error.to_string().contains("AccessTokenExpired"), "{error}");
    assert_eq!(error.next_move(), NextMove::Reconnect);
}

#[tokio::test(start_paused = true)]
async fn a_bye_of_a_busy_server_asks_for_a_pause() {
    let script = vec![
        Step::Send(b"* BYE Too many connections from your address\r\n".to_vec()),
        Step::Close,
    ];
    let error = try_log_in(script).await.unwrap_err();
    assert_eq!(error.next_move(), NextMove::Pause(None), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_at_the_deadline() {
    let begin = Instant::now();
    let mut session = logged_in(vec![answer("NOOP", "* 4 EXISTS\r\n"), Step::Silence]).await;
    let error = session.noop().await.unwrap_err();
    assert!(matches!(error, ImapError::Lost { .. }), "{error}");
    assert_eq!(begin.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_trickles_without_end_is_given_up_at_the_commands_deadline() {
    let (near, far) = tokio::io::duplex(4096);
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let mut far = far;
        loop {
            if far.write_all(b"* OK still here\r\n").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
    });
    let begin = Instant::now();
    let error = ImapSession::open(Box::new(near), &scripted::authentication(), Timing::default())
        .await
        .unwrap_err();
    assert!(matches!(error, ImapError::Lost { .. }), "{error}");
    assert_eq!(begin.elapsed().as_secs(), 120);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_greets_is_given_up() {
    let error = try_log_in(vec![Step::Silence]).await.unwrap_err();
    assert_eq!(error.next_move(), NextMove::Reconnect);
}

#[tokio::test(start_paused = true)]
async fn logging_out_of_a_silent_server_takes_five_seconds() {
    let session = logged_in(vec![Step::Silence]).await;
    let begin = Instant::now();
    session.logout().await;
    assert_eq!(begin.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_line_is_told_apart_from_a_lost_connection() {
    for line in [
        "* 1 FETCH (UID 1 BODY[] ~{3}\r\nabc)\r\n",
        "* FETCH 1\r\n",
        "garbage\r\n",
        "\0\0\r\n",
    ] {
        let (result, mut session) = fetch_two(vec![answer("UID FETCH", line)]).await;
        assert!(
            matches!(result, Err(ImapError::Unreadable { .. })),
            "{line:?} gave {result:?}"
        );
        assert!(session.noop().await.is_err());
    }
}

/// The parser waits for the rest of what it does not understand, so that some nonsense looks like silence.
#[tokio::test(start_paused = true)]
async fn a_line_the_parser_waits_to_go_on_ends_at_the_deadline() {
    let (result, _) = fetch_two(vec![answer("UID FETCH", "* 1 FETCH (UID (((\r\n{tag} OK\r\n")]).await;
    assert_eq!(result.unwrap_err().next_move(), NextMove::Reconnect);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_makes_the_parser_panic_is_an_error() {
    let mut session = logged_in(vec![answer("NOOP", b"* OK [ALERT]\xff\xfe disk\r\n{tag} OK\r\n")]).await;
    let error = session.noop().await.unwrap_err();
    assert!(matches!(error, ImapError::Unreadable { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn eight_bit_text_in_answers_is_read() {
    let mut session = logged_in(vec![answer("NOOP", b"* OK gr\xfc\xdfe\r\n{tag} OK f\xfcr dich\r\n")]).await;
    session.noop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_its_limit_is_refused_before_it_is_read() {
    let (result, _) = fetch_two(vec![answer("UID FETCH", "* 1 FETCH (UID 1 BODY[] {400000000}\r\n")]).await;
    let error = result.unwrap_err();
    assert!(matches!(error, ImapError::Unreadable { .. }), "{error}");
    assert!(error.to_string().contains("400000000"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn flags_changed_by_somebody_else_are_no_message() {
    let text = "* 9 FETCH (FLAGS (\\Seen))\r\n* 1 FETCH (UID 1 BODY[] {2}\r\nhi)\r\n* 3 FETCH (UID 77 BODY[] {2}\r\nno)\r\n\
                * 1 FETCH (UID 1 FLAGS (\\Seen))\r\n* 2 FETCH (BODY[] {2}\r\nyo UID 2)\r\n{tag} OK\r\n";
    let (result, _) = fetch_two(vec![answer("UID FETCH", text)]).await;
    let expected = [(1, Body::Here("hi".into())), (2, Body::Here("yo".into()))];
    assert_eq!(result.unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_message_told_in_several_answers_is_one() {
    let text =
        "* 1 FETCH (UID 5)\r\n* 1 FETCH (FLAGS (\\Seen) UID 5)\r\n* 1 FETCH (RFC822.SIZE 42 UID 5)\r\n{tag} OK\r\n";
    let mut session = logged_in(vec![answer("UID FETCH 5 (UID FLAGS RFC822.SIZE)", text)]).await;
    let expected = Message {
        uid: 5,
        size: Some(42),
        seen: true,
    };
    assert_eq!(session.describe(&[5]).await.unwrap(), [expected]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_nil_or_missing_is_gone_only_if_the_message_is() {
    let text = "* 1 FETCH (UID 1 BODY[] NIL)\r\n{tag} OK\r\n";
    let gone = vec![
        answer("UID FETCH", text),
        answer("UID SEARCH UID 1:2", "* SEARCH\r\n{tag} OK\r\n"),
    ];
    let (result, _) = fetch_two(gone).await;
    assert_eq!(result.unwrap(), [(1, Body::Gone), (2, Body::Gone)]);

    let kept = vec![
        answer("UID FETCH", text),
        answer("UID SEARCH UID 1:2", "* SEARCH 2\r\n{tag} OK\r\n"),
    ];
    let (result, _) = fetch_two(kept).await;
    assert!(matches!(result, Err(ImapError::Refused { .. })));
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_unasked_responses_are_all_counted() {
    let expunged = "* 1 EXPUNGE\r\n".repeat(500);
    let mut session = logged_in(vec![answer("NOOP", format!("{expunged}* 9 EXISTS\r\n{{tag}} OK\r\n"))]).await;
    session.noop().await.unwrap();
    let changes = Changes {
        exists: Some(9),
        expunged: 500,
        arrived: true,
    };
    assert_eq!(session.take_changes(), changes);
    assert_eq!(session.take_changes(), Changes::default());
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_another_command_ends_nothing() {
    let mut session = logged_in(vec![answer("NOOP", "A9999 OK not yours\r\n")]).await;
    assert!(matches!(session.noop().await, Err(ImapError::Lost { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_was_interrupted_makes_the_session_unusable() {
    let mut session = logged_in(vec![Step::Silence]).await;
    let cut = tokio::time::timeout(Duration::from_secs(1), session.noop()).await;
    assert!(cut.is_err());
    assert!(!session.is_usable());
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_told_apart_from_a_busy_server() {
    let cases = [
        (
            "{tag} NO [AUTHENTICATIONFAILED] Authentication failed.\r\n",
            NextMove::AskOperator,
        ),
        ("{tag} NO LOGIN failed\r\n", NextMove::AskOperator),
        (
            "{tag} NO [UNAVAILABLE] Temporary authentication failure.\r\n",
            NextMove::Pause(None),
        ),
        (
            "{tag} NO [LIMIT] Maximum number of connections exceeded\r\n",
            NextMove::Pause(None),
        ),
        ("* BYE going down\r\n", NextMove::Reconnect),
    ];
    for (text, expected) in cases {
        let error = try_log_in(vec![greeting(), answer("LOGIN", text), Step::Close])
            .await
            .unwrap_err();
        assert_eq!(error.next_move(), expected, "{text} gave {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_password_is_sent_to_a_server_that_declines_it_in_the_clear() {
    let text = b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n".to_vec();
    let error = try_log_in(vec![Step::Send(text)]).await.unwrap_err();
    assert!(error.to_string().contains("imaps://"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn seen_is_proven_by_what_the_server_shows() {
    let script = vec![
        answer(
            "UID STORE 1:4 +FLAGS (\\Seen)",
            "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n* 2 FETCH (FLAGS (\\Seen))\r\n* 3 FETCH (UID 3 FLAGS ())\r\n{tag} OK\r\n",
        ),
        answer(
            "UID FETCH 2:4 (UID FLAGS)",
            "* 2 FETCH (UID 2 FLAGS (\\seen))\r\n* 3 FETCH (UID 3 FLAGS (\\Answered))\r\n{tag} OK\r\n",
        ),
    ];
    let marked = logged_in(script)
        .await
        .mark(&[1, 2, 3, 4], &["\\Seen"], 100)
        .await
        .unwrap();
    let expected = Marked {
        marked: vec![1, 2],
        gone: vec![4],
        unproven: vec![3],
    };
    assert_eq!(marked, expected);
}

#[tokio::test(start_paused = true)]
async fn a_search_past_the_end_finds_nothing() {
    let mut session = logged_in(vec![answer("UID SEARCH UID 11:*", "* SEARCH 10\r\n{tag} OK\r\n")]).await;
    assert_eq!(session.uids_above(10).await.unwrap(), [0; 0]);
    assert_eq!(session.uids_above(u32::MAX).await.unwrap(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_keeps_no_seen_flag_is_refused() {
    let refusals = [
        "* OK [UIDVALIDITY 1] ok\r\n{tag} OK [READ-ONLY] done\r\n",
        "* OK [UIDVALIDITY 1] ok\r\n* OK [PERMANENTFLAGS (\\Answered)] ok\r\n{tag} OK [READ-WRITE] done\r\n",
    ];
    for text in refusals {
        let folder = logged_in(vec![answer("SELECT", text)])
            .await
            .open_folder("INBOX")
            .await
            .unwrap();
        let error = folder.require_writable(["\\Seen"]).unwrap_err();
        assert!(matches!(error, ImapError::ReadOnly { .. }), "{error}");
    }
    let text = "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n* OK [PERMANENTFLAGS (\\Seen \\*)] ok\r\n{tag} OK [READ-WRITE] done\r\n";
    let folder = logged_in(vec![answer("SELECT", text)])
        .await
        .open_folder("INBOX")
        .await
        .unwrap();
    assert_eq!((folder.uid_validity, folder.exists, folder.uid_next), (7, 3, None));
    folder.require_writable(["\\Seen"]).unwrap();
    assert!(folder.keeps("$Ordered") && !folder.keeps("\\Flagged"));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_uidvalidity_is_refused() {
    let script = vec![answer("SELECT", "{tag} OK [READ-WRITE] done\r\n")];
    let error = logged_in(script).await.open_folder("INBOX").await.unwrap_err();
    assert!(matches!(error, ImapError::Unsupported { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_folder_is_found_with_the_servers_separator_and_below_its_inbox() {
    let script = vec![
        answer("LIST \"\" \"\"", "* LIST (\\Noselect) \".\" \"\"\r\n{tag} OK\r\n"),
        answer("SELECT \"Auftr&AOQ-ge.Neu\"", "{tag} NO no such folder\r\n"),
        answer(
            "SELECT \"INBOX.Auftr&AOQ-ge.Neu\"",
            "* OK [UIDVALIDITY 2] ok\r\n{tag} OK done\r\n",
        ),
    ];
    let folder = logged_in(script).await.open_folder("Aufträge/Neu").await.unwrap();
    assert_eq!(folder.wire_name, "INBOX.Auftr&AOQ-ge.Neu");
}

#[tokio::test(start_paused = true)]
async fn a_missing_folder_is_answered_with_those_there_are() {
    let script = vec![
        answer("LIST \"\" \"\"", "* LIST (\\Noselect) \"/\" \"\"\r\n{tag} OK\r\n"),
        answer("SELECT \"Orders\"", "{tag} NO [NONEXISTENT] no such folder\r\n"),
        answer("SELECT \"INBOX/Orders\"", "{tag} NO no such folder\r\n"),
        answer(
            "LIST \"\" \"*\"",
            "* LIST () \"/\" INBOX\r\n* LIST () \"/\" \"Best&AOQ-tigt\"\r\n{tag} OK\r\n",
        ),
    ];
    let error = logged_in(script).await.open_folder("Orders").await.unwrap_err();
    assert!(error.to_string().contains("INBOX, Bestätigt"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_locked_folder_asks_for_a_pause() {
    let script = vec![answer("SELECT", "{tag} NO [INUSE] locked\r\n")];
    let error = logged_in(script).await.open_folder("INBOX").await.unwrap_err();
    assert_eq!(error.next_move(), NextMove::Pause(None));
}

/// Failure 43: the connection breaks at every byte of a conversation, and each time this is an error, never a success
/// with less in it.
#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_is_an_error() {
    let select = "* 1 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n{tag} OK [READ-WRITE] done\r\n";
    let fetch = "* 1 FETCH (UID 1 BODY[] {5}\r\nhello)\r\n* 2 FETCH (UID 2 BODY[] {3}\r\nyou)\r\n{tag} OK\r\n";
    let store = "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n{tag} OK\r\n";
    let whole = [("SELECT", select), ("UID FETCH", fetch), ("UID STORE", store)];
    for (at, (_, text)) in whole.iter().enumerate() {
        for cut in 0..text.replace("{tag}", "A0001").len() {
            let mut script = vec![greeting(), login()];
            script.extend(whole[..at].iter().map(|(command, text)| answer(command, text)));
            // Tags have five characters here, so the cut falls on the same byte with and without the placeholder.
            script.push(answer(whole[at].0, &text.as_bytes()[..cut]));
            script.push(Step::Close);
            let mut session = try_log_in(script).await.unwrap();
            let outcome = converse(&mut session).await;
            assert!(
                outcome.is_err(),
                "{} cut at byte {cut} passed for complete",
                whole[at].0
            );
        }
    }
    let script = whole.iter().map(|(command, text)| answer(command, text)).collect();
    converse(&mut logged_in(script).await).await.unwrap();
}

async fn converse(session: &mut ImapSession) -> Result<(), ImapError> {
    session.open_folder("INBOX").await?;
    assert_eq!(session.bodies(&[1, 2], 8, 100).await?.len(), 2);
    assert_eq!(session.mark(&[1, 2], &["\\Seen"], 10).await?.marked, [1, 2]);
    Ok(())
}
