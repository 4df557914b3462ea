//! The Maildir source on a real disk: what is taken in, when it is marked, and what a killed process leaves over.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::health::Health;
use plba_tasks::ledger::{DeliveryEnd, EntryState, SourceLedger};
use plba_tasks::source::TaskSource;
use plba_tasks::task::Origin;

use super::super::tests::Scratch;
use super::MaildirSource;
use crate::location::Location;
use crate::test_bench::{Bench, SOURCE, settings, text, until};

fn source(scratch: &Scratch, options: &str) -> Arc<MaildirSource> {
    let url = format!("maildir:{}?{options}", scratch.0.root().display());
    let Ok(Location::Maildir(location)) = url.parse() else {
        panic!("{url}");
    };
    Arc::new(MaildirSource::new(location, settings()))
}

#[tokio::test]
async fn a_delivery_is_taken_in_at_once_and_marked_only_once_it_is_done() {
    let (scratch, bench) = (Scratch::new(), Bench::new());
    scratch.put("cur", "1.host:2,S", "read long ago");
    scratch.put("tmp", "9.host", "half-writ");
    // An interval of a day: only the operating system can tell of the delivery.
    let source = source(&scratch, "interval=24h");
    let running = bench.run(&source);
    until("the first look", || source.status().last_success.is_some()).await;
    scratch.deliver("2.host", "order");
    let delivery = bench.next().await;
    assert_eq!(text(&delivery), "order");
    assert_eq!(delivery.task.origin.as_ref().unwrap().key.as_ref(), "2.host");
    assert_eq!(scratch.names("new"), ["2.host"], "unmarked while it is worked on");
    bench.complete(delivery).await;
    until("the S flag", || scratch.names("cur").contains(&"2.host:2,S".to_owned())).await;
    until("settled", || source.status().settled == 1).await;
    assert_eq!(source.status().health, Health::Ok);
    bench.stop();
    running.await.unwrap().unwrap();
    assert_eq!(scratch.names("tmp"), ["9.host"]);
}

#[tokio::test]
async fn the_clock_finds_what_nobody_announces() {
    let (scratch, bench) = (Scratch::new(), Bench::new());
    let source = source(&scratch, "interval=20ms");
    let _running = bench.run(&source);
    until("the first look", || source.status().last_success.is_some()).await;
    scratch.put("new", "1.host", "one");
    assert_eq!(bench.take(1).await, ["one"]);
}

#[tokio::test]
async fn the_scope_decides_what_of_the_old_mail_is_taken_in() {
    for (since, expected) in [("now", vec![]), ("unseen", vec!["new"]), ("all", vec!["read", "new"])] {
        let (scratch, bench) = (Scratch::new(), Bench::new());
        scratch.put("cur", "1.host:2,S", "read");
        scratch.put("new", "2.host", "new");
        let source = source(&scratch, &format!("since={since}"));
        let preview = source.preview().await.unwrap();
        assert_eq!((preview.total, preview.count), (2, expected.len() as u64), "{since}");
        let _running = bench.run(&source);
        until("the first look", || source.status().last_success.is_some()).await;
        assert_eq!(bench.take(expected.len()).await, expected, "{since}");
        assert_eq!(source.status().published, expected.len() as u64, "{since}");
    }
}

#[tokio::test]
async fn the_date_of_delivery_is_a_scope() {
    let scratch = Scratch::new();
    scratch.put("new", "1.host", "From: a\n\nold");
    let fresh = scratch.put("new", "2.host", "From: b\nSubject: fresh\n\n");
    let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    fs::File::open(scratch.0.new_dir().join("1.host"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    fs::File::open(fresh)
        .unwrap()
        .set_modified(old + Duration::from_secs(10 * 365 * 86_400))
        .unwrap();
    let preview = source(&scratch, "since=2005-01-01").preview().await.unwrap();
    assert_eq!(preview.count, 1);
    assert_eq!(
        (preview.first[0].key.as_str(), preview.first[0].subject.as_str()),
        ("2.host", "fresh")
    );
}

#[tokio::test]
async fn mail_that_somebody_else_has_read_is_taken_in_all_the_same() {
    let (scratch, bench) = (Scratch::new(), Bench::new());
    let first = source(&scratch, "");
    let running = bench.run(&first);
    until("the first look", || first.status().last_success.is_some()).await;
    bench.stop();
    running.await.unwrap().unwrap();
    scratch.put("cur", "1.host:2,S", "read on a phone");
    let bench = bench.restarted();
    let _running = bench.run(&source(&scratch, ""));
    assert_eq!(bench.take(1).await, ["read on a phone"]);
}

#[tokio::test]
async fn a_kill_at_any_point_loses_nothing() {
    let (scratch, bench) = (Scratch::new(), Bench::new());
    scratch.deliver("1.host", "one");
    scratch.deliver("2.host", "two");
    let running = bench.run(&source(&scratch, ""));
    let first = bench.next().await;
    until("both taken in", || bench.keys(EntryState::Open).len() == 2).await;
    running.abort();
    let _ = running.await;
    // The handler has finished, and nobody was left to mark it.
    bench.complete(first).await;
    assert_eq!(scratch.names("cur"), [""; 0]);

    let bench = bench.restarted();
    let _running = bench.run(&source(&scratch, ""));
    let second = bench.next().await;
    assert_eq!(text(&second), "two");
    until("the first one marked", || scratch.names("cur") == ["1.host:2,S"]).await;
    bench.complete(second).await;
    until("the second one marked", || {
        scratch.names("cur") == ["1.host:2,S", "2.host:2,S"]
    })
    .await;
    until("all settled", || bench.keys(EntryState::Settled).len() == 2).await;
}

#[tokio::test]
async fn settled_entries_are_forgotten_when_their_files_are_gone() {
    let (scratch, bench) = (Scratch::new(), Bench::new());
    scratch.deliver("1.host", "one");
    let _running = bench.run(&source(&scratch, "interval=20ms"));
    let delivery = bench.next().await;
    bench.complete(delivery).await;
    until("settled", || bench.keys(EntryState::Settled) == ["1.host"]).await;
    fs::remove_file(scratch.0.cur_dir().join("1.host:2,S")).unwrap();
    until("forgotten", || bench.keys(EntryState::Settled).is_empty()).await;
}

#[tokio::test]
async fn an_outsized_message_is_a_dead_letter_and_retrying_reads_it_again() {
    let (scratch, bench) = (Scratch::new(), Bench::new());
    scratch.deliver("1.host", &"x".repeat(2048));
    scratch.deliver("2.host", "small");
    let running = bench.run(&source(&scratch, "max_message=1KiB&interval=20ms"));
    assert_eq!(bench.take(1).await, ["small"]);
    assert_eq!(bench.keys(EntryState::Dead), ["1.host"]);
    assert!(bench.ledger.reason("1.host").unwrap().contains("2048 bytes"));
    fs::write(scratch.0.new_dir().join("1.host"), "shortened").unwrap();
    bench
        .ledger
        .retry_dead(&"orders".into(), &[bench.intake().task_id("1.host")])
        .await
        .unwrap();
    assert_eq!(bench.take(1).await, ["shortened"]);
    running.abort();
}

/// The files of a folder beside the inbox, and their texts.
fn folder(scratch: &Scratch, name: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in ["new", "cur"] {
        let entries = fs::read_dir(scratch.0.root().join(name).join(part));
        for entry in entries.into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            found.push((entry.file_name().to_string_lossy().into_owned(), text));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn done_messages_are_moved_and_dead_letters_put_aside_and_found_again() {
    let (scratch, bench) = (Scratch::new(), Bench::new());
    scratch.deliver("1.host", "bad");
    scratch.deliver("2.host", "good");
    let options = "interval=20ms&mark=seen,flagged&move=Done/2026&errors=Problems";
    let quiet = source(&scratch, options);
    let running = bench.run(&quiet);
    let bad = bench.next().await;
    bench.reject(bad).await;
    let good = bench.next().await;
    bench.complete(good).await;
    let is = |name: &str, text: &str| vec![(name.to_owned(), text.to_owned())];
    until("moved", || folder(&scratch, ".Done.2026") == is("2.host:2,FS", "good")).await;
    until("put aside", || folder(&scratch, ".Problems") == is("1.host:2,", "bad")).await;
    bench.stop();
    running.await.unwrap().unwrap();

    // Another process, and an operator who retries.
    let bench = bench.restarted();
    let id = bench.intake().task_id("1.host");
    assert_eq!(bench.ledger.retry_dead(&"orders".into(), &[id]).await.unwrap(), 1);
    let quiet = source(&scratch, options);
    let _running = bench.run(&quiet);
    let again = bench.next().await;
    assert_eq!(text(&again), "bad");
    bench.complete(again).await;
    until("moved as well", || folder(&scratch, ".Done.2026").len() == 2).await;
    until("settled", || quiet.status().settled == 1).await;
    assert!(folder(&scratch, ".Problems").is_empty());
    assert!(scratch.names("new").is_empty() && scratch.names("cur").is_empty());
}

/// The process dies between the handler's end and the move, and between the move and the note of it.
#[tokio::test]
async fn a_move_that_a_crash_left_half_done_is_finished() {
    for moved_already in [false, true] {
        let (scratch, bench) = (Scratch::new(), Bench::new());
        scratch.deliver("1.host", "order");
        let options = "interval=20ms&move=Done";
        let running = bench.run(&source(&scratch, options));
        let delivery = bench.next().await;
        running.abort();
        let _ = running.await;
        bench.complete(delivery).await;
        if moved_already {
            let done = scratch.0.folder("Done").unwrap();
            scratch.0.finish(["1.host"], "S", Some(&done)).unwrap();
        }
        let bench = bench.restarted();
        bench
            .ledger
            .record_ends(vec![(Origin::new(SOURCE, "1.host"), DeliveryEnd::Done)])
            .await
            .unwrap();
        let quiet = source(&scratch, options);
        let _running = bench.run(&quiet);
        until("settled", || quiet.status().settled == 1).await;
        assert_eq!(
            folder(&scratch, ".Done"),
            [("1.host:2,S".to_owned(), "order".to_owned())]
        );
    }
}

#[tokio::test]
async fn a_missing_folder_is_an_error_that_says_so() {
    let (scratch, bench) = (Scratch::new(), Bench::new());
    fs::remove_dir(scratch.0.cur_dir()).unwrap();
    let source = source(&scratch, "");
    let error = bench.run(&source).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("no Maildir"), "{error}");
    assert!(!source.status().health.is_usable());
    assert!(source.preview().await.unwrap_err().to_string().contains("no Maildir"));
}

/// Other mail programs rename files all the time, and a listing may miss a file that is renamed meanwhile.
#[tokio::test]
async fn files_renamed_all_the_while_are_taken_in_once_each_and_all_marked() {
    const MAIL: usize = 60;
    let (scratch, bench) = (Scratch::new(), Bench::new());
    for number in 0..MAIL {
        scratch.deliver(&format!("{number:03}.host"), &number.to_string());
    }
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (root, watched) = (scratch.0.root().to_owned(), Arc::clone(&ended));
    let other = std::thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(60);
        while !watched.load(std::sync::atomic::Ordering::Relaxed) {
            for place in ["new", "cur"] {
                for entry in fs::read_dir(root.join(place)).unwrap().flatten() {
                    let name = entry.file_name().into_string().unwrap();
                    let (unique, flags) = name.split_once(":2,").unwrap_or((&name, ""));
                    let seen = if flags.contains('S') { "S" } else { "" };
                    let flagged = if random.bool() { "F" } else { "" };
                    // The source may have renamed it first.
                    let _ = fs::rename(
                        entry.path(),
                        root.join("cur").join(format!("{unique}:2,{flagged}{seen}")),
                    );
                }
            }
        }
    });
    let source = source(&scratch, "interval=10ms");
    let _running = bench.run(&source);
    let mut taken = Vec::new();
    for _ in 0..MAIL {
        let delivery = bench.next().await;
        taken.push(text(&delivery));
        bench.complete(delivery).await;
    }
    until("all settled", || source.status().settled == MAIL as u64).await;
    ended.store(true, std::sync::atomic::Ordering::Relaxed);
    other.join().unwrap();
    taken.sort_by_key(|text| text.parse::<usize>().unwrap());
    assert_eq!(taken, (0..MAIL).map(|number| number.to_string()).collect::<Vec<_>>());
    let marked = scratch.names("cur").iter().filter(|name| name.ends_with('S')).count();
    assert_eq!((marked, source.status().published), (MAIL, MAIL as u64));
}
