//! What is fuzzed, with which samples, and what has to hold of every input. A panic anywhere is a failure.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use mail_order_bot::desk::{DeskOptions, DeskSettings, Processed};
use mail_order_bot::domain::{Catalogue, CustomerProfile, LineStatus};
use mail_order_bot::reading::{self, ReadError, ReadingLimits, WorkbookParser};
use mail_order_bot::samples::generate::order_mails;
use mail_order_bot::samples::{SAMPLES, hostile, workbook};
use mail_order_bot::store::OrderStore;
use mail_order_bot::{OrderDesk, intake};
use mail_parser::{Message, MessageParser};

use super::mutate::{Mutator, chance};

pub(super) const NAMES: [&str; 3] = ["orders", "spreadsheets", "replies"];

#[derive(Clone, Copy)]
pub(super) enum Target {
    /// A message to its checked lines.
    Orders,
    /// A workbook to its sheets, in the child process.
    Spreadsheets,
    /// A message to the answer that is put into the outbox.
    Replies,
}

impl Target {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "orders" => Some(Self::Orders),
            "spreadsheets" => Some(Self::Spreadsheets),
            "replies" => Some(Self::Replies),
            _ => None,
        }
    }

    pub(super) fn seeds(self) -> Vec<Vec<u8>> {
        match self {
            Self::Orders | Self::Replies => messages(),
            Self::Spreadsheets => workbooks(),
        }
    }

    /// The input of this number, under its own Message-ID where that matters.
    pub(super) fn build(self, mutator: &Mutator, seed: u64, number: u64) -> Vec<u8> {
        let mut random = chance(seed, number);
        match self {
            Self::Spreadsheets => mutator.archive(&mut random),
            Self::Orders => mutator.message(&mut random),
            Self::Replies => {
                let id = format!("Message-ID: <fuzz-{seed}-{number}@example.com>\r\n");
                [id.as_bytes(), &mutator.message(&mut random)].concat()
            }
        }
    }

    /// Runs one input; says in a word what became of it.
    pub(super) fn run(self, input: &[u8]) -> String {
        match self {
            Self::Orders => order(input),
            Self::Spreadsheets => spreadsheet(input),
            Self::Replies => reply(input),
        }
        .to_owned()
    }
}

fn messages() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = SAMPLES.iter().map(|sample| sample.raw.to_vec()).collect();
    seeds.extend(order_mails(12, 9).unwrap().map(|mail| mail.unwrap().raw));
    seeds
}

fn workbooks() -> Vec<Vec<u8>> {
    let text = |text: &str| workbook::Cell::Text(text.to_owned());
    let rows = [
        vec![text("Article"), text("Quantity"), text("Price")],
        vec![
            text("ART-001"),
            workbook::Cell::Number(2.0),
            workbook::Cell::Number(4.5),
        ],
        vec![text("ART-002"), text("3 pcs"), workbook::Cell::Number(1e10)],
    ];
    let table = hostile::ods_rows(&[
        &["Artikel", "Menge", "Preis"],
        &["ART-001", "2", "4,50"],
        &["ART-002", "1", "x"],
    ]);
    vec![workbook::bytes(&rows).unwrap(), hostile::ods(&table).unwrap(), xls()]
}

/// The workbook of an old program (BIFF in a compound file) among the order mails.
fn xls() -> Vec<u8> {
    let raw = include_bytes!("../../mails/11-xls-de-old-program.eml");
    let mail = MessageParser::default().parse(raw).unwrap();
    mail.attachment(0).unwrap().contents().to_vec()
}

fn catalogue() -> &'static Catalogue {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    CATALOGUE.get_or_init(|| Catalogue::open("embedded:").unwrap())
}

fn settings() -> &'static DeskSettings {
    static SETTINGS: OnceLock<DeskSettings> = OnceLock::new();
    SETTINGS.get_or_init(|| options().validate().unwrap())
}

fn options() -> DeskOptions {
    let mut options = DeskOptions::for_samples();
    options.replies.max_per_hour = u32::MAX;
    options.replies.answer_unrecognised = true;
    options
}

fn program() -> WorkbookParser {
    static PARSER: OnceLock<WorkbookParser> = OnceLock::new();
    let program = || WorkbookParser::in_child_of(Path::new(env!("CARGO_BIN_EXE_mail-order-bot")));
    PARSER.get_or_init(program).clone()
}

/// Panics if a parser did.
#[track_caller]
fn contained<T>(read: Result<T, ReadError>) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(error @ (ReadError::Panicked { .. } | ReadError::Unavailable { .. })) => panic!("{error}"),
        Err(_) => None,
    }
}

fn order(input: &[u8]) -> &'static str {
    let limits = ReadingLimits::default();
    let Some(mail) = contained(reading::read(input, &limits)) else {
        return "refused";
    };
    assert!(!mail.subject.contains(char::is_control) && mail.subject.chars().count() <= 300);
    assert!(
        !mail
            .message_id
            .contains(|c: char| c.is_control() || c.is_whitespace() || "<>".contains(c))
    );
    for sender in mail.from.iter().chain(&mail.reply_to) {
        assert!(
            sender.address.matches('@').count() == 1 && !sender.address.contains(char::is_control),
            "{sender:?}"
        );
        assert!(
            !sender.name.iter().any(|name| name.contains(char::is_control)),
            "{sender:?}"
        );
    }
    for name in mail.leaves.iter().filter_map(|leaf| leaf.file_name.as_deref()) {
        assert!(
            !name.is_empty() && !name.contains(|c: char| c.is_control() || "/\\".contains(c)),
            "{name:?}"
        );
    }
    match contained(intake::understand(&mail, catalogue(), settings())) {
        Some(Ok(understood)) => {
            let checked = &understood.checked;
            assert!(checked.lines.len() <= limits.lines);
            let amounts = checked.lines.iter().filter_map(|line| match &line.status {
                LineStatus::Accepted { amount, .. } => Some(amount.minor()),
                LineStatus::Rejected { .. } => None,
            });
            assert_eq!(amounts.sum::<i64>(), checked.total.minor(), "the total is the sum");
            assert!(checked.total.minor() >= 0, "nobody is owed anything");
            let again = contained(intake::understand(&mail, catalogue(), settings()));
            assert_eq!(
                again,
                Some(Ok(understood)),
                "the same mail is understood in the same way"
            );
            "order"
        }
        Some(Err(_)) => "no order",
        None => "refused",
    }
}

fn spreadsheet(input: &[u8]) -> &'static str {
    let raw = hostile::with_attachment("fuzz", "order.xlsx", input);
    let limits = ReadingLimits::default();
    let Some(mail) = contained(reading::read(&raw, &limits)) else {
        return "refused";
    };
    let profile = CustomerProfile::default();
    let known = |reference: &str| catalogue().find(reference).is_some();
    let found = contained(reading::extract(&mail, &profile, &known, &limits, &program()));
    let found = found.unwrap_or_else(|| panic!("an attachment refuses its mail"));
    assert!(found.lines.len() <= limits.lines);
    match found.notes.first() {
        None => "read",
        Some(note) if note.contains("cannot handle") => "crashed the child",
        Some(note) if note.contains("memory") || note.contains("longer") => "exhausted the child",
        Some(_) => "note",
    }
}

/// A desk on a store in memory, where the system has such a directory.
fn desk() -> &'static OrderDesk {
    static DESK: OnceLock<OrderDesk> = OnceLock::new();
    DESK.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let file = directory.join(format!("mail-order-bot-fuzz-{}.db", std::process::id()));
        let store = OrderStore::open(&file).unwrap();
        // What is open goes on to exist, and nothing is left behind.
        for end in ["", "-wal", "-shm"] {
            let mut name = file.clone().into_os_string();
            name.push(end);
            let _ = std::fs::remove_file(name);
        }
        let catalogue = Arc::new(Catalogue::open("embedded:").unwrap());
        OrderDesk::new(catalogue, Arc::new(options().validate().unwrap()), store)
    })
}

fn reply(input: &[u8]) -> &'static str {
    let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    let processed = match desk().process(input, now) {
        Ok(processed) => processed,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains("panic"), "{text}");
            return "refused";
        }
    };
    let (Processed::Stored { outbox_id, .. } | Processed::NotAnOrder { outbox_id, .. }) = processed else {
        return "known";
    };
    let Some(id) = outbox_id else { return "not answered" };
    let row = desk().store().outbox().get(&id).unwrap().unwrap();
    sound(&row.message, &row.recipient);
    "answered"
}

/// Whether a reply is one mail to one address and says so in nothing but its own fields.
fn sound(message: &[u8], recipient: &str) {
    const FIELDS: [&str; 12] = [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "X-Auto-Response-Suppress",
        "X-Loop",
        "In-Reply-To",
        "References",
        "MIME-Version",
        "Content-Type",
    ];
    let end = message.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&message[..end]).unwrap();
    assert!(head.is_ascii(), "{head}");
    for line in head.split("\r\n") {
        assert!(!line.contains(['\r', '\n', '\0']) && line.len() <= 998, "{line:?}");
        let name = line.split(':').next().unwrap();
        assert!(
            line.starts_with([' ', '\t']) || FIELDS.contains(&name),
            "{line:?} in\n{head}"
        );
    }
    for once in FIELDS {
        let times = head
            .split("\r\n")
            .filter(|line| line.split(':').next() == Some(once))
            .count();
        assert!(times <= 1, "{once} in\n{head}");
    }
    let parsed: Message<'_> = MessageParser::default().parse(message).unwrap();
    let to: Vec<_> = parsed.to().unwrap().iter().filter_map(|addr| addr.address()).collect();
    assert_eq!(to, [recipient]);
    assert_eq!(parsed.parts.len(), 3, "an alternative of text and HTML");
    let html = parsed.body_html(0).unwrap().to_lowercase();
    for forbidden in ["<script", "<img", "<iframe", "<a ", "javascript:"] {
        assert!(!html.contains(forbidden), "{forbidden} in\n{html}");
    }
}
