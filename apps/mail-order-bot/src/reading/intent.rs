//! What a mail wants, by its words; and the customer's own number of the order.
//!
//! A change or a cancellation is one only if it says which order it is about: it answers a mail, or gives a number. Without
//! that, words like "cancel" in a mail with order lines are about something else, such as an old standing order.

use super::draft::is_article_like;
use crate::domain::Intent;
use crate::domain::number::is_date;

/// Lines of the sender's own text that are looked at, and how much of each, in bytes.
const LINES: usize = 12;
const LINE_BYTES: usize = 300;
/// Lines that are searched for the number of the order.
const NUMBER_LINES: usize = 40;

/// What a mail wants, and why that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recognised {
    pub(super) intent: Intent,
    pub(super) why: String,
}

/// What is known of a mail when its intent is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clues<'a> {
    pub(super) subject: &'a str,
    /// The sender's own lines, quotes aside.
    pub(super) own: &'a [&'a str],
    /// Whether it answers a mail.
    pub(super) answers: bool,
    /// Whether it gives the number of an order.
    pub(super) numbered: bool,
    /// Whether there are order lines in it.
    pub(super) has_lines: bool,
}

#[rustfmt::skip]
const CANCELLATION: &[&str] = &[
    "cancel", "cancelled order", "cancellation", "stornier", "storno", "annullier", "abbestell", "annuler",
    "annulation", "annulez", "cancelar", "cancelación", "cancele", "anular", "anulación", "annullare", "annullamento",
    "annullate", "disdire", "disdetta", "annuleren", "annulering", "anulować", "anuluj", "anulowanie", "anulację",
    "rezygnuj", "cancelamento", "anulação", "zrušit", "zrušení", "zrušte", "stornovat", "avbeställ", "annullera",
    "makulera", "withdraw our order", "widerruf",
];

#[rustfmt::skip]
const AMENDMENT: &[&str] = &[
    "amend", "change to", "change our order", "change my order", "change the order", "changes to", "correction",
    "instead of", "please add", "also add", "in addition to", "additionally", "update to", "modify", "replace",
    "änderung", "ändern", "korrektur", "statt ", "anstatt", "anstelle", "zusätzlich", "ergänz", "nachtrag", "noch dazu",
    "erhöhen sie", "modification", "modifier", "modifiez", "rectificat", "au lieu de", "ajouter", "ajoutez", "en plus",
    "modificación", "modificar", "cambiar", "corrección", "en lugar de", "en vez de", "añadir", "añadan", "además",
    "modifica", "correzione", "invece di", "aggiungere", "aggiungete", "in aggiunta", "wijzig", "aanpass", "correctie",
    "in plaats van", "toevoegen", "extra bij", "zmiana", "zmienić", "zmianę", "korekta", "zamiast", "dodać",
    "dodatkowo", "alteração", "alterar", "correção", "em vez de", "acrescentar", "adicionar", "změna", "změnit",
    "změnu", "oprava", "místo ", "přidat", "navíc", "ändring", "ändra", "istället för", "i stället för", "lägg till",
    "lägga till", "dessutom",
];

/// Words that turn the others around.
#[rustfmt::skip]
const NEGATIONS: &[&str] = &[
    "not ", "n't ", "nicht ", "kein", "ne pas ", "n'annul", "no ", "non ", "niet ", "nie ", "não ", "ne", "inte ",
    "without ", "ohne ", "sans ",
];

/// Recognises what the mail wants.
pub(super) fn recognise(clues: Clues<'_>) -> Recognised {
    let place = |at: usize| {
        if at == 0 {
            "the subject".to_owned()
        } else {
            format!("line {at}")
        }
    };
    let texts: Vec<String> = std::iter::once(clues.subject)
        .chain(
            clues
                .own
                .iter()
                .copied()
                .filter(|line| !line.trim().is_empty())
                .take(LINES),
        )
        .map(|text| cut(text, LINE_BYTES).to_lowercase())
        .collect();
    let find = |words: &[&'static str]| {
        texts
            .iter()
            .enumerate()
            .find_map(|(at, text)| Some((at, words.iter().copied().find(|word| says(text, word))?)))
    };
    let about = match (clues.answers, clues.numbered) {
        (true, _) => Some("and it answers a mail"),
        (_, true) => Some("and it gives the number of an order"),
        _ => None,
    };
    let order = |why: String| Recognised {
        intent: Intent::Order,
        why,
    };
    let found = match (find(CANCELLATION), find(AMENDMENT)) {
        (Some((at, word)), _) => Some((Intent::Cancellation, at, word)),
        (None, Some((at, word))) => Some((Intent::Amendment, at, word)),
        (None, None) => None,
    };
    let Some((intent, at, word)) = found else {
        return order("no words of a change or a cancellation".to_owned());
    };
    let said = format!("\"{}\" in {}", word.trim(), place(at));
    match about {
        Some(about) => Recognised {
            intent,
            why: format!("{said}, {about}"),
        },
        None if intent == Intent::Cancellation && !clues.has_lines => Recognised {
            intent,
            why: format!("{said}, and there are no order lines; which order it is about is not said"),
        },
        None => order(format!(
            "{said}, but it neither answers a mail nor gives the number of an order"
        )),
    }
}

/// Whether `text` says `word` at the beginning of a word, and not in the negative.
fn says(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = &text[..at];
        let begins = !before.ends_with(char::is_alphanumeric);
        let mut window = before.len().saturating_sub(16);
        while !before.is_char_boundary(window) {
            window += 1;
        }
        let near = before[window..]
            .rsplit(['.', ',', ';', '!', '?'])
            .next()
            .unwrap_or_default();
        let negated = NEGATIONS
            .iter()
            .filter(|negation| negation.ends_with(' '))
            .any(|negation| {
                near.find(negation)
                    .is_some_and(|at| !near[..at].ends_with(char::is_alphanumeric) || *negation == "n't ")
            });
        begins && !negated
    })
}

/// The customer's number of the order, and where it stands: 0 for the subject, else the line.
pub(super) fn order_number(subject: &str, own: &[&str]) -> Option<(String, usize)> {
    let lines = own.iter().copied().take(NUMBER_LINES);
    let mut texts = std::iter::once(subject).chain(lines).enumerate();
    texts.find_map(|(at, text)| Some((number_in(cut(text, LINE_BYTES))?, at)))
}

/// Words before the number of an order, with whether the number may follow on them directly. Otherwise it takes `no.`,
/// `#`, `:` or the like between.
#[rustfmt::skip]
const ORDER_WORDS: &[(&str, bool)] = &[
    ("purchase order", true), ("p.o.", true), ("po", true), ("order", false), ("your order", false),
    ("bestellung", true), ("bestellnummer", true), ("bestell-nr", true), ("bestellnr", true), ("auftrag", true),
    ("auftragsnummer", true), ("auftrags-nr", true), ("unsere referenz", true), ("commande", true),
    ("bon de commande", true), ("pedido", true), ("orden de compra", true), ("ordine", true),
    ("ordine d'acquisto", true), ("oda", false), ("bestelling", true), ("bestelnummer", true), ("ordernummer", true),
    ("inkooporder", true), ("zamówienie", true), ("zamówienia", true), ("encomenda", true), ("nota de encomenda", true),
    ("objednávka", true), ("objednávky", true), ("objednávku", true), ("beställning", true),
    ("beställningsnummer", true), ("inköpsorder", true), ("our reference", true), ("our ref", true),
];

#[rustfmt::skip]
const NUMBER_WORDS: &[&str] = &[
    "no", "nr", "number", "num", "nummer", "n", "nº", "n°", "num.", "número", "numéro", "numero", "numer", "č", "číslo",
    "id", "ref", "n.º", "nro",
];

fn number_in(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    // Lower case may have another length; then places don't fit, and there is no number.
    if lower.len() != text.len() {
        return None;
    }
    ORDER_WORDS.iter().find_map(|(word, direct)| {
        lower.match_indices(word).find_map(|(at, _)| {
            let after = at + word.len();
            let whole =
                !lower[..at].ends_with(char::is_alphanumeric) && !lower[after..].starts_with(char::is_alphanumeric);
            whole.then(|| number_after(&text[after..], *direct)).flatten()
        })
    })
}

/// The number that `rest` begins with, after `no.`, `#`, `:` and the like.
fn number_after(rest: &str, direct: bool) -> Option<String> {
    let mut rest = rest;
    let mut marked = false;
    loop {
        let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || ".-–_".contains(c));
        let unmarked = trimmed.trim_start_matches(['#', ':', '№', '°', 'º', '(']);
        marked |= unmarked.len() < trimmed.len();
        let word_end = unmarked
            .find(|c: char| !c.is_alphabetic() && c != 'º' && c != '°')
            .unwrap_or(unmarked.len());
        let word = unmarked[..word_end].to_lowercase();
        let next_is_digit = unmarked[word_end..].starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if !word.is_empty() && NUMBER_WORDS.contains(&word.as_str()) && !next_is_digit {
            marked = true;
            rest = &unmarked[word_end..];
            continue;
        }
        if unmarked.len() == rest.len() {
            break;
        }
        rest = unmarked;
    }
    let end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || "-/_.".contains(c)))
        .unwrap_or(rest.len());
    let token = rest[..end].trim_end_matches(['.', '-', '/', '_']);
    let digits = token.bytes().filter(u8::is_ascii_digit).count();
    let all_digits = digits == token.len();
    let year = all_digits && token.len() == 4 && (token.starts_with("19") || token.starts_with("20"));
    let fits = (2..=30).contains(&token.len()) && digits >= 2 && !is_date(token) && (marked || !year);
    let sure = marked || direct && (is_article_like(token) || digits >= 4 || token.contains(['-', '/', '_']));
    (fits && sure).then(|| token.to_owned())
}

fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(subject: &str, own: &str, answers: bool, has_lines: bool) -> Intent {
        let own: Vec<&str> = own.lines().collect();
        recognise(Clues {
            subject,
            own: &own,
            answers,
            numbered: order_number(subject, &own).is_some(),
            has_lines,
        })
        .intent
    }

    #[test]
    fn changes_and_cancellations_are_recognised_in_ten_languages() {
        for (subject, own) in [
            ("Re: Your order 17", "Please cancel this order."),
            ("AW: Bestellung", "Hallo,\nbitte stornieren Sie die Bestellung."),
            ("Re: Commande", "Merci d'annuler cette commande."),
            ("Re: Pedido", "Queremos cancelar el pedido."),
            ("Re: Ordine", "Vi preghiamo di annullare l'ordine."),
            ("Re: Bestelling", "Graag de bestelling annuleren."),
            ("Odp: Zamówienie", "Proszę anulować zamówienie."),
            ("Re: Encomenda", "Queremos fazer o cancelamento."),
            ("Re: Objednávka", "Prosím zrušit objednávku."),
            ("Sv: Beställning", "Vi vill avbeställa."),
        ] {
            assert_eq!(intent(subject, own, true, false), Intent::Cancellation, "{own}");
        }
        for own in [
            "please make it 10 instead of 5",
            "bitte ändern Sie die Menge",
            "10 statt 5 Stück",
            "merci d'ajouter 2 pièces",
            "hay que modificar el pedido",
            "invece di 5 vorremmo 10",
            "graag 10 in plaats van 5",
            "proszę o zmianę na 10",
            "10 em vez de 5",
            "prosím změnit na 10",
            "10 istället för 5",
        ] {
            assert_eq!(intent("Re: order", own, true, true), Intent::Amendment, "{own}");
        }
    }

    #[test]
    fn without_an_order_it_is_about_the_words_mean_little() {
        assert_eq!(
            intent("Order", "Please cancel our standing order.\n2 x A-1", false, true),
            Intent::Order
        );
        assert_eq!(
            intent("Cancellation of PO 4711-3", "", false, false),
            Intent::Cancellation
        );
        assert_eq!(
            intent("Please cancel", "the order of Monday", false, false),
            Intent::Cancellation
        );
        assert_eq!(
            intent("Re: order", "Please do not cancel, all is fine", true, false),
            Intent::Order
        );
        assert_eq!(
            intent("Re: Bestellung", "Bitte nicht stornieren!", true, false),
            Intent::Order
        );
        assert_eq!(intent("Re: order", "2 x ART-001", true, true), Intent::Order);
        assert_eq!(intent("Order", "the scancellator", true, true), Intent::Order);
    }

    #[test]
    fn the_customers_number_is_found() {
        for (text, number) in [
            ("PO 4500017744", Some("4500017744")),
            ("Purchase Order #PO-2026/118", Some("PO-2026/118")),
            ("Bestellung 2026-118", Some("2026-118")),
            ("Bestellung Nr. 77", Some("77")),
            ("Unsere Bestellnummer: B4711", Some("B4711")),
            ("Bon de commande n° 1123-A", Some("1123-A")),
            ("Pedido nº 990", Some("990")),
            ("Zamówienie nr ZK/12/2026", Some("ZK/12/2026")),
            ("Objednávka č. 26001", Some("26001")),
            ("Order no. 12", Some("12")),
            ("Order: 3 boxes", None),
            ("Order 2026", None),
            ("Order for 24.12.2026", None),
            ("Bestellung 24.12.2026", None),
            ("Bestellung 5 Kartons", None),
            ("our support number 4711", None),
            ("Bestellung_4711", Some("4711")),
        ] {
            assert_eq!(number_in(text).as_deref(), number, "{text}");
        }
    }
}
