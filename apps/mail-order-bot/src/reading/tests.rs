//! Whole messages, friendly and hostile, through `read` and `extract`. Forms of one kind of content are tested beside
//! their readers.

use std::io::{Cursor, Write};

use super::*;

fn known(reference: &str) -> bool {
    crate::domain::Catalogue::open("embedded:")
        .unwrap()
        .find(reference)
        .is_some()
}

fn extracted(raw: &[u8], limits: &ReadingLimits) -> Extracted {
    let mail = read(raw, limits).unwrap();
    extract(
        &mail,
        &CustomerProfile::default(),
        &known,
        limits,
        &WorkbookParser::here(),
    )
    .unwrap()
}

/// `article*quantity@price` of every line, joined.
fn lines(raw: &[u8]) -> String {
    let found = extracted(raw, &ReadingLimits::default());
    let text = |line: &DraftLine| {
        let price = line.price.as_ref().map_or("-", |price| &price.text);
        format!("{}*{}@{price}", line.article, line.quantity.text)
    };
    found.lines.iter().map(text).collect::<Vec<_>>().join(" ")
}

fn message(headers: &str, body: &str) -> Vec<u8> {
    format!("From: Jane <Jane@Example.com>\r\nMessage-ID: <1@example.com>\r\nSubject: Order\r\n{headers}\r\n{body}")
        .into_bytes()
}

fn with_attachment(content_type: &str, file_name: &str, encoding: &str, content: &str) -> Vec<u8> {
    message(
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b1\"\r\n",
        &format!(
            "preamble\r\n--b1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello,\r\n9 x ART-999\r\nRegards\r\n\
             --b1\r\nContent-Type: {content_type}\r\nContent-Disposition: attachment; filename=\"{file_name}\"\r\n\
             Content-Transfer-Encoding: {encoding}\r\n\r\n{content}\r\n--b1--\r\n"
        ),
    )
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (at, chunk) in bytes.chunks(3).enumerate() {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for sextet in 0..4 {
            let letter = ALPHABET[(word >> (18 - 6 * sextet) & 63) as usize] as char;
            text.push(if sextet > chunk.len() { '=' } else { letter });
        }
        if at % 19 == 18 {
            text.push_str("\r\n");
        }
    }
    text
}

/// A workbook with one sheet of the given `sheetData` content.
fn workbook(sheet_data: &str, extra: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut files: Vec<(&str, Vec<u8>)> = crate::samples::workbook::parts(&sheet(sheet_data));
    files.extend(extra.iter().cloned());
    zipped(&files)
}

fn sheet(sheet_data: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\">\
         <sheetData>{sheet_data}</sheetData></worksheet>"
    )
}

fn zipped(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn xlsx_mail(bytes: &[u8]) -> Vec<u8> {
    with_attachment("application/octet-stream", "order.xlsx", "base64", &base64(bytes))
}

const ROWS: &str = "<row r=\"1\"><c r=\"A1\" t=\"inlineStr\"><is><t>Article</t></is></c>\
    <c r=\"B1\" t=\"inlineStr\"><is><t>Quantity</t></is></c><c r=\"C1\" t=\"inlineStr\"><is><t>Price</t></is></c></row>\
    <row r=\"3\"><c r=\"A3\" t=\"inlineStr\"><is><t>ART-001</t></is></c><c r=\"B3\"><v>2</v></c>\
    <c r=\"C3\"><v>4.5</v></c></row>";

#[test]
fn every_form_of_order_is_found() {
    let html = "<table><tr><th>Article</th><th>Qty</th></tr><tr><td>ART-001</td><td>2</td></tr></table>";
    let both = format!(
        "--b\r\nContent-Type: text/plain\r\n\r\n2 x ART-001\r\n--b\r\nContent-Type: text/html\r\n\r\n{html}\r\n--b--"
    );
    let utf16: Vec<u8> = "\u{feff}Article;Qty\nART-001;2"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let csv = "Artikel;St\u{fc}ck;Preis\nART-001;2;4,50\n";
    let latin1: Vec<u8> = csv.chars().map(|c| u8::try_from(c as u32).unwrap()).collect();
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("text", message("", "Hello,\r\n2 x ART-001\r\n"), "ART-001*2@-"),
        (
            "bare line feeds",
            b"From: a@b.c\nSubject: x\n\n2 x ART-001\n".to_vec(),
            "ART-001*2@-",
        ),
        (
            "quoted-printable text",
            message(
                "Content-Transfer-Encoding: quoted-printable\r\n",
                "2 =\r\nx ART-001 =40 4.50",
            ),
            "ART-001*2@4.50",
        ),
        ("html", message("Content-Type: text/html\r\n", html), "ART-001*2@-"),
        (
            "html without table",
            message("Content-Type: text/html\r\n", "<p>2 x ART-001<br>1 x ART-002</p>"),
            "ART-001*2@- ART-002*1@-",
        ),
        (
            "html laid out with a table",
            message(
                "Content-Type: text/html\r\n",
                "<table><tr><td>Hi,<br>2 x ART-001<br>1 x ART-002</td></tr></table>",
            ),
            "ART-001*2@- ART-002*1@-",
        ),
        (
            "text and html once",
            message("Content-Type: multipart/alternative; boundary=b\r\n", &both),
            "ART-001*2@-",
        ),
        (
            "csv",
            with_attachment("text/csv", "o.csv", "7bit", "Article,Qty,Price\r\nART-001,2,4.50"),
            "ART-001*2@4.50",
        ),
        (
            "csv as octets",
            with_attachment("application/octet-stream", "o.csv", "base64", &base64(&latin1)),
            "ART-001*2@4,50",
        ),
        (
            "csv called text, windows-1252",
            with_attachment("text/plain; charset=utf-8", "o.txt", "base64", &base64(&latin1)),
            "ART-001*2@4,50",
        ),
        (
            "csv in utf-16",
            with_attachment("text/csv", "o.csv", "base64", &base64(&utf16)),
            "ART-001*2@-",
        ),
        (
            "csv called excel",
            with_attachment("application/vnd.ms-excel", "o.xls", "7bit", "Article;Qty\nART-001;2"),
            "ART-001*2@-",
        ),
        ("xlsx", xlsx_mail(&workbook(ROWS, &[])), "ART-001*2@4.5"),
        (
            "xlsx called text",
            with_attachment("text/plain", "o.bin", "base64", &base64(&workbook(ROWS, &[]))),
            "ART-001*2@4.5",
        ),
        (
            "picture beside text",
            with_attachment("image/png", "logo.png", "base64", "iVBORw0KGgoAAAAA"),
            "ART-999*9@-",
        ),
        ("no order", message("", "Thanks for the parcel!"), ""),
    ];
    for (name, raw, expected) in table {
        let expected = expected.to_owned();
        let found = lines(&raw);
        // The letter's own line counts only where the attachment has none.
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_second_sheet_counts_unless_it_is_the_first_once_more() {
    let two = |second: &str| {
        let extra = [("xl/worksheets/sheet2.xml", second.as_bytes().to_vec())];
        let mut files = crate::samples::workbook::parts(&sheet(ROWS));
        files.extend(extra);
        for (name, content) in &mut files {
            let text = String::from_utf8(content.clone()).unwrap();
            let text = match *name {
                "xl/workbook.xml" => text.replace(
                    "</sheets>",
                    "<sheet name=\"Two\" sheetId=\"2\" r:id=\"rId2\"/></sheets>",
                ),
                "xl/_rels/workbook.xml.rels" => {
                    let (head, _) = text.split_once("</Relationships>").unwrap();
                    let first = &head[head.find("<Relationship ").unwrap()..];
                    let second = first.replace("rId1", "rId2").replace("sheet1", "sheet2");
                    format!("{head}{second}</Relationships>")
                }
                _ => text,
            };
            *content = text.into_bytes();
        }
        let found = extracted(&xlsx_mail(&zipped(&files)), &ReadingLimits::default());
        (found.lines.len(), found.notes.len())
    };
    assert_eq!(two(&sheet(ROWS)), (1, 0));
    // The same articles in another quantity are another order.
    assert_eq!(two(&sheet(&ROWS.replace("<v>2</v>", "<v>3</v>"))), (1, 1));
}

#[test]
fn headers_are_read_and_made_harmless() {
    let raw = b"From: =?utf-8?q?Jane=0D=0ABcc:_x?= <Jane@Example.com>\r\n\
        Reply-To: <orders@example.com>\r\nTo: a@shop.example, b@shop.example\r\n\
        Subject: =?utf-8?q?Order=0D=0A=00=1BBcc=3A_evil@example.com?= =?utf-8?b?wqA=?=\r\n\
        Message-ID: <abc@example.com>\r\nReferences: <r1@x> <r2@x>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0100\r\n\r\nhi\r\n";
    let mail = read(raw, &ReadingLimits::default()).unwrap();
    assert_eq!(mail.subject, "Order Bcc: evil@example.com");
    let from = mail.from.unwrap();
    assert_eq!(from.address, "jane@example.com");
    assert!(!from.name.unwrap().contains(['\r', '\n']));
    assert_eq!(mail.reply_to.unwrap().address, "orders@example.com");
    assert_eq!(mail.to, ["a@shop.example", "b@shop.example"]);
    assert_eq!(
        (mail.message_id.as_str(), mail.has_message_id),
        ("abc@example.com", true)
    );
    assert_eq!(mail.thread, ["r1@x", "r2@x", "abc@example.com"]);
    assert_eq!(mail.references, ["r2@x", "r1@x"]);
    assert_eq!(mail.date.unwrap().to_string(), "2026-11-22T09:00:00Z");
}

#[test]
fn the_body_hash_ignores_what_transport_changes() {
    let hash = |raw: &[u8]| read(raw, &ReadingLimits::default()).unwrap().body_hash;
    let plain = hash(b"From: a@b.c\n\n2 x ART-001\nbye\n");
    assert_eq!(
        plain,
        hash(b"Received: by x\r\nFrom: a@b.c\r\n\r\n2 x ART-001\r\nbye\r\n\r\n")
    );
    assert_ne!(plain, hash(b"From: a@b.c\n\n3 x ART-001\nbye\n"));
}

#[test]
fn a_missing_or_unusable_message_id_is_made_from_the_content() {
    let id = |raw: &str| read(raw.as_bytes(), &ReadingLimits::default()).unwrap().message_id;
    let first = id("From: a@b.c\n\n2 x ART-001\n");
    assert!(first.starts_with("missing-"));
    assert_eq!(first, id("From: a@b.c\r\n\r\n2 x ART-001\r\n"));
    assert_ne!(first, id("From: other@b.c\n\n2 x ART-001\n"));
    let long = format!("From: a@b.c\nMessage-ID: <{}@x>\n\nhi\n", "a".repeat(5000));
    assert!(id(&long).starts_with("missing-"));
}

#[test]
fn hostile_structure_is_refused() {
    let limits = ReadingLimits::default();
    let nested = |levels: usize| {
        let mut raw = String::from("From: a@b.c\r\n");
        for level in 0..levels {
            raw.push_str(&format!(
                "Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n"
            ));
        }
        raw + "Content-Type: text/plain\r\n\r\n2 x ART-001\r\n"
    };
    assert!(read(nested(60).as_bytes(), &limits).is_ok());
    assert_eq!(
        read(nested(1000).as_bytes(), &limits).unwrap_err(),
        ReadError::TooDeep { limit: 64 }
    );

    let siblings = message(
        "Content-Type: multipart/mixed; boundary=b\r\n",
        &"--b\r\n\r\nx\r\n".repeat(100_000),
    );
    assert_eq!(
        read(&siblings, &limits).unwrap_err(),
        ReadError::TooManyParts { limit: 1000 }
    );
    let headers = message(&"X-A: b\r\n".repeat(2000), "hi");
    assert_eq!(
        read(&headers, &limits).unwrap_err(),
        ReadError::TooManyHeaders { limit: 1000 }
    );
    let huge = message(&format!("X-A: {}\r\n", "b".repeat(1 << 20)), "hi");
    assert_eq!(
        read(&huge, &limits).unwrap_err(),
        ReadError::HeadersTooLarge { limit: 256 << 10 }
    );
    let large = message("", &"x".repeat(21 << 20));
    assert!(matches!(read(&large, &limits).unwrap_err(), ReadError::TooLarge { .. }));
    for nothing in [&b""[..], b"\r\n\r\n", b"\0\0\0\0", b"no header here"] {
        assert!(
            matches!(read(nothing, &limits), Err(ReadError::NotAMessage)),
            "{nothing:?}"
        );
    }
    // mail-parser alone overflows the stack when this is dropped.
    let matryoshka = format!(
        "From: a@b.c\r\n{}2 x ART-001",
        "Content-Type: message/rfc822\r\n\r\n".repeat(300_000)
    );
    assert_eq!(lines(matryoshka.as_bytes()), "");
}

#[test]
fn damaged_messages_are_read_as_far_as_they_go() {
    for raw in [
        &b"From: a@b.c\r\nSubject: \0\xff\xfe\r\nContent-Type: text/plain; charset=\0\r\n\r\n2 x ART-001\r\n\0"[..],
        b"From: a@b.c\r\nContent-Type: multipart/mixed; boundary=none\r\n\r\n2 x ART-001\r\n",
        b"From: a@b.c\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n2 x ART-001",
        b"From: a@b.c\r\nContent-Transfer-Encoding: base64\r\n\r\n!!2 x ART-001\r\n2 x ART-001",
        b"From: =?utf-7?q?+AAA?= <a@b.c>\r\nContent-Type: ; ;;\r\n\r\n2 x ART-001",
    ] {
        let found = lines(raw);
        assert!(
            found == "ART-001*2@-" || found.is_empty(),
            "{:?} gave {found}",
            String::from_utf8_lossy(raw)
        );
    }
}

#[test]
fn a_hostile_workbook_becomes_a_note() {
    let far = format!("{ROWS}<row r=\"1048576\"><c r=\"XFD1048576\"><v>1</v></c></row>");
    assert_eq!(
        lines(&xlsx_mail(&workbook(&far, &[]))),
        "ART-001*2@4.5",
        "a far cell costs nothing"
    );

    let strings = |count: &str| {
        let xml = format!(
            "<sst xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" uniqueCount=\"{count}\"></sst>"
        );
        vec![("xl/sharedStrings.xml", xml.into_bytes())]
    };
    let utf16: Vec<u8> = "\u{feff}<sst uniqueCount=\"9\"/>"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let bomb = vec![b' '; 30 << 20];
    let cells = "<c><v>1</v></c>".repeat(300_000);
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("bomb", workbook(ROWS, &[("xl/media/a.bin", bomb)]), "unpacks to more"),
        ("reserve", workbook(ROWS, &strings("99999999999")), "more content"),
        (
            "reserve, no number",
            workbook(ROWS, &strings("99999999999999999999999")),
            "more content",
        ),
        ("utf-16", workbook(ROWS, &[("xl/sharedStrings.xml", utf16)]), "encoding"),
        (
            "styles",
            workbook(ROWS, &[("xl/styles.xml", "<xf/>".repeat(300_000).into_bytes())]),
            "more",
        ),
        ("cells", workbook(&format!("<row r=\"1\">{cells}</row>"), &[]), "more"),
        (
            "nested",
            workbook(ROWS, &[("xl/inner.bin", workbook(ROWS, &[]))]),
            "another archive",
        ),
        ("cut off", workbook(ROWS, &[])[..400].to_vec(), "not a readable"),
        (
            "no workbook",
            zipped(&[("readme.txt", b"hi".to_vec())]),
            "not a readable",
        ),
        (
            "reserve, other name",
            workbook(
                ROWS,
                &[("xl/strings.bin", b"\n<sst uniqueCount='99999999999'/>".to_vec())],
            ),
            "more content",
        ),
        (
            "styles beside sheets",
            workbook(
                ROWS,
                &[("xl/worksheets/styles.xml", "<xf/>".repeat(300_000).into_bytes())],
            ),
            "more",
        ),
        (
            "old excel",
            [&b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"[..], &[0; 600]].concat(),
            "not a readable",
        ),
        ("garbage", vec![0; 600], "not what its name says"),
        ("no columns", workbook("", &[]), "no columns"),
        (
            "many files",
            zipped(
                &(0..1500)
                    .map(|n| (&*Box::leak(format!("{n}").into_boxed_str()), vec![]))
                    .collect::<Vec<_>>(),
            ),
            "more content",
        ),
    ];
    for (name, bytes, expected) in table {
        let raw = with_attachment("application/octet-stream", "order.xlsx", "base64", &base64(&bytes));
        // Without the letter's own line, so that only the attachment speaks.
        let raw = String::from_utf8(raw).unwrap().replace("9 x ART-999", "see");
        let found = extracted(raw.as_bytes(), &ReadingLimits::default());
        assert_eq!(found.lines, Vec::new(), "{name}");
        assert!(
            found.notes.len() == 1 && found.notes[0].contains(expected),
            "{name}: {:?}",
            found.notes
        );
    }
}

#[test]
fn a_workbook_with_a_picture_is_fine() {
    let picture = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    let book = workbook(ROWS, &[("xl/media/image1.png", picture)]);
    assert_eq!(lines(&xlsx_mail(&book)), "ART-001*2@4.5");
}

#[test]
fn an_order_with_too_many_lines_is_refused_whole() {
    let found = extracted(&message("", &"1 x ART-001\r\n".repeat(2001)), &ReadingLimits::default());
    assert!(
        found.lines.is_empty() && found.notes[0].contains("2000 lines"),
        "{:?}",
        found.notes
    );
}

#[test]
fn attachment_names_are_never_paths() {
    let raw = with_attachment("text/csv", "../../etc/evil.csv", "7bit", "Article;Qty\nART-001;2");
    assert_eq!(
        extracted(&raw, &ReadingLimits::default()).lines[0].place,
        "evil.csv, row 2"
    );
}

#[test]
fn a_panic_in_a_parser_is_one_lost_message() {
    assert_eq!(
        contained(|| panic!("x")),
        Err::<(), _>(ReadError::Panicked {
            message: "x".to_owned()
        })
    );
}
