//! Pieces of a line of text: the quantity at its beginning or end, the price at its end, and the words around them.

use super::draft::Value;
use crate::domain::unit::unit;

/// Longer ones first.
pub(super) const PRICE_WORDS: [&str; 13] = [
    "zu je",
    "a razón de",
    "al prezzo di",
    "@",
    "à",
    "á",
    "at",
    "je",
    "zu",
    "po",
    "per",
    "a",
    "por",
];
/// Behind a price; they say that it is one per piece.
#[rustfmt::skip]
const EACH: [&str; 22] = [
    "each", "per piece", "per pc", "a piece", "apiece", "pro stück", "je stück", "das stück", "pièce", "l'unité",
    "l’unité", "par pièce", "cada uno", "cada", "la unidad", "cad.", "cadauno", "per stuk", "za sztukę", "za kus",
    "per styck", "styck",
];

/// Words of which one stands in a sentence that asks for something.
#[rustfmt::skip]
pub(super) const WISHES: &[&str] = &[
    "please", "send", "need", "order", "want", "like", "require", "supply", "deliver", "ship", "take", "add", "bitte", "brauche",
    "brauchen", "benötige", "benötigen", "bestelle", "bestellen", "möchte", "möchten", "hätte", "hätten", "liefern", "schicken",
    "senden", "nehmen", "ordern", "voudrais", "voudrions", "souhaite", "souhaitons", "commande", "commandons", "commander",
    "envoyer", "livrer", "merci", "quisiera", "quisiéramos", "necesito", "necesitamos", "pedimos", "pido", "deseamos", "enviar",
    "envíen", "vorrei", "vorremmo", "ordiniamo", "ordino", "inviare", "spedire", "graag", "bestel", "wil", "willen", "poproszę",
    "proszę", "prosimy", "zamawiam", "zamawiamy", "gostaria", "gostaríamos", "queria", "queremos", "encomendo", "encomendamos",
    "prosím", "prosíme", "objednávám", "objednáváme", "chceme", "beställer", "vill", "skicka", "behöver", "önskar", "envoyez",
    "livrez", "mandateci", "queríamos", "also", "plus", "another", "additionally", "auch", "noch", "zusätzlich", "außerdem",
    "sowie", "aussi", "également", "también", "además", "anche", "inoltre", "ook", "nog", "także", "dodatkowo", "também", "ainda",
    "také", "ještě", "också", "även",
];
/// Words of reports about what was ordered or came before.
#[rustfmt::skip]
pub(super) const REPORTS: &[&str] = &[
    "ordered", "received", "got", "bought", "returned", "had", "have", "were", "was", "missing", "broken", "bestellt", "erhalten",
    "bekommen", "gekauft", "hatten", "hatte", "fehlen", "reçu", "commandé", "avons", "acheté", "recibido", "comprado", "ricevuto",
    "ordinato", "comprato", "ontvangen", "besteld", "gekocht", "otrzymaliśmy", "zamówiliśmy", "recebemos", "encomendámos", "obdrželi",
    "objednali", "fick", "beställde", "not", "no", "nicht", "kein", "keine", "stock", "cancel", "stornieren", "annuler", "instead", "statt",
];
/// Between a number of packages and their content, or a unit and the article.
const OF: [&str; 10] = ["of", "de", "di", "da", "van", "von", "d'", "the", "del", "av"];
const EACH_HOLDS: [&str; 9] = ["à", "á", "a", "zu", "je", "of", "de", "po", "x"];

/// The quantity that a line begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeadingMeasure<'t> {
    /// As it stands there: `2 boxes of 12`.
    pub(super) text: &'t str,
    /// What follows it.
    pub(super) rest: &'t str,
    /// Whether a sign or a unit says that it is one.
    pub(super) certain: bool,
}

/// `2 x …`, `3 pcs …`, `2 boxes of 12 …`, `5 …`; whether the rest is an article is asked later.
pub(super) fn leading_measure<'t>(line: &'t str, known: &dyn Fn(&str) -> bool) -> Option<LeadingMeasure<'t>> {
    let end = line.find(|c: char| !(c.is_ascii_digit() || ".,-+'".contains(c)))?;
    let (number, rest) = line.split_at(end);
    if !number.contains(|c: char| c.is_ascii_digit()) || number.ends_with('-') {
        return None;
    }
    let at = |rest: &str| line.len() - rest.len();
    let rest = rest.trim_start();
    let (word, after_word) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if unit(word).is_some() && !known(word) {
        let mut measure_end = at(rest) + word.len();
        let mut rest = after_word.trim_start();
        // `2 boxes of 12 pcs ART-001`.
        if let Some((held_end, after)) = held(rest, known) {
            measure_end = at(rest) + held_end;
            rest = after;
        }
        return Some(LeadingMeasure {
            text: line[..measure_end].trim(),
            rest: without_of(times(rest).unwrap_or(rest)),
            certain: true,
        });
    }
    match times(rest) {
        Some(after) => {
            // `2 x 6er ART-001`: the second number counts what is in each, unless it is the article.
            if let Some((held_end, rest)) =
                content(after).filter(|(_, rest)| !rest.is_empty() && !first_is_known(after, known))
            {
                return Some(LeadingMeasure {
                    text: line[..at(after) + held_end].trim(),
                    rest: without_of(rest),
                    certain: true,
                });
            }
            Some(LeadingMeasure {
                text: number,
                rest: after,
                certain: true,
            })
        }
        None => Some(LeadingMeasure {
            text: number,
            rest,
            certain: false,
        }),
    }
}

/// What follows on a sign of multiplication.
fn times(rest: &str) -> Option<&str> {
    let after = rest.strip_prefix(['x', 'X', '×', '*', 'х', 'Х'])?;
    let sure = rest.starts_with(['×', '*']) || after.starts_with(char::is_whitespace);
    sure.then(|| after.trim_start())
}

fn without_of(rest: &str) -> &str {
    match rest.split_once(char::is_whitespace) {
        Some((word, after)) if OF.contains(&word.to_lowercase().as_str()) => after.trim_start(),
        _ => rest,
    }
}

/// `of 12 pcs`, `à 6`: where it ends, and what follows.
fn held<'t>(rest: &'t str, known: &dyn Fn(&str) -> bool) -> Option<(usize, &'t str)> {
    let (word, after) = rest.split_once(char::is_whitespace)?;
    if !EACH_HOLDS.contains(&word.to_lowercase().as_str()) || first_is_known(after.trim_start(), known) {
        return None;
    }
    let after = after.trim_start();
    let (end, behind) = content(after)?;
    Some((rest.len() - after.len() + end, behind))
}

/// `12 pcs`, `6er`: a small number, perhaps with a unit.
fn content(text: &str) -> Option<(usize, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if !(1..=4).contains(&digits) {
        return None;
    }
    let rest = &text[digits..];
    let rest = rest
        .strip_prefix("er")
        .filter(|rest| !rest.starts_with(char::is_alphanumeric))
        .unwrap_or(rest);
    if !(rest.is_empty() || rest.starts_with(char::is_whitespace)) {
        return None;
    }
    let behind = rest.trim_start();
    let (word, after) = behind.split_once(char::is_whitespace).unwrap_or((behind, ""));
    let behind = if unit(word).is_some() {
        after.trim_start()
    } else {
        behind
    };
    let end = text.len() - behind.len();
    Some((text[..end].trim_end().len(), behind))
}

fn first_is_known(text: &str, known: &dyn Fn(&str) -> bool) -> bool {
    text.split(|c: char| c.is_whitespace() || ",;".contains(c))
        .next()
        .is_some_and(known)
}

/// Splits `ART-001 green tea 5 pcs` before its `5 pcs`. Only pieces and packages: `100 g` is a part of the name.
pub(super) fn trailing_measure(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_end_matches(['.', ',', ';', '!', ' ']);
    let (before, word) = line.rsplit_once(char::is_whitespace)?;
    let joined = word.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0);
    let counts =
        |word: &str| unit(word).is_some_and(|unit| unit.is_piece() || unit.is_package() || unit.name == "dozen");
    if joined.is_some_and(|digits| counts(&word[digits..])) {
        return Some((before, word));
    }
    let (reference, number) = before.rsplit_once(char::is_whitespace)?;
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    (counts(word) && plain).then(|| (reference, &line[reference.len()..]))
}

/// Splits `ART-001 @ 12.50 EUR` before its price word.
pub(super) fn split_price(text: &str) -> (&str, Option<Value>) {
    for word in PRICE_WORDS {
        let spaced = format!(" {word} ");
        let at = text.rfind(&spaced).map(|at| (at, at + spaced.len())).or_else(|| {
            // `@12.50` needs no space after the sign.
            (word == "@").then(|| text.find('@').map(|at| (at, at + 1))).flatten()
        });
        let Some((before, after)) = at else { continue };
        let mut price = text[after..].trim();
        let begins = price.starts_with(|c: char| c.is_ascii_digit() || "€$£CEUS".contains(c));
        if !begins || !price.contains(|c: char| c.is_ascii_digit()) || looks_like_content(price) {
            continue;
        }
        price = without_each(price).unwrap_or(price);
        return (text[..before].trim(), Some(Value::text(price)));
    }
    (text, None)
}

/// `12.50 EUR`, of `12.50 EUR each`.
fn without_each(price: &str) -> Option<&str> {
    let lower = price.to_lowercase();
    let ends = |each: &&&str| lower.ends_with(**each) && lower.len() == price.len();
    // The longest, so that nothing of `per piece` is left.
    let each = EACH.iter().filter(ends).max_by_key(|each| each.len())?;
    Some(price[..price.len() - each.len()].trim())
}

/// Splits `ART-001 12.50 EUR each`, which has no word before its price. Without the last word it might be the sum of the line.
pub(super) fn split_bare_price(text: &str) -> (&str, Option<Value>) {
    match bare_price(text) {
        Some((before, price)) if !before.is_empty() => (before, Some(Value::text(price))),
        _ => (text, None),
    }
}

fn bare_price(text: &str) -> Option<(&str, &str)> {
    let priced = without_each(text.trim_end_matches(['.', ',', ';', '!']))?;
    let is_number =
        |word: &str| word.contains(|c: char| c.is_ascii_digit()) && !word.contains(|c: char| c.is_alphabetic());
    let (ahead, last) = priced.rsplit_once(char::is_whitespace)?;
    let (before, price) = match ahead.rsplit_once(char::is_whitespace) {
        Some((before, word)) if is_currency(word) && is_number(last) || is_number(word) && is_currency(last) => {
            (before, &priced[before.len()..])
        }
        _ if is_number(last) && last.contains(['€', '$', '£', '.', ',']) => (ahead, last),
        _ => return None,
    };
    let before = before.trim_end_matches([',', ';', ':', '-', '–', '—', '(', ' ']);
    Some((before.trim(), price.trim_start_matches([' ', '('])))
}

/// `EUR`, `€`, `Euro`, `zł`.
fn is_currency(word: &str) -> bool {
    let code = word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    code || ["€", "$", "£", "euro", "zł", "kr", "kč", "fr."].contains(&word.to_lowercase().as_str())
}

/// `12 Stk` behind `à` is what a box holds, not a price.
fn looks_like_content(price: &str) -> bool {
    let mut words = price.split_whitespace();
    let whole = words
        .next()
        .is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
    whole && words.next().is_some_and(|word| unit(word).is_some())
}
