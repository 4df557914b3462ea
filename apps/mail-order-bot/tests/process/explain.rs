//! `explain`: of a file and of standard input, for people and for programs, without a state directory and beside a bot
//! that runs.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::bot::Home;

const MAIL: &str = "From: Ada <ada@example.com>\r\nSubject: PO 4500-1\r\nMessage-ID: <e-1@example.com>\r\n\r\n\
                    2 x ART-001\r\n1 box ART-010\r\n";

#[test]
fn a_mail_is_explained_without_a_trace_whether_a_bot_runs_or_not() {
    let home = Home::new("explain");
    fs::write(home.join("order.eml"), MAIL).unwrap();
    let told = home.run(&["explain", "order.eml"]);
    let page = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    for piece in [
        "Subject   PO 4500-1",
        "Outcome   partly accepted",
        "we cannot count \"box\" of it",
        "Reply to ada@example.com",
    ] {
        assert!(page.contains(piece), "{piece:?} is not in\n{page}");
    }
    assert!(!home.join("var").exists(), "nothing is left behind");

    let mut piped = home.command(&["explain", "-", "--json"]);
    let mut piped = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(MAIL.as_bytes()).unwrap();
    let output = piped.wait_with_output().unwrap();
    let explained: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (explained["outcome"].as_str(), explained["order_number"].as_str()),
        (Some("partly_accepted"), Some("4500-1"))
    );

    let mut bot = home.start(&[]);
    bot.wait_for_line("mail-order-bot is ready");
    let stored = home.orders(&[]).len();
    assert_eq!(
        home.ask(&["explain", "order.eml"])["lines"].as_array().map(Vec::len),
        Some(2)
    );
    assert!(
        home.orders(&[])
            .iter()
            .all(|order| order["message_id"] != "e-1@example.com")
    );
    assert!(home.orders(&[]).len() >= stored);
    let (status, _) = bot.get("/api/v1/views/explain?file=order.eml").unwrap();
    assert_eq!(status, 404, "the API reads no files");
    bot.stop();

    for (arguments, why) in [
        (&["explain"][..], "name one file"),
        (&["explain", "none.eml"], "none.eml"),
    ] {
        let refused = home.run(arguments);
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && told.contains(why), "{arguments:?}: {told}");
    }
}
