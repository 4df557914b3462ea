//! Explanations of sample mails, for people and for programs.

use super::*;
use crate::desk::DeskOptions;
use crate::samples::SAMPLES;

fn explained(raw: &[u8]) -> Explained {
    let catalogue = Catalogue::open("embedded:").unwrap();
    let settings = DeskOptions::for_samples().validate().unwrap();
    explain(raw, &catalogue, &settings, Timestamp::UNIX_EPOCH).unwrap()
}

fn page(raw: &[u8]) -> String {
    told(&serde_json::to_value(explained(raw)).unwrap())
}

#[test]
fn a_person_reads_what_was_recognised_and_why() {
    let sample = SAMPLES
        .iter()
        .find(|sample| sample.name == "05-csv-own-columns")
        .unwrap();
    let page = page(sample.raw);
    for piece in [
        "wawi@kaufhaus-nord.example> (customer kaufhaus-nord)",
        "attachment export.dat.csv (application/octet-stream): its lines are the order's: a table in CSV, 3 lines",
        "article in C by \"Ihre Nr.\", a heading of the profile",
        "text body (text/plain): not looked at: the order is in attachment export.dat.csv",
        "Outcome   accepted, 3 of 3 lines, 155.70 EUR",
        "1. ART-010 Tea pot 1 l: \"2\", understood as 2 pcs, price \"24.90\" (export.dat.csv, row 2)",
        "accepted: 24.90 = 49.80 EUR",
        "Reply to wawi@kaufhaus-nord.example",
        "  | Hello Kaufhaus Nord,",
    ] {
        assert!(page.contains(piece), "{piece:?} is not in\n{page}");
    }
    assert!(!page.contains("number is 0"), "it has none until it is stored:\n{page}");
}

#[test]
fn what_is_no_order_is_explained_too() {
    let question = SAMPLES.iter().find(|sample| sample.name == "15-question").unwrap();
    let page = page(question.raw);
    assert!(page.contains("not an order: there are no order lines in it"), "{page}");
    assert!(page.contains("text body (text/plain): no order lines"), "{page}");
    let news = SAMPLES.iter().find(|sample| sample.name == "10-newsletter").unwrap();
    let news = explained(news.raw);
    assert_eq!((news.outcome.as_str(), news.lines.len()), ("not_an_order", 0));
    assert!(news.reply.withheld.is_some() && news.mail.automation.is_some());
}

#[test]
fn what_would_wait_for_a_person_or_depends_on_the_store_is_not_called_answered() {
    let catalogue = Catalogue::open("embedded:").unwrap();
    let mut options = DeskOptions::for_samples();
    options.unknown_senders = crate::domain::UnknownSenders::Review;
    let careful = options.validate().unwrap();
    let order = b"From: a@b.example\r\n\r\n2 x ART-001\r\n";
    let by = |raw: &[u8], settings: &DeskSettings| {
        told(&serde_json::to_value(explain(raw, &catalogue, settings, Timestamp::UNIX_EPOCH).unwrap()).unwrap())
    };
    let waiting = by(order, &careful);
    for piece in [
        "waits on the review list: no profile names a@b.example, 1 of 1 line",
        "accepted: 4.50",
        "No reply: mails on",
    ] {
        assert!(waiting.contains(piece), "{piece:?} is not in\n{waiting}");
    }
    let answered = page(order);
    assert!(answered.contains("Its number is [number]."), "{answered}");
    let cancelled =
        page(b"From: a@b.example\r\nSubject: Re: Order 17\r\nReferences: <r@x>\r\n\r\nPlease cancel it.\r\n");
    assert!(cancelled.contains("No reply: it depends on the order"), "{cancelled}");
}

#[test]
fn nothing_in_a_mail_drives_the_terminal_and_the_json_reads_back() {
    let raw = b"From: =?utf-8?q?=1B[2Jx?= <a@b.c>\r\nSubject: =?utf-8?q?=1B]0;x=07?=\r\n\r\n2 x ART-001\x1b[2J\r\n3 x ART-\x9b002\r\n";
    let page = page(raw);
    assert!(page.chars().all(|c| !c.is_control() || c == '\n'), "{page:?}");
    let explained = explained(raw);
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!(serde_json::from_value::<Explained>(json).unwrap(), explained);
}
