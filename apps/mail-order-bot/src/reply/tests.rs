//! Replies are parsed back with mail-parser and judged as their reader would.

use jiff::Timestamp;
use mail_parser::MessageParser;

use super::compose::compose;
use super::templates::{LANGUAGE, Templates};
use super::*;
use crate::domain::number::NumberError;
use crate::domain::{
    Customer, LineStatus, Money, Order, OrderId, OrderLine, OrderState, OrderStatus, Quantity, RejectReason,
};
use crate::reading::{self, IncomingMail, ReadingLimits};
use crate::store::{MessageKey, OutboxId};

fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn mail(headers: &str) -> IncomingMail {
    let raw = format!("{headers}\r\n\r\n2 x ART-001\r\n");
    reading::read(raw.as_bytes(), &ReadingLimits::default()).unwrap()
}

fn line(position: u32, article: &str, status: LineStatus) -> OrderLine {
    OrderLine {
        position,
        article: article.to_owned(),
        name: Some("Green <tea>, 2 boxes".to_owned()),
        quantity: Some(Quantity::from_thousandths(2000)),
        quantity_given: "2".to_owned(),
        unit: Some("pcs".to_owned()),
        price_given: None,
        place: format!("text line {position}"),
        status,
    }
}

fn order() -> Order {
    let accepted = LineStatus::Accepted {
        unit_price: Money::from_minor(450),
        amount: Money::from_minor(900),
    };
    let rejected = LineStatus::Rejected {
        reason: RejectReason::UnknownArticle { suggestion: None },
    };
    Order {
        id: OrderId(12),
        version: 1,
        state: OrderState::Open,
        changed_at: now(),
        status: OrderStatus::PartlyAccepted,
        customer: Customer {
            id: "c1".to_owned(),
            name: "Jane".to_owned(),
            address: "jane@example.com".to_owned(),
        },
        message_id: "1@example.com".to_owned(),
        subject: "Order".to_owned(),
        received_at: now(),
        total: Money::from_minor(900),
        currency: "EUR".to_owned(),
        order_number: Some("PO-7".to_owned()),
        possible_duplicate_of: Some(OrderId(11)),
        notes: vec!["We could not use the attachment a.xlsx: it is too large.".to_owned()],
        reply_withheld: None,
        lines: vec![line(1, "ART-001", accepted), line(2, "ART-999", rejected)],
    }
}

fn id() -> OutboxId {
    OutboxId::for_message(&MessageKey {
        message_id: "1@example.com".to_owned(),
        body_hash: "x".to_owned(),
    })
}

fn reply_to(mail: &IncomingMail) -> Vec<u8> {
    let templates = Templates::load(None, LANGUAGE).unwrap();
    let letter = templates.render("order", None, &letter::about(&order())).unwrap();
    let settings = ReplyOptions::default().validate().unwrap();
    compose(letter, "Your order 12", mail, &id(), &settings, now())
        .unwrap()
        .message
}

#[test]
fn the_reply_says_everything_and_belongs_to_its_thread() {
    let bytes = reply_to(&mail(
        "From: Jane <jane@example.com>\r\nSubject: Order\r\nMessage-ID: <1@example.com>",
    ));
    let parsed = MessageParser::default().parse(&bytes).unwrap();
    assert_eq!(parsed.subject(), Some("Re: Order"));
    assert_eq!(parsed.in_reply_to().as_text(), Some("1@example.com"));
    assert_eq!(parsed.references().as_text(), Some("1@example.com"));
    assert_eq!(
        parsed.message_id(),
        Some(format!("reply-{}@mail-order-bot.example", id()).as_str())
    );
    assert_eq!(parsed.header_raw("Auto-Submitted").map(str::trim), Some("auto-replied"));
    assert_eq!(
        parsed.header_raw("X-Auto-Response-Suppress").map(str::trim),
        Some("All")
    );
    assert_eq!(
        parsed.to().unwrap().first().unwrap().address(),
        Some("jane@example.com")
    );
    let text = parsed.body_text(0).unwrap();
    for expected in [
        "Hello Jane,",
        "number is 12",
        "4.50 EUR = 9.00 EUR",
        "no article",
        "order 11",
        "a.xlsx",
        "Total",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
    }
    let html = parsed.body_html(0).unwrap();
    assert!(html.contains("Green &lt;tea&gt;") && !html.contains("<tea>"));
    assert_eq!(
        parsed.header_raw("X-Loop").map(str::trim),
        Some("orders@mail-order-bot.example")
    );
    assert_eq!(
        bytes,
        reply_to(&mail(
            "From: jane@example.com\r\nSubject: Order\r\nMessage-ID: <1@example.com>"
        ))
    );
}

#[test]
fn failure_74_nothing_in_a_mail_can_add_a_header_to_the_reply() {
    let hostile = mail(
        "From: =?utf-8?q?x=0D=0ABcc:_a@b.c?= <jane@example.com>\r\n\
         Subject: =?utf-8?q?Order=0D=0ABcc=3A_evil@example.com=0D=0A=0D=0Abody?=\r\n\
         Message-ID: <1@example.com\r\n\tX-Evil:1>\r\nReferences: <a@b>\r\n <c@d>",
    );
    let bytes = reply_to(&hostile);
    let head = String::from_utf8(bytes).unwrap();
    let head = head.split("\r\n\r\n").next().unwrap();
    let names: Vec<&str> = head
        .split("\r\n")
        .filter(|line| !line.starts_with([' ', '\t']))
        .collect();
    let allowed = [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "X-Auto-Response-Suppress",
        "X-Loop",
        "In-Reply-To",
        "References",
        "MIME-Version",
        "Content-Type",
    ];
    for field in names {
        assert!(
            allowed.contains(&field.split(':').next().unwrap()),
            "{field:?} in\n{head}"
        );
    }
}

#[test]
fn our_own_answer_is_not_an_order_when_it_comes_back() {
    let bytes = reply_to(&mail(
        "From: jane@example.com\r\nSubject: Order\r\nMessage-ID: <1@example.com>",
    ));
    let limits = ReadingLimits::default();
    let back = reading::read(&bytes, &limits).unwrap();
    assert_eq!(back.automation, Some(reading::Automation::AutoReply));
    let parsed = MessageParser::default().parse(&bytes).unwrap();
    for (content_type, body) in [("text/plain", parsed.body_text(0)), ("text/html", parsed.body_html(0))] {
        // As a human's mail that quotes the answer without any quotation marks.
        let raw = format!(
            "From: jane@example.com\r\nContent-Type: {content_type}\r\n\r\n{}",
            body.unwrap()
        );
        let quoting = reading::read(raw.as_bytes(), &limits).unwrap();
        let known = |reference: &str| reference.starts_with("ART-001");
        let parser = reading::WorkbookParser::here();
        let stranger = crate::domain::CustomerProfile::default();
        let found = reading::extract(&quoting, &stranger, &known, &limits, &parser).unwrap();
        assert!(found.is_empty(), "{content_type}: {found:?}");
    }
}

#[test]
fn failure_76_machines_and_ourselves_are_not_answered() {
    let settings = ReplyOptions {
        own_addresses: vec!["Shop@Example.com".to_owned()],
        ..ReplyOptions::default()
    };
    let settings = settings.validate().unwrap();
    let refused = |headers: &str, recent| etiquette::refusal(&mail(headers), &settings, recent).is_some();
    let table = [
        ("From: jane@example.com", 0, false),
        ("From: jane@example.com", 19, false),
        ("From: jane@example.com", 20, true),
        ("From: jane@example.com\r\nAuto-Submitted: auto-generated", 0, true),
        ("From: jane@example.com\r\nReturn-Path: <>", 0, true),
        ("From: jane@example.com\r\nList-Id: <l.example.com>", 0, true),
        ("From: jane@example.com\r\nReply-To: shop@example.com", 0, true),
        ("From: orders@mail-order-bot.example", 0, true),
        ("From: MAILER-DAEMON@example.com", 0, true),
        ("From: no-reply@example.com", 0, true),
        ("From: list-request@example.com", 0, true),
        ("From: bounces@example.com", 0, true),
        ("From: request@example.com", 0, false),
        (
            "From: jane@example.com\r\nX-Loop: Orders@mail-order-bot.example",
            0,
            true,
        ),
        ("From: jane@example.com\r\nX-Loop: jane@example.com", 0, false),
        (
            "From: jane@example.com\r\nMessage-ID: <reply-1@mail-order-bot.example>",
            0,
            true,
        ),
        ("From: jane@example.com\r\nMessage-ID: <reply-1@example.com>", 0, false),
        (
            "From: jane@example.com\r\nContent-Type: multipart/report; boundary=b",
            0,
            true,
        ),
        ("From: jane@example.com\r\nX-Auto-Response-Suppress: All", 0, true),
        ("From: jane@example.com\r\nPrecedence: junk", 0, true),
        ("From: jane@k\u{fc}che.example", 0, true),
        ("From: jane@xn--kche-0ra.example", 0, false),
        ("Subject: x", 0, true),
    ];
    for (headers, recent, expected) in table {
        assert_eq!(refused(headers, recent), expected, "{headers:?}, {recent} recent");
    }
}

#[test]
fn faulty_options_are_named() {
    let options = ReplyOptions {
        from: "nobody".to_owned(),
        ..ReplyOptions::default()
    };
    assert!(
        options
            .validate()
            .unwrap_err()
            .to_string()
            .contains("replies.from \"nobody\"")
    );
}

#[test]
fn every_template_is_sound_in_every_language_and_none_is_taken_for_an_order() {
    let templates = Templates::load(None, LANGUAGE).unwrap();
    assert_eq!(templates.languages(), ["de", "en"]);
    let known = |reference: &str| reference.starts_with("ART-");
    for language in templates.languages() {
        for (name, facts) in crate::samples::letters() {
            let letter = templates.render(name, Some(&language), &facts).unwrap();
            assert_eq!(
                letter::reads_as_order(&letter, &known),
                None,
                "{name}.{language}\n{}",
                letter.text
            );
            assert!(
                !letter.html.contains("<tea>") && !letter.html.contains("<Buyer>"),
                "{}",
                letter.html
            );
            assert!(
                !letter.text.contains("\n\n\n") && letter.subject.is_none(),
                "{}",
                letter.text
            );
        }
    }
    let german = templates
        .render("order", Some("de-AT"), &letter::about(&order()))
        .unwrap();
    assert!(german.text.contains("vielen Dank"), "{}", german.text);
    let french = templates.render("order", Some("fr"), &letter::about(&order())).unwrap();
    assert!(french.text.contains("thank you"), "{}", french.text);
}

#[test]
fn a_rejected_line_says_why_in_german_with_all_that_the_english_one_says() {
    let quantity = Quantity::from_thousandths(12_500);
    let text = |text: &str| text.to_owned();
    let reasons = [
        (RejectReason::UnknownArticle { suggestion: None }, "nicht"),
        (
            RejectReason::UnknownArticle {
                suggestion: Some(text("TEA-7")),
            },
            "meinen Sie TEA-7?",
        ),
        (RejectReason::NameContradicts { named: text("TEA-8") }, "der von TEA-8"),
        (RejectReason::NotAvailable, "nicht lieferbar"),
        (
            RejectReason::BadQuantity {
                problem: NumberError::Ambiguous,
            },
            "auf zwei Weisen",
        ),
        (
            RejectReason::BadPrice {
                problem: NumberError::TooPrecise,
            },
            "Nachkommastellen",
        ),
        (RejectReason::WholeUnitsOnly { unit: text("Pfund") }, "(Pfund)"),
        (
            RejectReason::UnknownUnit {
                given: text("Palette"),
                unit: text("Pfund"),
            },
            "\"Palette\" können wir ihn nicht zählen; verkauft wird er in Pfund",
        ),
        (
            RejectReason::PackageDiffers {
                package: text("Karton"),
                holds: quantity,
            },
            "\"Karton\" enthält 12,5",
        ),
        (RejectReason::NotAMultiple { multiple: quantity }, "zu je 12,5 verpackt"),
        (RejectReason::BelowMinimum { minimum: quantity }, "ist 12,5"),
        (RejectReason::AboveMaximum { maximum: quantity }, "ist 12,5"),
        (
            RejectReason::PriceMismatch {
                catalogue: Money::from_minor(450),
                currency: text("EUR"),
            },
            "unser Preis ist 4,50 EUR",
        ),
        (RejectReason::CurrencyMismatch { currency: text("EUR") }, "in EUR"),
        (RejectReason::MissingArticle, "keinen Artikel"),
        (RejectReason::ZeroQuantity, "null"),
        (RejectReason::AmountTooLarge, "zu groß"),
        (RejectReason::UnknownCustomer, "registrierten Kunden"),
    ];
    let templates = Templates::load(None, "de").unwrap();
    for (reason, expected) in reasons {
        let english = reason.to_string();
        let mut order = order();
        order.lines = vec![line(1, "ART-999", LineStatus::Rejected { reason })];
        let letter = templates.render("order", Some("de"), &letter::about(&order)).unwrap();
        assert!(
            letter.text.contains(expected),
            "{expected:?} is not in\n{}",
            letter.text
        );
        assert!(!letter.text.contains(&english), "{}", letter.text);
        let found = letter::reads_as_order(&letter, &|reference: &str| reference.starts_with("ART-"));
        assert_eq!(found, None, "{}", letter.text);
    }
}

#[test]
fn an_order_without_a_number_is_not_called_number_0() {
    let mut order = order();
    order.id = OrderId(0);
    for language in ["de", "en"] {
        let templates = Templates::load(None, language).unwrap();
        let letter = templates
            .render("order", Some(language), &letter::about(&order))
            .unwrap();
        let page = letter.text + &letter.html;
        assert!(!page.contains("umber is") && !page.contains("hat die Nummer"), "{page}");
    }
}

#[test]
fn own_templates_take_the_place_of_built_in_ones_and_their_faults_are_named() {
    let scratch = crate::scratch::Scratch::new("templates");
    let write = |name: &str, text: &str| std::fs::write(scratch.path().join(name), text).unwrap();
    write(
        "order.en.txt",
        "Subject: Order {{ order.number }}\n\nDear {{ customer.name }}\n",
    );
    write("order.en.html", "<p>{{ customer.name }}</p>");
    write("README.md", "not a template");
    let templates = Templates::load(Some(scratch.path()), LANGUAGE).unwrap();
    let mut hostile = order();
    hostile.customer.name = "<b>&".to_owned();
    let letter = templates.render("order", None, &letter::about(&hostile)).unwrap();
    assert_eq!(letter.subject.as_deref(), Some("Order 12"));
    assert_eq!(
        (letter.text.as_str(), letter.html.as_str()),
        ("Dear <b>&\n", "<p>&lt;b&gt;&amp;</p>")
    );
    write("order.en.txt", "{{ order.nummer }}");
    let templates = Templates::load(Some(scratch.path()), LANGUAGE).unwrap();
    let fault = templates
        .render("order", None, &letter::about(&order()))
        .unwrap_err()
        .to_string();
    assert!(fault.contains("order.en.txt") && fault.contains("undefined"), "{fault}");
    write(
        "order.en.txt",
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
    );
    let templates = Templates::load(Some(scratch.path()), LANGUAGE).unwrap();
    let fault = templates
        .render("order", None, &letter::about(&order()))
        .unwrap_err()
        .to_string();
    assert!(fault.contains("order.en.txt"), "{fault}");
    write("order.en.txt", "{% if %}");
    write("ordr.en.txt", "x");
    let faults = Templates::load(Some(scratch.path()), "fr").unwrap_err();
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(
        faults
            .iter()
            .any(|fault| fault.contains("ordr.en.txt") && fault.contains("amendment")),
        "{faults:?}"
    );
    let missing = Templates::load(None, "fr").unwrap_err();
    assert!(missing[0].to_string().contains("choose one of de, en"), "{missing:?}");
}
