//! Order lines in plain text. The grammar, one order line per text line:
//!
//! ```text
//! line      = [bullet] ( counted | columns )
//! bullet    = ("-" | "*" | "•" | "–" | digits ("." | ")")) space
//! counted   = number [unit] times reference [price]          2 x ART-001 @ 12.50
//!           | reference space times space number [unit] [price]   ART-001 x 2
//! times     = "x" | "X" | "×" | "*"
//! columns   = article sep quantity [sep price [sep anything]]    ART-001;2;12,50
//!           | article sep name sep quantity sep price            ART-001;Green tea;2;12,50
//! sep       = ";" | "|" | tab | ", " | two or more spaces
//! unit      = "pcs" | "pc" | "pieces" | "stk" | "stück" | "st" | "kg" | "g" | "l" | "m"
//! price     = ("@" | "à" | "at" | "je" | "zu" | "zu je") amount [currency] ["each"]
//! reference = an article's number, or its name of up to eight words
//! ```
//!
//! A column line needs something in the first column that looks like an article's number or is known to the catalogue;
//! between spaces or commas its second column must begin with a digit (or a sign). With `;`, `|` and tabs a bad quantity is still an
//! order line, so that it is answered with a reason instead of dropped.
//!
//! Not read: quoted lines (`> …`), and everything from the first line on that introduces a quoted mail or a signature
//! (`-- `, `-----Original Message-----`, `On … wrote:`, `Am … schrieb …:`).
//!
//! A text is an order only if at least one line names an article by a number-like or known reference: `2 x coffee
//! yesterday` alone is small talk.

use super::draft::{DraftLine, Value, is_article_like};

/// Longest text line that is looked at, in characters. Longer ones are prose or hostile.
pub(crate) const MAX_LINE_CHARS: usize = 400;

const UNITS: [&str; 15] = [
    "pcs", "pc", "pcs.", "piece", "pieces", "stk", "stk.", "stück", "stueck", "st", "st.", "kg", "g", "l", "m",
];
/// Longer ones first.
const PRICE_WORDS: [&str; 7] = ["zu je", "@", "à", "á", "at", "je", "zu"];
const BULLETS: [char; 5] = ['-', '*', '•', '–', '·'];

/// Reads the order lines of `text`; empty when it is not an order.
#[must_use]
pub fn lines(text: &str, known: &dyn Fn(&str) -> bool, most: usize) -> Vec<DraftLine> {
    let mut found = Vec::new();
    let mut certain = false;
    for (number, line) in text.lines().enumerate() {
        if ends_the_message(line) {
            break;
        }
        if line.trim_start().starts_with('>') || line.chars().nth(MAX_LINE_CHARS).is_some() {
            continue;
        }
        if let Some(mut draft) = line_of(line, known) {
            certain |= is_article_like(&draft.article) || known(&draft.article);
            draft.place = format!("text line {}", number + 1);
            found.push(draft);
            if found.len() > most {
                break;
            }
        }
    }
    if certain { found } else { Vec::new() }
}

fn ends_the_message(line: &str) -> bool {
    let line = line.trim_end_matches('\r');
    if line == "-- " || line == "--" {
        return true;
    }
    let lower = line.trim().to_lowercase();
    let quoted_head = [
        "-----original",
        "-----ursprüngliche",
        "---- original",
        "________________________________",
    ];
    quoted_head.iter().any(|head| lower.starts_with(head))
        || lower.ends_with("wrote:") && lower.starts_with("on ")
        || lower.ends_with(':') && lower.starts_with("am ") && lower.contains(" schrieb")
}

fn line_of(line: &str, known: &dyn Fn(&str) -> bool) -> Option<DraftLine> {
    let raw = line.trim();
    let line = without_bullet(raw);
    // Columns before counts: `ART-001; 2 x 6er; 12,50` is a row, whatever its cells say.
    columns(line, known)
        .or_else(|| counted(line))
        .or_else(|| counted_after(line, known))
        .or_else(|| columns(raw, known))
}

fn without_bullet(line: &str) -> &str {
    let mut rest = line;
    if let Some(after) = line.strip_prefix(BULLETS) {
        rest = after;
    } else if let Some(digits) = line
        .find(|c: char| !c.is_ascii_digit())
        .filter(|end| (1..=3).contains(end))
    {
        rest = line[digits..].strip_prefix(['.', ')']).unwrap_or(line);
    }
    // A bullet is followed by a space: `-2 x ART-001` is a negative quantity.
    if rest.starts_with(char::is_whitespace) {
        rest.trim_start()
    } else {
        line
    }
}

/// `2 x ART-001 @ 12.50`, `3 pcs × green tea`.
fn counted(line: &str) -> Option<DraftLine> {
    let end = line.find(|c: char| !(c.is_ascii_digit() || ".,-+".contains(c)))?;
    let (number, rest) = line.split_at(end);
    if !number.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let rest = rest.trim_start();
    let (word, after_word) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let lower = word.to_lowercase();
    let (unit, rest) = if UNITS.contains(&lower.as_str()) {
        (word, after_word.trim_start())
    } else {
        ("", rest)
    };
    let rest = match rest.strip_prefix(['x', 'X', '×', '*']) {
        Some(rest) if rest.starts_with(char::is_whitespace) || word.starts_with(['×', '*']) => rest,
        // `3 pcs ART-001` has no sign of multiplication: the unit says as much.
        _ if !unit.is_empty() => rest,
        _ => return None,
    };
    let (reference, price) = split_price(rest.trim());
    let reference = reference.trim_end_matches(['.', ',', ';', ':']).trim();
    let (article, name) = split_name(reference);
    let words = article.split_whitespace().count();
    if article.is_empty() || words > 8 || !article.contains(char::is_alphanumeric) {
        return None;
    }
    Some(draft(article, name, Value::text(number), price))
}

/// `ART-001 x 2 @ 12.50`.
fn counted_after(line: &str, known: &dyn Fn(&str) -> bool) -> Option<DraftLine> {
    let (at, sign) = [" x ", " X ", " × ", " * "]
        .iter()
        .find_map(|sign| line.find(sign).map(|at| (at, *sign)))?;
    let (reference, rest) = (line[..at].trim(), line[at + sign.len()..].trim());
    let (article, name) = split_name(reference);
    if !is_article_like(article) && !known(article) {
        return None;
    }
    let (quantity, price) = split_price(rest);
    quantity
        .starts_with(|c: char| c.is_ascii_digit())
        .then(|| draft(article, name, Value::text(quantity), price))
}

/// `ART-001;2;12,50`, `ART-001  2`.
fn columns(line: &str, known: &dyn Fn(&str) -> bool) -> Option<DraftLine> {
    let firm = [';', '|', '\t'].into_iter().find(|separator| line.contains(*separator));
    let cells: Vec<&str> = match firm {
        Some(separator) => {
            let line = if separator == '|' { line.trim_matches('|') } else { line };
            line.split(separator).map(str::trim).collect()
        }
        None if line.contains("  ") => line
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect(),
        None => line.split(", ").map(str::trim).collect(),
    };
    let numeric = |cell: &str| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let (article, name, quantity, rest) = match cells.as_slice() {
        [article, name, quantity, price, rest @ ..] if !numeric(name) && numeric(quantity) && rest.len() < 6 => {
            (article, Some(*name), quantity, std::slice::from_ref(price))
        }
        [article, quantity, rest @ ..] if rest.len() < 8 => (article, None, quantity, rest),
        _ => return None,
    };
    if !is_article_like(article) && !known(article) || firm.is_none() && !numeric(quantity) {
        return None;
    }
    let price = rest.first().map(|price| {
        PRICE_WORDS
            .iter()
            .find_map(|word| price.strip_prefix(word))
            .unwrap_or(price)
    });
    // `ART-001, 2, thanks`: words where the price would be are no price.
    let price = price
        .filter(|price| price.contains(|c: char| c.is_ascii_digit()))
        .map(Value::text);
    Some(draft(
        article,
        name.filter(|name| !name.is_empty()),
        Value::text(quantity),
        price,
    ))
}

/// Splits `ART-001 @ 12.50 EUR` before its price word.
fn split_price(text: &str) -> (&str, Option<Value>) {
    for word in PRICE_WORDS {
        let spaced = format!(" {word} ");
        let at = text.find(&spaced).map(|at| (at, at + spaced.len())).or_else(|| {
            // `@12.50` needs no space after the sign.
            (word == "@").then(|| text.find('@').map(|at| (at, at + 1))).flatten()
        });
        if let Some((before, after)) = at
            && text[after..]
                .trim_start()
                .starts_with(|c: char| c.is_ascii_digit() || "€$£CEU".contains(c))
        {
            let price = text[after..]
                .trim()
                .trim_end_matches("each")
                .trim_end_matches("per piece")
                .trim();
            return (text[..before].trim(), Some(Value::text(price)));
        }
    }
    (text, None)
}

/// Splits `ART-001 (green tea)` and `ART-001 green tea` into number and name; a name alone stays whole.
fn split_name(reference: &str) -> (&str, Option<&str>) {
    match reference.split_once(char::is_whitespace) {
        Some((article, name)) if is_article_like(article.trim_end_matches([',', ':'])) => {
            let name = name.trim().trim_matches(['(', ')', '-', ' ']);
            (
                article.trim_end_matches([',', ':']),
                Some(name).filter(|name| !name.is_empty()),
            )
        }
        _ => (reference, None),
    }
}

fn draft(article: &str, name: Option<&str>, quantity: Value, price: Option<Value>) -> DraftLine {
    DraftLine {
        article: article.to_owned(),
        name: name.map(str::to_owned),
        quantity,
        price,
        ..DraftLine::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String, Option<String>)> {
        let known = |reference: &str| reference.eq_ignore_ascii_case("green tea");
        let triple = |line: DraftLine| (line.article, line.quantity.text, line.price.map(|price| price.text));
        lines(text, &known, 100).into_iter().map(triple).collect()
    }

    #[test]
    fn every_form_of_the_grammar_is_read() {
        let table: &[(&str, &str, &str, Option<&str>)] = &[
            ("2 x ART-001 @ 12.50", "ART-001", "2", Some("12.50")),
            ("2x ART-001 @12.50 EUR", "ART-001", "2", Some("12.50 EUR")),
            ("2 × ART-001", "ART-001", "2", None),
            ("- 2 x ART-001", "ART-001", "2", None),
            ("-2 x ART-001", "ART-001", "-2", None),
            ("1) 2 x ART-001 at 12.50 each", "ART-001", "2", Some("12.50")),
            ("3 Stück ART-001 à 12,50 €", "ART-001", "3", Some("12,50 €")),
            ("1,5 kg x ART-007", "ART-007", "1,5", None),
            ("3 pcs ART-001 (green tea)", "ART-001", "3", None),
            ("4 x green tea", "green tea", "4", None),
            ("ART-001 x 2", "ART-001", "2", None),
            ("ART-001 x 2 @ 3.10", "ART-001", "2", Some("3.10")),
            ("ART-001;2;12,50", "ART-001", "2", Some("12,50")),
            ("ART-001;two;12,50", "ART-001", "two", Some("12,50")),
            ("ART-001|2|12.50", "ART-001", "2", Some("12.50")),
            ("| ART-001 | 2 | 12.50 |", "ART-001", "2", Some("12.50")),
            ("ART-001\t2", "ART-001", "2", None),
            ("ART-001, 2, 12.50", "ART-001", "2", Some("12.50")),
            ("ART-001   2", "ART-001", "2", None),
            ("  ART-001   2 pcs   @ 12.50", "ART-001", "2 pcs", Some(" 12.50")),
            ("green tea;2", "green tea", "2", None),
            ("ART-001;Green tea;2;12,50", "ART-001", "2", Some("12,50")),
            ("ART-001, 2, thank you", "ART-001", "2", None),
            ("3 Stk ART-001 zu je 12,50 €", "ART-001", "3", Some("12,50 €")),
        ];
        for (line, article, quantity, price) in table {
            let price = price.map(|price| price.trim().to_owned());
            assert_eq!(
                read(line),
                vec![((*article).to_owned(), (*quantity).to_owned(), price)],
                "{line:?}"
            );
        }
    }

    #[test]
    fn prose_quotes_and_signatures_are_not_orders() {
        for text in [
            "Thank you for the 2 parcels, all fine.",
            "2 x coffee yesterday, it was great",
            "Tel  0123 456789",
            "Date  2024-01-02",
            "> 2 x ART-001",
            "-- \n2 x ART-001",
            "On Monday Jane wrote:\n2 x ART-001",
            "-----Original Message-----\nART-001;2",
            "see you at 10 x",
            "https://example.com/ART-001?x=2",
            "",
        ] {
            assert_eq!(read(text), Vec::new(), "{text:?}");
        }
    }

    #[test]
    fn one_certain_line_makes_the_uncertain_ones_count() {
        let found = read("2 x ART-001\n3 x blue mugs\n");
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].0, "blue mugs");
    }
}
