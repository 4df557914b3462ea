//! Where it can break it does, against a server in memory and under paused time: at every byte in both directions, at every
//! await of the source, and while other programs change the folder. No message is lost, and none is carried out twice by a
//! process that lives.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use plba_contracts::stop::StopHandle;
use plba_tasks::ledger::EntryState;
use plba_tasks::source::TaskSource;
use tokio::time::sleep;

use super::after_tests::{source, until};
use crate::imap::model::{INBOX, Model};
use crate::test_bench::{Bench, SOURCE};

const MAIL: usize = 3;

fn filled() -> Arc<Model> {
    let model = Model::new();
    model.change(|state| (1..=MAIL).for_each(|number| state.deliver(INBOX, &format!("mail{number}"))));
    model
}

/// How often each message was carried out.
type Done = Arc<Mutex<BTreeMap<String, usize>>>;

fn count(done: &Done) -> impl FnMut(String) + use<> {
    let done = Arc::clone(done);
    move |text| *done.lock().unwrap().entry(text).or_default() += 1
}

/// A whole life with a connection that breaks: the mail that was there, one that comes while the server is waited for, and
/// the way of all of them to another folder.
async fn live(model: &Arc<Model>, options: &str, what: &str) {
    let (bench, source) = (Bench::new(), source(model, options));
    let done = Done::default();
    let running = bench.run(&source);
    let deliver = async {
        sleep(Duration::from_secs(20)).await;
        model.change(|state| state.deliver(INBOX, "later"));
        until(what, || {
            model.texts("Done").len() > MAIL && model.texts(INBOX).is_empty()
        })
        .await;
        until(what, || source.status().settled > MAIL as u64).await;
    };
    tokio::select! {
        () = bench.work(count(&done)) => {}
        () = deliver => {}
    }
    let done = done.lock().unwrap().clone();
    assert_eq!(done.len(), MAIL + 1, "{what}: {done:?}");
    assert!(done.values().all(|times| *times == 1), "{what}: {done:?}");
    let mut moved = model.texts("Done");
    moved.sort_unstable();
    assert_eq!(moved, ["later", "mail1", "mail2", "mail3"], "{what}");
    assert!(model.all_flagged("Done", "\\Seen"), "{what}");
    assert_eq!(bench.keys(EntryState::Open), [""; 0], "{what}");
    running.abort();
}

/// Failure 43: LOGIN, SELECT, SEARCH, FETCH, IDLE, STORE and MOVE, cut after every byte that the server sends, and after
/// every one that it gets.
#[tokio::test(start_paused = true)]
async fn a_connection_cut_at_any_byte_in_either_direction_loses_and_repeats_nothing() {
    for (options, resync) in [
        ("mode=idle&move=Done", ""),
        ("interval=10s&move=Done", " ENABLE CONDSTORE QRESYNC"),
    ] {
        let filled = || {
            let model = filled();
            model.change(|state| state.capabilities += resync);
            model
        };
        let whole = filled();
        live(&whole, options, "an unbroken life").await;
        let (sent, received) = whole.change(|state| (state.sent, state.received));
        for cut in 0..=sent {
            let model = filled();
            model.change(|state| state.cut_to_client = Some(cut));
            live(
                &model,
                options,
                &format!("{options}, cut after {cut} bytes to the client"),
            )
            .await;
        }
        for cut in 0..=received {
            let model = filled();
            model.change(|state| state.cut_to_server = Some(cut));
            live(
                &model,
                options,
                &format!("{options}, cut after {cut} bytes to the server"),
            )
            .await;
        }
    }
}

/// Polls a future so many times and then drops it, as a kill does.
struct Killed<F>(Pin<Box<F>>, usize);

impl<F: Future> Future for Killed<F> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        if self.1 == 0 {
            return Poll::Ready(true);
        }
        self.1 -= 1;
        self.0.as_mut().poll(context).map(|_| false)
    }
}

/// Failure 46: the process dies at every moment at which it can be dropped, with work in hand and marks half set. The next
/// one finishes: nothing is lost, everything is in one place.
#[tokio::test(start_paused = true)]
async fn a_process_that_dies_at_any_await_loses_nothing() {
    for (capabilities, options) in [
        ("IMAP4rev1 IDLE MOVE UIDPLUS", "mode=idle&move=Done"),
        ("IMAP4rev1 UIDPLUS", "interval=10s&move=Done"),
        ("IMAP4rev1 IDLE", "mode=idle"),
    ] {
        let (mut polls, mut twice) = (0, 0);
        loop {
            polls += 1;
            let what = format!("{capabilities}, {options}, dropped after {polls} polls");
            let model = filled();
            model.change(|state| {
                state.capabilities = capabilities.into();
                state.pipe = 8;
            });
            let done = Done::default();
            let bench = Bench::new();
            let died = {
                let (source, stop) = (source(&model, options), StopHandle::new());
                let run = Box::pin({
                    let (intake, signal) = (bench.intake(), stop.signal());
                    async move { source.run(intake, signal).await }
                });
                let mut working = pin!(bench.work(count(&done)));
                tokio::select! {
                    died = Killed(run, polls) => died,
                    () = &mut working => false,
                    () = sleep(Duration::from_secs(25)) => false,
                }
            };
            if !died {
                // A whole life fits into so many polls: there is no later moment to die at.
                break;
            }
            let bench = bench.restarted();
            let source = source(&model, options);
            let _running = bench.run(&source);
            let finished = || match options.contains("move") {
                true => model.texts(INBOX).is_empty(),
                false => model.all_flagged(INBOX, "\\Seen"),
            };
            tokio::select! {
                () = bench.work(count(&done)) => {}
                () = until(&what, finished) => {}
            }
            let done = done.lock().unwrap().clone();
            assert_eq!(done.len(), MAIL, "{what}: {done:?}");
            assert!(done.values().all(|times| *times <= 2), "{what}: {done:?}");
            let mut kept = model.texts(if options.contains("move") { "Done" } else { INBOX });
            kept.sort_unstable();
            let before = kept.len();
            kept.dedup();
            assert_eq!(kept, ["mail1", "mail2", "mail3"], "{what}");
            twice += usize::from(before > MAIL);
        }
        assert!(polls > 100, "{capabilities}: only {polls} moments");
        // Only between COPY and STORE, which servers with MOVE don't need.
        let most = if capabilities.contains("MOVE") || !options.contains("move") {
            0
        } else {
            20
        };
        assert!(
            twice <= most,
            "{capabilities}: {twice} of {polls} deaths left a second copy"
        );
    }
}

/// Failures 45 and 46: what other programs do in the middle of our commands.
#[tokio::test(start_paused = true)]
async fn what_others_do_meanwhile_loses_and_repeats_nothing() {
    // Expunged between the sizes and the bodies.
    let model = filled();
    model.change(|state| {
        state
            .before
            .push_back(("UID FETCH 1:3 (UID BODY", |state| state.folder(INBOX).expunge(2)))
    });
    let (bench, quiet) = (Bench::new(), source(&model, "move=Done"));
    let _running = bench.run(&quiet);
    tokio::select! {
        () = bench.work(|_| {}) => {}
        () = until("the two others moved", || model.texts("Done") == ["mail1", "mail3"]) => {}
    }
    assert_eq!((quiet.status().errors, bench.keys(EntryState::Open)), (0, vec![]));

    // Read by a person in between, before it was ever taken in.
    let model = filled();
    model.change(|state| {
        state
            .before
            .push_back(("UID SEARCH", |state| state.deliver(INBOX, "read")));
        state
            .before
            .push_back(("UID FETCH", |state| state.folder(INBOX).flag(4, "\\Seen")));
    });
    let (bench, quiet) = (Bench::new(), source(&model, "move=Done"));
    let _running = bench.run(&quiet);
    tokio::select! {
        () = bench.work(|_| {}) => {}
        () = until("all four moved", || model.texts("Done").len() == 4) => {}
    }

    // Renumbered while some are in hand: what is done is not done again, for it is marked; the others come under new keys.
    let model = filled();
    let (bench, quiet) = (Bench::new(), source(&model, "mode=idle"));
    let running = bench.run(&quiet);
    let first = bench.next().await;
    bench.complete(first).await;
    until("the first one settled", || quiet.status().settled == 1).await;
    running.abort();
    model.change(|state| state.renumber(INBOX));
    let bench = bench.restarted();
    let quiet = source(&model, "mode=idle");
    let _running = bench.run(&quiet);
    let mut taken = bench.take(2).await;
    taken.sort_unstable();
    assert_eq!(taken, ["mail2", "mail3"]);
    sleep(Duration::from_secs(1000)).await;
    assert_eq!(quiet.status().published, 2);
}

/// QRESYNC, where it is offered: what was deleted while nobody was connected is not asked for again.
#[tokio::test(start_paused = true)]
async fn a_server_that_tells_what_has_vanished_is_believed() {
    let model = filled();
    model.change(|state| state.capabilities += " ENABLE CONDSTORE QRESYNC");
    let (bench, quiet) = (Bench::new(), source(&model, "mode=idle"));
    let running = bench.run(&quiet);
    let done = bench.next().await;
    until("the cursor remembers the mod-sequence", || {
        let cursor = bench.ledger.kept_cursor(SOURCE).unwrap_or_default();
        cursor.contains("\"mod_seq\":4")
    })
    .await;
    running.abort();
    let _ = running.await;
    bench.complete(done).await;
    model.change(|state| {
        state.folder(INBOX).expunge(1);
        state.folder(INBOX).expunge(2);
        state.lines.clear();
    });
    let bench = bench.restarted();
    let quiet = source(&model, "mode=idle");
    let _running = bench.run(&quiet);
    assert_eq!(bench.take(1).await, ["mail3"]);
    until("nothing left over", || bench.keys(EntryState::Open) == ["7:3"]).await;
    assert_eq!(bench.keys(EntryState::Done), [""; 0]);
    let lines = model.change(|state| state.lines.clone());
    let asked = lines
        .iter()
        .filter(|line| line.contains("STORE") || line.contains("UID FETCH 2"));
    assert_eq!(asked.count(), 0, "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("QRESYNC (7 4)")), "{lines:?}");

    // One that offers it and does not understand it is asked without.
    let model = filled();
    model.change(|state| {
        state.capabilities += " QRESYNC";
        state.refuses.push(("ENABLE", "what?"));
    });
    let bench = Bench::new();
    let _running = bench.run(&source(&model, "mode=idle"));
    assert_eq!(bench.take(1).await, ["mail1"]);
}

/// A day on a bad line: every hour a message, and in between the path breaks without a word, the server asks for pauses,
/// and connections end. Each message comes once, within the time that it takes to find out, and the server is not stormed.
#[tokio::test(start_paused = true)]
async fn a_day_of_half_open_links_and_throttling_loses_and_repeats_nothing() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let model = Model::new();
    let (bench, quiet) = (Bench::new(), source(&model, "mode=idle"));
    let _running = bench.run(&quiet);
    let done = Done::default();
    let day = async {
        for hour in 0..24 {
            let minutes = |random: &mut fastrand::Rng, least, most| Duration::from_secs(60 * random.u64(least..most));
            sleep(minutes(&mut random, 1, 10)).await;
            model.change(|state| state.silent = true);
            model.change(|state| state.deliver(INBOX, &format!("hour {hour}")));
            sleep(minutes(&mut random, 1, 20)).await;
            model.change(|state| {
                state.silent = false;
                let words = "[THROTTLED] Suggested Backoff Time: 240000 milliseconds";
                state
                    .refuses
                    .push((["UID SEARCH", "IDLE", "UID FETCH"][hour % 3], words));
            });
            sleep(minutes(&mut random, 1, 10)).await;
            model.change(|state| state.refuses.clear());
            sleep(Duration::from_secs(20 * 60)).await;
            assert!(model.all_flagged(INBOX, "\\Seen"), "hour {hour}, seed {seed}");
        }
    };
    tokio::select! {
        () = bench.work(count(&done)) => {}
        () = day => {}
    }
    let done = done.lock().unwrap().clone();
    assert!(
        done.len() == 24 && done.values().all(|times| *times == 1),
        "seed {seed}: {done:?}"
    );
    let dialled = model.change(|state| state.dialled);
    assert!(dialled < 24 * 12, "{dialled} connections in a day, seed {seed}");
}

/// Of a large folder the sizes come in portions: those of the next while the bodies of the one before are taken in, and no
/// message at a border is left out.
#[tokio::test(start_paused = true)]
async fn sizes_of_the_next_portion_are_asked_for_before_the_one_at_hand_is_taken_in() {
    const MANY: usize = 2_345;
    let model = Model::new();
    model.change(|state| (1..=MANY).for_each(|number| state.deliver(INBOX, &format!("mail{number}"))));
    let (bench, source) = (Bench::new(), source(&model, "since=all&mark=none"));
    let done = Done::default();
    let _running = bench.run(&source);
    tokio::select! {
        () = bench.work(count(&done)) => {}
        () = until("all are settled", || source.status().settled >= MANY as u64) => {}
    }
    let done = done.lock().unwrap().clone();
    assert!(
        done.len() == MANY && done.values().all(|times| *times == 1),
        "{}",
        done.len()
    );
    let lines = model.change(|state| state.lines.clone());
    let place = |what: &str| lines.iter().position(|line| line.contains(what));
    let sizes = place("UID FETCH 1001:2000 (UID FLAGS").expect("asked for at once");
    let bodies = lines.iter().position(|line| line.contains("BODY.PEEK[]"));
    assert!(Some(sizes) < bodies, "{lines:?}");
    assert!(place("UID FETCH 2001:2345 (UID FLAGS").is_some());
}
