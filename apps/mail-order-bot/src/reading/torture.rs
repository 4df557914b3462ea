//! Hostile messages through `read` and `extract`, each test named by the number of the failure that it stands for. The same
//! messages go through the program in `tests/process`.

use super::*;
use crate::samples::hostile::{self, Fate, Hostile};

fn known(reference: &str) -> bool {
    reference == "ART-001"
}

fn extracted(mail: &IncomingMail, limits: &ReadingLimits) -> Extracted {
    extract(
        mail,
        &CustomerProfile::default(),
        &known,
        limits,
        &WorkbookParser::here(),
    )
    .unwrap()
}

/// What becomes of a message, in the words of its fate.
fn check(message: &Hostile) {
    let limits = ReadingLimits::default();
    let name = message.name;
    let mail = match (read(&message.raw, &limits), message.fate) {
        (Err(error), Fate::Parked(reason)) => {
            assert!(error.to_string().contains(reason), "{name}: {error}");
            assert!(!error.is_transient(), "{name}");
            return;
        }
        (read, _) => read.unwrap_or_else(|error| panic!("{name}: {error}")),
    };
    let found = extracted(&mail, &limits);
    let lines: Vec<String> = found
        .lines
        .iter()
        .map(|line| format!("{}*{}", line.article, line.quantity.text))
        .collect();
    match message.fate {
        Fate::Ordered(expected) => assert_eq!(lines.join(" "), expected, "{name}: {:?}", found.notes),
        Fate::Noted(note) => assert!(
            found.notes.iter().any(|told| told.contains(note)),
            "{name}: {:?}",
            found.notes
        ),
        Fate::NoOrder => assert!(found.is_empty(), "{name}: {lines:?} {:?}", found.notes),
        Fate::Parked(_) => panic!("{name} was read"),
    }
}

fn ordered(name: &'static str, headers: &str, body: &str) {
    check(&Hostile {
        name,
        raw: hostile::message(name, headers, body),
        fate: Fate::Ordered("ART-001*2"),
    });
}

#[test]
fn failure_72_structures_without_end_are_refused_by_the_limit_that_they_exceed() {
    hostile::structures().iter().for_each(check);
}

#[test]
fn failure_73_workbooks_that_the_guard_knows_are_a_note_even_without_a_child() {
    // What the guard doesn't know is left to the child process.
    let workbooks = hostile::workbooks().unwrap();
    let known = workbooks.iter().filter(|workbook| !workbook.file_name.ends_with("ods"));
    known.for_each(|workbook| check(&workbook.message()));
}

#[test]
fn failure_73_a_table_that_is_never_closed_is_not_read_on_and_on() {
    // Found by `fuzz`: calamine waits for the end of the table after the end of the file.
    let table = hostile::ods_rows(&[&["Artikel", "Menge"], &["ART-001", "2"]]);
    let limits = ReadingLimits::default();
    let raw = |table: &str| hostile::with_attachment("table", "table.ods", &hostile::ods(table).unwrap());
    let found = extracted(&read(&raw(&table), &limits).unwrap(), &limits);
    assert_eq!(found.lines.len(), 1, "{:?}", found.notes);
    let unclosed = raw(&table.replacen("</table:table-row>", "</tble:table-row>", 1));
    let found = extracted(&read(&unclosed, &limits).unwrap(), &limits);
    assert!(
        found.lines.is_empty() && found.notes[0].contains("not a readable workbook"),
        "{:?}",
        found.notes
    );
}

#[test]
fn failure_73_a_panic_of_the_parser_is_a_problem_of_the_workbook() {
    // Found by `fuzz`: calamine computes with the number of the row before it looks whether there can be such a row.
    for place in ["A99999999999", "ZZZZZZZZ1", "A0", "1A", ""] {
        let sheet = format!("<row r=\"1\"><c r=\"{place}\"><v>1</v></c></row>");
        let raw = hostile::with_attachment("place", "place.xlsx", &hostile::xlsx(&sheet, &[]).unwrap());
        let limits = ReadingLimits::default();
        let found = extracted(&read(&raw, &limits).unwrap(), &limits);
        assert_eq!(
            (found.lines.len(), found.notes.len()),
            (0, 1),
            "{place}: {:?}",
            found.notes
        );
    }
}

#[test]
fn failure_73_workbooks_of_the_open_format_are_read() {
    let rows = hostile::ods_rows(&[&["Artikel", "Menge"], &["ART-001", "2"]]);
    // As LibreOffice ends a table: empty rows to the end of the sheet.
    let rest = "<table:table-row table:number-rows-repeated=\"1048574\"><table:table-cell \
                table:number-columns-repeated=\"16384\"/></table:table-row>";
    check(&Hostile {
        name: "ods",
        raw: hostile::with_attachment("ods", "order.ods", &hostile::ods(&format!("{rows}{rest}")).unwrap()),
        fate: Fate::Ordered("ART-001*2"),
    });
}

#[test]
fn failure_74_line_ends_that_decoding_brings_are_gone_from_every_header() {
    let word = |text: &str| format!("=?utf-8?b?{}?=", hostile::base64(text.as_bytes()).trim());
    let evil = word("x\r\nBcc: victim@example.com\r\n\r\nbody\0\u{1b}[2J\u{85}\u{2028}");
    let raw = format!(
        "From: {evil} <jane@customer.example>\r\nReply-To: {evil} <jane@customer.example>\r\nTo: {evil} <a@b.example>\r\n\
         Subject: {evil}\r\nMessage-ID: <1@x.example\r\n Bcc:victim>\r\nReferences: <a@b.example\r\n\t>\r\nList-Id: {evil}\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/csv; name=\"{evil}.csv\"\r\n\r\n\
         Article;Qty\r\nART-001;2\r\n--b--"
    );
    let mail = read(raw.as_bytes(), &ReadingLimits::default()).unwrap();
    let from = mail.from.clone().unwrap();
    assert_eq!(from.address, "jane@customer.example");
    let mut told = vec![
        mail.subject.clone(),
        mail.message_id.clone(),
        from.name.unwrap_or_default(),
    ];
    told.extend(mail.reply_to.iter().filter_map(|sender| sender.name.clone()));
    told.extend(mail.to.iter().chain(&mail.references).chain(&mail.thread).cloned());
    told.extend(mail.list_id.clone());
    told.extend(mail.leaves.iter().filter_map(|leaf| leaf.file_name.clone()));
    assert!(told.len() >= 6);
    for text in told {
        let bad = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        assert!(!text.contains(bad), "{text:?}");
    }
    let found = extracted(&mail, &ReadingLimits::default());
    assert_eq!(found.lines.len(), 1, "{:?}", found.notes);
    assert!(!found.lines[0].place.contains(char::is_control));
}

#[test]
fn failure_77_a_name_that_looks_like_an_address_is_none_and_two_authors_are_nobody() {
    let limits = ReadingLimits::default();
    let author = |headers: &str| {
        read(format!("{headers}\r\n\r\n2 x ART-001").as_bytes(), &limits)
            .unwrap()
            .from
    };
    let spoofed = author("From: \"boss@customer.example\" <mallory@hostile.example>").unwrap();
    assert_eq!(
        (spoofed.address.as_str(), spoofed.name),
        ("mallory@hostile.example", None)
    );
    let encoded = author("From: =?utf-8?q?boss=40customer.example?= <mallory@hostile.example>").unwrap();
    assert_eq!(encoded.name, None);
    for ambiguous in [
        "From: boss@customer.example\r\nFrom: mallory@hostile.example",
        "From: boss@customer.example, mallory@hostile.example",
        "From: boss@customer.example\r\nSubject: x\r\nfrom: <mallory@hostile.example>",
        "From: <boss@customer.example>@hostile.example",
        "From: boss@customer.example@hostile.example",
        "From: undisclosed",
    ] {
        let found = author(ambiguous);
        let named = found.as_ref().map(|sender| sender.address.as_str());
        assert!(named != Some("boss@customer.example"), "{ambiguous}: {found:?}");
    }
    let comma = author("From: M\u{fc}ller, Hans <hans@customer.example>").unwrap();
    assert_eq!(comma.address, "hans@customer.example");
}

#[test]
fn failure_78_names_charsets_and_foreign_forms_are_only_text() {
    ordered(
        "utf-7",
        "Content-Type: text/plain; charset=utf-7\r\n",
        "2 x ART+AC0-001\r\n",
    );
    ordered(
        "unknown charset",
        "Content-Type: text/plain; charset=klingon\r\n",
        "2 x ART-001\r\nMit freundlichen Gr\u{fc}\u{df}en",
    );
    ordered(
        "wrong charset",
        "Content-Type: text/plain; charset=iso-2022-jp\r\n",
        "2 x ART-001\r\n",
    );
    ordered(
        "charset of zeros",
        "Content-Type: text/plain; charset=\"\0\0\"\r\n",
        "2 x ART-001\r\n",
    );
    let words = format!("X-Long: {}\r\n", "=?utf-8?q?=41?= ".repeat(10_000));
    ordered("encoded words without end", &words, "2 x ART-001\r\n");
    let word = format!("Subject: =?utf-8?b?{}?=\r\n", "QUFB".repeat(50_000));
    ordered("an endless encoded word", &word, "2 x ART-001\r\n");
    let limits = ReadingLimits::default();
    let subject = read(&hostile::message("x", &word, ""), &limits).unwrap().subject;
    assert!(subject.chars().count() <= 300);

    for (given, shown) in [
        ("../../../etc/cron.d/evil.csv", "evil.csv"),
        ("..\\..\\evil.csv", "evil.csv"),
        ("order\u{202e}vsc.exe.csv", "ordervsc.exe.csv"),
        ("=?utf-8?q?a=00=0D=0Ab.csv?=", "a b.csv"),
    ] {
        let table = b"Article;Qty\nART-001;2\n";
        let mail = read(&hostile::with_attachment("name", given, table), &limits).unwrap();
        assert_eq!(mail.leaves[1].file_name.as_deref(), Some(shown), "{given:?}");
        assert!(extracted(&mail, &limits).lines[0].place.starts_with(shown));
    }
    for (name, content_type) in [("winmail.dat", "application/ms-tnef"), ("invite.ics", "text/calendar")] {
        let body = format!(
            "--b\r\nContent-Type: text/plain\r\n\r\n2 x ART-001\r\n--b\r\nContent-Type: {content_type}; name={name}\r\n\r\n\
             BEGIN:VCALENDAR\r\n\x78\u{9f}\x3e\x22\r\n--b--"
        );
        ordered("foreign forms", "Content-Type: multipart/mixed; boundary=b\r\n", &body);
    }
}
