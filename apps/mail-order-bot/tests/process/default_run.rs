//! The first minute: the embedded default without any configuration, what it prints, and the commands beside it.

use std::fs;

use serde_json::Value;

use crate::bot::{Home, count};

#[test]
fn the_embedded_default_stores_and_answers_the_samples_and_what_is_dropped_in() {
    let home = Home::new("default");
    let mut bot = home.start(&[]);
    bot.wait_for_line("mail-order-bot is ready");
    let samples = count(&home.join("var/inbox/new")) + count(&home.join("var/inbox/cur"));
    assert!(samples >= 10, "{samples} samples");
    bot.wait("every sample seen", || count(&home.join("var/inbox/new")) == 0);

    let mail = "From: Ada Example <ada@example.com>\r\nTo: orders@example.net\r\nSubject: order\r\n\
                Message-ID: <dropped-1@example.com>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\n2 x ART-001\r\n";
    let inbox = home.join("var/inbox");
    fs::write(inbox.join("tmp/dropped"), mail).unwrap();
    fs::rename(inbox.join("tmp/dropped"), inbox.join("new/dropped")).unwrap();
    let found = || {
        home.orders(&[])
            .into_iter()
            .find(|order| order["message_id"] == "dropped-1@example.com")
    };
    bot.wait("dropped order", || found().is_some());
    let answered = home.replies();

    let running = home.orders(&[]);
    for status in ["accepted", "partly_accepted", "rejected"] {
        assert!(
            running.iter().any(|order| order["status"] == status),
            "no sample is {status}"
        );
    }
    for order in &running {
        assert!(order["lines"].is_array() && order["customer"].is_object(), "{order}");
    }
    let (status, body) = bot.get("/api/v1/status").unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, body["stage"].as_str(), body["state"].as_str()),
        (200, Some("ready"), Some("ok")),
        "{body}"
    );
    bot.wait("every reply", || home.replies() >= answered);
    bot.stop();
    assert!(bot.log().contains("stopped clean"), "{}", bot.log());
    let report: Value = serde_json::from_slice(&fs::read(home.join("var/stop-report.json")).unwrap()).unwrap();
    assert_eq!(report["outcome"], "clean", "{report}");

    assert_eq!(
        home.orders(&[]).len(),
        running.len(),
        "the same orders when it does not run"
    );
    let mut again = home.start(&[]);
    again.wait_for_line("mail-order-bot is ready");
    again.stop();
    assert_eq!(
        home.orders(&[]).len(),
        running.len(),
        "a second start takes nothing in twice"
    );
}

#[test]
fn a_second_instance_is_told_who_owns_the_state_directory() {
    let home = Home::new("second");
    let mut bot = home.start(&[]);
    bot.wait_for_line("mail-order-bot is ready");
    let second = home.run(&["run"]);
    let told = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{told}");
    assert!(told.contains("in use by mail-order-bot (process"), "{told}");
    bot.stop();
}

#[test]
fn a_port_in_use_and_a_directory_that_can_not_be_made_are_one_clear_error_each() {
    let home = Home::new("refused");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("platform.control.listen={}", taken.local_addr().unwrap());
    let refused = home.run(&["--set", &listen, "run"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(
        told.contains(&taken.local_addr().unwrap().to_string()) && told.contains("platform.control.listen"),
        "{told}"
    );

    fs::write(home.join("file"), "").unwrap();
    let refused = home.run(&["--set", "platform.state_dir=file", "run"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("platform.state_dir"), "{told}");
}
