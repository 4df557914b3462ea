//! How long it takes from a panic until the next attempt runs: a worker without back-off, beside the supervised actors of
//! ractor and kameo, and a bare task that waits for another and spawns it again. How each is kept going lives in `kept`.

mod kept;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use plba_benches::pairs::median;
use plba_benches::report::{Figure, Good};
use tokio::runtime::{Builder, Runtime};

/// How many panics there are of each, and how many turns all take.
const PANICS: usize = 200;
const TURNS: usize = 5;

/// What an attempt does: it tells when it began, and panics after a moment in which everything comes to rest.
pub(crate) async fn attempt(report: Sender<(Instant, Instant)>) {
    let began = Instant::now();
    tokio::time::sleep(Duration::from_millis(2)).await;
    // Nobody listens any more once there were enough.
    let _ = report.send((began, Instant::now()));
    panic!("as planned");
}

fn main() {
    // What is measured is not how long a panic takes to print.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut ours, mut peers) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
    for _ in 0..TURNS {
        ours.push(latency(kept::worker));
        peers[0].push(latency(kept::task));
        peers[1].push(latency(kept::ractor));
        peers[2].push(latency(kept::kameo));
        eprint!(".");
    }
    eprintln!();
    let names = ["bare task, spawned again", "ractor 0.16", "kameo 0.22"];
    for (name, theirs) in names.into_iter().zip(&peers) {
        report(&ours, name, theirs);
    }
}

/// The median, in microseconds, of the times from a panic to the next beginning.
fn latency(keep: fn(&Runtime, Sender<(Instant, Instant)>)) -> f64 {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("the machine gives threads");
    let (sender, receiver) = channel();
    keep(&runtime, sender);
    let attempts = collect(&receiver);
    runtime.shutdown_background();
    let between = attempts
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].1).as_secs_f64() * 1e6);
    median(between).expect("there were panics")
}

fn collect(receiver: &Receiver<(Instant, Instant)>) -> Vec<(Instant, Instant)> {
    let wait = Duration::from_secs(30);
    let next = |_| receiver.recv_timeout(wait).expect("what panics is started again");
    (0..=PANICS).map(next).collect()
}

fn report(ours: &[f64], peer: &str, theirs: &[f64]) {
    let of = |values: &[f64]| median(values.iter().copied()).expect("there were turns");
    let ratio = median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs));
    let figure = Figure {
        name: "restart after a panic, no back-off",
        value: of(ours),
        unit: "µs",
        good: Good::Low,
        peer,
        peer_value: of(theirs),
        ratio: ratio.expect("there were turns"),
        goal: None,
    };
    figure.report().expect("the file for results can be written");
}
