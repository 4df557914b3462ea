//! IDLE at the level of one connection, and ways to log in, against a scripted server under paused time: what the usual
//! client methods miss, hang on or take for success.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::scripted::{Step, answer, greeting, logged_in, serve, timing};
use super::*;

const LONGEST: Duration = Duration::from_secs(300);

fn agreed() -> Step {
    answer("IDLE", "+ idling\r\n")
}

fn done() -> Step {
    answer("DONE", "{tag} OK idle is over\r\n")
}

fn said(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

#[tokio::test(start_paused = true)]
async fn a_message_that_arrives_while_waiting_is_noticed() {
    let script = vec![
        agreed(),
        Step::Pause(Duration::from_secs(100)),
        said("* OK Still here\r\n* 1 EXISTS\r\n* 1 RECENT\r\n"),
        done(),
        answer("NOOP", "{tag} OK\r\n"),
    ];
    let mut session = logged_in(script).await;
    let begin = Instant::now();
    session.idle_start().await.unwrap();
    assert!(!session.is_usable() && !session.has_arrivals());
    assert_eq!(session.idle_notice(LONGEST).await.unwrap(), Notice::Stirred);
    assert!(session.has_arrivals());
    assert_eq!(begin.elapsed().as_secs(), 100);
    session.idle_end().await.unwrap();
    session.noop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_announced_before_the_server_agrees_is_not_missed() {
    let script = vec![answer("IDLE", "* 4 EXISTS\r\n+ idling\r\n"), done()];
    let mut session = logged_in(script).await;
    session.idle_start().await.unwrap();
    assert!(session.has_arrivals());
    session.idle_end().await.unwrap();
    assert_eq!(session.take_changes().exists, Some(4));
}

#[tokio::test(start_paused = true)]
async fn a_number_that_is_repeated_or_explained_by_expunges_is_no_arrival() {
    let select = "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n{tag} OK done\r\n";
    let script = vec![
        answer("SELECT", select),
        answer("IDLE", "* 3 EXISTS\r\n+ idling\r\n* 1 EXPUNGE\r\n* 2 EXISTS\r\n"),
        answer("DONE", "* 2 EXISTS\r\n{tag} OK\r\n"),
        answer("IDLE", "+ idling\r\n* 1 EXPUNGE\r\n* 2 EXISTS\r\n"),
    ];
    let mut session = logged_in(script).await;
    session.open_folder("INBOX").await.unwrap();
    session.take_changes();
    session.idle_start().await.unwrap();
    for _ in 0..2 {
        assert_eq!(session.idle_notice(LONGEST).await.unwrap(), Notice::Stirred);
    }
    session.idle_end().await.unwrap();
    assert!(!session.has_arrivals());
    session.idle_start().await.unwrap();
    for _ in 0..2 {
        session.idle_notice(LONGEST).await.unwrap();
    }
    assert!(session.has_arrivals(), "one gone and one come");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_idle_is_left_usable() {
    for refusal in ["{tag} NO not now\r\n", "{tag} BAD what?\r\n", "{tag} OK\r\n"] {
        let mut session = logged_in(vec![answer("IDLE", refusal), answer("NOOP", "{tag} OK\r\n")]).await;
        let error = session.idle_start().await.unwrap_err();
        assert_eq!(error.next_move(), NextMove::RetryLater, "{refusal}");
        session.noop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_closes_while_idling_is_lost_and_no_interruption() {
    for (end, text) in [("", "closed"), ("* BYE autologout\r\n", "autologout")] {
        let mut session = logged_in(vec![agreed(), said(end), Step::Close]).await;
        session.idle_start().await.unwrap();
        let error = session.idle_notice(LONGEST).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.next_move(), NextMove::Reconnect);
        assert!(!session.is_usable());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_the_idle_by_itself_can_be_asked_again() {
    let script = vec![agreed(), said("A0002 OK enough\r\n"), answer("NOOP", "{tag} OK\r\n")];
    let mut session = logged_in(script).await;
    session.idle_start().await.unwrap();
    assert_eq!(session.idle_notice(LONGEST).await.unwrap(), Notice::Ended);
    session.idle_end().await.unwrap();
    session.noop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn done_into_a_black_hole_takes_thirty_seconds() {
    let mut session = logged_in(vec![agreed(), Step::Silence]).await;
    session.idle_start().await.unwrap();
    assert!(timeout(LONGEST, session.idle_notice(LONGEST)).await.is_err());
    let begin = Instant::now();
    let error = session.idle_end().await.unwrap_err();
    assert_eq!(error.next_move(), NextMove::Reconnect);
    assert_eq!(begin.elapsed().as_secs(), 30);
    assert!(!session.is_usable());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_agrees_is_given_up_after_thirty_seconds() {
    let mut session = logged_in(vec![answer("IDLE", ""), Step::Silence]).await;
    let begin = Instant::now();
    let error = session.idle_start().await.unwrap_err();
    assert_eq!(error.next_move(), NextMove::Reconnect);
    assert_eq!(begin.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_and_taken_up_again_hears_everything() {
    let half = "* 7 EXI";
    let script = vec![
        agreed(),
        said(half),
        Step::Pause(Duration::from_secs(2)),
        said("STS\r\n"),
        done(),
    ];
    let mut session = logged_in(script).await;
    session.idle_start().await.unwrap();
    let second = Duration::from_secs(1);
    assert!(timeout(second, session.idle_notice(LONGEST)).await.is_err());
    assert_eq!(session.idle_notice(LONGEST).await.unwrap(), Notice::Stirred);
    assert_eq!(session.take_changes().exists, Some(7));
    session.idle_end().await.unwrap();
}

/// Failure 43, for IDLE: wherever the connection breaks, somebody is told.
#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_of_an_idle_is_an_error() {
    let agree = "* 1 EXISTS\r\n+ idling\r\n* 2 EXISTS\r\n";
    let end = "* 3 EXISTS\r\n{tag} OK over\r\n";
    for (at, text) in [agree, end].into_iter().enumerate() {
        for cut in 0..text.replace("{tag}", "A0002").len() {
            let mut script = vec![answer("IDLE", agree), answer("DONE", &text.as_bytes()[..cut])];
            if at == 0 {
                script = vec![answer("IDLE", &text.as_bytes()[..cut])];
            }
            script.push(Step::Close);
            let mut session = logged_in(script).await;
            let outcome = wait_once(&mut session).await;
            assert!(outcome.is_err(), "part {at} cut at byte {cut} passed for complete");
            assert!(!session.is_usable());
        }
    }
    let mut session = logged_in(vec![answer("IDLE", agree), answer("DONE", end)]).await;
    wait_once(&mut session).await.unwrap();
    assert_eq!(session.take_changes().exists, Some(3));
}

async fn wait_once(session: &mut ImapSession) -> Result<(), ImapError> {
    session.idle_start().await?;
    session.idle_notice(LONGEST).await?;
    session.idle_end().await
}

async fn log_in(authentication: Authentication, script: Vec<Step>) -> Result<ImapSession, ImapError> {
    ImapSession::open(serve(script), &authentication, timing()).await
}

fn offering(mechanism: &str) -> Step {
    said(&format!("* OK [CAPABILITY IMAP4rev1 IDLE AUTH={mechanism}] ready\r\n"))
}

fn plain() -> Authentication {
    Authentication::Plain {
        user: "bot".into(),
        password: "secret".into(),
    }
}

fn token() -> Authentication {
    Authentication::XOAuth2 {
        user: "bot@example.org".into(),
        token: "ya29.token".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn plain_sends_name_and_password_in_base64() {
    let script = vec![
        offering("PLAIN"),
        answer("AUTHENTICATE PLAIN", "+ \r\n"),
        answer("AGJvdABzZWNyZXQ=", "* CAPABILITY IMAP4rev1\r\n{tag} OK in\r\n"),
    ];
    assert!(log_in(plain(), script).await.unwrap().is_usable());
}

#[tokio::test(start_paused = true)]
async fn xoauth2_shows_the_token_and_hears_the_reason_of_a_refusal() {
    let shown = "dXNlcj1ib3RAZXhhbXBsZS5vcmcBYXV0aD1CZWFyZXIgeWEyOS50b2tlbgEB";
    let script = vec![
        offering("XOAUTH2"),
        answer("AUTHENTICATE XOAUTH2", "+\r\n"),
        answer(shown, "{tag} OK in\r\n"),
    ];
    log_in(token(), script).await.unwrap();

    let script = vec![
        greeting_without_list(),
        answer("AUTHENTICATE XOAUTH2", "+ \r\n"),
        answer(shown, "+ eyJzdGF0dXMiOiI0MDAifQ==\r\n"),
        answer("\r\n", "{tag} NO [AUTHENTICATIONFAILED] no\r\n"),
    ];
    let error = log_in(token(), script).await.unwrap_err();
    assert_eq!(error.next_move(), NextMove::AskOperator);
    let text = error.to_string();
    assert!(text.contains("\"status\":\"400\"") && !text.contains("ya29"), "{text}");
}

fn greeting_without_list() -> Step {
    said("* OK ready\r\n")
}

#[tokio::test(start_paused = true)]
async fn a_mechanism_that_is_not_offered_is_not_tried() {
    let error = log_in(token(), vec![offering("PLAIN")]).await.unwrap_err();
    assert!(error.to_string().contains("PLAIN"), "{error}");
    assert_eq!(error.next_move(), NextMove::RetryLater);
    let error = log_in(plain(), vec![greeting()]).await.unwrap_err();
    assert!(matches!(error, ImapError::Unsupported { .. }), "{error}");
}

fn scram() -> Authentication {
    Authentication::ScramSha256 {
        user: "user".into(),
        password: "pencil".into(),
        nonce: "rOprNGfwEbeRWgbNEkqO".into(),
    }
}

/// The exchange of RFC 7677 section 3, in base64.
fn scram_script(last: &'static str) -> Vec<Step> {
    let first = "+ cj1yT3ByTkdmd0ViZVJXZ2JORWtxTyVodllEcFdVYTJSYVRDQWZ1eEZJbGopaE5sRiRrMCxzPVcyMlphSjBTTlk3c29Fc1VFamI2Z1E9PSxpPTQwOTY=\r\n";
    vec![
        offering("SCRAM-SHA-256"),
        answer("AUTHENTICATE SCRAM-SHA-256", "+ \r\n"),
        answer("biwsbj11c2VyLHI9ck9wck5HZndFYmVSV2diTkVrcU8=", first),
        answer("Yz1iaXdzLHI9ck9wck5HZndFYmVSV2diTkVrcU8l", last),
        answer("\r\n", "{tag} OK in\r\n"),
    ]
}

#[tokio::test(start_paused = true)]
async fn scram_proves_both_sides() {
    let proof = "+ dj02cnJpVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ==\r\n";
    log_in(scram(), scram_script(proof)).await.unwrap();
    for not_proven in ["+ dj1BQUFB\r\n", "{tag} OK trust me\r\n"] {
        let error = log_in(scram(), scram_script(not_proven)).await.unwrap_err();
        assert!(matches!(error, ImapError::Lost { .. }), "{error}");
    }
    let refused = "{tag} NO [AUTHENTICATIONFAILED] no\r\n";
    let error = log_in(scram(), scram_script(refused)).await.unwrap_err();
    assert_eq!(error.next_move(), NextMove::AskOperator);
}
