//! The text of a mail, taken apart: what its sender wrote, what is forwarded in it, what is quoted, and the signature. The
//! marks are those of the common mail programs in ten languages.

use std::ops::Range;

/// Lines after the first of a block of header fields (`From: … Sent: … Subject: …`) that are looked at.
const BLOCK_LINES: usize = 4;
/// Lines that are read; an order has far fewer.
const MAX_LINES: usize = 50_000;
/// Longest line that can be a mark, in bytes; longer ones are prose.
const MAX_MARK: usize = 300;

/// Where the pieces of a text are, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Body {
    /// What the sender wrote, signature aside.
    pub(super) own: Vec<Line>,
    /// The end of that: what begins here is forwarded, quoted, or nothing.
    pub(super) own_end: usize,
    /// What is forwarded.
    pub(super) forwarded: Option<Forwarded>,
    /// Lines that are quoted or signature, and so not read.
    pub(super) passed_over: usize,
}

/// A mail inside the text of another one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Forwarded {
    /// From its mark to its end.
    pub(super) range: Range<usize>,
    /// Its lines, signature aside.
    pub(super) lines: Vec<Line>,
}

/// A line that may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// As a person counts, from 1.
    pub(super) number: usize,
    /// Where its text is, marks of quoting aside.
    pub(super) range: Range<usize>,
    /// Whether it stands after `Best regards`: addresses and telephone numbers do.
    pub(super) after_closing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// `---------- Forwarded message`
    Forward,
    /// `-----Original Message-----` or a block of header fields: forwarded or answered, the subject tells.
    Original,
    /// `On Monday Jane wrote:`
    Answered,
}

/// Takes `text` apart; `forwards` says whether the subject begins with `Fwd:` or the like.
pub(super) fn split(text: &str, forwards: bool) -> Body {
    let lines = lines_of(text);
    let mut body = Body {
        own_end: text.len(),
        ..Body::default()
    };
    let mut silent = false;
    let mut closing = false;
    let mut unquoting = false;
    let mut at = 0;
    while at < lines.len() {
        let range = lines[at].clone();
        let line = text[range.clone()].trim_end();
        let here = at;
        at += 1;
        match mark(text, &lines[here..]) {
            Some(Mark::Answered) if next_is_quoted(text, &lines[at..]) => {
                // Who writes below a quote goes on after it.
                body.passed_over += 1;
                continue;
            }
            Some(Mark::Answered) => return ended(body, range.start, lines.len() - here),
            Some(Mark::Original) if !forwards => return ended(body, range.start, lines.len() - here),
            Some(Mark::Original | Mark::Forward) => {
                if body.forwarded.is_none() {
                    body.own_end = range.start;
                }
                body.forwarded.get_or_insert_with(|| Forwarded {
                    range: range.start..text.len(),
                    lines: Vec::new(),
                });
                (silent, closing) = (false, false);
                unquoting = next_is_quoted(text, &lines[at..]);
                continue;
            }
            None => {}
        }
        // One level of quoting is how some programs forward.
        let (start, shown) = match line.trim_start().strip_prefix('>') {
            Some(rest) if unquoting => {
                let rest = rest.strip_prefix(' ').unwrap_or(rest);
                (range.start + line.len() - rest.len(), rest)
            }
            _ => (range.start, line),
        };
        silent |= is_signature(text[start..range.end].trim_end_matches(['\r', '\n']));
        if silent || shown.trim_start().starts_with('>') {
            body.passed_over += 1;
            continue;
        }
        let read = Line {
            number: here + 1,
            range: start..range.start + line.len(),
            after_closing: closing,
        };
        closing |= is_closing(shown);
        match &mut body.forwarded {
            Some(forwarded) => forwarded.lines.push(read),
            None => body.own.push(read),
        }
    }
    body
}

fn ended(mut body: Body, at: usize, passed_over: usize) -> Body {
    match &mut body.forwarded {
        Some(forwarded) => forwarded.range.end = at,
        None => body.own_end = at,
    }
    body.passed_over += passed_over;
    body
}

fn lines_of(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    let lines = text.split_inclusive('\n').map(|line| {
        let range = start..start + line.len();
        start = range.end;
        range
    });
    lines.take(MAX_LINES).collect()
}

fn next_is_quoted(text: &str, lines: &[Range<usize>]) -> bool {
    let mut next = lines.iter().take(4).map(|range| text[range.clone()].trim());
    next.find(|line| !line.is_empty())
        .is_some_and(|line| line.starts_with('>'))
}

/// The mark that the first of `lines` is.
fn mark(text: &str, lines: &[Range<usize>]) -> Option<Mark> {
    let line = |at: usize| {
        lines
            .get(at)
            .map(|range| text[range.clone()].trim())
            .unwrap_or_default()
    };
    let first = line(0);
    if first.len() > MAX_MARK || first.is_empty() {
        return None;
    }
    let bare = first.trim_start_matches('>').trim_start().to_lowercase();
    let dashed = bare.starts_with("--") || bare.starts_with("==") || bare.starts_with("**");
    let bare = bare.trim_matches(|c: char| "-=*_ :".contains(c));
    if FORWARDED.iter().any(|mark| bare.starts_with(mark))
        && (dashed || first.ends_with(':') || bare.split_whitespace().count() <= 3)
    {
        return Some(Mark::Forward);
    }
    if dashed && ORIGINAL.iter().any(|mark| bare.starts_with(mark)) {
        return Some(Mark::Original);
    }
    let rule = bare.is_empty() && first.len() >= 10 && !first.contains(char::is_alphanumeric);
    if is_field(first, FROM) && has_block(&line) || rule && is_field(line(1), FROM) {
        return Some(Mark::Original);
    }
    let wrapped = format!("{first} {}", line(1));
    let opens = opens_answer(first) && first.contains(|c: char| c.is_ascii_digit() || c == '@');
    let answered = is_answer(first) || opens && !first.ends_with(':') && is_answer(&wrapped);
    answered.then_some(Mark::Answered)
}

/// Whether `Sent:` or `Subject:` follow on a `From:`.
fn has_block<'t>(line: &impl Fn(usize) -> &'t str) -> bool {
    (1..=BLOCK_LINES).any(|at| is_field(line(at), SENT)) && (1..=BLOCK_LINES + 2).any(|at| is_field(line(at), SUBJECT))
}

fn is_field(line: &str, names: &[&str]) -> bool {
    let line = line.trim_start_matches(['*', '>', ' ']);
    let Some((name, _)) = line.split_once(':') else {
        return false;
    };
    let name = name.trim_matches(['*', ' ', '\u{a0}']);
    name.len() <= 24 && names.contains(&name.to_lowercase().as_str())
}

/// `On Mon, 2 Nov 2026 at 09:14, Jane <jane@example.com> wrote:`
fn is_answer(line: &str) -> bool {
    let line = line.trim();
    if !line.ends_with(':') || line.len() > MAX_MARK {
        return false;
    }
    let lower = line.trim_end_matches(':').to_lowercase();
    opens_answer(&lower) && WROTE.iter().any(|verb| lower.contains(verb))
}

fn opens_answer(line: &str) -> bool {
    let first = line.split([' ', '\u{a0}']).next().unwrap_or_default().to_lowercase();
    #[rustfmt::skip]
    const OPENINGS: [&str; 16] = [
        "on", "am", "le", "el", "il", "op", "w", "dnia", "em", "no", "a", "dne", "den", "dňa", "in", "quoting",
    ];
    OPENINGS.contains(&first.as_str()) || line.contains('@') && line.contains('<')
}

fn is_signature(line: &str) -> bool {
    line == "-- " || line == "--" || line == "\u{2014} " || line == "- -- "
}

/// The words that end a letter, or the phone that wrote it.
fn is_closing(line: &str) -> bool {
    let line = line.trim();
    line.len() <= 120 && {
        let lower = line.to_lowercase();
        // `Thanks,` ends a letter only on a line of its own: `Thanks, please send:` begins one.
        let ends = |closing: &&str| match closing.strip_suffix(',') {
            Some(word) => lower.trim_end_matches([',', '!', '.']) == word,
            None => lower.starts_with(*closing),
        };
        CLOSINGS.iter().any(ends)
    }
}

#[rustfmt::skip]
const FORWARDED: &[&str] = &[
    "forwarded message", "begin forwarded message", "weitergeleitete nachricht", "weitergeleitete e-mail",
    "anfang der weitergeleiteten", "message transféré", "message transmis", "début du message transféré",
    "début du message réexpédié", "courriel transféré", "mensaje reenviado", "inicio del mensaje reenviado",
    "messaggio inoltrato", "inizio messaggio inoltrato", "doorgestuurd bericht", "begin doorgestuurd bericht",
    "przekazana wiadomość", "wiadomość przekazana", "początek przekazanej wiadomości", "mensagem encaminhada",
    "início da mensagem reencaminhada", "mensagem reencaminhada", "přeposlaná zpráva", "začátek přeposlané zprávy",
    "vidarebefordrat meddelande", "vidarebefordrat brev", "start på vidarebefordrat",
];

#[rustfmt::skip]
const ORIGINAL: &[&str] = &[
    "original message", "original-nachricht", "originalnachricht", "original appointment", "ursprüngliche nachricht",
    "urspr. nachricht", "message d'origine", "message original", "mensaje original", "messaggio originale",
    "oorspronkelijk bericht", "wiadomość oryginalna", "oryginalna wiadomość", "mensagem original", "původní zpráva",
    "ursprungligt meddelande", "originalmeddelande", "reply message",
];

const FROM: &[&str] = &[
    "from",
    "von",
    "de",
    "da",
    "van",
    "od",
    "från",
    "expéditeur",
    "mittente",
    "remitente",
];
#[rustfmt::skip]
const SENT: &[&str] = &[
    "sent", "date", "gesendet", "datum", "envoyé", "enviado", "enviado el", "fecha", "inviato", "data", "verzonden",
    "wysłano", "wysłane", "enviada", "enviado em", "odesláno", "skickat", "am",
];
const SUBJECT: &[&str] = &[
    "subject",
    "betreff",
    "objet",
    "asunto",
    "oggetto",
    "onderwerp",
    "temat",
    "assunto",
    "předmět",
    "ämne",
    "sujet",
];

#[rustfmt::skip]
const WROTE: &[&str] = &[
    "wrote", "schrieb", "a écrit", "escribió", "ha scritto", "scrive", "schreef", "napisał", "pisze", "escreveu",
    "napsal", "skrev", "writes",
];

#[rustfmt::skip]
const CLOSINGS: &[&str] = &[
    "best regards", "kind regards", "regards", "warm regards", "best wishes", "yours sincerely", "yours faithfully",
    "sincerely", "cheers", "many thanks,", "thanks,", "mit freundlichen", "freundliche grüße", "freundliche grüsse",
    "viele grüße", "beste grüße", "liebe grüße", "schöne grüße", "mfg", "gruß", "grüße", "cordialement",
    "bien cordialement", "bien à vous", "salutations", "meilleures salutations", "un saludo", "saludos", "atentamente",
    "cordialmente", "cordiali saluti", "distinti saluti", "saluti", "met vriendelijke groet", "vriendelijke groet",
    "groeten", "mvg", "pozdrawiam", "z poważaniem", "z wyrazami", "com os melhores", "melhores cumprimentos",
    "cumprimentos", "atenciosamente", "s pozdravem", "s přátelským", "děkuji a", "med vänliga", "med vänlig",
    "vänliga hälsningar", "hälsningar", "mvh", "sent from", "von meinem", "gesendet von", "envoyé de", "envoyé depuis",
    "enviado desde", "enviado do", "inviato da", "verzonden vanaf", "verstuurd vanaf", "wysłane z", "wysłano z",
    "odesláno z", "skickat från", "get outlook for", "holen sie sich outlook",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of the sender's own and of what is forwarded, lines joined with `/`.
    fn pieces(text: &str, forwards: bool) -> (String, Option<String>) {
        let body = split(text, forwards);
        let join = |lines: &[Line]| {
            let texts = lines
                .iter()
                .map(|line| text[line.range.clone()].trim())
                .filter(|line| !line.is_empty());
            texts.collect::<Vec<_>>().join("/")
        };
        (join(&body.own), body.forwarded.map(|forwarded| join(&forwarded.lines)))
    }

    #[test]
    fn quotes_end_the_senders_own_words_whatever_program_wrote_them() {
        for text in [
            "a\nOn Mon, 2 Nov 2026 at 09:14, Jane <jane@example.com> wrote:\n2 x b",
            "a\nOn Mon, 2 Nov 2026 at 09:14, Jane Miller <jane.miller@example.com>\nwrote:\n\n2 x b",
            "a\nAm 02.11.26 um 09:14 schrieb Jürgen:\n2 x b",
            "a\nLe lun. 2 nov. 2026 à 09:14, Jean <j@x.fr> a écrit :\n2 x b",
            "a\n\n-----Ursprüngliche Nachricht-----\nVon: b\n2 x b",
            "a\n\nVon: Jane\nGesendet: Montag\nAn: b\nBetreff: x\n\n2 x b",
            "a\n________________________________\nFrom: Jane\nSent: Monday\nTo: b\nSubject: x\n\n2 x b",
            "a\n\n*From:* Jane\n*Sent:* Monday\n*To:* b\n*Subject:* x\n\n2 x b",
            "a\nOp 2 nov. 2026 schreef Jan:\n2 x b",
            "a\n-- \n2 x b",
            "a\n> 2 x b",
            "On Monday Jane wrote:\n> 2 x b\n> bye\n\na",
        ] {
            assert_eq!(pieces(text, false), ("a".to_owned(), None), "{text:?}");
        }
    }

    #[test]
    fn what_is_forwarded_is_found() {
        for (text, forwards) in [
            ("fyi\n---------- Forwarded message ---------\nb\n", false),
            (
                "fyi\n-------- Weitergeleitete Nachricht --------\nb\n-- \nsignature",
                false,
            ),
            ("fyi\n-- \nsignature\n\n-----Original Message-----\nb", true),
            ("fyi\n\nBegin forwarded message:\n\n> b\n", false),
            ("fyi\n\nDébut du message transféré :\n\n> b\n", false),
            (
                "fyi\n\n---------- Forwarded message ---------\nb\nOn Monday X wrote:\nc",
                false,
            ),
        ] {
            assert_eq!(
                pieces(text, forwards),
                ("fyi".to_owned(), Some("b".to_owned())),
                "{text:?}"
            );
        }
        let block = "fyi\nVon: J\nGesendet: M\nAn: b\nBetreff: WG\n\nb";
        let (own, forwarded) = pieces(block, true);
        assert!(own == "fyi" && forwarded.is_some_and(|lines| lines.ends_with("Betreff: WG/b")));
    }

    #[test]
    fn prose_is_no_mark() {
        for text in [
            "From: our shop\nwe need more",
            "Please see the forwarded message of Monday, it has all",
            "On Monday we need:",
            "Artikel  Menge\n______________\nA  2",
        ] {
            assert_eq!(pieces(text, false), (text.replace('\n', "/"), None), "{text:?}");
        }
    }

    #[test]
    fn lines_know_where_they_stand() {
        let text = "2 x a\r\nMit freundlichen Grüßen\r\nJ. Grün\r\n";
        let body = split(text, false);
        assert!(is_closing("Thanks,") && !is_closing("Thanks, please send:"));
        assert_eq!(
            body.own.iter().map(|line| line.after_closing).collect::<Vec<_>>(),
            [false, false, true]
        );
        assert_eq!((body.own[2].number, &text[body.own[2].range.clone()]), (3, "J. Grün"));
    }
}
