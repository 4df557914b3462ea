//! One row of a catalogue, whatever it was loaded from: checking its fields and collecting the articles.

use std::collections::HashMap;

use super::{Article, Catalogue, CatalogueError, MAX_ARTICLES, key_of};
use crate::domain::money::Money;
use crate::domain::number::DecimalStyle;
use crate::domain::quantity::Quantity;

/// The columns that a catalogue may have; the first three must be there.
const COLUMNS: [&str; 10] = [
    "article",
    "name",
    "price",
    "currency",
    "unit",
    "min_quantity",
    "max_quantity",
    "multiple",
    "packages",
    "available",
];
const REQUIRED: usize = 3;

/// Which column of the source holds which field.
pub(super) struct Heading {
    at: [Option<usize>; COLUMNS.len()],
}

impl Heading {
    /// Maps the names of the source's columns; says what is missing, unknown or doubled.
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut at = [None; COLUMNS.len()];
        for (position, name) in names.into_iter().enumerate() {
            let name = name.trim().to_ascii_lowercase();
            let Some(column) = COLUMNS.iter().position(|column| *column == name) else {
                return Err(format!(
                    "column `{name}` is not known; there are {}",
                    COLUMNS.join(", ")
                ));
            };
            if at[column].replace(position).is_some() {
                return Err(format!("column `{name}` is there twice"));
            }
        }
        match COLUMNS.iter().zip(at).take(REQUIRED).find(|(_, at)| at.is_none()) {
            Some((column, _)) => Err(format!("there is no column `{column}`")),
            None => Ok(Self { at }),
        }
    }

    fn field<'a>(&self, column: &str, fields: &'a [String]) -> &'a str {
        let at = COLUMNS
            .iter()
            .position(|name| *name == column)
            .and_then(|column| self.at[column]);
        at.and_then(|at| fields.get(at)).map_or("", |text| text.trim())
    }
}

/// Collects rows into a catalogue.
pub(super) struct CatalogueBuilder {
    heading: Heading,
    articles: Vec<Article>,
    currency: Option<String>,
    places: HashMap<String, String>,
}

impl CatalogueBuilder {
    pub(super) fn new(heading: Heading) -> Self {
        Self {
            heading,
            articles: Vec::new(),
            currency: None,
            places: HashMap::new(),
        }
    }

    /// Adds the row that stands at `place`.
    pub(super) fn add(&mut self, fields: &[String], place: String) -> Result<(), CatalogueError> {
        self.try_add(fields, &place)
            .map_err(|problem| CatalogueError::Row { place, problem })
    }

    /// The catalogue of all rows added; `origin` names it if there was none.
    pub(super) fn finish(self, origin: &str) -> Result<Catalogue, CatalogueError> {
        if self.articles.is_empty() {
            return Err(CatalogueError::Empty {
                place: origin.to_owned(),
            });
        }
        Ok(Catalogue::from_articles(
            self.articles,
            self.currency.unwrap_or_else(|| "EUR".to_owned()),
        ))
    }

    fn try_add(&mut self, fields: &[String], place: &str) -> Result<(), String> {
        let field = |column: &str| self.heading.field(column, fields);
        for required in COLUMNS.iter().take(REQUIRED) {
            if field(required).is_empty() {
                return Err(format!("`{required}` is empty"));
            }
        }
        let number = field("article");
        if number.chars().count() > 60 || field("name").chars().count() > 200 {
            return Err("`article` may have 60 characters and `name` 200".to_owned());
        }
        let price = Money::parse(field("price"), DecimalStyle::Point)
            .map_err(|problem| format!("`price` {:?}: {problem}", field("price")))?;
        let (minimum, maximum) = (self.bound("min_quantity", fields)?, self.bound("max_quantity", fields)?);
        if let (Some(minimum), Some(maximum)) = (minimum, maximum)
            && minimum > maximum
        {
            return Err(format!(
                "`min_quantity` {minimum} is greater than `max_quantity` {maximum}"
            ));
        }
        let multiple = self.bound("multiple", fields)?;
        if multiple.is_some_and(|multiple| multiple.thousandths() == 0) {
            return Err("`multiple` must be more than 0".to_owned());
        }
        let available = match field("available").to_ascii_lowercase().as_str() {
            "" | "yes" | "true" | "1" => true,
            "no" | "false" | "0" => false,
            other => return Err(format!("`available` must be yes or no, not {other:?}")),
        };
        let article = Article {
            number: number.to_owned(),
            name: field("name").to_owned(),
            price,
            unit: Some(field("unit"))
                .filter(|unit| !unit.is_empty())
                .unwrap_or("pcs")
                .to_owned(),
            available,
            minimum,
            maximum,
            multiple,
            packages: packages(field("packages"))?,
        };
        let currency = match field("currency") {
            "" => "EUR".to_owned(),
            code if code.len() == 3 && code.bytes().all(|b| b.is_ascii_alphabetic()) => code.to_ascii_uppercase(),
            other => return Err(format!("`currency` must be three letters, not {other:?}")),
        };
        self.push(article, currency, place)
    }

    fn bound(&self, column: &str, fields: &[String]) -> Result<Option<Quantity>, String> {
        match self.heading.field(column, fields) {
            "" => Ok(None),
            text => Quantity::parse(text, DecimalStyle::Point)
                .map(Some)
                .map_err(|problem| format!("`{column}` {text:?}: {problem}")),
        }
    }

    fn push(&mut self, article: Article, currency: String, place: &str) -> Result<(), String> {
        if self.articles.len() == MAX_ARTICLES {
            return Err(format!("there are more than {MAX_ARTICLES} articles"));
        }
        let known = self.currency.get_or_insert_with(|| currency.clone());
        if *known != currency {
            return Err(format!(
                "a catalogue has one currency: this is {currency}, the articles above have {known}"
            ));
        }
        if let Some(earlier) = self.places.insert(key_of(&article.number), place.to_owned()) {
            return Err(format!("article {:?} is already on {earlier}", article.number));
        }
        self.articles.push(article);
        Ok(())
    }
}

/// `box=12 pallet=480`.
fn packages(text: &str) -> Result<Vec<(String, Quantity)>, String> {
    let package = |word: &str| {
        let (name, holds) = word.split_once('=')?;
        let holds = Quantity::parse(holds, DecimalStyle::Point).ok()?;
        (!name.is_empty() && holds.thousandths() > 0).then(|| (name.to_owned(), holds))
    };
    let words = text.split([' ', ',', ';']).filter(|word| !word.is_empty());
    let read: Option<Vec<_>> = words.map(package).collect();
    read.ok_or_else(|| format!("`packages` {text:?}: write names and numbers such as `box=12 pallet=480`"))
}
