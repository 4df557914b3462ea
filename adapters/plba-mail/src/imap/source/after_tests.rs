//! What becomes of messages that are over, against a server in memory and under paused time: marks, moves, the errors
//! folder, and servers that can't or won't.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::health::Health;
use plba_tasks::ledger::{EntryState, SourceLedger};
use plba_tasks::source::TaskSource;
use tokio::time::{Instant, sleep};

use super::ImapSource;
use crate::imap::model::{INBOX, Model};
use crate::location::Location;
use crate::open::MailSource;
use crate::sources::{Again, RESYNC};
use crate::test_bench::{Bench, settings, text};

pub(super) fn source(model: &Arc<Model>, options: &str) -> Arc<ImapSource> {
    let Ok(Location::Imap(location)) = format!("imap://bot@localhost/INBOX?{options}").parse() else {
        panic!("{options}");
    };
    Arc::new(ImapSource::new(location, settings()).over(Arc::new(Arc::clone(model))))
}

/// Waits until the model is as wanted; in paused time this costs nothing.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(7200);
    while !condition() {
        assert!(Instant::now() < end, "waited two hours for: {what}");
        sleep(Duration::from_secs(1)).await;
    }
}

fn filled(count: u32) -> Arc<Model> {
    let model = Model::new();
    model.change(|state| (1..=count).for_each(|number| state.deliver(INBOX, &format!("mail{number}"))));
    model
}

/// Everything is carried out until it is in the folder `Done`.
async fn all_go_to_done(model: &Arc<Model>, options: &str, count: usize) -> Arc<ImapSource> {
    let (bench, source) = (Bench::new(), source(model, options));
    let running = bench.run(&source);
    tokio::select! {
        () = bench.work(|_| {}) => {}
        () = until("all moved", || model.texts("Done").len() == count && model.texts(INBOX).is_empty()) => {}
    }
    until("all settled", || source.status().settled == count as u64).await;
    bench.stop();
    running.await.unwrap().unwrap();
    source
}

#[tokio::test(start_paused = true)]
async fn done_messages_are_marked_and_moved_to_a_folder_that_is_made() {
    let model = filled(3);
    let source = all_go_to_done(&model, "mark=seen,$Ordered&move=Done", 3).await;
    assert!(model.all_flagged("Done", "\\Seen") && model.all_flagged("Done", "$Ordered"));
    assert_eq!(source.status().health, Health::Ok);
    assert_eq!(model.texts("Done"), ["mail1", "mail2", "mail3"]);
    let commands = model.change(|state| state.lines.clone());
    let moves = commands.iter().filter(|line| line.contains("UID MOVE")).count();
    assert_eq!(moves, 1, "{commands:?}");
}

#[tokio::test(start_paused = true)]
async fn without_move_messages_are_copied_and_only_they_expunged() {
    let model = filled(3);
    model.change(|state| {
        state.capabilities = "IMAP4rev1 UIDPLUS".into();
        // Somebody else's, which is none of ours to remove.
        state.deliver(INBOX, "theirs");
        state.folder(INBOX).flag(4, "\\Deleted");
    });
    let (bench, source) = (Bench::new(), source(&model, "move=Done"));
    let _running = bench.run(&source);
    tokio::select! {
        () = bench.work(|_| {}) => {}
        () = until("three moved", || source.status().settled == 3) => {}
    }
    assert_eq!(model.texts("Done"), ["mail1", "mail2", "mail3"]);
    assert_eq!(model.texts(INBOX), ["theirs"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_can_not_move_leaves_messages_marked_and_the_source_says_so() {
    let model = filled(2);
    model.change(|state| {
        state.capabilities = "IMAP4rev1".into();
        state.permanent = "\\Seen".into();
    });
    let (bench, source) = (Bench::new(), source(&model, "mark=seen,$Ordered&move=Done"));
    let _running = bench.run(&source);
    tokio::select! {
        () = bench.work(|_| {}) => {}
        () = until("both settled", || source.status().settled == 2) => {}
    }
    assert!(model.all_flagged(INBOX, "\\Seen") && !model.all_flagged(INBOX, "$Ordered"));
    let Health::Degraded { reason } = source.status().health else {
        panic!("{:?}", source.status());
    };
    assert!(reason.contains("$Ordered") && reason.contains("UIDPLUS"), "{reason}");
    assert_eq!(source.status().errors, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_move_hampers_no_intake_and_is_tried_again() {
    let model = filled(1);
    model.change(|state| state.refuses.push(("UID MOVE", "[OVERQUOTA] no room")));
    let (bench, source) = (Bench::new(), source(&model, "move=Done"));
    let _running = bench.run(&source);
    let first = bench.next().await;
    bench.complete(first).await;
    until("the refusal shown", || {
        matches!(source.status().health, Health::Degraded { .. })
    })
    .await;
    model.change(|state| state.deliver(INBOX, "mail2"));
    assert_eq!(bench.take(1).await, ["mail2"]);
    assert_eq!((source.status().settled, model.texts(INBOX).len()), (0, 2));
    model.change(|state| state.refuses.clear());
    until("the first one moved", || model.texts("Done") == ["mail1"]).await;
    until("no more complaint", || source.status().health == Health::Ok).await;
    assert_eq!(source.status().errors, 0);
}

#[tokio::test(start_paused = true)]
async fn marks_that_are_refused_hamper_no_intake() {
    let model = filled(1);
    model.change(|state| state.refuses.push(("UID STORE", "[SERVERBUG] no")));
    let (bench, source) = (Bench::new(), source(&model, ""));
    let _running = bench.run(&source);
    let first = bench.next().await;
    bench.complete(first).await;
    sleep(Duration::from_secs(100)).await;
    model.change(|state| state.deliver(INBOX, "mail2"));
    assert_eq!(bench.take(1).await, ["mail2"]);
    assert_eq!(bench.keys(EntryState::Done), ["7:1"]);
    model.change(|state| state.refuses.clear());
    until("the first one marked", || source.status().settled == 1).await;
}

#[tokio::test(start_paused = true)]
async fn without_marks_a_folder_may_be_read_only() {
    let model = filled(2);
    model.change(|state| state.permanent = String::new());
    let bench = Bench::new();
    let marking = source(&model, "");
    let running = bench.run(&marking);
    until("the complaint", || {
        matches!(marking.status().health, Health::Unhealthy { .. })
    })
    .await;
    running.abort();
    let source = source(&model, "mark=none");
    let _running = bench.run(&source);
    tokio::select! {
        () = bench.work(|_| {}) => {}
        () = until("both settled", || source.status().settled == 2) => {}
    }
    let commands = model.change(|state| state.lines.clone());
    assert!(!commands.iter().any(|line| line.contains("STORE")), "{commands:?}");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_go_to_the_errors_folder_are_found_there_and_finished_there() {
    let model = filled(2);
    let (bench, source) = (Bench::new(), source(&model, "errors=Problems&move=Done"));
    let running = bench.run(&source);
    let bad = bench.next().await;
    assert_eq!(text(&bad), "mail1");
    bench.reject(bad).await;
    until("put aside", || model.texts("Problems") == ["mail1"]).await;
    assert!(!model.all_flagged("Problems", "\\Seen"), "still unread");
    // The process is another one when an operator retries it.
    bench.stop();
    running.await.unwrap().unwrap();
    let bench = bench.restarted();
    bench
        .ledger
        .retry_dead(&"orders".into(), &[bench.intake().task_id("7:1")])
        .await
        .unwrap();
    let source = self::source(&model, "errors=Problems&move=Done");
    let _running = bench.run(&source);
    let mut taken = Vec::new();
    tokio::select! {
        () = bench.work(|text| taken.push(text)) => {}
        () = until("both moved", || model.texts("Done").len() == 2) => {}
    }
    taken.sort_unstable();
    assert_eq!(taken, ["mail1", "mail2"]);
    assert!(model.all_flagged("Done", "\\Seen") && model.texts("Problems").is_empty());
    assert_eq!(bench.keys(EntryState::Dead), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_whose_message_somebody_removed_stays_one_when_it_is_retried() {
    let model = filled(1);
    let (bench, source) = (Bench::new(), source(&model, "errors=Problems"));
    let _running = bench.run(&source);
    let bad = bench.next().await;
    bench.reject(bad).await;
    until("put aside", || model.texts("Problems") == ["mail1"]).await;
    model.change(|state| state.folder("Problems").expunge(1));
    bench
        .ledger
        .retry_dead(&"orders".into(), &[bench.intake().task_id("7:1")])
        .await
        .unwrap();
    sleep(Duration::from_secs(100)).await;
    assert_eq!(bench.keys(EntryState::Dead), ["7:1"]);
    assert!(bench.ledger.reason("7:1").unwrap().contains("`Problems`"));
    assert_eq!(source.status().errors, 0);
}

/// A resync of what the ledger has lost, first as a dry run: what is known is left out, also when it is asked for in the
/// middle of something.
#[tokio::test(start_paused = true)]
async fn a_resync_takes_in_what_the_ledger_does_not_know() {
    let model = filled(4);
    model.change(|state| (1..=2).for_each(|uid| state.folder(INBOX).flag(uid, "\\Seen")));
    let (bench, quiet) = (Bench::new(), source(&model, "since=now&mode=idle"));
    let _running = bench.run(&quiet);
    until("the first look", || quiet.status().last_success.is_some()).await;
    model.change(|state| state.deliver(INBOX, "mail5"));
    let held = bench.next().await;
    assert_eq!(text(&held), "mail5");

    // The bench calls its source by another name than the program would.
    bench.ledger.record_intake(quiet.name(), &["7:5".into()]).await.unwrap();
    let counted = quiet
        .preview_again(bench.ledger.as_ref(), Again::Unfinished)
        .await
        .unwrap();
    assert_eq!((counted.total, counted.count), (5, 2), "3 and 4; the fifth is in hand");
    let mail = MailSource::Imap(Arc::clone(&quiet));
    assert_eq!(mail.name(), quiet.name());
    bench
        .intake()
        .set_note(RESYNC, &Again::Unfinished.to_string())
        .await
        .unwrap();
    mail.wake();
    let begin = Instant::now();
    assert_eq!(bench.take(2).await, ["mail3", "mail4"]);
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "it need not wait for the next look"
    );

    bench.intake().set_note(RESYNC, "all").await.unwrap();
    mail.wake();
    assert_eq!(bench.take(2).await, ["mail1", "mail2"]);
    sleep(Duration::from_secs(1000)).await;
    assert_eq!(quiet.status().published, 5);
    assert_eq!(quiet.connection().last_uid, Some(5));
}
