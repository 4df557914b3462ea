//! Orders as forms write them, a label before each value: `Article: ART-001`, `Quantity: 5`, on lines of their own or
//! several on one.

use super::draft::{DraftLine, Value, is_article_like};
use super::headings::{Field, normal};
use super::text_table::TextLine;

/// Longest label, in bytes.
const MAX_LABEL: usize = 40;
/// Labels that are headings of articles in tables, and something else in letters: mostly the number of the order.
#[rustfmt::skip]
const NO_ARTICLE: [&str; 16] = [
    "bestellnummer", "bestellnr", "bestnr", "bestelnummer", "beställningsnummer", "orderno", "ordercode", "reference",
    "ref", "référence", "réf", "referenz", "referencia", "referência", "riferimento", "rif",
];

/// The lines; empty when no form names an article that looks like one.
pub(super) fn lines(text: &[TextLine<'_>], known: &dyn Fn(&str) -> bool) -> Vec<DraftLine> {
    let mut found = Vec::new();
    let mut open = DraftLine::default();
    for line in text {
        for (label, value) in labels(line.text) {
            let Some(field) = field(&label, &value, &open, known) else {
                continue;
            };
            if has(&open, field) {
                close(&mut open, &mut found);
            }
            fill(&mut open, field, &value, line.number, known);
        }
    }
    close(&mut open, &mut found);
    let certain = |line: &DraftLine| is_article_like(&line.article) || known(&line.article);
    if found.iter().any(certain) { found } else { Vec::new() }
}

/// The labels of a line with their values.
fn labels(line: &str) -> Vec<(String, String)> {
    let mut labels: Vec<(String, String)> = Vec::new();
    // A comma also stands inside numbers: what has no label belongs to the value before it.
    for piece in line.split_inclusive([',', ';', '|', '\t']) {
        let text = piece.trim_end_matches([',', ';', '|', '\t']);
        match text
            .split_once(':')
            .filter(|(label, _)| label.len() <= MAX_LABEL && label.contains(char::is_alphabetic))
        {
            Some((label, value)) => labels.push((
                normal(label.trim_matches(|c: char| "-*•· ".contains(c))),
                value.trim().to_owned(),
            )),
            None => {
                if let Some((_, value)) = labels
                    .last_mut()
                    .filter(|_| text.starts_with(|c: char| c.is_ascii_digit()))
                {
                    value.push(',');
                    value.push_str(text);
                }
            }
        }
    }
    labels
}

fn field(label: &str, value: &str, open: &DraftLine, known: &dyn Fn(&str) -> bool) -> Option<Field> {
    if value.is_empty() {
        return None;
    }
    let article = Field::Article.rank(label).is_some() && !NO_ARTICLE.contains(&label);
    let named = Field::Name.rank(label).is_some();
    let number = value.split_whitespace().next().unwrap_or_default();
    let looks_so = is_article_like(number) || known(number) || known(value);
    let name_of_open = named && !open.article.is_empty() && open.quantity.is_empty();
    // Even an article that nobody knows begins a line of its own: the quantity behind it is not that of another one.
    let short = value.split_whitespace().count() <= 8;
    if article && (looks_so || short && !name_of_open) {
        return Some(Field::Article);
    }
    let others = [Field::Quantity, Field::Price, Field::Unit, Field::Currency, Field::Name];
    others.into_iter().find(|field| field.rank(label).is_some())
}

fn has(line: &DraftLine, field: Field) -> bool {
    match field {
        Field::Article => !line.article.is_empty(),
        Field::Quantity => !line.quantity.is_empty(),
        Field::Unit => line.unit.is_some(),
        Field::Price => line.price.is_some(),
        Field::Name => line.name.is_some(),
        Field::Currency => line.currency.is_some(),
    }
}

fn fill(line: &mut DraftLine, field: Field, value: &str, number: usize, known: &dyn Fn(&str) -> bool) {
    if line.place.is_empty() {
        line.place = format!("text line {number}");
    }
    let text = Value::text(value);
    match field {
        Field::Article => {
            let first = value
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .trim_end_matches([',', ';']);
            let (article, name) = if is_article_like(first) || known(first) && !known(value) {
                value.split_at(first.len())
            } else {
                (value, "")
            };
            line.article = Value::text(article).text;
            let name = name.trim_matches(|c: char| " -–,()".contains(c));
            if !name.is_empty() {
                line.name = Some(Value::text(name).text);
            }
        }
        Field::Quantity => line.quantity = text,
        Field::Unit => line.unit = Some(text.text),
        Field::Price => line.price = Some(text),
        Field::Name => line.name = Some(text.text),
        Field::Currency => line.currency = Some(text.text),
    }
}

/// A form without an article or a quantity is about something else.
fn close(open: &mut DraftLine, found: &mut Vec<DraftLine>) {
    let line = std::mem::take(open);
    if !line.article.is_empty() && !line.quantity.is_empty() {
        found.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let lines: Vec<TextLine<'_>> = (1..)
            .zip(text.lines())
            .map(|(number, text)| TextLine { number, text })
            .collect();
        let known = |reference: &str| ["Green tea", "BOX-L"].contains(&reference);
        let told = |line: &DraftLine| {
            let price = line.price.as_ref().map_or("-", |price| &price.text);
            format!(
                "{}*{}@{price} {}",
                line.article,
                line.quantity.text,
                line.name.as_deref().unwrap_or_default()
            )
            .trim()
            .to_owned()
        };
        super::lines(&lines, &known).iter().map(told).collect()
    }

    #[test]
    fn forms_are_read_line_by_line_and_several_labels_on_one() {
        let form = "Name: Jane Miller\nBestellnummer: 4711-A\nArtikel: ART-001 Grüner Tee\nMenge: 5 Stk\nPreis: 4,50 EUR\n\nArtikel: ART-002\nMenge: 3";
        assert_eq!(read(form), ["ART-001*5 Stk@4,50 EUR Grüner Tee", "ART-002*3@-"]);
        assert_eq!(
            read("SKU: ART-001, Qty: 2, Price: 4,50\nSKU: ART-002, Qty: 1"),
            ["ART-001*2@4,50", "ART-002*1@-"]
        );
        assert_eq!(read("- Product: Green tea\n- Quantity: 2\n"), ["Green tea*2@-"]);
        assert_eq!(
            read("Quantity: 2\nArticle no.: ART-001\nQuantity: 3\nArticle no.: ART-002"),
            ["ART-001*2@-", "ART-002*3@-"]
        );
        assert_eq!(
            read("Number: 17\nCode: please see below\nQuantity: 2"),
            Vec::<String>::new()
        );
        assert_eq!(
            read(
                "Article: ART-001\nQuantity: 2\nArticle: BOX-L Gift box\nQuantity: 4\nArticle: something else\nQuantity: 5"
            ),
            ["ART-001*2@-", "BOX-L*4@- Gift box", "something else*5@-"]
        );
    }
}
