//! Order lines in plain text. A table with headings (`text_table`) comes first, then forms with labels (`labelled`), then
//! lines of their own. The grammar of these, one order line per text line unless `list` holds several:
//!
//! ```text
//! line      = [bullet] ( columns | counted | after | trailing ) | wish counted | list
//! bullet    = ("-" | "*" | "•" | "–" | digits ("." | ")")) space
//! columns   = [position sep] article sep { name | date } sep quantity [sep price [sep anything]]
//! sep       = ";" | "|" | tab | ", " | two or more spaces
//! counted   = measure times reference [price]            2 x ART-001 @ 12.50
//!           | number unit ["of"] reference [price]       3 boxes of ART-001
//!           | measure known [price]                      5 ART-001
//! after     = reference (" x " | ": " | " - " | " = " | dots) measure [price]
//!           | known " " measure [price]                  ART-001 5 pcs
//! trailing  = known words number piece                   ART-001 green tea 5 pcs
//! wish      = words of which one asks for something      please send us 2 x ART-001
//! list      = counted { ("," | ";" | "and") counted }    2 x ART-001, 3 x ART-002 and 1 x ART-010
//! measure   = number [unit] ["à" number [unit]]          2, 1,5 kg, 2 boxes of 12
//! times     = "x" | "X" | "×" | "*", or the Cyrillic letter that looks like an x
//! price     = ("@" | "à" | "at" | "je" | "zu" …) amount [currency] ["each"]
//!           | amount currency ["each"]                 after an article, at the end of a counted line
//! reference = an article's number, or its name of up to eight words; known: the catalogue has it
//! ```
//!
//! A column line needs something that looks like an article's number or is known to the catalogue; between spaces or
//! commas its quantity must begin with a digit (or a sign). With `;`, `|` and tabs a bad quantity is still an order line, so
//! that it is answered with a reason instead of dropped. A date is never a quantity.
//!
//! A text is an order only if at least one line names an article by a number-like or known reference: `2 x coffee
//! yesterday` alone is small talk. After `Best regards` only known articles count.

use super::columns::is_amount;
use super::draft::{DraftLine, Value, is_article_like};
use super::explanation::{Explanation, Step, shortened};
use super::labelled;
use super::table::{TableReader, is_total};
use super::text_table::{self, TextLine};
use super::units::{PRICE_WORDS, REPORTS, WISHES, leading_measure, split_bare_price, split_price, trailing_measure};
use crate::domain::DecimalStyle;
use crate::domain::number::is_date;
use crate::domain::unit::unit;

/// Longest text line that is looked at, in characters. Longer ones are prose or hostile.
pub(crate) const MAX_LINE_CHARS: usize = 400;

const BULLETS: [char; 7] = ['-', '*', '•', '–', '—', '·', '→'];
/// Between the order lines of one text line.
const CONJUNCTIONS: [&str; 12] = [
    ", ", "; ", " and ", " & ", " und ", " et ", " y ", " e ", " en ", " i ", " och ", " sowie ",
];

/// Lines of a text, and how they were found.
#[derive(Debug, Default)]
pub(super) struct TextLines {
    pub(super) lines: Vec<DraftLine>,
    pub(super) explanation: Explanation,
    /// In what form they are written.
    pub(super) form: &'static str,
    /// Lines that name an article and a number, and are not understood.
    pub(super) unclear: Vec<String>,
}

/// A line of the letter.
#[derive(Debug, Clone, Copy)]
pub(super) struct LetterLine<'t> {
    pub(super) line: TextLine<'t>,
    pub(super) after_closing: bool,
}

/// Reads the order lines of a letter; none when it is not an order. `most` bounds them.
pub(super) fn lines(letter: &[LetterLine<'_>], reader: &TableReader<'_>, most: usize) -> TextLines {
    let short = |line: &&LetterLine<'_>| line.line.text.chars().nth(MAX_LINE_CHARS).is_none();
    let plain: Vec<TextLine<'_>> = letter.iter().filter(short).map(|line| line.line).collect();
    if let Some(table) = text_table::lines(&plain, reader) {
        return TextLines {
            lines: table.lines,
            explanation: table.explanation,
            form: "a table in the text",
            unclear: Vec::new(),
        };
    }
    let labelled = labelled::lines(&plain, reader.known);
    if !labelled.is_empty() {
        return TextLines {
            lines: labelled,
            form: "values with labels",
            ..TextLines::default()
        };
    }
    let mut found = TextLines {
        form: "lines of text",
        ..TextLines::default()
    };
    let mut certain = false;
    for LetterLine { line, after_closing } in letter.iter().filter(short) {
        let place = format!("text line {}", line.number);
        let drafts = lines_of(line.text, reader.known);
        if let (Some(why), false) = (refused(&drafts, *after_closing, reader.known), drafts.is_empty()) {
            found.explanation.skipped(place, line.text.trim(), why);
            continue;
        }
        if drafts.is_empty() && !after_closing && is_unclear(line.text, reader.known) {
            let why = "it names an article that we know and a number, and has no form that we understand";
            found.explanation.skipped(place.clone(), line.text.trim(), why);
            found.unclear.push(shortened(line.text));
        }
        for draft in drafts {
            certain |= is_certain(&draft.article, reader.known);
            found.lines.push(DraftLine {
                place: place.clone(),
                ..draft
            });
        }
        if found.lines.len() > most {
            break;
        }
    }
    if !certain {
        for line in std::mem::take(&mut found.lines) {
            let why = "no line names an article by something like a number, or by a name that we know";
            found
                .explanation
                .skipped(line.place, &format!("{} {}", line.quantity.text, line.article), why);
        }
    }
    found
}

/// Why lines that could be order lines are none.
fn refused(drafts: &[DraftLine], after_closing: bool, known: &dyn Fn(&str) -> bool) -> Option<&'static str> {
    if drafts.iter().any(|draft| is_date(&draft.quantity.text)) {
        return Some("a date stands where the quantity would be");
    }
    if drafts.iter().any(|draft| is_total(&draft.article)) {
        return Some("a total");
    }
    (after_closing
        && !drafts
            .iter()
            .any(|draft| known(&draft.article) && draft.article.contains(char::is_alphabetic)))
    .then_some("it stands after the letter's closing words, and we do not know the article")
}

/// Whether a line that is none of an order may be meant as one: it names an article that is known, and a number beside.
fn is_unclear(line: &str, known: &dyn Fn(&str) -> bool) -> bool {
    let words = || {
        let split = line.split(|c: char| c.is_whitespace() || ",;()".contains(c));
        split.map(|word| word.trim_matches(['.', ':', '!', '?']))
    };
    let is_named = |word: &str| is_article_like(word) && known(word);
    let is_number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit()) && !is_named(word) && !is_date(word);
    words().any(is_named) && words().any(is_number)
}

/// Whether a name has the number of another article in it.
fn names_another(name: &str, known: &dyn Fn(&str) -> bool) -> bool {
    let mut words = name.split(|c: char| c.is_whitespace() || ",;()".contains(c));
    words.any(|word| is_article_like(word) && known(word))
}

/// Whether a line names an article that is known, by its number or its name.
pub(super) fn names_article(line: &str, known: &dyn Fn(&str) -> bool) -> bool {
    /// Longest name that is looked for, in words.
    const MOST: usize = 6;
    let words: Vec<&str> = line
        .split(|c: char| c.is_whitespace() || ",;()\"„“”".contains(c))
        .map(|word| word.trim_matches(['.', ':', '!', '?']))
        .filter(|word| !word.is_empty())
        .collect();
    (0..words.len()).any(|at| {
        let most = MOST.min(words.len() - at);
        (1..=most).any(|count| {
            let name = words[at..at + count].join(" ");
            // A number alone may be that of an order, of a street, of a day.
            name.contains(char::is_alphabetic) && known(&name)
        })
    })
}

fn is_certain(reference: &str, known: &dyn Fn(&str) -> bool) -> bool {
    is_article_like(reference) || known(reference)
}

fn lines_of(line: &str, known: &dyn Fn(&str) -> bool) -> Vec<DraftLine> {
    let raw = line.trim();
    if raw.is_empty() || !raw.contains(|c: char| c.is_ascii_digit()) {
        return Vec::new();
    }
    let line = without_bullet(raw);
    // `2 x ART-001, 3 x ART-002` before all else: every piece is certain, so nothing else fits better.
    if let Some(list) = list(line, known) {
        return list;
    }
    // Columns before counts: `ART-001; 2 x 6er; 12,50` is a row, whatever its cells say.
    let one = columns(line, known)
        .or_else(|| counted(line, known))
        .or_else(|| counted_after(line, known))
        .or_else(|| trailing(line, known))
        .or_else(|| columns(raw, known))
        .or_else(|| wished(line, known));
    one.into_iter().collect()
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

/// `2 x ART-001 @ 12.50`, `3 pcs × green tea`, `2 boxes of ART-001`, `5 ART-001`.
fn counted(line: &str, known: &dyn Fn(&str) -> bool) -> Option<DraftLine> {
    let measure = leading_measure(line, known)?;
    let (reference, price) = split_price(measure.rest);
    let (reference, price) = match price {
        None => split_bare_price(reference),
        price => (reference, price),
    };
    let reference = reference.trim_end_matches(['.', ',', ';', ':', '!']).trim();
    let (article, name) = split_name(reference, known);
    let words = article.split_whitespace().count();
    if article.is_empty() || words > 8 || !article.contains(char::is_alphanumeric) {
        return None;
    }
    // Another article in the name is another line that would be lost.
    if name.is_some_and(|name| names_another(name, known)) {
        return None;
    }
    // A number before words is no order: `3 of us will come`. It takes a sign, a unit or an article that is known.
    // Nor is a telephone number whose second group happens to be an article: digits alone say too little.
    let says = article.contains(char::is_alphabetic) || is_article_like(article);
    if measure.certain || known(article) && says {
        return Some(draft(article, name, Value::text(measure.text), price));
    }
    // `1 Gebinde ART-001`: what stands between is a unit, known or not.
    let (word, behind) = reference.split_once(char::is_whitespace)?;
    let (article, name) = split_name(behind, known);
    let another = name.is_some_and(|name| names_another(name, known));
    let between = word.chars().all(char::is_alphabetic) && known(article) && !another;
    between.then(|| draft(article, name, Value::text(&format!("{} {word}", measure.text)), price))
}

/// `ART-001 x 2 @ 12.50`, `ART-001: 2 Stk`, `Green tea - 5`, `ART-001 5`.
fn counted_after(line: &str, known: &dyn Fn(&str) -> bool) -> Option<DraftLine> {
    const SIGNS: [&str; 13] = [
        " x ", " X ", " × ", " х ", " Х ", " * ", ": ", " - ", " – ", " — ", " = ", "....", "\t",
    ];
    let split = |sign: &str| {
        let at = line.find(sign)?;
        let rest = line[at + sign.len()..].trim_start_matches('.').trim();
        after(line[..at].trim(), rest, known)
    };
    let signed = SIGNS.iter().find_map(|sign| split(sign));
    signed.or_else(|| {
        // Without a sign only after an article that is known: `ART-001 5 Stk`.
        let (article, rest) = line.split_once(char::is_whitespace)?;
        let (quantity, _) = split_price(rest);
        let amount = quantity.starts_with(|c: char| c.is_ascii_digit())
            && is_amount(&Value::text(quantity), DecimalStyle::Either);
        (known(article) && amount)
            .then(|| after(article, rest, known))
            .flatten()
    })
}

fn after(reference: &str, rest: &str, known: &dyn Fn(&str) -> bool) -> Option<DraftLine> {
    let (article, name) = split_name(reference, known);
    if !is_certain(article, known) {
        return None;
    }
    let (quantity, price) = split_price(rest);
    let quantity = quantity.trim_end_matches(['.', ',', ';', '!']);
    let fits = quantity.starts_with(|c: char| c.is_ascii_digit()) && quantity.split_whitespace().count() <= 6;
    fits.then(|| draft(article, name, Value::text(quantity), price))
}

/// `ART-001 green tea 100 g 5 pcs`.
fn trailing(line: &str, known: &dyn Fn(&str) -> bool) -> Option<DraftLine> {
    let (line, price) = split_price(line);
    let (reference, quantity) = trailing_measure(line)?;
    let (article, name) = split_name(reference.trim_end_matches([',', ':', '-', '–', ' ']), known);
    known(article).then(|| draft(article, name, Value::text(quantity), price))
}

/// `please send us 2 x ART-001`.
fn wished(line: &str, known: &dyn Fn(&str) -> bool) -> Option<DraftLine> {
    let at = line.find(|c: char| c.is_ascii_digit())?;
    let (words, rest) = line.split_at(at);
    let words = words.to_lowercase();
    let said = |list: &[&str]| {
        let mut single = words.split(|c: char| !c.is_alphabetic());
        single.any(|word| list.contains(&word))
    };
    let count = words.split_whitespace().count();
    // One or two words before a known article may be anything but a report: `Also 2 x …`, but not `I got 2 x …`.
    let few = count <= 2 && !said(REPORTS);
    if !few && (!said(WISHES) || count > 10) {
        return None;
    }
    let sure = |draft: &DraftLine| known(&draft.article) || said(WISHES) && is_article_like(&draft.article);
    counted(rest, known).filter(sure)
}

/// Several order lines on one line of text, each of them certain.
fn list(line: &str, known: &dyn Fn(&str) -> bool) -> Option<Vec<DraftLine>> {
    if line.bytes().filter(u8::is_ascii_digit).count() < 2 {
        return None;
    }
    let mut pieces = vec![line];
    for conjunction in CONJUNCTIONS {
        pieces = pieces.into_iter().flat_map(|piece| piece.split(conjunction)).collect();
    }
    let pieces: Vec<&str> = pieces
        .into_iter()
        .map(str::trim)
        .filter(|piece| !piece.is_empty())
        .collect();
    if pieces.len() < 2 {
        return None;
    }
    // `Hi, please send …, same address`: what has no number is courtesy.
    let pieces: Vec<&str> = pieces
        .into_iter()
        .filter(|piece| piece.contains(|c: char| c.is_ascii_digit()))
        .collect();
    let (first, others) = pieces.split_first()?;
    let certain = |draft: &DraftLine| {
        is_certain(&draft.article, known)
            && draft
                .name
                .as_deref()
                .is_none_or(|name| name.split_whitespace().count() <= 4)
    };
    let first = counted(first, known)
        .or_else(|| counted_after(first, known))
        .or_else(|| wished(first, known));
    let others = others
        .iter()
        .map(|piece| counted(piece, known).or_else(|| counted_after(piece, known)));
    let drafts: Option<Vec<DraftLine>> = std::iter::once(first)
        .chain(others)
        .map(|draft| draft.filter(certain))
        .collect();
    drafts
}

/// `ART-001;2;12,50`, `10  ART-001  Green tea  20 ST  4,50`.
fn columns(line: &str, known: &dyn Fn(&str) -> bool) -> Option<DraftLine> {
    let firm = [';', '|', '\t'].into_iter().find(|separator| line.contains(*separator));
    let mut cells: Vec<&str> = match firm {
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
    let counts_rows =
        |cell: &str| cell.len() <= 4 && cell.trim_end_matches('.').bytes().all(|byte| byte.is_ascii_digit());
    if cells.len() > 2 && counts_rows(cells[0]) && is_certain(cells[1], known) && !known(cells[0]) {
        cells.remove(0);
    }
    let (article, rest) = cells.split_first()?;
    let (article, beside) = split_name(article, known);
    if !is_certain(article, known) || cells.len() > 12 {
        return None;
    }
    let numeric = |cell: &str| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-') && !is_date(cell);
    let amount = |cell: &&str| numeric(cell) && is_amount(&Value::text(cell), DecimalStyle::Either);
    let at = rest.iter().position(&amount);
    // `ART-001;two;12,50`: the only number is a price, so the quantity is what stands before it.
    let price_only = |at: usize| at == 1 && is_price(rest[at]) && !rest[at + 1..].iter().any(&amount);
    let at = at.filter(|at| !(firm.is_some() && price_only(*at)));
    // Without a firm separator at most a name, or a date, stands between.
    let near = at
        .filter(|at| firm.is_some() || *at <= 1 && rest[..*at].iter().all(|cell| cell.split_whitespace().count() <= 8));
    let (at, quantity) = match near {
        Some(at) => (at, rest[at]),
        // A date is taken here so that it is refused with a reason.
        None if firm.is_some() || rest.first().is_some_and(|cell| numeric(cell) || is_date(cell)) => {
            (0, *rest.first()?)
        }
        None => return None,
    };
    if firm.is_none() && !numeric(quantity) && !is_date(quantity) {
        return None;
    }
    let name = rest[..at]
        .iter()
        .find(|cell| !cell.is_empty() && !is_date(cell))
        .copied()
        .or(beside);
    let mut behind = rest[at + 1..].iter().copied().peekable();
    let unit_cell = behind.next_if(|cell| unit(cell).is_some());
    let price = behind.next().map(|price| {
        let word = PRICE_WORDS.iter().find_map(|word| price.strip_prefix(word));
        word.unwrap_or(price)
    });
    // `ART-001, 2, thanks`: words where the price would be are no price, and neither is a date.
    let price = price
        .filter(|price| price.contains(|c: char| c.is_ascii_digit()) && !is_date(price))
        .map(Value::text);
    let mut draft = draft(article, name, Value::text(quantity), price);
    draft.unit = unit_cell.map(str::to_owned);
    Some(draft)
}

/// `12,50`, `12.50 €`: two places.
fn is_price(cell: &str) -> bool {
    let number = cell.trim_matches(|c: char| !c.is_ascii_digit());
    let places = number.rsplit_once(['.', ',']).map(|(_, places)| places);
    places.is_some_and(|places| places.len() == 2 && places.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Splits `ART-001 (green tea)` and `ART-001 green tea` into number and name; a name alone stays whole.
fn split_name<'r>(reference: &'r str, known: &dyn Fn(&str) -> bool) -> (&'r str, Option<&'r str>) {
    let reference = reference.trim();
    let clean = |name: &'r str| name.trim().trim_matches(['(', ')', '-', ' ', ':', '"', '„', '“']);
    if known(reference) {
        return (reference, None);
    }
    if let Some((article, name)) = reference.split_once(char::is_whitespace) {
        let article = article.trim_end_matches([',', ':']);
        if is_certain(article, known) {
            return (article, Some(clean(name)).filter(|name| !name.is_empty()));
        }
    }
    // `Green tea (ART-001)`.
    if let Some((name, article)) = reference.strip_suffix(')').and_then(|rest| rest.rsplit_once('('))
        && is_certain(article.trim(), known)
    {
        return (article.trim(), Some(clean(name)).filter(|name| !name.is_empty()));
    }
    // `Art. ART-001`, `article no. ART-001`.
    let labelled = reference.rsplit_once(char::is_whitespace).filter(|(label, article)| {
        let label = super::headings::normal(label);
        is_certain(article, known) && super::headings::Field::Article.rank(&label).is_some()
    });
    labelled.map_or((reference, None), |(_, article)| (article, None))
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

impl TextLines {
    /// What the customer is told about lines that were not understood.
    pub(super) fn notes(&self) -> Vec<String> {
        const MOST: usize = 5;
        let lines = self.unclear.iter().take(MOST);
        lines
            .map(|line| format!("We did not understand this line of your mail: \"{line}\"."))
            .collect()
    }

    /// Tells in what form the lines are.
    pub(super) fn told(&self, part: &str, content_type: &str) -> Step {
        Step::Part {
            part: part.to_owned(),
            content_type: content_type.to_owned(),
            verdict: format!("its lines are the order's: {}", self.form),
            lines: self.lines.len(),
        }
    }
}

#[cfg(test)]
mod tests;
