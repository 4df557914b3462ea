//! Attachments → order lines: what each turns out to be by its content, whatever it is called.

use super::super::draft::DraftLine;
use super::super::explanation::Explanation;
use super::super::mime::Leaf;
use super::super::table::{Sheet, TableLines};
use super::super::workbook::{self, Container, is_workbook, sniff};
use super::super::{ReadError, charset, csv, html, intent, plain};
use super::{Extraction, Letter, bodies, extension, is_body, is_message, label};
use crate::domain::AttachmentKind;

/// Rows above the headings in which the number of the order may stand.
const TITLE_ROWS: usize = 10;
/// How text may be encoded that is neither UTF-8 nor what it was declared to be: Central European, Macintosh, Cyrillic.
const OTHER_CHARSETS: [&str; 4] = ["windows-1250", "iso-8859-2", "macintosh", "windows-1251"];

/// What an attachment turned out to be.
enum Attachment {
    Lines {
        lines: Vec<DraftLine>,
        explanation: Explanation,
        kind: &'static str,
        /// For the customer.
        notes: Vec<String>,
        order_number: Option<String>,
    },
    Problem(String),
    /// Nothing that orders come in: a picture, a PDF, a letter.
    Unrelated(&'static str),
}

const NO_COLUMNS: &str = "we found no columns for article and quantity with order lines below them";

impl Extraction<'_> {
    /// Takes the lines of all attachments together.
    pub(super) fn attachments(&mut self, letter: &Letter<'_>) -> Result<(), ReadError> {
        let earlier = self.source.clone();
        for leaf in letter.leaves.iter().filter(|leaf| !is_body(leaf) && !is_message(leaf)) {
            let part = format!("{}attachment {}", letter.prefix, label(leaf));
            if earlier.is_some() {
                self.passed_over(&part, leaf);
                continue;
            }
            match self.attachment(leaf)? {
                Attachment::Lines { lines, .. } if self.is_repetition(&lines) => {
                    let source = self.source.clone().unwrap_or_default();
                    self.part(
                        &part,
                        leaf,
                        &format!("the same lines as in {source}; they count once"),
                        0,
                    );
                }
                Attachment::Lines {
                    lines,
                    explanation,
                    kind,
                    notes,
                    order_number,
                } => {
                    self.part(&part, leaf, &format!("its lines are the order's: {kind}"), lines.len());
                    explanation
                        .steps
                        .into_iter()
                        .for_each(|step| self.found.explanation.add(step));
                    self.found.lines.extend(lines);
                    self.found.notes.extend(notes);
                    self.source.get_or_insert(part);
                    if self.found.order_number.is_none() {
                        self.found.order_number = order_number;
                    }
                }
                Attachment::Problem(problem) => {
                    self.part(&part, leaf, &format!("it can't be used: {problem}"), 0);
                    let note = format!("We could not use the attachment {}: {problem}.", label(leaf));
                    self.found.notes.push(note);
                }
                Attachment::Unrelated(why) => self.part(&part, leaf, why, 0),
            }
            if self.found.lines.len() > self.limits.lines {
                break;
            }
        }
        Ok(())
    }

    fn attachment(&self, leaf: &Leaf) -> Result<Attachment, ReadError> {
        let extension = extension(leaf);
        let named_workbook = matches!(extension.as_str(), "xlsx" | "xlsm" | "xls" | "ods");
        let named_table = named_workbook || matches!(extension.as_str(), "csv" | "tsv");
        let wanted = self.profile.attachment;
        Ok(match sniff(&leaf.bytes) {
            Container::Zip | Container::Ole if named_workbook || is_workbook(&leaf.bytes) => {
                if wanted == AttachmentKind::Csv {
                    Attachment::Unrelated("a workbook; the profile wants CSV")
                } else {
                    return self.workbook(leaf);
                }
            }
            Container::Other if leaf.bytes.starts_with(b"%PDF") => {
                Attachment::Unrelated("a PDF; orders are not read from these")
            }
            Container::Other if is_text(&leaf.bytes) => self.text(leaf, named_table),
            _ if named_table => Attachment::Problem("it is not what its name says".to_owned()),
            _ => Attachment::Unrelated("nothing that orders come in"),
        })
    }

    fn workbook(&self, leaf: &Leaf) -> Result<Attachment, ReadError> {
        let sheets = match workbook::sheets(&leaf.bytes, self.limits, self.parser)? {
            Ok(sheets) => sheets,
            Err(problem) => return Ok(Attachment::Problem(problem.to_string())),
        };
        let Some(wanted) = self.wanted(&sheets) else {
            let name = self.profile.sheet.as_deref().unwrap_or_default();
            return Ok(Attachment::Problem(format!("it has no sheet {name:?}")));
        };
        let several = sheets.iter().filter(|sheet| !sheet.rows.is_empty()).count() > 1;
        let place = |sheet: &Sheet| {
            if several {
                format!("{}, sheet {}", label(leaf), sheet.name)
            } else {
                label(leaf)
            }
        };
        let tables = wanted.iter().filter_map(|sheet| {
            let table = self.table(place(sheet), true).lines(&sheet.rows)?;
            (!table.lines.is_empty()).then_some((*sheet, table))
        });
        let mut tables = tables;
        let Some((sheet, TableLines { lines, explanation })) = tables.next() else {
            return Ok(Attachment::Problem(NO_COLUMNS.to_owned()));
        };
        let further = tables.find(|(_, table)| !self.are_same(&lines, &table.lines));
        let note = further.map(|(further, _)| {
            format!(
                "The attachment {} has order lines on the sheets {:?} and {:?}; we read only the first of them.",
                label(leaf),
                sheet.name,
                further.name
            )
        });
        let titles = sheet.rows.iter().take(TITLE_ROWS).map(|row| {
            let filled = row.cells.iter().filter(|cell| !cell.is_empty()).take(6);
            filled.map(|cell| cell.text.as_str()).collect::<Vec<_>>().join(" ")
        });
        let titles: Vec<String> = titles.collect();
        Ok(Attachment::Lines {
            lines,
            explanation,
            kind: "a workbook",
            notes: note.into_iter().collect(),
            order_number: number_in_titles(&titles),
        })
    }

    /// The sheets that may hold the order.
    fn wanted<'s>(&self, sheets: &'s [Sheet]) -> Option<Vec<&'s Sheet>> {
        let Some(name) = &self.profile.sheet else {
            return Some(sheets.iter().collect());
        };
        let named = sheets
            .iter()
            .find(|sheet| sheet.name.to_lowercase() == name.trim().to_lowercase());
        let numbered = || {
            name.trim()
                .parse::<usize>()
                .ok()
                .and_then(|number| sheets.get(number.checked_sub(1)?))
        };
        named.or_else(numbered).map(|sheet| vec![sheet])
    }

    fn text(&self, leaf: &Leaf, named_table: bool) -> Attachment {
        let declared_table = matches!(leaf.content_type.as_str(), "text/csv" | "text/tab-separated-values");
        let expected = named_table || declared_table;
        if self.profile.attachment == AttachmentKind::Xlsx {
            return Attachment::Unrelated("a text; the profile wants a workbook");
        }
        if leaf.bytes.len() > self.limits.text_bytes {
            return if expected {
                Attachment::Problem("it is too large".to_owned())
            } else {
                Attachment::Unrelated("a text that is too large to be an order")
            };
        }
        let is_page = leaf.content_type == "text/html" || matches!(extension(leaf).as_str(), "html" | "htm");
        if is_page {
            return self.page(leaf);
        }
        for text in decodings(leaf) {
            match csv::lines(&text, &self.table(label(leaf), expected), self.limits.cells) {
                Ok(Some(TableLines { lines, explanation })) if !lines.is_empty() => {
                    let titles: Vec<String> = text
                        .lines()
                        .take(TITLE_ROWS)
                        .map(|line| line.replace([';', '\t', ','], " "))
                        .collect();
                    return Attachment::Lines {
                        lines,
                        explanation,
                        kind: "a table in CSV",
                        notes: Vec::new(),
                        order_number: number_in_titles(&titles),
                    };
                }
                Ok(_) => {}
                Err(csv::TooManyCells) => return Attachment::Problem("it has more content than we accept".to_owned()),
            }
        }
        if extension(leaf) == "txt" || leaf.content_type == "text/plain" {
            let text = plain::plain(charset::decode(&leaf.bytes, leaf.charset.as_deref()));
            let found = bodies::letter_lines(&text, &self.table(label(leaf), false), self.limits.lines);
            if !found.lines.is_empty() {
                let titles: Vec<String> = text.lines().take(TITLE_ROWS).map(str::to_owned).collect();
                let notes = found.notes();
                return Attachment::Lines {
                    lines: found.lines,
                    explanation: found.explanation,
                    kind: found.form,
                    notes,
                    order_number: number_in_titles(&titles),
                };
            }
        }
        if expected {
            Attachment::Problem(NO_COLUMNS.to_owned())
        } else {
            Attachment::Unrelated("a text without order lines")
        }
    }

    /// A web page as an attachment.
    fn page(&self, leaf: &Leaf) -> Attachment {
        let page = html::read(
            &plain::plain(charset::decode(&leaf.bytes, leaf.charset.as_deref())),
            self.limits.cells,
            true,
        );
        let reader = self.table(label(leaf), false);
        let table = page
            .tables
            .iter()
            .filter_map(|table| reader.lines(&table.rows))
            .find(|table| !table.lines.is_empty());
        match table {
            Some(TableLines { lines, explanation }) => Attachment::Lines {
                lines,
                explanation,
                kind: "a table of a web page",
                notes: Vec::new(),
                order_number: None,
            },
            None => Attachment::Unrelated("a web page without order lines"),
        }
    }
}

/// The text of a leaf, as it is declared and, if it is in no Unicode, as it may be meant.
fn decodings(leaf: &Leaf) -> impl Iterator<Item = String> {
    let first = match utf_16_without_mark(&leaf.bytes) {
        Some(charset) => charset::decode(&leaf.bytes, Some(charset)),
        None => charset::decode(&leaf.bytes, leaf.charset.as_deref()),
    };
    let unicode = std::str::from_utf8(&leaf.bytes).is_ok() || leaf.bytes.contains(&0);
    let others = OTHER_CHARSETS.into_iter().filter(move |_| !unicode);
    let others = others.map(|charset| charset::decode(&leaf.bytes, Some(charset)));
    std::iter::once(first).chain(others).map(plain::plain)
}

fn is_text(bytes: &[u8]) -> bool {
    let utf_16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    utf_16 || utf_16_without_mark(bytes).is_some() || !bytes.iter().take(8192).any(|byte| *byte == 0)
}

/// Which half of each pair is zero tells, as long as the text is mostly Latin.
fn utf_16_without_mark(bytes: &[u8]) -> Option<&'static str> {
    let sample = &bytes[..bytes.len().min(2_048) & !1];
    if sample.len() < 8 {
        return None;
    }
    let zeros = |half: usize| sample.iter().skip(half).step_by(2).filter(|byte| **byte == 0).count();
    let pairs = sample.len() / 2;
    match (zeros(0), zeros(1)) {
        (0, high) if high * 10 > pairs * 8 => Some("utf-16le"),
        (high, 0) if high * 10 > pairs * 8 => Some("utf-16be"),
        _ => None,
    }
}

fn number_in_titles(titles: &[String]) -> Option<String> {
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    intent::order_number("", &titles).map(|(number, _)| number)
}

/// A document that must be an order, by its name or the subject, in a form that isn't read.
pub(super) fn is_unreadable_order(leaf: &Leaf, subject: &str) -> bool {
    #[rustfmt::skip]
    const ORDER: [&str; 12] = [
        "order", "bestell", "auftrag", "commande", "pedido", "ordine", "zamówien", "zamowien", "encomenda", "objedn", "beställ", "purchase",
    ];
    let document = matches!(
        extension(leaf).as_str(),
        "pdf" | "doc" | "docx" | "odt" | "rtf" | "zip" | "rar" | "7z" | "pages" | "numbers" | "xps"
    );
    let wrapped = leaf.content_type == "application/ms-tnef" || label(leaf).eq_ignore_ascii_case("winmail.dat");
    let named = |text: &str| {
        let text = text.to_lowercase();
        ORDER.iter().any(|word| text.contains(word))
    };
    document && (named(&label(leaf)) || named(subject)) || wrapped && named(subject)
}
