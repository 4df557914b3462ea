//! Hostile mail through the real program: what can't be read is parked with its raw bytes, a workbook's parser dies alone,
//! and the folder goes on.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mail_order_bot::domain::CustomerProfile;
use mail_order_bot::reading::{self, Extracted, ReadError, ReadingLimits, WorkbookParser};
use mail_order_bot::samples::generate::order_mails;
use mail_order_bot::samples::hostile::{self, Fate, Hostile};

use crate::bot::{Bot, Home, PATIENCE, count, pause};

/// Memory that a bot may take in these tests, in KiB: it holds a few messages of 20 MB, in debug builds.
const MOST_MEMORY: u64 = 600 << 10;

fn parser() -> WorkbookParser {
    WorkbookParser::in_child_of(Path::new(env!("CARGO_BIN_EXE_mail-order-bot")))
}

fn script(name: &str) -> WorkbookParser {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/process/children")
        .join(name);
    WorkbookParser::in_child_of(&path)
}

fn extracted(raw: &[u8], limits: &ReadingLimits, parser: &WorkbookParser) -> Result<Extracted, ReadError> {
    let mail = reading::read(raw, limits).unwrap();
    reading::extract(&mail, &CustomerProfile::default(), &|_| false, limits, parser)
}

/// The only note about a workbook.
#[track_caller]
fn note(found: Result<Extracted, ReadError>) -> String {
    let found = found.unwrap();
    assert!(found.lines.is_empty() && found.notes.len() == 1, "{found:?}");
    found.notes[0].clone()
}

/// A number of a process's `status`, in KiB.
fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Lays a message into the inbox as a mail server would.
fn deliver(home: &Home, name: &str, raw: &[u8]) {
    let inbox = home.join("inbox");
    for part in ["tmp", "new", "cur"] {
        fs::create_dir_all(inbox.join(part)).unwrap();
    }
    fs::write(inbox.join("tmp").join(name), raw).unwrap();
    fs::rename(inbox.join("tmp").join(name), inbox.join("new").join(name)).unwrap();
}

/// Runs a bot over hostile messages with an honest order between any two of them, until all honest ones are stored and all
/// hostile ones have met their fate.
fn run_over(test: &str, queue: &str, messages: &[Hostile]) {
    let home = Home::new(test);
    let honest: Vec<_> = order_mails(messages.len(), 72).unwrap().map(Result::unwrap).collect();
    for (at, (hostile, honest)) in messages.iter().zip(&honest).enumerate() {
        deliver(&home, &format!("{at:03}-a"), &hostile.raw);
        deliver(&home, &format!("{at:03}-b"), &honest.raw);
    }
    let queue = format!("mail_order_bot.queue={queue}");
    let mut bot = home.start(&["--set", "mail_order_bot.source=maildir:inbox", "--set", &queue]);
    bot.wait_for_line("mail-order-bot is ready");
    let parked = messages
        .iter()
        .filter(|message| matches!(message.fate, Fate::Parked(_)))
        .count();
    let letters = |home: &Home| {
        home.ask(&["dead", "list"])["letters"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    bot.wait("honest orders", || {
        let orders = home.orders(&[]);
        honest.iter().all(|mail| {
            orders
                .iter()
                .any(|order| order["message_id"] == mail.message_id.as_str())
        })
    });
    bot.wait("parked messages", || letters(&home).len() >= parked);
    bot.wait("everything else read", || count(&home.join("inbox/new")) <= parked);
    assert!(
        memory(bot.id(), "VmHWM") < MOST_MEMORY,
        "{} KiB",
        memory(bot.id(), "VmHWM")
    );
    let (letters, orders) = (letters(&home), home.orders(&[]));
    assert_eq!(letters.len(), parked, "{letters:?}");
    for message in messages {
        check(&home, message, &letters, &orders);
    }
    assert!(children(&bot).is_empty(), "no child is left");
    bot.stop();
}

#[track_caller]
fn check(home: &Home, message: &Hostile, letters: &[serde_json::Value], orders: &[serde_json::Value]) {
    let name = message.name;
    let order = orders.iter().find(|order| order["subject"] == name);
    match message.fate {
        Fate::Parked(reason) => {
            let told = |letter: &&serde_json::Value| letter.to_string().contains(reason);
            let letter = letters
                .iter()
                .find(told)
                .unwrap_or_else(|| panic!("{name}: {letters:?}"));
            let shown = home.ask(&[
                "dead",
                "show",
                &letter["id"]
                    .as_str()
                    .map_or_else(|| letter["id"].to_string(), str::to_owned),
            ]);
            if shown["payload_form"] == "with_its_source" {
                let file = home.join("inbox/new").join(shown["origin"]["key"].as_str().unwrap());
                assert!(fs::read(file).unwrap() == message.raw, "{name}: {shown}");
            } else {
                assert_eq!(shown["payload_bytes"], message.raw.len(), "{name}: {shown}");
            }
        }
        Fate::Ordered(_) => assert!(
            order.is_some_and(|order| order["lines"].as_array().unwrap().len() == 1),
            "{name}: {order:?}"
        ),
        Fate::Noted(note) => assert!(
            order.is_some_and(|order| order["notes"].to_string().contains(note)),
            "{name}: {order:?}"
        ),
        Fate::NoOrder => assert!(order.is_none(), "{name}: {order:?}"),
    }
}

fn children(bot: &Bot) -> String {
    let path = format!("/proc/{0}/task/{0}/children", bot.id());
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[test]
fn failure_72_what_cannot_be_read_is_parked_with_its_raw_bytes_and_the_folder_goes_on() {
    run_over("failure-72", "memory:", &hostile::structures());
    run_over("failure-72-file", "sqlite:var/queue.db", &hostile::structures());
}

#[test]
fn failure_73_a_bomb_is_a_note_in_its_order_and_nothing_else_suffers() {
    let bombs: Vec<Hostile> = hostile::workbooks()
        .unwrap()
        .iter()
        .map(|workbook| workbook.message())
        .collect();
    run_over("failure-73", "memory:", &bombs);
}

#[test]
fn failure_73_the_child_reads_what_an_honest_customer_sends() {
    let parser = parser();
    let limits = ReadingLimits::default();
    let rows = hostile::ods_rows(&[&["Article", "Quantity"], &["ART-001", "2"], &["ART-002", "0.5"]]);
    for (file, bytes) in [
        ("order.ods", hostile::ods(&rows).unwrap()),
        (
            "order.xlsx",
            mail_order_bot::samples::workbook::bytes(&[
                vec![text("Article"), text("Quantity")],
                vec![text("ART-001"), number(2.0)],
                vec![text("ART-002"), number(0.5)],
            ])
            .unwrap(),
        ),
    ] {
        let raw = hostile::with_attachment("order", file, &bytes);
        let here = extracted(&raw, &limits, &WorkbookParser::here()).unwrap();
        let child = extracted(&raw, &limits, &parser).unwrap();
        assert_eq!(here, child, "{file}");
        assert_eq!(child.lines.len(), 2, "{file}: {child:?}");
    }
}

fn text(text: &str) -> mail_order_bot::samples::workbook::Cell {
    mail_order_bot::samples::workbook::Cell::Text(text.to_owned())
}

fn number(number: f64) -> mail_order_bot::samples::workbook::Cell {
    mail_order_bot::samples::workbook::Cell::Number(number)
}

#[test]
fn failure_73_a_child_that_misbehaves_is_a_note_that_names_the_limit_and_ours_is_a_later_try() {
    let raw = hostile::with_attachment("order", "order.ods", &hostile::ods("").unwrap());
    let limits = ReadingLimits {
        workbook_seconds: 1,
        ..ReadingLimits::default()
    };
    let began = Instant::now();
    for (script_name, told) in [
        ("silent", "longer than we wait, which is 1 s"),
        ("endless", "cannot handle"),
        ("exhausted", "longer than we wait, which is 1 s"),
        ("killed", "more memory than we give it, which is 536870912 bytes"),
        ("lying", "cannot handle"),
    ] {
        let told_now = note(extracted(&raw, &limits, &script(script_name)));
        assert!(told_now.contains(told), "{script_name}: {told_now}");
    }
    assert!(began.elapsed() < PATIENCE);
    for failing in [script("failing"), script("no-such-program")] {
        let error = extracted(&raw, &limits, &failing).unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
}

#[test]
fn failure_73_memory_and_processor_time_are_limits_of_the_system() {
    let limits = ReadingLimits::default();
    let workbooks = hostile::workbooks().unwrap();
    let bomb = workbooks
        .iter()
        .find(|workbook| workbook.name == "copies of a text")
        .unwrap();
    let raw = bomb.message().raw;
    let told = note(extracted(&raw, &limits, &parser()));
    assert!(told.contains("536870912 bytes"), "{told}");

    let child = restricted();
    let told = fs::read_to_string(format!("/proc/{}/limits", child.0.id())).unwrap();
    let limit = |name: &str| {
        let line = told.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max address space"), "536870912");
    assert_eq!(limit("Max cpu time"), "10");
    assert_eq!(limit("Max file size"), "0");
    assert_eq!(limit("Max core file size"), "0");
    assert_eq!(limit("Max processes"), "0");
    assert_eq!(limit("Max open files"), "4");
    let environment = fs::read(format!("/proc/{}/oom_score_adj", child.0.id())).unwrap();
    assert_eq!(environment.trim_ascii(), b"1000");
}

/// A child that waits for its workbook.
struct Waiting(std::process::Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts one and waits until it has taken its limits on itself.
fn restricted() -> Waiting {
    let child = Command::new(env!("CARGO_BIN_EXE_mail-order-bot"))
        .args([
            "parse-workbook",
            &serde_json::to_string(&ReadingLimits::default()).unwrap(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let child = Waiting(child);
    let until = Instant::now() + PATIENCE;
    let path = format!("/proc/{}/limits", child.0.id());
    while !fs::read_to_string(&path)
        .unwrap()
        .contains("Max address space         536870912")
    {
        assert!(Instant::now() < until, "no limits");
        pause(Duration::from_millis(5));
    }
    child
}

#[test]
fn failure_73_a_child_does_not_outlive_who_started_it() {
    // The system counts the thread that started it as its parent.
    let mut child = std::thread::spawn(restricted).join().unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            assert_eq!(status.signal(), Some(9));
            return;
        }
        assert!(Instant::now() < until, "it lives on");
        pause(Duration::from_millis(5));
    }
}
