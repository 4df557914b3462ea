//! Rows of cells, from whatever kind of table → order lines.

use serde::{Deserialize, Serialize};

use super::columns::Columns;
use super::draft::{DraftLine, Value, is_article_like};
use crate::domain::CustomerProfile;

/// How many rows may stand above the headings.
const ROWS_ABOVE_HEADINGS: usize = 30;
/// Most columns of a row that are looked at.
pub(super) const MAX_COLUMNS: usize = 256;

/// One row; empty rows are left out, so it knows its number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Row {
    /// As a person counts, from 1.
    pub(super) number: u32,
    pub(super) cells: Vec<Value>,
}

/// One sheet of a workbook.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Sheet {
    /// Its name.
    pub(super) name: String,
    /// Its rows that are not empty.
    pub(super) rows: Vec<Row>,
}

/// How a table is read.
pub(super) struct TableReader<'a> {
    pub(super) profile: &'a CustomerProfile,
    pub(super) known: &'a dyn Fn(&str) -> bool,
    /// Names the table in a line's place: `orders.csv`.
    pub(super) place: String,
    /// Whether a table without headings may be read by position.
    pub(super) positional: bool,
}

impl TableReader<'_> {
    /// The lines of the table; `None` when it isn't an order table.
    pub(super) fn lines(&self, rows: &[Row]) -> Option<Vec<DraftLine>> {
        let (columns, body) = self.columns(rows)?;
        Some(body.iter().filter_map(|row| self.line(row, columns)).collect())
    }

    fn columns<'r>(&self, rows: &'r [Row]) -> Option<(Columns, &'r [Row])> {
        for (at, row) in rows.iter().take(ROWS_ABOVE_HEADINGS).enumerate() {
            let headings = row.cells.iter().map(|cell| cell.text.as_str());
            if let Some(columns) = Columns::from_headings(headings, self.profile) {
                return Some((columns, &rows[at + 1..]));
            }
        }
        let starts_like_an_order = |row: &Row| match row.cells.as_slice() {
            [article, quantity, ..] => {
                self.is_article(&article.text) && quantity.text.starts_with(|c: char| c.is_ascii_digit())
            }
            _ => false,
        };
        (self.positional && rows.first().is_some_and(starts_like_an_order)).then_some((Columns::POSITIONAL, rows))
    }

    fn line(&self, row: &Row, columns: Columns) -> Option<DraftLine> {
        let cell = |column: usize| row.cells.get(column).filter(|cell| !cell.is_empty());
        let filled = row.cells.iter().filter(|cell| !cell.is_empty()).count();
        let (article, quantity) = (cell(columns.article), cell(columns.quantity));
        let name = columns.name.and_then(cell);
        let reference = article.or(name);
        let first = row.cells.iter().find(|cell| !cell.is_empty())?;
        if is_total(&first.text) || article.is_none() && quantity.is_none() {
            return None;
        }
        // A remark under the table fills one cell; an article whose quantity was forgotten is an order line.
        if quantity.is_none() && filled == 1 && !article.is_some_and(|article| self.is_article(&article.text)) {
            return None;
        }
        Some(DraftLine {
            place: format!("{}, row {}", self.place, row.number),
            article: reference.map(|cell| cell.text.clone()).unwrap_or_default(),
            name: name.map(|cell| cell.text.clone()),
            quantity: quantity.cloned().unwrap_or_default(),
            unit: None,
            price: columns.price.and_then(cell).cloned(),
            currency: columns.currency.and_then(cell).map(|cell| cell.text.clone()),
        })
    }

    fn is_article(&self, text: &str) -> bool {
        is_article_like(text) || (self.known)(text)
    }
}

fn is_total(text: &str) -> bool {
    const TOTALS: [&str; 16] = [
        "total",
        "subtotal",
        "sum",
        "grand total",
        "net total",
        "vat",
        "tax",
        "shipping",
        "summe",
        "gesamt",
        "gesamtsumme",
        "gesamtbetrag",
        "zwischensumme",
        "netto",
        "mwst",
        "versand",
    ];
    let text = text.trim_end_matches([':', '.']).to_lowercase();
    TOTALS.contains(&text.as_str())
}
