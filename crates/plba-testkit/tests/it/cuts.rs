//! The ledger on a file after its process was killed in the middle of a write: the journal is cut after every byte, and
//! nothing that had been answered before the cut may be missing.

use std::path::Path;
use std::sync::Arc;

use plba_tasks::file_ledger::{FileLedger, FileLedgerSettings, OpenLedgerError};
use plba_tasks::ledger::{DeliveryEnd, EntryState, SourceLedger};
use plba_tasks::task::{AttemptEnd, EndedAttempt, Origin};
use plba_testkit::clock::START;
use plba_testkit::directory::Directory;
use plba_testkit::runtime;

fn open(path: &Path) -> Result<FileLedger, OpenLedgerError> {
    FileLedger::open_blocking(path, &FileLedgerSettings::default())
}

/// What is known of a ledger, as text.
async fn content(ledger: &dyn SourceLedger) -> String {
    let keys: Vec<Arc<str>> = (0..8).map(|number| number.to_string().into()).collect();
    let known = ledger.known("inbox", &keys).await.unwrap();
    let known: Vec<_> = known
        .into_iter()
        .map(|known| {
            known.map(|known| {
                (
                    known.state,
                    known.counts.deliveries,
                    known.counts.attempts,
                    known.history.len(),
                )
            })
        })
        .collect();
    let unsettled = ledger.unsettled("inbox", 10).await.unwrap();
    let cursor = ledger.cursor("inbox").await.unwrap();
    format!("{known:?} {unsettled:?} {cursor:?}")
}

/// Does one thing of each kind, and gives the journal's length and the ledger's content after each answer.
async fn history(path: &Path) -> Vec<(u64, String)> {
    let ledger = open(path).unwrap();
    let origin = |key: &str| Origin::new("inbox", key);
    let attempt = |how| EndedAttempt::new(START, how, "no luck");
    let mut answered = Vec::new();
    for step in 0..9 {
        match step {
            0 => ledger
                .record_intake("inbox", &["0".into(), "1".into(), "2\n".into()])
                .await
                .unwrap(),
            1 => drop(ledger.count_deliveries(&[origin("0"), origin("1")]).await.unwrap()),
            2 => ledger
                .record_ends(vec![(origin("0"), DeliveryEnd::Failed(attempt(AttemptEnd::Failed)))])
                .await
                .unwrap(),
            3 => ledger
                .record_ends(vec![(origin("1"), DeliveryEnd::Done)])
                .await
                .unwrap(),
            4 => ledger.set_cursor("inbox", "{\"uid\":17}").await.unwrap(),
            5 => ledger.settle("inbox", &["1".into()]).await.unwrap(),
            6 => {
                let (queue, kind) = ("orders".to_owned(), "mail".to_owned());
                let end = DeliveryEnd::Dead {
                    attempt: attempt(AttemptEnd::Rejected),
                    queue,
                    kind,
                };
                ledger.record_ends(vec![(origin("0"), end)]).await.unwrap();
            }
            7 => assert_eq!(
                ledger
                    .retry_dead(&"orders".into(), &[origin("0").task_id()])
                    .await
                    .unwrap(),
                1
            ),
            _ => ledger.forget("inbox", &["1".into()]).await.unwrap(),
        }
        answered.push((std::fs::metadata(path).unwrap().len(), content(&ledger).await));
    }
    answered
}

#[test]
fn a_journal_cut_after_any_byte_opens_with_everything_answered_before_the_cut() {
    runtime::real(async {
        let directory = Directory::new();
        let whole = directory.path().join("whole");
        let answered = history(&whole).await;
        let bytes = std::fs::read(&whole).unwrap();
        assert_eq!(answered.last().unwrap().0, bytes.len() as u64);
        let empty = content(&FileLedger::in_memory(&FileLedgerSettings::default())).await;
        let cut = directory.path().join("cut");
        for length in 0..=bytes.len() {
            std::fs::write(&cut, &bytes[..length]).unwrap();
            let ledger = open(&cut).unwrap_or_else(|error| panic!("cut after {length} bytes: {error}"));
            let before = answered.iter().rev().find(|(end, _)| *end <= length as u64);
            let expected = before.map_or(&empty, |(_, content)| content);
            assert_eq!(&content(&ledger).await, expected, "cut after {length} bytes");
            // It must be fit for use, too.
            ledger.set_cursor("inbox", "after").await.unwrap();
            drop(ledger);
            assert_eq!(
                open(&cut).unwrap().cursor("inbox").await.unwrap().as_deref(),
                Some("after")
            );
        }
    });
}

#[test]
fn garbage_after_a_cut_is_cut_off_too() {
    runtime::real(async {
        let directory = Directory::new();
        let path = directory.path().join("ledger");
        let answered = history(&path).await;
        for garbage in [
            &b"\0\0\0\0\0\0\0\0\0\0\0\0"[..],
            b"\n",
            b"12345678 [",
            b"00000000 []\n",
            b"\xff\xfe\n\n\n",
        ] {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.extend_from_slice(garbage);
            let torn = directory.path().join("torn");
            std::fs::write(&torn, bytes).unwrap();
            assert_eq!(content(&open(&torn).unwrap()).await, answered.last().unwrap().1);
        }
    });
}

#[test]
fn a_journal_damaged_in_the_middle_is_refused_with_its_line() {
    runtime::real(async {
        let directory = Directory::new();
        let path = directory.path().join("ledger");
        history(&path).await;
        let mut bytes = std::fs::read(&path).unwrap();
        let third_line = bytes
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .nth(1)
            .unwrap()
            .0
            + 1;
        bytes[third_line + 20] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let refused = open(&path).map(drop).unwrap_err();
        assert!(matches!(refused, OpenLedgerError::Damaged { line: 3, .. }), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "what is refused is left as it is");
    });
}

#[test]
fn a_newer_or_foreign_file_is_refused_and_left_alone() {
    let directory = Directory::new();
    let path = directory.path().join("ledger");
    for (content, newer) in [
        ("plba-ledger 2\n", true),
        ("SQLite format 3\0", false),
        ("plba-ledger\n", false),
    ] {
        std::fs::write(&path, content).unwrap();
        let refused = open(&path).map(drop).unwrap_err();
        assert_eq!(
            matches!(refused, OpenLedgerError::Newer { found: 2, known: 1, .. }),
            newer,
            "{refused}"
        );
        assert_eq!(matches!(refused, OpenLedgerError::Foreign { .. }), !newer, "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn a_journal_stays_small_and_settled_entries_bounded() {
    runtime::real(async {
        let directory = Directory::new();
        let path = directory.path().join("ledger");
        let settings = FileLedgerSettings {
            settled: 10,
            compact_above: 20_000,
        };
        let ledger = FileLedger::open_blocking(&path, &settings).unwrap();
        for round in 0..60 {
            let keys: Vec<Arc<str>> = (0..50).map(|number| format!("{round}-{number}").into()).collect();
            let done = |key: &Arc<str>| (Origin::new("inbox", Arc::clone(key)), DeliveryEnd::Done);
            ledger.record_ends(keys.iter().map(done).collect()).await.unwrap();
            ledger.settle("inbox", &keys).await.unwrap();
        }
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length < 40_000, "{length} bytes");
        drop(ledger);
        let ledger = FileLedger::open_blocking(&path, &settings).unwrap();
        assert_eq!(ledger.stats().await.unwrap()[0].settled, 10);
        let last = ledger
            .known("inbox", &["59-49".into()])
            .await
            .unwrap()
            .remove(0)
            .unwrap();
        assert_eq!(last.state, EntryState::Settled);
    });
}
