//! Which column of a table holds which field: by its heading, by the customer's profile, or by what stands in it.

use super::draft::{Value, is_article_like};
use super::explanation::FoundColumn;
pub(crate) use super::headings::ANSWER_HEADING;
use super::headings::{Field, normal};
use super::table::{MAX_COLUMNS, Row};
use crate::domain::customer::column_at;
use crate::domain::number::is_date;
use crate::domain::unit::unit;
use crate::domain::{CustomerProfile, DecimalStyle, Measure};

/// Rows below the headings that are looked at to decide between columns.
const SAMPLE_ROWS: usize = 50;
/// Added to the rank of a built-in heading, so that the profile's own come first.
const BUILT_IN: usize = 1_000;
/// Added where a name stands in for the article's number.
const STAND_IN: usize = 10_000;

/// Where the fields are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Columns {
    pub(super) article: usize,
    pub(super) quantity: usize,
    pub(super) unit: Option<usize>,
    pub(super) price: Option<usize>,
    pub(super) name: Option<usize>,
    pub(super) currency: Option<usize>,
    /// The unit of quantities without one, from a heading such as `Qty (boxes)`.
    pub(super) default_unit: Option<String>,
    /// Whether the profile placed them.
    pub(super) placed: bool,
    /// Each field and why it is there.
    pub(super) found: Vec<FoundColumn>,
}

/// What the columns of a table are judged by.
#[derive(Clone, Copy)]
pub(super) struct ColumnFinder<'a> {
    pub(super) profile: &'a CustomerProfile,
    pub(super) known: &'a dyn Fn(&str) -> bool,
}

/// A column that could hold a field.
#[derive(Clone, Copy)]
struct Candidate {
    column: usize,
    rank: usize,
}

impl ColumnFinder<'_> {
    /// The columns that the profile places, whatever stands above them.
    pub(super) fn by_profile(self) -> Option<Columns> {
        let place = |field: Field| {
            let place = self.profile.positions.get(field.as_str())?;
            column_at(place).filter(|column| *column < MAX_COLUMNS)
        };
        let mut columns = Columns {
            article: place(Field::Article)?,
            quantity: place(Field::Quantity)?,
            unit: place(Field::Unit),
            price: place(Field::Price),
            name: place(Field::Name),
            currency: place(Field::Currency),
            placed: true,
            ..Columns::default()
        };
        columns.tell(|_, _| "placed by the profile".to_owned());
        Some(columns)
    }

    /// The columns that `headings` name; `None` unless article and quantity are among them. `below` are the rows under
    /// them, which decide where several columns could hold the article.
    pub(super) fn by_headings(self, headings: &[&str], below: &[Row]) -> Option<Columns> {
        let normal: Vec<String> = headings.iter().map(|heading| normal(heading)).collect();
        let answer = ANSWER_HEADING.to_lowercase();
        if normal.iter().filter(|heading| !heading.is_empty()).count() < 2 || normal.contains(&answer) {
            return None;
        }
        let best = |field: Field, taken: &[usize]| {
            let candidates = self.candidates(field, &normal).into_iter();
            let free = candidates.filter(|candidate| !taken.contains(&candidate.column));
            free.min_by_key(|candidate| candidate.rank)
                .map(|candidate| candidate.column)
        };
        let quantity = best(Field::Quantity, &[])?;
        let article = self.article(&normal, quantity, below)?;
        let mut taken = vec![article, quantity];
        let mut next = |field: Field| {
            let column = best(field, &taken);
            taken.extend(column);
            column
        };
        let mut columns = Columns {
            article,
            quantity,
            price: next(Field::Price),
            unit: next(Field::Unit),
            currency: next(Field::Currency),
            name: next(Field::Name),
            ..Columns::default()
        };
        // A heading over two merged cells: the unit stands under its empty half.
        if columns.unit.is_none() && normal.get(quantity + 1).is_some_and(String::is_empty) {
            columns.unit = Some(quantity + 1).filter(|column| mostly_units(below, *column));
        }
        columns.default_unit = bracketed_unit(headings[quantity]);
        columns.tell(
            |field, column| match headings.get(column).filter(|heading| !heading.is_empty()) {
                Some(heading) if self.own(field).any(|own| own == normal[column]) => {
                    format!("{:?}, a heading of the profile", super::explanation::shortened(heading))
                }
                Some(heading) => format!("{:?}", super::explanation::shortened(heading)),
                None => "its content".to_owned(),
            },
        );
        Some(columns)
    }

    /// The columns of a table without headings: the one whose cells are articles, the number right of it, and the price
    /// after that. With `certain` only articles that are known count.
    pub(super) fn by_content(self, rows: &[Row], certain: bool) -> Option<Columns> {
        let sample = &rows[..rows.len().min(SAMPLE_ROWS)];
        let width = sample.iter().map(|row| row.cells.len()).max()?;
        let share = |fits: &dyn Fn(&Value) -> bool, column: usize| {
            sample
                .iter()
                .filter(|row| row.cells.get(column).is_some_and(fits))
                .count()
        };
        let most = sample.len().div_ceil(2);
        let is_article = |cell: &Value| (self.known)(&cell.text) || !certain && is_article_like(&cell.text);
        let (article, articles) = (0..width)
            .map(|column| (column, share(&is_article, column)))
            .max_by_key(|(column, articles)| (*articles, usize::MAX - column))?;
        if articles < most.max(1) {
            return None;
        }
        let style = self.profile.decimal;
        let amount = |cell: &Value| is_amount(cell, style);
        let numbers: Vec<usize> = (article + 1..width)
            .filter(|column| share(&amount, *column) >= most)
            .collect();
        let quantity = numbers.first().copied().or_else(|| {
            // `5 | ART-001`: one number before it, which doesn't just count the rows.
            let counts = |column: usize| {
                sample.len() > 1
                    && sample
                        .iter()
                        .zip(1_usize..)
                        .all(|(row, at)| row.cells.get(column).is_some_and(|cell| cell.text == at.to_string()))
            };
            (0..article)
                .rev()
                .find(|column| share(&amount, *column) >= most && !counts(*column))
        })?;
        let mut columns = Columns {
            article,
            quantity,
            price: numbers.get(1).copied(),
            unit: Some(quantity + 1).filter(|column| mostly_units(sample, *column)),
            ..Columns::default()
        };
        columns.tell(|_, _| "its content; there are no headings".to_owned());
        Some(columns)
    }

    /// The profile's own headings for a field.
    fn own(self, field: Field) -> impl Iterator<Item = String> {
        let own = self.profile.columns.get(field.as_str());
        own.into_iter()
            .flatten()
            .map(|heading| normal(heading))
            .filter(|heading| !heading.is_empty())
    }

    fn candidates(self, field: Field, normal: &[String]) -> Vec<Candidate> {
        let own: Vec<String> = self.own(field).collect();
        let rank = |heading: &String| {
            let by_profile = own.iter().position(|own| own == heading);
            by_profile.or_else(|| field.rank(heading).map(|rank| BUILT_IN + rank))
        };
        let headings = normal.iter().enumerate().filter(|(_, heading)| !heading.is_empty());
        headings
            .filter_map(|(column, heading)| {
                Some(Candidate {
                    column,
                    rank: rank(heading)?,
                })
            })
            .collect()
    }

    /// The article's column: the profile's heading, else the one with most cells that are known, else the most certain
    /// heading. A name stands in for a number where nothing else is known.
    fn article(self, normal: &[String], quantity: usize, below: &[Row]) -> Option<usize> {
        let mut candidates = self.candidates(Field::Article, normal);
        let names = self.candidates(Field::Name, normal).into_iter().map(|name| Candidate {
            rank: name.rank + STAND_IN,
            ..name
        });
        candidates.extend(names);
        candidates.retain(|candidate| candidate.column != quantity);
        candidates.sort_by_key(|candidate| candidate.rank);
        candidates.dedup_by_key(|candidate| candidate.column);
        if let Some(first) = candidates.first().filter(|first| first.rank < BUILT_IN) {
            return Some(first.column);
        }
        let sample = &below[..below.len().min(SAMPLE_ROWS)];
        let known = |column: usize| {
            let cells = sample.iter().filter_map(|row| row.cells.get(column));
            cells
                .filter(|cell| !cell.is_empty() && (self.known)(&cell.text))
                .count()
        };
        let counted = candidates.iter().map(|candidate| (known(candidate.column), candidate));
        let (known, best) = counted.max_by_key(|(known, candidate)| (*known, usize::MAX - candidate.rank))?;
        // A list of names and numbers is no order unless it names something that is sold.
        (known > 0 || best.rank < STAND_IN).then_some(best.column)
    }
}

impl Columns {
    fn tell(&mut self, by: impl Fn(Field, usize) -> String) {
        let fields = [
            (Field::Article, Some(self.article)),
            (Field::Quantity, Some(self.quantity)),
            (Field::Unit, self.unit),
            (Field::Price, self.price),
            (Field::Name, self.name),
            (Field::Currency, self.currency),
        ];
        let placed = fields.into_iter().filter_map(|(field, column)| Some((field, column?)));
        self.found = placed
            .map(|(field, column)| FoundColumn {
                field: field.as_str().to_owned(),
                column: letters(column),
                by: by(field, column),
            })
            .collect();
    }
}

/// A number, perhaps with a unit, that isn't a date.
pub(super) fn is_amount(cell: &Value, style: DecimalStyle) -> bool {
    let style = if cell.machine { DecimalStyle::Point } else { style };
    let ambiguous = Err(crate::domain::NumberError::Ambiguous);
    let read = Measure::parse(&cell.text, style).map(|_| ());
    !is_date(&cell.text) && (read.is_ok() || read == ambiguous)
}

fn mostly_units(rows: &[Row], column: usize) -> bool {
    let cells = rows
        .iter()
        .take(SAMPLE_ROWS)
        .filter_map(|row| row.cells.get(column))
        .filter(|cell| !cell.is_empty());
    let (units, all) = cells.fold((0, 0), |(units, all), cell| {
        (units + usize::from(unit(&cell.text).is_some()), all + 1)
    });
    units * 2 > all
}

/// `Qty (boxes)` → `boxes`.
fn bracketed_unit(heading: &str) -> Option<String> {
    let (_, rest) = heading.split_once(['(', '['])?;
    let word = rest.split([')', ']']).next()?.trim();
    unit(word).map(|_| word.to_owned())
}

/// `A` for 0, as spreadsheets count.
fn letters(column: usize) -> String {
    let letter = |at: usize| char::from(b'A' + u8::try_from(at % 26).unwrap_or_default());
    match column / 26 {
        0 => letter(column).to_string(),
        tens => [letter(tens - 1), letter(column)].iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder<'a>(profile: &'a CustomerProfile, known: &'a dyn Fn(&str) -> bool) -> ColumnFinder<'a> {
        ColumnFinder { profile, known }
    }

    fn row(text: &str) -> Row {
        Row {
            number: 1,
            cells: text.split('|').map(Value::text).collect(),
        }
    }

    fn known(reference: &str) -> bool {
        reference.starts_with("ART") || reference == "Green tea"
    }

    #[test]
    fn headings_are_mapped_in_many_languages() {
        let profile = CustomerProfile {
            columns: [("article".to_owned(), vec!["Hausnummer".to_owned()])].into(),
            ..CustomerProfile::default()
        };
        let map = |headings: &str| {
            let headings: Vec<&str> = headings.split('|').collect();
            let found = finder(&profile, &known).by_headings(&headings, &[]);
            found.map(|c| (c.article, c.quantity, c.price, c.name, c.unit))
        };
        for (headings, expected) in [
            ("Article|Quantity|Unit price (EUR)", Some((0, 1, Some(2), None, None))),
            (
                "Pos.|Artikel-Nr.|Bezeichnung|Menge|Preis in €",
                Some((1, 3, Some(4), Some(2), None)),
            ),
            ("Item|SKU|Qty.", Some((1, 2, None, Some(0), None))),
            ("Artikel|Hausnummer|Stück", Some((1, 2, None, Some(0), None))),
            ("Réf.|Désignation|Qté|PU HT", Some((0, 2, Some(3), Some(1), None))),
            (
                "Código|Descripción|Cantidad|Precio unitario",
                Some((0, 2, Some(3), Some(1), None)),
            ),
            (
                "Codice articolo|Descrizione|Q.tà|UM|Prezzo",
                Some((0, 2, Some(4), Some(1), Some(3))),
            ),
            (
                "Artikelnummer|Omschrijving|Aantal|Eenheid|Prijs",
                Some((0, 2, Some(4), Some(1), Some(3))),
            ),
            (
                "Indeks|Nazwa towaru|Ilość|J.m.|Cena netto",
                Some((0, 2, Some(4), Some(1), Some(3))),
            ),
            (
                "Ref.ª|Descrição|Qtd.|Un.|Preço",
                Some((0, 2, Some(4), Some(1), Some(3))),
            ),
            ("Kód|Název|Množství|MJ|Cena", Some((0, 2, Some(4), Some(1), Some(3)))),
            (
                "Art.nr|Benämning|Antal|Enhet|À-pris",
                Some((0, 2, Some(4), Some(1), Some(3))),
            ),
            ("Unsere Nr.|Ihre Art.-Nr.|Menge", Some((1, 2, None, None, None))),
            ("Article|Price", None),
            ("Article|Quantity|Price|Result", None),
            ("Name|Anzahl", None),
        ] {
            assert_eq!(map(headings), expected, "{headings}");
        }
    }

    #[test]
    fn what_stands_below_decides_between_headings() {
        let profile = CustomerProfile::default();
        let below = [row("1|4711|ART-001|3"), row("2|4712|ART-002|5")];
        let headings = ["No", "Article no.", "Product", "Qty (boxes)"];
        let columns = finder(&profile, &known).by_headings(&headings, &below).unwrap();
        assert_eq!((columns.article, columns.default_unit.as_deref()), (2, Some("boxes")));
        let below = [row("Green tea|3|kg")];
        let columns = finder(&profile, &known)
            .by_headings(&["Bezeichnung", "Menge", ""], &below)
            .unwrap();
        assert_eq!((columns.article, columns.unit), (0, Some(2)));
    }

    #[test]
    fn a_table_without_headings_is_read_by_its_content() {
        let profile = CustomerProfile::default();
        let by = |rows: &[&str], certain| {
            let rows: Vec<Row> = rows.iter().map(|text| row(text)).collect();
            let found = finder(&profile, &known).by_content(&rows, certain);
            found.map(|c| (c.article, c.quantity, c.price))
        };
        assert_eq!(by(&["ART-001|2|4,50"], true), Some((0, 1, Some(2))));
        assert_eq!(
            by(
                &[
                    "1|ART-001|Green|24.12.2026|2 Stk|4,50",
                    "2|ART-002|Black|24.12.2026|3|3,90"
                ],
                true
            ),
            Some((1, 4, Some(5)))
        );
        assert_eq!(by(&["5|ART-001|Green", "7|ART-002|Black"], true), Some((1, 0, None)));
        assert_eq!(
            by(&["1|ART-001|Green", "2|ART-002|Black"], true),
            None,
            "these count the rows"
        );
        assert_eq!(by(&["X-100|2"], true), None);
        assert_eq!(by(&["X-100|2"], false), Some((0, 1, None)));
    }

    #[test]
    fn columns_have_letters() {
        assert_eq!(
            [letters(0), letters(25), letters(26), letters(255)],
            ["A", "Z", "AA", "IV"]
        );
    }
}
