//! From a message to its order lines: which of its parts are looked at, in which order, and what is said about each.
//! The readers of single kinds of content are in the modules beside.

mod attachments;
mod bodies;

use super::draft::DraftLine;
use super::explanation::{Explanation, Step, shortened};
use super::intent::{self, Clues};
use super::mail::{self, IncomingMail};
use super::mime::Leaf;
use super::table::TableReader;
use super::text;
use super::workbook::WorkbookParser;
use super::{ReadError, ReadingLimits};
use crate::domain::{AttachmentKind, CustomerProfile, Intent, Measure};

/// Messages inside the message that are read, and how deep they may lie.
const MAX_NESTED: usize = 10;
const MAX_NESTING: usize = 4;

/// What a message holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extracted {
    /// The order lines in the order of the message.
    pub lines: Vec<DraftLine>,
    /// What could not be read although it looks like a part of an order; for the customer.
    pub notes: Vec<String>,
    /// Where there is no line: what may be one all the same, or names an article in a cancellation, and is not understood;
    /// for whoever has to look at it.
    pub unclear: Vec<String>,
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
    /// Where the lines come from.
    source: Option<String>,
    /// Messages inside the message that were opened.
    nested: usize,
}

/// A message, or one inside it.
struct Letter<'m> {
    subject: &'m str,
    leaves: &'m [Leaf],
    /// Put before the names of its parts.
    prefix: String,
    depth: usize,
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
        source: None,
        nested: 0,
    };
    let letter = Letter {
        subject: &mail.subject,
        leaves: &mail.leaves,
        prefix: String::new(),
        depth: 0,
    };
    let own = extraction.letter(&letter)?;
    extraction.recognise(mail, &own);
    extraction.unreadable(&letter);
    let mut found = extraction.found;
    if !found.is_empty() {
        found.unclear.clear();
    }
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
    /// Looks for lines in a message: its attachments, its bodies, what these forward, the messages inside it. The first
    /// that has any wins. Returns the sender's own words.
    fn letter(&mut self, letter: &Letter<'_>) -> Result<Vec<String>, ReadError> {
        let wanted = self.profile.attachment;
        if wanted == AttachmentKind::None {
            self.profile_says("attachment = \"none\": attachments are not looked at");
        } else {
            self.attachments(letter)?;
        }
        let bodies = self.read_bodies(letter);
        if matches!(wanted, AttachmentKind::Csv | AttachmentKind::Xlsx) {
            self.profile_says("attachment: the text of the mail is not looked at");
        } else {
            self.bodies(&bodies, false);
            self.bodies(&bodies, true);
        }
        self.messages(letter)?;
        let own = bodies::own_words(&bodies);
        self.number(letter, &own, &bodies);
        Ok(own)
    }

    /// The messages inside the message.
    fn messages(&mut self, letter: &Letter<'_>) -> Result<(), ReadError> {
        for leaf in letter.leaves.iter().filter(|leaf| is_message(leaf)) {
            let part = format!("{}forwarded message {}", letter.prefix, label(leaf));
            if self.source.is_some() {
                self.passed_over(&part, leaf);
                continue;
            }
            self.nested += 1;
            if self.nested > MAX_NESTED || letter.depth == MAX_NESTING {
                self.part(
                    &part,
                    leaf,
                    "too many or too deep messages inside the message; it is not opened",
                    0,
                );
                continue;
            }
            // What it nests is counted anew, but its bytes are bytes of the message, so the work stays linear.
            let inner = match mail::parse(&leaf.bytes, self.limits) {
                Ok(inner) => inner,
                Err(problem) => {
                    self.part(&part, leaf, &format!("it is not opened: {problem}"), 0);
                    continue;
                }
            };
            let sender = inner.from.as_ref().map_or("nobody", |from| from.address.as_str());
            let told = format!("a message from {sender}, \"{}\", is opened", shortened(&inner.subject));
            self.part(&part, leaf, &told, 0);
            self.letter(&Letter {
                subject: &inner.subject,
                leaves: &inner.leaves,
                prefix: format!("{part} > "),
                depth: letter.depth + 1,
            })?;
        }
        Ok(())
    }

    /// Says what the mail wants.
    fn recognise(&mut self, mail: &IncomingMail, own: &[String]) {
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let recognised = intent::recognise(Clues {
            subject: &mail.subject,
            own: &own,
            answers: !mail.references.is_empty(),
            numbered: self.found.order_number.is_some(),
            has_lines: !self.found.lines.is_empty(),
        });
        if recognised.intent == Intent::Cancellation && self.found.lines.is_empty() {
            let names = own.iter().filter(|line| text::names_article(line, self.known));
            let named: Vec<String> = names.map(|line| format!("{:?}", shortened(line))).collect();
            self.found.unclear.extend(named);
        }
        self.found.intent = recognised.intent;
        self.found.explanation.add(Step::Intent {
            intent: recognised.intent,
            why: recognised.why,
        });
    }

    /// The customer's number of the order, where it isn't known yet.
    fn number(&mut self, letter: &Letter<'_>, own: &[String], bodies: &[bodies::BodyPart]) {
        if self.found.order_number.is_some() {
            return;
        }
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let forwarded = bodies::forwarded_words(bodies);
        let forwarded: Vec<&str> = forwarded.iter().map(String::as_str).collect();
        let names: Vec<String> = letter.leaves.iter().filter(|leaf| !is_body(leaf)).map(label).collect();
        let names: Vec<&str> = names
            .iter()
            .map(|name| name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem))
            .collect();
        let in_text = |subject, lines: &[&str], what: &str| {
            intent::order_number(subject, lines).map(|(number, at)| match at {
                0 => (number, "the subject".to_owned()),
                at => (number, format!("{what} {at}")),
            })
        };
        let found = in_text(letter.subject, &own, "text line")
            .or_else(|| in_text("", &forwarded, "forwarded line"))
            .or_else(|| in_text("", &names, "the name of attachment"));
        if let Some((number, place)) = found {
            self.found.explanation.add(Step::OrderNumber {
                number: number.clone(),
                place: format!("{}{place}", letter.prefix),
            });
            self.found.order_number = Some(number);
        }
    }

    /// Where nothing was found, a document that must be the order deserves an answer.
    fn unreadable(&mut self, letter: &Letter<'_>) {
        if !self.found.is_empty() || self.found.intent != Intent::Order {
            return;
        }
        let document = letter
            .leaves
            .iter()
            .find(|leaf| attachments::is_unreadable_order(leaf, letter.subject));
        if let Some(leaf) = document {
            self.found.notes.push(format!(
                "We could not use the attachment {}: we read orders from XLSX, XLS, ODS and CSV files, and from tables and \
                 lines of text in the mail.",
                label(leaf)
            ));
        }
    }

    /// Whether these lines are the same as earlier ones, in another form.
    fn is_repetition(&self, lines: &[DraftLine]) -> bool {
        !self.found.lines.is_empty() && self.are_same(&self.found.lines, lines)
    }

    /// Whether these are the same articles in the same quantities, in whatever order.
    fn are_same(&self, some: &[DraftLine], others: &[DraftLine]) -> bool {
        let key = |lines: &[DraftLine]| {
            let mut key: Vec<(String, String)> = lines.iter().map(|line| self.essence(line)).collect();
            key.sort_unstable();
            key
        };
        some.len() == others.len() && key(some) == key(others)
    }

    fn essence(&self, line: &DraftLine) -> (String, String) {
        let style = if line.quantity.machine {
            crate::domain::DecimalStyle::Point
        } else {
            self.profile.decimal
        };
        let amount = Measure::parse(&line.quantity.text, style).map(|measure| measure.amount.to_string());
        (
            line.article.to_lowercase(),
            amount.unwrap_or_else(|_| line.quantity.text.clone()),
        )
    }

    fn profile_says(&mut self, setting: &str) {
        let step = Step::Profile {
            setting: setting.to_owned(),
        };
        if !self.found.explanation.steps.contains(&step) {
            self.found.explanation.add(step);
        }
    }

    fn part(&mut self, part: &str, leaf: &Leaf, verdict: &str, lines: usize) {
        self.found.explanation.add(Step::Part {
            part: part.to_owned(),
            content_type: shortened(&leaf.content_type),
            verdict: verdict.to_owned(),
            lines,
        });
    }

    /// A part that is not looked at, because the order was found.
    fn passed_over(&mut self, part: &str, leaf: &Leaf) {
        let source = self.source.clone().unwrap_or_default();
        self.part(part, leaf, &format!("not looked at: the order is in {source}"), 0);
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

/// A text that the reader of the mail sees as its body.
fn is_body(leaf: &Leaf) -> bool {
    !leaf.attachment && leaf.file_name.is_none() && matches!(leaf.content_type.as_str(), "text/plain" | "text/html")
}

fn is_message(leaf: &Leaf) -> bool {
    matches!(leaf.content_type.as_str(), "message/rfc822" | "message/global") || extension(leaf) == "eml"
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
    if base.is_empty() {
        "without a name".to_owned()
    } else {
        base
    }
}
