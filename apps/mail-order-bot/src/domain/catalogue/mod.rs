//! The catalogue: which articles there are, at which price, in which quantities. It is loaded whole at start, from a
//! CSV file or a table in SQLite, and then only read.
//!
//! Both have the same columns, found by name, in any order:
//!
//! | column | meaning | if left out or empty |
//! |---|---|---|
//! | `article` | the article's number, at most 60 characters, unique ignoring case | an error |
//! | `name` | what it is called | an error |
//! | `price` | per unit, at most two decimals | an error |
//! | `currency` | three letters | `EUR` |
//! | `unit` | what is counted | `pcs` |
//! | `min_quantity`, `max_quantity` | bounds of one line | no bound |
//! | `multiple` | lines are multiples of this quantity | no such rule |
//! | `packages` | what packages hold, in `unit`: `box=12 pallet=480` | no packages |
//! | `available` | `yes` or `no` | `yes` |
//!
//! All articles have one currency, since an order has one total. Units that can be divided (`kg`, `g`, `l`, `ml`, `m`,
//! `m2`, `m3`, `t`, `h`) may be ordered in fractions, all others only whole.

mod file;
mod row;
mod suggest;
mod table;

use std::collections::HashMap;

use super::money::Money;
use super::quantity::Quantity;
use super::unit;
use row::CatalogueBuilder;
use suggest::Suggestions;

/// Most articles in a catalogue.
pub const MAX_ARTICLES: usize = 200_000;

/// One thing that is sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Article {
    /// Its number as the catalogue writes it.
    pub number: String,
    /// What it is called.
    pub name: String,
    /// The price per unit.
    pub price: Money,
    /// What is counted: `pcs`, `kg`.
    pub unit: String,
    /// Whether it is sold at the moment.
    pub available: bool,
    /// The smallest quantity of one line.
    pub minimum: Option<Quantity>,
    /// The largest quantity of one line.
    pub maximum: Option<Quantity>,
    /// What the quantity of a line must be a multiple of.
    pub multiple: Option<Quantity>,
    /// What packages of it hold, in `unit`; each by its name in the catalogue.
    pub packages: Vec<(String, Quantity)>,
}

impl Article {
    /// Whether fractions of the unit are sold.
    #[must_use]
    pub fn divisible(&self) -> bool {
        const DIVISIBLE: [&str; 9] = ["kg", "g", "l", "ml", "m", "m2", "m3", "t", "h"];
        DIVISIBLE.iter().any(|unit| self.unit.eq_ignore_ascii_case(unit))
    }

    /// What a package of this name holds: a `Karton` is a `box`, whatever the catalogue calls it.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<Quantity> {
        let wanted = unit::unit(name);
        let same = |known: &str| {
            known.eq_ignore_ascii_case(name) || wanted.is_some_and(|wanted| unit::unit(known) == Some(wanted))
        };
        self.packages
            .iter()
            .find(|(known, _)| same(known))
            .map(|(_, holds)| *holds)
    }
}

/// All articles, found by number or name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    articles: Vec<Article>,
    currency: String,
    by_number: HashMap<String, usize>,
    /// Numbers without leading zeros, which spreadsheets eat (`00123` becomes `123`); only where that is unambiguous.
    by_stripped_number: HashMap<String, Option<usize>>,
    by_name: HashMap<String, Option<usize>>,
    suggestions: Suggestions,
}

/// A catalogue that can't be used. Each variant names the place.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The location has a form that is not known.
    #[error(
        "catalogue {location:?} is not a location: use a path to a CSV file, `sqlite:PATH?table=NAME`, or `embedded:`"
    )]
    Location {
        /// What was given.
        location: String,
    },
    /// The file can't be read.
    #[error("catalogue {path}: cannot be read: {source}")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// One row, or the heading, is wrong.
    #[error("catalogue {place}: {problem}")]
    Row {
        /// File and line, or table and row.
        place: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The table can't be read.
    #[error("catalogue {place}: {source}")]
    Table {
        /// File and table.
        place: String,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// It has no article.
    #[error("catalogue {place}: there is no article in it")]
    Empty {
        /// Where.
        place: String,
    },
}

impl Catalogue {
    /// Opens the catalogue at `location`: a path or `csv:PATH`, `sqlite:PATH?table=NAME` (default table `articles`), or
    /// `embedded:` for the sample catalogue inside the program. Blocking.
    ///
    /// # Errors
    /// [`CatalogueError`] with the place of the first fault.
    pub fn open(location: &str) -> Result<Self, CatalogueError> {
        if location == "embedded:" {
            return Self::from_csv(crate::samples::CATALOGUE_CSV.as_bytes(), "embedded catalogue");
        }
        if let Some(rest) = location.strip_prefix("sqlite:") {
            let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
            let name = match query.split_once('=') {
                None if query.is_empty() => "articles",
                Some(("table", name)) => name,
                _ => {
                    return Err(CatalogueError::Location {
                        location: location.to_owned(),
                    });
                }
            };
            return table::load(path, name);
        }
        let path = location.strip_prefix("csv:").unwrap_or(location);
        let windows_drive = path.as_bytes().get(1) == Some(&b':') && path.as_bytes()[0].is_ascii_alphabetic();
        if path.is_empty() || path.contains(':') && !windows_drive && !std::path::Path::new(path).exists() {
            return Err(CatalogueError::Location {
                location: location.to_owned(),
            });
        }
        let bytes = std::fs::read(path).map_err(|source| CatalogueError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::from_csv(&bytes, path)
    }

    /// Reads a catalogue from the bytes of a CSV file; `origin` names it in errors.
    ///
    /// # Errors
    /// [`CatalogueError`] with `origin:line` of the first fault.
    pub fn from_csv(bytes: &[u8], origin: &str) -> Result<Self, CatalogueError> {
        file::load(bytes, origin)
    }

    /// The article that `reference` means: its number ignoring case, its number without leading zeros where only one
    /// article fits, or its exact name ignoring case where only one article fits.
    #[must_use]
    pub fn find(&self, reference: &str) -> Option<&Article> {
        let key = key_of(reference);
        let at = self
            .by_number
            .get(&key)
            .copied()
            .or_else(|| {
                self.by_stripped_number
                    .get(key.trim_start_matches('0'))
                    .copied()
                    .flatten()
            })
            .or_else(|| self.by_name.get(&key).copied().flatten())?;
        self.articles.get(at)
    }

    /// The article that may be meant by a `reference` that [`find`](Self::find) doesn't know: one that differs by a
    /// letter or by what looks alike, or the only one whose name has all these words. `name` is what the customer wrote
    /// beside it. Takes about as long for any size of the catalogue.
    #[must_use]
    pub fn suggest(&self, reference: &str, name: Option<&str>) -> Option<&Article> {
        let named = name.and_then(|name| self.by_name.get(&key_of(name)).copied().flatten());
        let at = named
            .or_else(|| self.suggestions.near(reference))
            .or_else(|| name.and_then(|name| self.suggestions.near(name)))?;
        self.articles.get(at)
    }

    /// The article whose exact name, ignoring case, is `name`, where only one is called so.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Article> {
        self.articles.get(self.by_name.get(&key_of(name)).copied().flatten()?)
    }

    /// The currency of all prices.
    #[must_use]
    pub fn currency(&self) -> &str {
        &self.currency
    }

    /// All articles, in the catalogue's order.
    #[must_use]
    pub fn articles(&self) -> &[Article] {
        &self.articles
    }

    fn from_articles(articles: Vec<Article>, currency: String) -> Self {
        let mut by_number = HashMap::with_capacity(articles.len());
        let mut by_stripped_number = HashMap::new();
        let mut by_name = HashMap::with_capacity(articles.len());
        let only = |map: &mut HashMap<String, Option<usize>>, key: String, at: usize| {
            map.entry(key).and_modify(|known| *known = None).or_insert(Some(at));
        };
        for (at, article) in articles.iter().enumerate() {
            let key = key_of(&article.number);
            if key.bytes().all(|byte| byte.is_ascii_digit()) {
                only(&mut by_stripped_number, key.trim_start_matches('0').to_owned(), at);
            }
            by_number.insert(key, at);
            only(&mut by_name, key_of(&article.name), at);
        }
        let suggestions = Suggestions::new(&articles);
        Self {
            articles,
            currency,
            suggestions,
            by_number,
            by_stripped_number,
            by_name,
        }
    }
}

/// References are compared without case and with single spaces.
fn key_of(reference: &str) -> String {
    reference
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(csv: &str) -> Result<Catalogue, CatalogueError> {
        Catalogue::from_csv(csv.as_bytes(), "c.csv")
    }

    #[test]
    fn articles_are_found_by_number_stripped_number_and_name() {
        let catalogue =
            load("article,name,price\nART-001,Green tea,4.50\n00123,Cup,3\n7,Lid,1\n07,Other lid,1\n").unwrap();
        let number = |reference: &str| catalogue.find(reference).map(|article| article.number.as_str());
        assert_eq!(number("art-001"), Some("ART-001"));
        assert_eq!(number("  green   TEA"), Some("ART-001"));
        assert_eq!(number("123"), Some("00123"));
        assert_eq!(number("007"), None, "two articles fit");
        assert_eq!(number("7"), Some("7"));
        assert_eq!(number("nothing"), None);
        assert_eq!(catalogue.currency(), "EUR");
    }

    #[test]
    fn a_fault_is_named_with_its_line() {
        let table = [
            ("article,price\nA,1\n", "c.csv:1", "no column `name`"),
            ("article,name,price\nA,Tea,1.00\nB,Cup,x\n", "c.csv:3", "`price` \"x\""),
            (
                "article,name,price\nA,Tea,1.005\n",
                "c.csv:2",
                "too many decimal places",
            ),
            (
                "article,name,price\nA,Tea,1\na,Tea two,1\n",
                "c.csv:3",
                "already on c.csv:2",
            ),
            ("article,name,price\n,Tea,1\n", "c.csv:2", "`article` is empty"),
            (
                "article,name,price,currency\nA,Tea,1,EUR\nB,Cup,1,USD\n",
                "c.csv:3",
                "one currency",
            ),
            (
                "article,name,price,available\nA,Tea,1,perhaps\n",
                "c.csv:2",
                "`available`",
            ),
            (
                "article,name,price,min_quantity,max_quantity\nA,Tea,1,5,2\n",
                "c.csv:2",
                "greater than",
            ),
            ("article,name,price,colour\nA,Tea,1,red\n", "c.csv:1", "column `colour`"),
            ("article,name,price,packages\nA,Tea,1,box\n", "c.csv:2", "box=12"),
            ("article,name,price,packages\nA,Tea,1,box=0\n", "c.csv:2", "box=12"),
            ("article,name,price,multiple\nA,Tea,1,0\n", "c.csv:2", "more than 0"),
            ("article,name,price\nA,Tea\n", "c.csv:2", "`price` is empty"),
            ("article,name,price\n", "c.csv", "no article"),
            ("", "c.csv", "no column"),
        ];
        for (csv, place, problem) in table {
            let message = load(csv).unwrap_err().to_string();
            assert!(
                message.contains(place) && message.contains(problem),
                "{csv:?} gave {message:?}"
            );
        }
    }

    #[test]
    fn a_location_that_is_none_is_refused() {
        for location in ["", "postgres://host/db", "sqlite:x.db?tabel=a"] {
            assert!(
                matches!(Catalogue::open(location), Err(CatalogueError::Location { .. })),
                "{location:?}"
            );
        }
        assert!(matches!(
            Catalogue::open("/no/such/file.csv"),
            Err(CatalogueError::Unreadable { .. })
        ));
        assert!(!Catalogue::open("embedded:").unwrap().articles().is_empty());
    }

    #[test]
    fn a_table_is_a_catalogue_too() {
        let directory = crate::scratch::Scratch::new("catalogue-table");
        let path = directory.path().join("shop.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE goods (article TEXT, name TEXT, price NUMERIC, unit TEXT, available INTEGER);
                 INSERT INTO goods VALUES ('A-1', 'Tea', 12.5, 'kg', 1), ('A-2', 'Cup', '3.00', NULL, 0);",
            )
            .unwrap();
        drop(connection);
        let catalogue = Catalogue::open(&format!("sqlite:{}?table=goods", path.display())).unwrap();
        assert_eq!(catalogue.find("a-1").unwrap().price, Money::from_minor(1250));
        assert!(catalogue.find("a-1").unwrap().divisible());
        assert!(!catalogue.find("a-2").unwrap().available);
        for table in ["nothing", "goods; DROP TABLE goods"] {
            assert!(Catalogue::open(&format!("sqlite:{}?table={table}", path.display())).is_err());
        }
        let absent = format!("sqlite:{}", directory.path().join("absent.db").display());
        assert!(Catalogue::open(&absent).is_err());
        assert!(
            !directory.path().join("absent.db").exists(),
            "opening must not create the file"
        );
    }
}
