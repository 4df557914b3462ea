//! What the server in memory answers to each command, from the state of its folders.

use super::{Mail, Shelf, State};

pub(super) fn unquoted(text: &str) -> String {
    text.trim().trim_matches('"').to_owned()
}

pub(super) fn quoted_and_rest(text: &str) -> (String, String) {
    let mut parts = text.splitn(3, '"');
    let (_, name) = (parts.next(), parts.next().unwrap_or_default());
    (name.to_owned(), parts.next().unwrap_or_default().trim().to_owned())
}

pub(super) fn list(state: &State, rest: &str) -> String {
    let pattern = unquoted(rest.split_once(' ').map_or("", |(_, pattern)| pattern));
    if pattern.is_empty() {
        return "* LIST (\\Noselect) \"/\" \"\"\r\n".into();
    }
    let names = state.boxes.keys().filter(|name| pattern == "*" || **name == pattern);
    names.map(|name| format!("* LIST () \"/\" \"{name}\"\r\n")).collect()
}

pub(super) fn select(folder: &Shelf, permanent: &str, parameters: &str) -> String {
    let mut answer = format!(
        "* {} EXISTS\r\n* OK [UIDVALIDITY {}] ok\r\n* OK [UIDNEXT {}] ok\r\n* OK [PERMANENTFLAGS ({permanent})] ok\r\n\
         * OK [HIGHESTMODSEQ {}] ok\r\n",
        folder.mail.len(),
        folder.uid_validity,
        folder.uid_next,
        folder.mod_seq
    );
    let mut words = parameters
        .trim_matches(['(', ')'])
        .split([' ', '(', ')'])
        .filter(|word| !word.is_empty());
    if words.next() == Some("QRESYNC") {
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        if number() == u64::from(folder.uid_validity) {
            let since = number();
            let gone = folder.vanished.iter().filter(|(_, mod_seq)| *mod_seq > since);
            let gone: Vec<String> = gone.map(|(uid, _)| uid.to_string()).collect();
            if !gone.is_empty() {
                answer += &format!("* VANISHED (EARLIER) {}\r\n", gone.join(","));
            }
            for (mail, number) in folder.mail.iter().zip(1..).filter(|(mail, _)| mail.mod_seq > since) {
                answer += &format!("* {number} FETCH ({})\r\n", flags_of(mail));
            }
        }
    }
    answer
}

fn flags_of(mail: &Mail) -> String {
    let flags: Vec<&str> = mail.flags.iter().map(String::as_str).collect();
    format!("UID {} FLAGS ({}) MODSEQ ({})", mail.uid, flags.join(" "), mail.mod_seq)
}

/// Whether a set such as `1:3,7,9:*` holds a UID; `*` is the last message's.
fn holds(set: &str, uid: u32, folder: &Shelf) -> bool {
    let last = folder.mail.last().map_or(0, |mail| mail.uid);
    let number = |text: &str| if text == "*" { last } else { text.parse().unwrap_or(0) };
    set.split(',').any(|part| {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        let (from, to) = (number(from), number(to));
        (from.min(to)..=from.max(to)).contains(&uid)
    })
}

pub(super) fn search(folder: &Shelf, criteria: &str) -> String {
    let fits = |mail: &&Mail| {
        let mut words = criteria.split(' ');
        while let Some(word) = words.next() {
            let fits = match word {
                "UID" => holds(words.next().unwrap_or_default(), mail.uid, folder),
                "UNSEEN" => !mail.flags.contains("\\Seen"),
                "UNDELETED" => !mail.flags.contains("\\Deleted"),
                "UNKEYWORD" => !mail.flags.contains(words.next().unwrap_or_default()),
                "ALL" => true,
                other => panic!("the model can't search for {other}"),
            };
            if !fits {
                return false;
            }
        }
        true
    };
    let found: String = folder
        .mail
        .iter()
        .filter(fits)
        .map(|mail| format!(" {}", mail.uid))
        .collect();
    format!("* SEARCH{found}\r\n")
}

pub(super) fn fetch(folder: &Shelf, rest: &str) -> String {
    let (set, items) = rest.split_once(' ').unwrap_or((rest, ""));
    let mut answer = String::new();
    for (mail, number) in folder
        .mail
        .iter()
        .zip(1..)
        .filter(|(mail, _)| holds(set, mail.uid, folder))
    {
        let mut parts = vec![format!("UID {}", mail.uid)];
        if items.contains("FLAGS") {
            parts = vec![flags_of(mail)];
        }
        if items.contains("RFC822.SIZE") {
            parts.push(format!("RFC822.SIZE {}", mail.body.len()));
        }
        if let Some((_, partial)) = items.split_once("BODY.PEEK[]") {
            let piece = piece_of(&mail.body, partial);
            let (offset, body) = piece.unwrap_or_else(|| (String::new(), &mail.body));
            let text = String::from_utf8_lossy(body);
            parts.push(format!("BODY[]{offset} {{{}}}\r\n{text}", body.len()));
        }
        answer += &format!("* {number} FETCH ({})\r\n", parts.join(" "));
    }
    answer
}

/// What `<10.5>` cuts out of a body, and how the answer names it.
fn piece_of<'b>(body: &'b [u8], partial: &str) -> Option<(String, &'b [u8])> {
    let (offset, length) = partial.strip_prefix('<')?.split_once('>')?.0.split_once('.')?;
    let (offset, length): (usize, usize) = (offset.parse().ok()?, length.parse().ok()?);
    let rest = body.get(offset..).unwrap_or_default();
    Some((format!("<{offset}>"), &rest[..length.min(rest.len())]))
}

pub(super) fn store(folder: &mut Shelf, rest: &str) -> String {
    let (set, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (item, flags) = rest.split_once(' ').unwrap_or((rest, ""));
    let uids: Vec<u32> = folder.mail.iter().map(|mail| mail.uid).collect();
    for uid in uids
        .into_iter()
        .filter(|&uid| holds(set, uid, folder))
        .collect::<Vec<_>>()
    {
        for flag in flags.trim_matches(['(', ')']).split(' ') {
            folder.flag(uid, flag);
        }
    }
    if item.ends_with(".SILENT") {
        return String::new();
    }
    let marked = folder
        .mail
        .iter()
        .zip(1..)
        .filter(|(mail, _)| holds(set, mail.uid, folder));
    marked
        .map(|(mail, number)| format!("* {number} FETCH ({})\r\n", flags_of(mail)))
        .collect()
}

pub(super) fn expunge(folder: &mut Shelf, set: &str) -> String {
    let gone = folder
        .mail
        .iter()
        .filter(|mail| mail.flags.contains("\\Deleted") && holds(set, mail.uid, folder));
    let gone: Vec<u32> = gone.map(|mail| mail.uid).collect();
    gone.into_iter().for_each(|uid| folder.expunge(uid));
    String::new()
}

pub(super) fn copy(state: &mut State, from: &str, rest: &str, moves: bool) -> String {
    let (set, name) = rest.split_once(' ').unwrap_or((rest, ""));
    let name = unquoted(name);
    if !state.boxes.contains_key(&name) {
        return "NO [TRYCREATE] no such folder".into();
    }
    let source = state.folder(from);
    let copied: Vec<Mail> = source
        .mail
        .iter()
        .filter(|mail| holds(set, mail.uid, source))
        .cloned()
        .collect();
    if copied.is_empty() {
        return String::new();
    }
    if moves {
        copied.iter().for_each(|mail| source.expunge(mail.uid));
    }
    let target = state.folder(&name);
    let validity = target.uid_validity;
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for mail in copied {
        old.push(mail.uid.to_string());
        new.push(target.add(mail.body, mail.flags).to_string());
    }
    let code = format!("[COPYUID {validity} {} {}]", old.join(","), new.join(","));
    match moves {
        true => format!("* OK {code} moved\r\n"),
        false => format!("OK {code}\r\n"),
    }
}
