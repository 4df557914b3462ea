//! Rows of cells, from whatever kind of table → order lines. Which column is which is decided in `columns`.

use serde::{Deserialize, Serialize};

use super::columns::{ColumnFinder, Columns};
use super::draft::{DraftLine, Value, is_article_like};
use super::explanation::{Explanation, Step};
use crate::domain::{CustomerProfile, Measure};

/// How many rows may stand above the headings.
const ROWS_ABOVE_HEADINGS: usize = 30;
/// Most columns of a row that are looked at.
pub(super) const MAX_COLUMNS: usize = 256;
/// Rows without a quantity from which on a table may be an order form with everything that is sold in it.
const FORM_ROWS: usize = 3;

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
    /// Whether a table without headings may be read by its content, even if none of its articles is known.
    pub(super) positional: bool,
}

/// An order table, read.
#[derive(Debug, Default)]
pub(super) struct TableLines {
    pub(super) lines: Vec<DraftLine>,
    pub(super) explanation: Explanation,
}

/// What one row is.
enum Reading {
    Line(DraftLine),
    /// An article without a quantity: a line of an order, or a row of a form that was not filled in.
    Unfilled(DraftLine),
    Skipped(&'static str),
}

impl TableReader<'_> {
    /// The lines of the table; `None` when it isn't an order table.
    pub(super) fn lines(&self, rows: &[Row]) -> Option<TableLines> {
        let finder = ColumnFinder {
            profile: self.profile,
            known: self.known,
        };
        let (mut columns, headings, body) = self.columns(finder, rows)?;
        let mut table = TableLines::default();
        table.explanation.add(self.step(headings, &columns));
        let mut read = Vec::with_capacity(body.len());
        let mut sum = Some(0_i64);
        for (at, row) in body.iter().enumerate() {
            // Long lists repeat their headings on each page, perhaps over other columns.
            if headings.is_some()
                && let Some(again) = self.headings(finder, row, &body[at + 1..])
            {
                columns = again;
                read.push((row, Reading::Skipped("headings again")));
                continue;
            }
            let reading = self.row(row, &columns, sum);
            if let Reading::Line(line) = &reading {
                sum = self.added(sum, line);
            }
            read.push((row, reading));
        }
        self.take(read, &mut table);
        Some(table)
    }

    fn columns<'r>(&self, finder: ColumnFinder<'_>, rows: &'r [Row]) -> Option<(Columns, Option<u32>, &'r [Row])> {
        if let Some(columns) = finder.by_profile() {
            return Some((columns, None, rows));
        }
        for (at, row) in rows.iter().take(ROWS_ABOVE_HEADINGS).enumerate() {
            let below = &rows[at + 1..];
            if let Some(columns) = self.headings(finder, row, below) {
                return Some((columns, Some(row.number), below));
            }
            // Headings in two rows: `Article` above `number`.
            let Some(next) = below.first().filter(|next| next.number == row.number + 1) else {
                continue;
            };
            let joined = joined(row, next);
            let joined: Vec<&str> = joined.iter().map(String::as_str).collect();
            if let Some(columns) = finder.by_headings(&joined, &below[1..]) {
                return Some((columns, Some(row.number), &below[1..]));
            }
        }
        let columns = finder.by_content(rows, !self.positional)?;
        Some((columns, None, rows))
    }

    fn headings(&self, finder: ColumnFinder<'_>, row: &Row, below: &[Row]) -> Option<Columns> {
        let headings: Vec<&str> = row.cells.iter().map(|cell| cell.text.as_str()).collect();
        finder.by_headings(&headings, below)
    }

    /// Takes the lines. Where most rows have an article and no quantity, the table is a form with all that is sold, and
    /// only what was filled in is ordered.
    fn take(&self, read: Vec<(&Row, Reading)>, table: &mut TableLines) {
        let unfilled = read
            .iter()
            .filter(|(_, reading)| matches!(reading, Reading::Unfilled(_)))
            .count();
        let filled = read
            .iter()
            .filter(|(_, reading)| matches!(reading, Reading::Line(_)))
            .count();
        let form = unfilled >= FORM_ROWS && filled > 0 && unfilled >= filled;
        for (row, reading) in read {
            match reading {
                Reading::Line(line) => table.lines.push(line),
                Reading::Unfilled(line) if !form => table.lines.push(line),
                Reading::Unfilled(_) => {
                    let why = "no quantity; most rows have none, so this is a form and the row was not filled in";
                    table.explanation.skipped(self.place_of(row), &text_of(row), why);
                }
                Reading::Skipped(why) => table.explanation.skipped(self.place_of(row), &text_of(row), why),
            }
        }
    }

    fn row(&self, row: &Row, columns: &Columns, sum: Option<i64>) -> Reading {
        let cell = |column: usize| row.cells.get(column).filter(|cell| !cell.is_empty());
        let filled = row.cells.iter().filter(|cell| !cell.is_empty()).count();
        let (article, quantity) = (cell(columns.article), cell(columns.quantity));
        let name = columns.name.and_then(cell);
        let is_known = |cell: &&Value| self.is_article(&cell.text);
        let first = row.cells.iter().find(|cell| !cell.is_empty());
        if !article.is_some_and(|article| is_known(&article)) {
            if first.is_some_and(|first| is_total(&first.text)) || name.is_some_and(|name| is_total(&name.text)) {
                return Reading::Skipped("a total");
            }
            if columns.placed && !quantity.is_some_and(|cell| cell.text.contains(|c: char| c.is_ascii_digit())) {
                return Reading::Skipped("neither an article nor a number in the columns of the profile");
            }
            if is_rule(row) {
                return Reading::Skipped("a line of dashes");
            }
        }
        let line = self.line(row, columns, article.or(name), name, quantity);
        match (article, quantity) {
            (None, None) => Reading::Skipped("neither article nor quantity"),
            // A remark fills one cell; an article whose quantity was forgotten is an order line.
            (Some(article), None) if filled == 1 && !is_known(&article) => Reading::Skipped("a remark"),
            (Some(article), None)
                if filled == 1 && row.cells.len() > 2 && article.text.split_whitespace().count() > 3 =>
            {
                Reading::Skipped("a remark")
            }
            (_, None) => Reading::Unfilled(line),
            (Some(_), Some(zero)) if is_zero(&zero.text) => Reading::Unfilled(line),
            (None, Some(_)) if name.is_none() && sum.is_some() && sum == self.added(Some(0), &line) => {
                Reading::Skipped("the sum of the quantities above")
            }
            _ => Reading::Line(line),
        }
    }

    fn line(
        &self,
        row: &Row,
        columns: &Columns,
        reference: Option<&Value>,
        name: Option<&Value>,
        quantity: Option<&Value>,
    ) -> DraftLine {
        let cell = |column: usize| row.cells.get(column).filter(|cell| !cell.is_empty());
        let text = |cell: &Value| cell.text.clone();
        DraftLine {
            place: self.place_of(row),
            article: reference.map(text).unwrap_or_default(),
            name: name.map(text),
            quantity: quantity.cloned().unwrap_or_default(),
            unit: columns
                .unit
                .and_then(cell)
                .map(text)
                .or_else(|| columns.default_unit.clone()),
            price: columns.price.and_then(cell).cloned(),
            currency: columns.currency.and_then(cell).map(text),
        }
    }

    /// The sum with this line's quantity; `None` once one can't be read.
    fn added(&self, sum: Option<i64>, line: &DraftLine) -> Option<i64> {
        let style = if line.quantity.machine {
            crate::domain::DecimalStyle::Point
        } else {
            self.profile.decimal
        };
        let amount = Measure::parse(&line.quantity.text, style).ok()?.amount;
        sum?.checked_add(amount.thousandths())
    }

    fn is_article(&self, text: &str) -> bool {
        is_article_like(text) || (self.known)(text)
    }

    fn place_of(&self, row: &Row) -> String {
        format!("{}, row {}", self.place, row.number)
    }

    fn step(&self, headings: Option<u32>, columns: &Columns) -> Step {
        Step::Columns {
            place: self.place.clone(),
            headings,
            columns: columns.found.clone(),
        }
    }
}

/// The cells of two rows, one above the other.
fn joined(upper: &Row, lower: &Row) -> Vec<String> {
    let width = upper.cells.len().max(lower.cells.len());
    let cell = |row: &Row, at: usize| row.cells.get(at).map(|cell| cell.text.clone()).unwrap_or_default();
    (0..width)
        .map(|at| format!("{} {}", cell(upper, at), cell(lower, at)).trim().to_owned())
        .collect()
}

fn text_of(row: &Row) -> String {
    let filled = row.cells.iter().filter(|cell| !cell.is_empty()).take(8);
    filled.map(|cell| cell.text.as_str()).collect::<Vec<_>>().join(" | ")
}

fn is_zero(text: &str) -> bool {
    let digits = text.trim_matches(|c: char| "0.,".contains(c));
    digits.is_empty() && text.contains('0') || matches!(text, "-" | "–" | "—")
}

fn is_rule(row: &Row) -> bool {
    let mut filled = row.cells.iter().filter(|cell| !cell.is_empty());
    filled.all(|cell| cell.text.chars().all(|c| "-=_+*–—:|".contains(c)))
}

/// Whether a cell begins like the sums, taxes and costs below the lines.
pub(super) fn is_total(text: &str) -> bool {
    #[rustfmt::skip]
    const WORDS: [&str; 62] = [
        "total", "totals", "subtotal", "sub-total", "sum", "vat", "tax", "shipping", "freight", "discount", "summe", "gesamt", "gesamtsumme",
        "gesamtbetrag", "gesamtpreis", "zwischensumme", "endsumme", "netto", "brutto", "nettosumme", "bruttosumme", "mwst", "ust", "versand", "versandkosten",
        "fracht", "rabatt", "sous-total", "montant", "tva", "remise", "suma", "iva", "descuento", "portes", "envío", "totale", "subtotale", "imponibile",
        "sconto", "spedizione", "totaal", "subtotaal", "btw", "verzendkosten", "korting", "razem", "ogółem", "podatek", "wartość", "rabat", "desconto", "frete",
        "celkem", "součet", "dph", "doprava", "sleva", "summa", "moms", "frakt", "delsumma",
    ];
    const PAIRS: [&str; 6] = [
        "grand total",
        "net total",
        "order total",
        "frais de",
        "koszt dostawy",
        "gastos de",
    ];
    let text: String = text.chars().take(60).collect::<String>().to_lowercase();
    let mut words = text
        .split(|c: char| c.is_whitespace() || ".:,(%=".contains(c))
        .filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default();
    // `Total care shampoo` may be an article; a total has at most four words.
    (WORDS.contains(&first) || PAIRS.iter().any(|pair| text.starts_with(pair))) && text.split_whitespace().count() <= 4
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as `article*quantity`, and what was skipped.
    fn read(rows: &str, profile: &CustomerProfile) -> Option<(String, Vec<String>)> {
        let reader = TableReader {
            profile,
            known: &|reference| reference.starts_with("ART"),
            place: "t".to_owned(),
            positional: false,
        };
        let row = |(number, line): (u32, &str)| Row {
            number,
            cells: line.split('|').map(Value::text).collect(),
        };
        let rows: Vec<Row> = (1..)
            .zip(rows.lines())
            .map(row)
            .filter(|row| row.cells.iter().any(|cell| !cell.is_empty()))
            .collect();
        let table = reader.lines(&rows)?;
        let line = |line: &DraftLine| {
            format!(
                "{}*{}{}",
                line.article,
                line.quantity.text,
                line.unit.as_deref().unwrap_or_default()
            )
        };
        let skipped = table.explanation.steps.iter().filter_map(|step| match step {
            Step::Skipped { place, why, .. } => Some(format!("{place}: {why}")),
            _ => None,
        });
        let lines: Vec<String> = table.lines.iter().map(line).collect();
        Some((lines.join(" "), skipped.collect()))
    }

    #[test]
    fn what_is_no_line_is_skipped_and_told() {
        let rows = "Bestellung Nr. 17|||\nFiliale Süd|||\n\nArt.-Nr.|Bezeichnung|Menge|Preis\n----|----|----|----\nART-001|Tee|2|4,50\nTee und Zubehör|||\n\
                    ART-002|Tasse|3|6,75\n||5|\nArt.-Nr.|Menge||\nART-003|4||\nZwischensumme|||29,25\nMwSt. 19 %|||5,56\nBitte bis Freitag liefern|||";
        let (lines, skipped) = read(rows, &CustomerProfile::default()).unwrap();
        assert_eq!(lines, "ART-001*2 ART-002*3 ART-003*4");
        assert_eq!(
            skipped,
            [
                "t, row 5: a line of dashes",
                "t, row 7: a remark",
                "t, row 9: the sum of the quantities above",
                "t, row 10: headings again",
                "t, row 12: a total",
                "t, row 13: a total",
                "t, row 14: a remark"
            ]
        );
    }

    #[test]
    fn a_form_is_ordered_as_far_as_it_is_filled_in() {
        let form = "Article|Name|Price|Your order\nART-001|a|1|\nART-002|b|1|5\nART-003|c|1|\nART-004|d|1|0\nART-005|e|1|-\nART-006|f|1|2";
        let profile = CustomerProfile {
            columns: [("quantity".to_owned(), vec!["Your order".to_owned()])].into(),
            ..CustomerProfile::default()
        };
        let (lines, skipped) = read(form, &profile).unwrap();
        assert_eq!((lines.as_str(), skipped.len()), ("ART-002*5 ART-006*2", 4));
        let forgotten = "Article|Qty\nART-001|2\nART-002|\nART-003|3";
        assert_eq!(
            read(forgotten, &CustomerProfile::default()).unwrap().0,
            "ART-001*2 ART-002* ART-003*3"
        );
    }

    #[test]
    fn headings_may_stand_in_two_rows_and_be_placed_by_the_profile() {
        let (lines, _) = read(
            "Article|Order|\nnumber|quantity|Unit\nART-001|2|kg",
            &CustomerProfile::default(),
        )
        .unwrap();
        assert_eq!(lines, "ART-001*2kg");
        let profile = CustomerProfile {
            positions: [("article", "B"), ("quantity", "1")]
                .map(|(field, place)| (field.to_owned(), place.to_owned()))
                .into(),
            ..CustomerProfile::default()
        };
        let (lines, skipped) = read("Wieviel?|Was?\n2|ART-001\n3|4711", &profile).unwrap();
        assert_eq!((lines.as_str(), skipped.len()), ("ART-001*2 4711*3", 1));
        assert!(read("a|b\nc|d", &CustomerProfile::default()).is_none());
    }

    #[test]
    fn a_product_whose_name_begins_like_a_total_is_a_product() {
        assert!(is_total("Total:") && is_total("Total TTC (EUR)") && is_total("Suma") && is_total("Frais de port"));
        assert!(!is_total("Total care shampoo for long hair") && !is_total("Taxi") && !is_total(""));
    }
}
