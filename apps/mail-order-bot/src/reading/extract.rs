//! From a message's leaves to its order lines: which leaf is looked at, and what is said about those that fail.

use super::draft::DraftLine;
use super::explanation::{Explanation, Step, shortened};
use super::mail::IncomingMail;
use super::mime::Leaf;
use super::table::TableReader;
use super::workbook::{self, Container, WorkbookParser, is_workbook, sniff};
use super::{ReadError, ReadingLimits, charset, csv, html, text};
use crate::domain::{AttachmentKind, CustomerProfile, Intent};

/// What a message holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extracted {
    /// The order lines in the order of the message.
    pub lines: Vec<DraftLine>,
    /// What could not be read although it looks like a part of an order; for the customer.
    pub notes: Vec<String>,
    /// What the mail wants.
    pub intent: Intent,
    /// The customer's own number of the order, if the mail gives one.
    pub order_number: Option<String>,
    /// What was recognised and why.
    pub explanation: Explanation,
}

impl Extracted {
    /// Whether there is neither a line nor anything that looks like one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.notes.is_empty()
    }
}

struct Extraction<'a> {
    profile: &'a CustomerProfile,
    known: &'a dyn Fn(&str) -> bool,
    limits: &'a ReadingLimits,
    parser: &'a WorkbookParser,
    found: Extracted,
}

/// What an attachment turned out to be.
enum Attachment {
    Lines(Vec<DraftLine>),
    Problem(String),
    /// Nothing that orders come in: a picture, a PDF, a letter.
    Unrelated,
}

pub(super) fn extract(
    mail: &IncomingMail,
    profile: &CustomerProfile,
    known: &dyn Fn(&str) -> bool,
    limits: &ReadingLimits,
    parser: &WorkbookParser,
) -> Result<Extracted, ReadError> {
    let mut extraction = Extraction {
        profile,
        known,
        limits,
        parser,
        found: Extracted::default(),
    };
    if profile.attachment != AttachmentKind::None {
        extraction.attachments(&mail.leaves)?;
    }
    let only_attachments = matches!(profile.attachment, AttachmentKind::Csv | AttachmentKind::Xlsx);
    if extraction.found.lines.is_empty() && !only_attachments {
        extraction.bodies(&mail.leaves);
    }
    let mut found = extraction.found;
    if found.lines.len() > limits.lines {
        found.notes.push(format!(
            "The order has more than {} lines; please split it.",
            limits.lines
        ));
        found.lines.clear();
    }
    Ok(found)
}

impl Extraction<'_> {
    fn attachments(&mut self, leaves: &[Leaf]) -> Result<(), ReadError> {
        for leaf in leaves.iter().filter(|leaf| !is_body(leaf)) {
            let attachment = self.attachment(leaf)?;
            let (lines, verdict) = match &attachment {
                Attachment::Lines(lines) => (lines.len(), "its lines are the order's"),
                Attachment::Problem(problem) => (0, problem.as_str()),
                Attachment::Unrelated => (0, "nothing that orders come in"),
            };
            self.found.explanation.add(Step::Part {
                part: format!("attachment {}", label(leaf)),
                content_type: shortened(&leaf.content_type),
                verdict: verdict.to_owned(),
                lines,
            });
            match attachment {
                Attachment::Lines(lines) => self.found.lines.extend(lines),
                Attachment::Problem(problem) => {
                    self.found
                        .notes
                        .push(format!("We could not use the attachment {}: {problem}.", label(leaf)));
                }
                Attachment::Unrelated => {}
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
                    Attachment::Unrelated
                } else {
                    return self.workbook(leaf);
                }
            }
            Container::Other if wanted != AttachmentKind::Xlsx && is_text(&leaf.bytes) => self.csv(leaf, named_table),
            _ if named_table => Attachment::Problem("it is not what its name says".to_owned()),
            _ => Attachment::Unrelated,
        })
    }

    fn workbook(&self, leaf: &Leaf) -> Result<Attachment, ReadError> {
        let sheets = match workbook::sheets(&leaf.bytes, self.limits, self.parser)? {
            Ok(sheets) => sheets,
            Err(problem) => return Ok(Attachment::Problem(problem.to_string())),
        };
        let table = self.table(label(leaf), true);
        let mut found = sheets.iter().filter_map(|sheet| table.lines(&sheet.rows));
        Ok(match found.find(|lines| !lines.is_empty()) {
            Some(lines) => Attachment::Lines(lines),
            None => Attachment::Problem(NO_COLUMNS.to_owned()),
        })
    }

    fn csv(&self, leaf: &Leaf, named_table: bool) -> Attachment {
        let declared_table = matches!(leaf.content_type.as_str(), "text/csv" | "text/tab-separated-values");
        if leaf.content_type == "text/html" || leaf.content_type.starts_with("message/") {
            return Attachment::Unrelated;
        }
        let expected = named_table || declared_table;
        if leaf.bytes.len() > self.limits.text_bytes {
            return if expected {
                Attachment::Problem("it is too large".to_owned())
            } else {
                Attachment::Unrelated
            };
        }
        let text = charset::decode(&leaf.bytes, leaf.charset.as_deref());
        match csv::lines(&text, &self.table(label(leaf), expected), self.limits.cells) {
            Some(lines) if !lines.is_empty() => Attachment::Lines(lines),
            _ if expected => Attachment::Problem(NO_COLUMNS.to_owned()),
            _ => Attachment::Unrelated,
        }
    }

    fn bodies(&mut self, leaves: &[Leaf]) {
        let bodies = || {
            leaves
                .iter()
                .filter(|leaf| is_body(leaf) && leaf.bytes.len() <= self.limits.text_bytes)
        };
        let decoded = |leaf: &Leaf| charset::decode(&leaf.bytes, leaf.charset.as_deref());
        let pages: Vec<html::HtmlContent> = bodies()
            .filter(|leaf| leaf.content_type == "text/html")
            .map(|leaf| html::read(&decoded(leaf), self.limits.cells))
            .collect();
        let reader = self.table("table".to_owned(), false);
        let tables = pages.iter().flat_map(|page| &page.tables);
        let mut lines: Vec<DraftLine> = tables.filter_map(|rows| reader.lines(rows)).flatten().collect();
        if lines.is_empty() {
            let plain = bodies().filter(|leaf| leaf.content_type != "text/html");
            lines = plain
                .flat_map(|leaf| text::lines(&decoded(leaf), self.known, self.limits.lines))
                .collect();
        }
        if lines.is_empty() {
            lines = pages
                .iter()
                .flat_map(|page| text::lines(&page.text, self.known, self.limits.lines))
                .collect();
        }
        if pages.iter().any(|page| page.truncated) && !lines.is_empty() {
            self.found
                .notes
                .push("The table in your mail is too large; we read only its beginning.".to_owned());
        }
        self.found.lines = lines;
    }

    fn table(&self, place: String, positional: bool) -> TableReader<'_> {
        TableReader {
            profile: self.profile,
            known: self.known,
            place,
            positional,
        }
    }
}

const NO_COLUMNS: &str = "we found no columns for article and quantity with order lines below them";

/// A text that the reader of the mail sees as its body.
fn is_body(leaf: &Leaf) -> bool {
    !leaf.attachment && leaf.file_name.is_none() && matches!(leaf.content_type.as_str(), "text/plain" | "text/html")
}

fn is_text(bytes: &[u8]) -> bool {
    let utf_16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    utf_16 || !bytes.iter().take(8192).any(|byte| *byte == 0)
}

fn extension(leaf: &Leaf) -> String {
    let name = leaf.file_name.as_deref().unwrap_or_default();
    name.rsplit_once('.')
        .map(|(_, extension)| extension.trim().to_ascii_lowercase())
        .unwrap_or_default()
}

/// The attachment's name for people: never a path, never long.
fn label(leaf: &Leaf) -> String {
    let name = leaf.file_name.as_deref().unwrap_or_default();
    let base: String = name
        .rsplit(['/', '\\'])
        .next()
        .unwrap_or_default()
        .chars()
        .take(80)
        .collect();
    if base.is_empty() { "attachment".to_owned() } else { base }
}
