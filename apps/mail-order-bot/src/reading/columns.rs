//! Which column of a table holds which field: the headings that are understood, and the customer's own.

use crate::domain::CustomerProfile;

/// The fields of an order line that a table can have a column for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Article,
    Quantity,
    Price,
    Name,
    Currency,
}

const FIELDS: [(Field, &str, &[&str]); 5] = [
    (
        Field::Article,
        "article",
        // Certain headings first: where a table has both "Article no." and "Item", the earlier entry wins.
        &[
            "articlenumber",
            "articleno",
            "articleid",
            "artno",
            "sku",
            "itemnumber",
            "itemno",
            "itemcode",
            "itemid",
            "productnumber",
            "productno",
            "productcode",
            "productid",
            "partnumber",
            "partno",
            "ordercode",
            "artikelnummer",
            "artikelnr",
            "artnr",
            "bestellnummer",
            "bestellnr",
            "produktnummer",
            "produktnr",
            "materialnummer",
            "materialnr",
            "teilenummer",
            "teilenr",
            "sachnummer",
            "ean",
            "gtin",
            "article",
            "artikel",
            "code",
            "art",
            "product",
            "produkt",
            "material",
            "item",
        ],
    ),
    (
        Field::Quantity,
        "quantity",
        &[
            "orderquantity",
            "quantityordered",
            "bestellmenge",
            "quantity",
            "qty",
            "menge",
            "anzahl",
            "stückzahl",
            "stueckzahl",
            "stück",
            "stueck",
            "stk",
            "pieces",
            "pcs",
            "units",
            "count",
        ],
    ),
    (
        Field::Price,
        "price",
        &[
            "unitprice",
            "priceperunit",
            "pricepereach",
            "priceeach",
            "netprice",
            "einzelpreis",
            "stückpreis",
            "stueckpreis",
            "preisprostück",
            "preisproeinheit",
            "epreis",
            "nettopreis",
            "price",
            "preis",
            "ep",
        ],
    ),
    (
        Field::Name,
        "name",
        &[
            "description",
            "articlename",
            "productname",
            "itemname",
            "bezeichnung",
            "artikelbezeichnung",
            "produktbezeichnung",
            "artikelname",
            "benennung",
            "beschreibung",
            "name",
            "text",
        ],
    ),
    (
        Field::Currency,
        "currency",
        &["currency", "währung", "waehrung", "curr"],
    ),
];

/// The heading that only our own answers have: such a table is an answer quoted back, not an order.
pub(crate) const ANSWER_HEADING: &str = "Result";

/// Where the fields are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// Column of the article.
    pub article: usize,
    /// Column of the quantity.
    pub quantity: usize,
    /// Column of the price per unit.
    pub price: Option<usize>,
    /// Column of the article's name.
    pub name: Option<usize>,
    /// Column of the currency.
    pub currency: Option<usize>,
}

impl Columns {
    /// The order of columns in a table without headings.
    pub const POSITIONAL: Self = Self {
        article: 0,
        quantity: 1,
        price: Some(2),
        name: None,
        currency: None,
    };

    /// The columns that `headings` name; `None` unless article and quantity are among them. The profile's headings win
    /// over the built-in ones.
    #[must_use]
    pub fn from_headings<'a>(headings: impl Iterator<Item = &'a str>, profile: &CustomerProfile) -> Option<Self> {
        let headings: Vec<String> = headings.map(normal).collect();
        if headings.iter().any(|heading| *heading == normal(ANSWER_HEADING)) {
            return None;
        }
        let own = |key: &str| {
            profile
                .columns
                .get(key)
                .into_iter()
                .flatten()
                .map(|alias| normal(alias))
        };
        let find = |field: Field| {
            let (_, key, aliases) = FIELDS.iter().find(|(known, ..)| *known == field)?;
            own(key)
                .chain(aliases.iter().map(ToString::to_string))
                .find_map(|alias| headings.iter().position(|heading| *heading == alias))
        };
        let (article, quantity) = (find(Field::Article)?, find(Field::Quantity)?);
        Some(Self {
            article,
            quantity,
            price: find(Field::Price),
            name: find(Field::Name).filter(|column| *column != article),
            currency: find(Field::Currency),
        })
    }
}

/// `Unit price (EUR)` → `unitprice`.
fn normal(heading: &str) -> String {
    let heading = heading.to_lowercase();
    let heading = heading.split(['(', '[', '€', '$']).next().unwrap_or_default();
    let words = heading
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let words: Vec<&str> = words
        .filter(|word| !["in", "eur", "usd", "chf", "gbp"].contains(word))
        .collect();
    words.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_mapped_by_alias() {
        let profile = CustomerProfile {
            columns: [("article".to_owned(), vec!["Hausnummer".to_owned()])].into(),
            ..CustomerProfile::default()
        };
        let map = |headings: &str| {
            Columns::from_headings(headings.split('|'), &profile).map(|c| (c.article, c.quantity, c.price, c.name))
        };
        assert_eq!(map("Article|Quantity|Unit price (EUR)"), Some((0, 1, Some(2), None)));
        assert_eq!(
            map("Pos.|Artikel-Nr.|Bezeichnung|Menge|Preis in €"),
            Some((1, 3, Some(4), Some(2)))
        );
        assert_eq!(map("Item|SKU|Qty."), Some((1, 2, None, None)));
        assert_eq!(map("Artikel|Hausnummer|Stück"), Some((1, 2, None, None)));
        assert_eq!(map("Article|Price"), None);
        assert_eq!(map("Article|Quantity|Price|Result"), None, "an answer of ours, quoted");
    }
}
