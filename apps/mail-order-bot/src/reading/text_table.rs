//! Tables in plain text: columns held apart by spaces, tabs, `|` or `;`, under headings. Cells belong to the heading that
//! they stand under, so that empty cells and numbers aligned to the right are no trouble.

use std::ops::Range;

use super::columns::ColumnFinder;
use super::draft::Value;
use super::table::{MAX_COLUMNS, Row, TableLines, TableReader};

/// Empty lines in a row after which a table has ended.
const GAP: usize = 3;

/// A line of text with its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextLine<'t> {
    pub(super) number: usize,
    pub(super) text: &'t str,
}

/// The first table with headings that has order lines.
pub(super) fn lines(text: &[TextLine<'_>], reader: &TableReader<'_>) -> Option<TableLines> {
    let finder = ColumnFinder {
        profile: reader.profile,
        known: reader.known,
    };
    let mut at = 0;
    while let Some(line) = text.get(at) {
        let headings = cells(line.text);
        at += 1;
        if headings.len() < 2 {
            continue;
        }
        let texts: Vec<&str> = headings.iter().map(|cell| cell.text).collect();
        // Whether it can be headings is cheap to say without what stands below.
        let could_be = finder.by_headings(&texts, &[]).is_some() || {
            let next = text.get(at).map(|next| cells(next.text)).unwrap_or_default();
            texts.len() >= 2
                && next.len() >= 2
                && finder
                    .by_headings(&texts, &[row(line.number, &next, &headings)])
                    .is_some()
        };
        if !could_be {
            continue;
        }
        let (rows, taken) = rows(&text[at - 1..], &headings);
        if let Some(table) = reader.lines(&rows).filter(|table| !table.lines.is_empty()) {
            return Some(table);
        }
        // What stands below was looked at, other headings in it too.
        at += taken - 1;
    }
    None
}

/// The rows from the headings on, up to the end of the table, and how many lines these take.
fn rows(text: &[TextLine<'_>], headings: &[Cell<'_>]) -> (Vec<Row>, usize) {
    let mut rows = Vec::new();
    let mut empty = 0;
    for (at, line) in text.iter().enumerate() {
        if line.text.trim().is_empty() {
            empty += 1;
            if empty == GAP {
                return (rows, at);
            }
            continue;
        }
        empty = 0;
        rows.push(row(line.number, &cells(line.text), headings));
    }
    (rows, text.len())
}

/// A cell and where it stands, in characters.
#[derive(Debug, Clone)]
struct Cell<'t> {
    text: &'t str,
    span: Range<usize>,
    /// Its place among the cells, where a separator says so.
    place: Option<usize>,
}

/// The cells of a line: between separators if there are any, else between wide gaps.
fn cells(line: &str) -> Vec<Cell<'_>> {
    let separator = ['|', '\t', ';'].into_iter().find(|separator| line.contains(*separator));
    match separator {
        Some(separator) => {
            let line = line.trim_matches([' ', '\r', '\n']);
            let line = if separator == '|' {
                line.strip_prefix('|').unwrap_or(line)
            } else {
                line
            };
            let line = if separator == '|' {
                line.strip_suffix('|').unwrap_or(line)
            } else {
                line
            };
            let cells = line.split(separator).take(MAX_COLUMNS).enumerate();
            let cell = |(place, text): (usize, _)| Cell {
                text: str::trim(text),
                span: place..place + 1,
                place: Some(place),
            };
            cells.map(cell).collect()
        }
        None => spaced(line),
    }
}

fn spaced(line: &str) -> Vec<Cell<'_>> {
    let mut cells: Vec<Cell<'_>> = Vec::new();
    // Where the open cell begins, in bytes and characters, and its end so far.
    let mut open: Option<(usize, usize, usize, usize)> = None;
    let mut spaces = 0;
    for (column, (at, c)) in line.char_indices().enumerate() {
        if c == ' ' || c == '\u{a0}' || c == '\r' || c == '\n' {
            spaces += 1;
            continue;
        }
        let end = at + c.len_utf8();
        open = match open {
            Some((start, first, _, _)) if spaces < 2 => Some((start, first, end, column + 1)),
            previous => {
                push(&mut cells, line, previous);
                Some((at, column, end, column + 1))
            }
        };
        spaces = 0;
    }
    push(&mut cells, line, open);
    cells
}

fn push<'t>(cells: &mut Vec<Cell<'t>>, line: &'t str, cell: Option<(usize, usize, usize, usize)>) {
    if let Some((start, first, end, last)) = cell
        && cells.len() < MAX_COLUMNS
    {
        cells.push(Cell {
            text: &line[start..end],
            span: first..last,
            place: None,
        });
    }
}

/// The cells under their headings.
fn row(number: usize, cells: &[Cell<'_>], headings: &[Cell<'_>]) -> Row {
    let width = headings.len().max(
        cells
            .iter()
            .filter_map(|cell| cell.place)
            .max()
            .map_or(0, |place| place + 1),
    );
    let mut texts = vec![String::new(); width];
    for cell in cells.iter().flat_map(|cell| at_headings(cell, headings)) {
        let column = cell.place.unwrap_or_else(|| under(&cell, headings));
        let text = &mut texts[column.min(width - 1)];
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(cell.text);
    }
    Row {
        number: u32::try_from(number).unwrap_or(u32::MAX),
        cells: texts.iter().map(|text| Value::text(text)).collect(),
    }
}

/// A cell in pieces, where one space is all that stands between two columns: `00010 TEA-100`.
fn at_headings<'t>(cell: &Cell<'t>, headings: &[Cell<'_>]) -> Vec<Cell<'t>> {
    if cell.place.is_some() || !cell.text.contains(' ') {
        return vec![cell.clone()];
    }
    let mut pieces = Vec::new();
    let (mut from, mut first) = (0, cell.span.start);
    let mut before = ' ';
    for (column, (at, c)) in (cell.span.start..).zip(cell.text.char_indices()) {
        let begins =
            column > first && before == ' ' && c != ' ' && headings.iter().any(|heading| heading.span.start == column);
        if begins {
            pieces.push((from..at, first..column));
            (from, first) = (at, column);
        }
        before = c;
    }
    pieces.push((from..cell.text.len(), first..cell.span.end));
    let piece = |(bytes, span): (Range<usize>, Range<usize>)| Cell {
        text: cell.text[bytes].trim(),
        span,
        place: None,
    };
    pieces.into_iter().map(piece).collect()
}

/// The heading that a cell overlaps most, else the nearest one. Both are in order, so the search is short.
fn under(cell: &Cell<'_>, headings: &[Cell<'_>]) -> usize {
    let overlap = |heading: &Cell<'_>| {
        let (start, end) = (
            cell.span.start.max(heading.span.start),
            cell.span.end.min(heading.span.end),
        );
        end.saturating_sub(start)
    };
    let distance = |heading: &Cell<'_>| {
        let before = heading.span.start.saturating_sub(cell.span.end);
        let after = cell.span.start.saturating_sub(heading.span.end);
        before.max(after)
    };
    let best = headings
        .iter()
        .enumerate()
        .max_by_key(|(at, heading)| (overlap(heading), usize::MAX - distance(heading), usize::MAX - at));
    best.map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CustomerProfile;

    fn read(text: &str) -> Option<String> {
        let profile = CustomerProfile::default();
        let reader = TableReader {
            profile: &profile,
            known: &|reference| reference.starts_with("ART"),
            place: "text".to_owned(),
            positional: false,
        };
        let lines: Vec<TextLine<'_>> = (1..)
            .zip(text.lines())
            .map(|(number, text)| TextLine { number, text })
            .collect();
        let table = super::lines(&lines, &reader)?;
        let line = |line: &super::super::DraftLine| {
            let price = line.price.as_ref().map_or("-", |price| &price.text);
            format!(
                "{}*{}{}@{price}",
                line.article,
                line.quantity.text,
                line.unit.as_deref().unwrap_or_default()
            )
        };
        Some(table.lines.iter().map(line).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn tables_are_read_however_their_columns_are_held_apart() {
        let aligned = "\
Guten Tag,

Pos  Artikel   Bezeichnung            Menge  ME     Preis
---  --------  --------------------  ------  --  --------
 10  ART-001   Grüner Tee 100 g          20  ST      4,50
 20  ART-002                              5  ST
               (ohne Aufdruck)
 30  ART-010   Teekanne, groß             1  ST     24,90
                                     ------
Summe                                    26        134,40

Mit freundlichen Grüßen";
        assert_eq!(
            read(aligned).as_deref(),
            Some("ART-001*20ST@4,50 ART-002*5ST@- ART-010*1ST@24,90")
        );
        let narrow = "Pos   Article  Qty\n00010 ART-001    2\n00020 ART-002    3";
        assert_eq!(read(narrow).as_deref(), Some("ART-001*2@- ART-002*3@-"));
        let markdown = "| Item | Qty | Price |\n|------|----:|------:|\n| ART-001 | 2 | 4.50 |\n| ART-002 | | |";
        assert_eq!(read(markdown).as_deref(), Some("ART-001*2@4.50 ART-002*@-"));
        let tabs = "Code\tDésignation\tQté\nART-001\tThé\t2\nART-002\tThé noir\t3";
        assert_eq!(read(tabs).as_deref(), Some("ART-001*2@- ART-002*3@-"));
        assert_eq!(read("Hello,\nwe need  two things\nbye"), None);
    }

    #[test]
    fn a_long_text_takes_no_longer_per_line() {
        let text = "Article  Qty\nx  y\n".repeat(20_000);
        assert_eq!(read(&text), None);
        let wide = "a  ".repeat(100_000);
        assert_eq!(read(&wide), None);
    }
}
