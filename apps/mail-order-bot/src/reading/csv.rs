//! CSV attachments: finding out their separator, then rows.

use super::draft::Value;
use super::table::{MAX_COLUMNS, Row, TableLines, TableReader};

const SEPARATORS: [u8; 4] = *b";,\t|";

/// The file has more cells than are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManyCells;

/// The lines of a CSV file; `None` when no separator makes it an order table.
pub(super) fn lines(text: &str, reader: &TableReader<'_>, cells: usize) -> Result<Option<TableLines>, TooManyCells> {
    // Excel writes, and believes, a first line `sep=;`.
    let first = text.lines().next().unwrap_or_default();
    let named = first
        .strip_prefix("sep=")
        .and_then(|rest| rest.bytes().next())
        .filter(u8::is_ascii);
    let (text, skipped) = match named {
        Some(_) => (text.split_once('\n').map_or("", |(_, rest)| rest), 1),
        None => (text, 0),
    };
    let own = reader
        .profile
        .delimiter
        .and_then(|delimiter| u8::try_from(delimiter).ok());
    if let Some(separator) = own.or(named) {
        return Ok(reader.lines(&rows(text, separator, skipped, cells)?));
    }
    let mut too_many = None;
    for separator in SEPARATORS {
        // The separator is the one under which the headings (or the first row) make sense.
        let mapped = match rows(text, separator, skipped, cells) {
            Ok(rows) => reader.lines(&rows).filter(|table| !table.lines.is_empty()),
            Err(TooManyCells) => {
                too_many = Some(TooManyCells);
                continue;
            }
        };
        if mapped.is_some() {
            return Ok(mapped);
        }
    }
    too_many.map_or(Ok(None), Err)
}

fn rows(text: &str, separator: u8, skipped: u64, cells: usize) -> Result<Vec<Row>, TooManyCells> {
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let bytes = text.as_bytes();
    let (mut counted, mut line) = (0, 1 + skipped);
    let mut left = cells;
    let mut rows = Vec::new();
    // The text is UTF-8 and rows may differ in length, so there is no record that can't be read.
    for record in reader.records().map_while(Result::ok) {
        left = left.checked_sub(record.len()).ok_or(TooManyCells)?;
        // The reader counts a line end of two characters after the record behind it, so lines are counted here.
        let begins = record
            .position()
            .map_or(0, |position| usize::try_from(position.byte()).unwrap_or(usize::MAX));
        let blank = bytes[begins.min(bytes.len())..]
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        let begins = (begins + blank).clamp(counted, bytes.len());
        line += bytes[counted..begins].iter().filter(|byte| **byte == b'\n').count() as u64;
        counted = begins;
        let cells: Vec<Value> = record.iter().take(MAX_COLUMNS).map(Value::text).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            rows.push(Row {
                number: u32::try_from(line).unwrap_or(u32::MAX),
                cells,
            });
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CustomerProfile;
    use crate::reading::DraftLine;

    fn read(text: &str, profile: &CustomerProfile) -> Option<Vec<(String, String, Option<String>)>> {
        let reader = TableReader {
            profile,
            known: &|_| false,
            place: "o.csv".to_owned(),
            positional: true,
        };
        let triple = |line: DraftLine| (line.article, line.quantity.text, line.price.map(|price| price.text));
        let table = lines(text, &reader, 1000).unwrap();
        table.map(|table| table.lines.into_iter().map(triple).collect())
    }

    #[test]
    fn the_separator_is_found_out() {
        let expected = Some(vec![("ART-001".to_owned(), "2".to_owned(), Some("12,50".to_owned()))]);
        for text in [
            "Article;Quantity;Price\r\nART-001;2;12,50\r\n",
            "Article,Quantity,Price\nART-001,2,\"12,50\"\n",
            "Article\tQuantity\tPrice\nART-001\t2\t12,50",
            "sep=|\nArticle|Quantity|Price\nART-001|2|12,50",
            "Order of Monday;;\n;;\nArtikel-Nr.;Menge;Preis\nART-001;2;12,50\nTotal;;25,00\n",
            "ART-001;2;12,50\n",
            "Remark, with comma;Article;Qty;Price\n\"a;b\";ART-001;2;12,50\n",
        ] {
            assert_eq!(read(text, &CustomerProfile::default()), expected, "{text:?}");
        }
        assert_eq!(
            read("just some text\nwithout a table", &CustomerProfile::default()),
            None
        );
        assert_eq!(read("", &CustomerProfile::default()), None);
    }

    #[test]
    fn the_profile_decides_the_separator() {
        let profile = CustomerProfile {
            delimiter: Some('#'),
            ..CustomerProfile::default()
        };
        assert_eq!(
            read("Article#Qty\nART-001#2", &profile).map(|lines| lines.len()),
            Some(1)
        );
    }

    #[test]
    fn rows_are_counted_as_an_editor_does_whatever_ends_the_lines() {
        for end in ["\n", "\r\n", "\r\n\r\n"] {
            let text = ["Article;Qty;Text", "A-1;1;\"two\nlines\"", "A-2;2;x"].join(end);
            let profile = CustomerProfile::default();
            let reader = TableReader {
                profile: &profile,
                known: &|_| false,
                place: "o".to_owned(),
                positional: true,
            };
            let table = lines(&text, &reader, 100).unwrap().unwrap();
            let places: Vec<&str> = table.lines.iter().map(|line| line.place.as_str()).collect();
            let expected = if end.len() == 4 {
                ["o, row 3", "o, row 6"]
            } else {
                ["o, row 2", "o, row 4"]
            };
            assert_eq!(places, expected, "{end:?}");
        }
    }

    #[test]
    fn a_quote_that_never_ends_is_one_cell() {
        let text = format!("Article;Qty\nART-001;\"2{}", "\nART-002;1".repeat(1000));
        assert_eq!(
            read(&text, &CustomerProfile::default()).map(|lines| lines.len()),
            Some(1)
        );
    }
}
