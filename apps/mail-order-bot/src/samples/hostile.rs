//! Messages and workbooks that somebody would write to do harm: for tests and as seeds of `fuzz`. Each is made here, so that
//! megabytes of it need not lie in the repository.

use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;

use super::workbook;

/// What has to become of a hostile message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It can't be read: it becomes a dead letter whose reason contains this.
    Parked(&'static str),
    /// It is an order with a note that contains this.
    Noted(&'static str),
    /// It is an order of these lines: `article*quantity`, joined by a blank.
    Ordered(&'static str),
    /// It is no order.
    NoOrder,
}

/// A hostile message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostile {
    /// What it does.
    pub name: &'static str,
    /// The whole message.
    pub raw: Vec<u8>,
    /// What has to become of it.
    pub fate: Fate,
}

/// A message of one line with these header fields, each with its line end, and this body.
#[must_use]
pub fn message(name: &str, headers: &str, body: &str) -> Vec<u8> {
    let id: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("From: Mallory <mallory@hostile.example>\r\nMessage-ID: <{id}@hostile.example>\r\nSubject: {name}\r\n{headers}\r\n{body}")
        .into_bytes()
}

/// A message with a letter and an attachment.
#[must_use]
pub fn with_attachment(name: &str, file_name: &str, content: &[u8]) -> Vec<u8> {
    let body = format!(
        "--b1\r\nContent-Type: text/plain\r\n\r\nsee there\r\n--b1\r\nContent-Type: application/octet-stream\r\n\
         Content-Disposition: attachment; filename=\"{file_name}\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--b1--\r\n",
        base64(content)
    );
    message(
        name,
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b1\"\r\n",
        &body,
    )
}

/// Structures without end (failure 72): nesting, siblings, fields, bytes.
#[must_use]
pub fn structures() -> Vec<Hostile> {
    let nested = |levels: usize| {
        let mut body = String::new();
        for level in 0..levels {
            body.push_str(&format!(
                "--b{level}\r\nContent-Type: multipart/mixed; boundary=b{}\r\n\r\n",
                level + 1
            ));
        }
        body + &format!("--b{levels}\r\n\r\n2 x ART-001\r\n")
    };
    let multipart = "Content-Type: multipart/mixed; boundary=b0\r\n";
    let hostile = |name, headers: &str, body: &str, fate| Hostile {
        name,
        raw: message(name, headers, body),
        fate,
    };
    vec![
        hostile(
            "nesting of 100,000 levels",
            multipart,
            &nested(100_000),
            Fate::Parked("deeper than 64"),
        ),
        hostile(
            "nesting of 60 levels",
            multipart,
            &nested(60),
            Fate::Ordered("ART-001*2"),
        ),
        hostile(
            "a million siblings",
            multipart,
            &"--b0\r\n\r\nx\r\n".repeat(1_000_000),
            Fate::Parked("more than 1000 parts"),
        ),
        hostile(
            "a million fields",
            &"X-A: b\r\n".repeat(1_000_000),
            "2 x ART-001",
            Fate::Parked("more than 1000 header fields"),
        ),
        hostile(
            "a field of 19 MB",
            &format!("X-A: {}\r\n", "b".repeat(19 << 20)),
            "2 x ART-001",
            Fate::Parked("262144 bytes of headers"),
        ),
        hostile(
            "a field of 50 MB",
            &format!("X-A: {}\r\n", "b".repeat(50 << 20)),
            "2 x ART-001",
            Fate::Parked("the message has 52428"),
        ),
        hostile(
            "parameters without end",
            &format!(
                "Content-Type: multipart/mixed{}; boundary=b0\r\n",
                "; a*0*=utf-8''%41".repeat(10_000)
            ),
            "--b0\r\n\r\n2 x ART-001\r\n--b0--",
            Fate::Ordered("ART-001*2"),
        ),
        hostile(
            "a boundary that is no end",
            "Content-Type: multipart/mixed; boundary=\"\"\r\n",
            &"--\r\n".repeat(500),
            Fate::NoOrder,
        ),
        hostile(
            "comments without end",
            &format!("To: {}a@b.c\r\n", "(".repeat(100_000)),
            "2 x ART-001",
            Fate::Ordered("ART-001*2"),
        ),
        hostile(
            "messages in messages",
            "Content-Type: message/rfc822\r\n",
            &"Content-Type: message/rfc822\r\n\r\n".repeat(300_000),
            Fate::NoOrder,
        ),
    ]
}

const ROWS: &str = "<row r=\"1\"><c r=\"A1\" t=\"inlineStr\"><is><t>Article</t></is></c>\
    <c r=\"B1\" t=\"inlineStr\"><is><t>Quantity</t></is></c></row>\
    <row r=\"2\"><c r=\"A2\" t=\"inlineStr\"><is><t>ART-001</t></is></c><c r=\"B2\"><v>2</v></c></row>";

/// A hostile workbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostileWorkbook {
    /// What it does.
    pub name: &'static str,
    /// The name of its file.
    pub file_name: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
    /// What has to become of an order that it is attached to.
    pub fate: Fate,
}

impl HostileWorkbook {
    /// An order that it is attached to.
    #[must_use]
    pub fn message(&self) -> Hostile {
        Hostile {
            name: self.name,
            raw: with_attachment(self.name, self.file_name, &self.bytes),
            fate: self.fate,
        }
    }
}

/// Workbooks that are small in a mail and large in memory (failure 73).
///
/// # Errors
/// Never for what fits in memory; the error is the archive writer's.
pub fn workbooks() -> Result<Vec<HostileWorkbook>, zip::result::ZipError> {
    let far = format!("{ROWS}<row r=\"200001\"><c r=\"WQJ200001\"><v>1</v></c></row>");
    let farthest = format!("{ROWS}<row r=\"1048576\"><c r=\"XFD1048576\"><v>1</v></c></row>");
    let wide: String = (0..100_000)
        .map(|row| format!("<row r=\"{0}\"><c r=\"IV{0}\"><v>1</v></c></row>", row + 3))
        .collect();
    let reserve = b"<sst uniqueCount=\"99999999999\"/>".to_vec();
    let cells = format!("<row r=\"1\">{}</row>", "<c><v>1</v></c>".repeat(300_000));
    let inner = xlsx(ROWS, &[])?;
    let text = "A".repeat(100);
    // 16,384 copies of a long text, in each of many rows: 4 GB out of a few kilobytes.
    let copies = format!(
        "<table:table-row><table:table-cell table:number-columns-repeated=\"16384\" office:value-type=\"string\">\
         <text:p>{text}</text:p></table:table-cell></table:table-row>"
    );
    let rows = "<table:table-row table:number-rows-repeated=\"1000000\"><table:table-cell table:number-columns-repeated=\"90\" \
         office:value-type=\"float\" office:value=\"1\"/></table:table-row>";
    let made = [
        ("one far cell", "far.xlsx", xlsx(&far, &[])?, Fate::Ordered("ART-001*2")),
        (
            "the farthest cell",
            "farthest.xlsx",
            xlsx(&farthest, &[])?,
            Fate::Ordered("ART-001*2"),
        ),
        (
            "a far cell in each row",
            "wide.xlsx",
            xlsx(&format!("{ROWS}{wide}"), &[])?,
            Fate::Noted("over 200000 cells"),
        ),
        (
            "a zip bomb",
            "bomb.xlsx",
            xlsx(ROWS, &[("xl/media/a.bin", vec![b' '; 100 << 20])])?,
            Fate::Noted("16777216 bytes"),
        ),
        (
            "a dense zip bomb",
            "dense.xlsx",
            xlsx(ROWS, &[("xl/media/a.bin", vec![b' '; 10 << 20])])?,
            Fate::Noted("200 times"),
        ),
        (
            "a count that is a lie",
            "reserve.xlsx",
            xlsx(ROWS, &[("xl/sharedStrings.xml", reserve)])?,
            Fate::Noted("over 100000 texts"),
        ),
        (
            "too many cells",
            "cells.xlsx",
            xlsx(&cells, &[])?,
            Fate::Noted("over 200000 cells"),
        ),
        (
            "an archive inside",
            "nested.xlsx",
            xlsx(ROWS, &[("xl/inner.bin", inner)])?,
            Fate::Noted("another archive"),
        ),
        (
            "copies of a text",
            "copies.ods",
            ods(&copies.repeat(2000))?,
            Fate::Noted("536870912 bytes"),
        ),
        (
            "copies of a row",
            "rows.ods",
            ods(rows)?,
            Fate::Noted("We could not use the attachment rows.ods"),
        ),
    ];
    let workbook = |(name, file_name, bytes, fate)| HostileWorkbook {
        name,
        file_name,
        bytes,
        fate,
    };
    Ok(made.into_iter().map(workbook).collect())
}

/// An XLSX workbook whose only sheet has this content, and further files.
///
/// # Errors
/// The archive writer's.
pub fn xlsx(sheet_data: &str, extra: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, zip::result::ZipError> {
    let sheet = format!(
        "<?xml version=\"1.0\"?><worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\">\
         <sheetData>{sheet_data}</sheetData></worksheet>"
    );
    let mut files: Vec<(&str, Vec<u8>)> = workbook::parts(&sheet);
    files.extend(extra.iter().cloned());
    zipped(&files)
}

/// An ODS workbook whose only table has these rows.
///
/// # Errors
/// The archive writer's.
pub fn ods(rows: &str) -> Result<Vec<u8>, zip::result::ZipError> {
    let content = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><office:document-content \
         xmlns:office=\"urn:oasis:names:tc:opendocument:xmlns:office:1.0\" \
         xmlns:table=\"urn:oasis:names:tc:opendocument:xmlns:table:1.0\" \
         xmlns:text=\"urn:oasis:names:tc:opendocument:xmlns:text:1.0\"><office:body><office:spreadsheet>\
         <table:table table:name=\"Order\">{rows}</table:table></office:spreadsheet></office:body></office:document-content>"
    );
    let manifest = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><manifest:manifest \
         xmlns:manifest=\"urn:oasis:names:tc:opendocument:xmlns:manifest:1.0\"><manifest:file-entry \
         manifest:full-path=\"/\" manifest:media-type=\"application/vnd.oasis.opendocument.spreadsheet\"/></manifest:manifest>";
    zipped(&[
        ("mimetype", b"application/vnd.oasis.opendocument.spreadsheet".to_vec()),
        ("content.xml", content.into_bytes()),
        ("META-INF/manifest.xml", manifest.as_bytes().to_vec()),
    ])
}

/// The rows of an ODS table with these texts; a number is written as a number.
#[must_use]
pub fn ods_rows(rows: &[&[&str]]) -> String {
    let cell = |text: &&str| match text.parse::<f64>() {
        Ok(number) => format!("<table:table-cell office:value-type=\"float\" office:value=\"{number}\"/>"),
        Err(_) => format!("<table:table-cell office:value-type=\"string\"><text:p>{text}</text:p></table:table-cell>"),
    };
    let row = |cells: &&[&str]| {
        format!(
            "<table:table-row>{}</table:table-row>",
            cells.iter().map(cell).collect::<String>()
        )
    };
    rows.iter().map(row).collect()
}

fn zipped(files: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, zip::result::ZipError> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        archive.start_file(*name, SimpleFileOptions::default())?;
        archive.write_all(content)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// BASE64 in lines of 76 characters.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
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
