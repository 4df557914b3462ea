//! The text and HTML that the reader of a mail sees → order lines: the sender's own words first, then what they forward.

use super::super::body::{self, Body, Line};
use super::super::charset;
use super::super::explanation::shortened;
use super::super::html::{self, HtmlTable};
use super::super::mime::Leaf;
use super::super::plain::plain;
use super::super::table::{TableLines, TableReader};
use super::super::text::{self, LetterLine, TextLines};
use super::super::text_table::TextLine;
use super::{Extraction, Letter, is_body};

/// A body, taken apart.
pub(super) struct BodyPart<'m> {
    leaf: &'m Leaf,
    /// What it is called.
    name: String,
    text: String,
    body: Body,
    tables: Vec<HtmlTable>,
    html: bool,
    truncated: bool,
}

/// Beginnings of subjects of forwarded mails; what answers begin with is not among them.
const FORWARDS: [&str; 16] = [
    "fw:",
    "fwd:",
    "wg:",
    "tr:",
    "rv:",
    "i:",
    "doorst:",
    "pd:",
    "enc:",
    "vb:",
    "vs:",
    "přep:",
    "fw :",
    "fwd :",
    "tr :",
    "weitergeleitet:",
];

impl Extraction<'_> {
    pub(super) fn read_bodies<'m>(&mut self, letter: &Letter<'m>) -> Vec<BodyPart<'m>> {
        let subject = letter.subject.trim_start().to_lowercase();
        let forwards = FORWARDS.iter().any(|mark| subject.starts_with(mark));
        let mut parts = Vec::new();
        for leaf in letter.leaves.iter().filter(|leaf| is_body(leaf)) {
            let html = leaf.content_type == "text/html";
            let name = format!("{}{} body", letter.prefix, if html { "HTML" } else { "text" });
            if leaf.bytes.len() > self.limits.text_bytes {
                self.part(&name, leaf, "too large to be read", 0);
                self.found.unclear.push(format!("the {name} is too large to be read"));
                continue;
            }
            let decoded = plain(charset::decode(&leaf.bytes, leaf.charset.as_deref()));
            let (text, tables, truncated) = if html {
                let page = html::read(&decoded, self.limits.cells, forwards);
                (page.text, page.tables, page.truncated)
            } else {
                (decoded, Vec::new(), false)
            };
            parts.push(BodyPart {
                leaf,
                name,
                body: body::split(&text, forwards),
                text,
                tables,
                html,
                truncated,
            });
        }
        parts
    }

    /// Looks for lines in what the sender wrote, or in what is `forwarded` there: tables of HTML, then text, then the text of
    /// HTML.
    pub(super) fn bodies(&mut self, parts: &[BodyPart<'_>], forwarded: bool) {
        let parts: Vec<&BodyPart<'_>> = parts
            .iter()
            .filter(|part| !forwarded || part.body.forwarded.is_some())
            .collect();
        if self.source.is_some() {
            for part in parts.iter().filter(|_| !forwarded) {
                self.passed_over(&part.name, part.leaf);
            }
            return;
        }
        let name = |part: &BodyPart<'_>| format!("{}{}", part.name, if forwarded { ", what it forwards" } else { "" });
        for part in &parts {
            let found = self.tables(part, forwarded);
            if !found.lines.is_empty() {
                let kind = TextLines {
                    lines: found.lines,
                    explanation: found.explanation,
                    form: "a table of the page",
                    unclear: Vec::new(),
                };
                self.take(part, &name(part), kind);
            }
        }
        for html in [false, true] {
            // The text of an HTML body is the same as that of the text body beside it.
            if self.source.is_some() {
                break;
            }
            for part in parts.iter().filter(|part| part.html == html) {
                let found = self.letter_of(part, forwarded);
                self.take(part, &name(part), found);
            }
        }
        let source = self.source.clone();
        for part in &parts {
            let taken = source.as_deref() == Some(&name(part));
            if !taken && !self.told(&name(part)) {
                let verdict = match &source {
                    Some(source) => format!("not needed: the order is in {source}"),
                    None => "no order lines".to_owned(),
                };
                self.part(&name(part), part.leaf, &verdict, 0);
            }
        }
        if parts.iter().any(|part| part.truncated) && source.is_some() {
            let note = "The table in your mail is too large; we read only its beginning.";
            self.found.notes.push(note.to_owned());
        }
    }

    fn take(&mut self, part: &BodyPart<'_>, name: &str, found: TextLines) {
        if !found.lines.is_empty() {
            let step = found.told(name, &shortened(&part.leaf.content_type));
            self.found.explanation.add(step);
            self.source = Some(name.to_owned());
            self.found.notes.extend(found.notes());
        } else {
            self.found
                .unclear
                .extend(found.unclear.iter().map(|line| format!("{line:?}")));
        }
        found
            .explanation
            .steps
            .into_iter()
            .for_each(|step| self.found.explanation.add(step));
        self.found.lines.extend(found.lines);
    }

    fn told(&self, name: &str) -> bool {
        let of_part = |step: &super::Step| matches!(step, super::Step::Part { part, .. } if part == name);
        self.found.explanation.steps.iter().any(of_part)
    }

    /// The lines of all order tables of a page.
    fn tables(&self, part: &BodyPart<'_>, forwarded: bool) -> TableLines {
        let reader = self.table("table".to_owned(), false);
        let belongs = |table: &&HtmlTable| match &part.body.forwarded {
            Some(inner) if forwarded => inner.range.contains(&table.at),
            _ => !forwarded && table.at < part.body.own_end.max(1),
        };
        let mut all = TableLines::default();
        for table in part
            .tables
            .iter()
            .filter(belongs)
            .filter_map(|table| reader.lines(&table.rows))
        {
            if !table.lines.is_empty() {
                all.lines.extend(table.lines);
                table
                    .explanation
                    .steps
                    .into_iter()
                    .for_each(|step| all.explanation.add(step));
            }
        }
        all
    }

    fn letter_of(&self, part: &BodyPart<'_>, forwarded: bool) -> TextLines {
        let lines = match (&part.body.forwarded, forwarded) {
            (Some(forwarded), true) => &forwarded.lines,
            _ => &part.body.own,
        };
        let reader = self.table("text".to_owned(), false);
        text::lines(&letter(&part.text, lines), &reader, self.limits.lines)
    }
}

/// The lines of a text that is a letter of its own.
pub(super) fn letter_lines(text: &str, reader: &TableReader<'_>, most: usize) -> TextLines {
    let body = body::split(text, false);
    text::lines(&letter(text, &body.own), reader, most)
}

fn letter<'t>(text: &'t str, lines: &[Line]) -> Vec<LetterLine<'t>> {
    let line = |line: &Line| LetterLine {
        line: TextLine {
            number: line.number,
            text: &text[line.range.clone()],
        },
        after_closing: line.after_closing,
    };
    lines.iter().map(line).collect()
}

/// What the sender wrote: of the text where there is one, else of the page.
pub(super) fn own_words(parts: &[BodyPart<'_>]) -> Vec<String> {
    words(parts, |body| body.own.as_slice())
}

/// What is forwarded in the text.
pub(super) fn forwarded_words(parts: &[BodyPart<'_>]) -> Vec<String> {
    words(parts, |body| {
        body.forwarded
            .as_ref()
            .map_or(&[], |forwarded| forwarded.lines.as_slice())
    })
}

fn words<'b>(parts: &'b [BodyPart<'_>], lines: impl Fn(&'b Body) -> &'b [Line]) -> Vec<String> {
    /// More than are looked at.
    const MOST: usize = 200;
    let has_text = |part: &&BodyPart<'_>| !part.text.trim().is_empty();
    let plain = parts.iter().filter(|part| !part.html).find(has_text);
    let Some(part) = plain.or_else(|| parts.iter().find(has_text)) else {
        return Vec::new();
    };
    let text = |line: &Line| {
        part.text[line.range.clone()]
            .trim()
            .chars()
            .take(400)
            .collect::<String>()
    };
    lines(&part.body).iter().take(MOST).map(text).collect()
}
