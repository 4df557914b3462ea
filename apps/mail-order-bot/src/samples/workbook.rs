//! The files of the smallest valid XLSX workbook around a given sheet. For samples, generated order mails and tests.

use std::io::{Cursor, Write as _};

use zip::write::SimpleFileOptions;

const MAIN: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
const RELATIONS: &str = "http://schemas.openxmlformats.org/package/2006/relationships";
const OFFICE: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n";

/// One cell: text, or a number that is written as such.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A number.
    Number(f64),
}

/// File names and contents of a workbook whose only sheet has the given XML.
#[must_use]
pub fn parts(sheet_xml: &str) -> Vec<(&'static str, Vec<u8>)> {
    let types = format!(
        "{HEAD}<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">\
         <Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>\
         <Default Extension=\"xml\" ContentType=\"application/xml\"/>\
         <Override PartName=\"/xl/workbook.xml\" \
         ContentType=\"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml\"/>\
         <Override PartName=\"/xl/worksheets/sheet1.xml\" \
         ContentType=\"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml\"/></Types>"
    );
    let package = format!(
        "{HEAD}<Relationships xmlns=\"{RELATIONS}\"><Relationship Id=\"rId1\" Type=\"{OFFICE}/officeDocument\" \
         Target=\"xl/workbook.xml\"/></Relationships>"
    );
    let workbook = format!(
        "{HEAD}<workbook xmlns=\"{MAIN}\" xmlns:r=\"{OFFICE}\"><sheets>\
         <sheet name=\"Order\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>"
    );
    let relations = format!(
        "{HEAD}<Relationships xmlns=\"{RELATIONS}\"><Relationship Id=\"rId1\" Type=\"{OFFICE}/worksheet\" \
         Target=\"worksheets/sheet1.xml\"/></Relationships>"
    );
    vec![
        ("[Content_Types].xml", types.into_bytes()),
        ("_rels/.rels", package.into_bytes()),
        ("xl/workbook.xml", workbook.into_bytes()),
        ("xl/_rels/workbook.xml.rels", relations.into_bytes()),
        ("xl/worksheets/sheet1.xml", sheet_xml.as_bytes().to_vec()),
    ]
}

/// The bytes of a workbook with these rows in its only sheet, the same for the same rows.
///
/// # Errors
/// Never for rows that fit in memory; the error is the archive writer's.
pub fn bytes(rows: &[Vec<Cell>]) -> Result<Vec<u8>, zip::result::ZipError> {
    let mut sheet = format!("{HEAD}<worksheet xmlns=\"{MAIN}\"><sheetData>");
    for row in rows {
        sheet.push_str("<row>");
        for cell in row {
            sheet.push_str(&match cell {
                Cell::Number(number) => format!("<c><v>{number}</v></c>"),
                Cell::Text(text) => format!("<c t=\"inlineStr\"><is><t>{}</t></is></c>", escaped(text)),
            });
        }
        sheet.push_str("</row>");
    }
    sheet.push_str("</sheetData></worksheet>");
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in parts(&sheet) {
        archive.start_file(name, SimpleFileOptions::default())?;
        archive.write_all(&content)?;
    }
    Ok(archive.finish()?.into_inner())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
