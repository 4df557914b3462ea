//! What one task costs on its way through the queue in memory, a task worker and a trivial handler, beside a bare loop over
//! a bounded channel with the same handler; and what it costs when a ledger on a file keeps count of it.

mod bare;
mod ledger;
mod plain;

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use plba_benches::pairs::Pairs;
use plba_benches::report::{Figure, Good};
use tokio::runtime::{Builder, Runtime};

/// Tasks of one round without a ledger, and with one.
const PLAIN: usize = 100_000;
const LEDGER: usize = 5_000;

const PEER: &str = "bare loop over a bounded channel";

fn main() {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("the machine gives threads");
    let mut criterion = Criterion::default().configure_from_args();
    for workers in [1, 4] {
        let name = format!("queue, {}", counted(workers));
        measure(
            &mut criterion,
            &name,
            PLAIN,
            || run(&runtime, plain::run(workers, PLAIN, plain::BATCH)),
            || run(&runtime, bare::run(workers, PLAIN)),
        );
    }
    measure(
        &mut criterion,
        "queue, 1 worker, published one by one",
        PLAIN,
        || run(&runtime, plain::run(1, PLAIN, 1)),
        || run(&runtime, bare::run(1, PLAIN)),
    );
    for workers in [1, 4] {
        let name = format!("queue with a ledger on a file, {}", counted(workers));
        measure(
            &mut criterion,
            &name,
            LEDGER,
            || run(&runtime, ledger::run(workers, LEDGER)),
            || run(&runtime, bare::run(workers, LEDGER)),
        );
    }
    criterion.final_summary();
}

fn counted(workers: u32) -> String {
    match workers {
        1 => "1 worker".to_owned(),
        several => format!("{several} workers"),
    }
}

/// Runs a round on the executor's own threads: the thread that waits here is none of them.
fn run(runtime: &Runtime, round: impl Future<Output = Duration> + Send + 'static) -> Duration {
    let round = runtime.spawn(round);
    runtime.block_on(round).expect("no round panics")
}

/// Measures pairs of rounds of `tasks` tasks each.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    tasks: usize,
    mut ours: impl FnMut() -> Duration,
    mut peer: impl FnMut() -> Duration,
) {
    let mut pairs = Pairs::default();
    let mut group = criterion.benchmark_group("tasks");
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(6))
        .throughput(Throughput::Elements(tasks as u64));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| pairs.run(iterations, &mut ours, &mut peer));
    });
    group.finish();
    if let Some(medians) = pairs.medians() {
        let per_task = 1e9 / tasks as f64;
        let cost = Figure {
            name,
            value: medians.ours * per_task,
            unit: "ns a task",
            good: Good::Low,
            peer: PEER,
            peer_value: medians.peer * per_task,
            ratio: medians.quotient,
            goal: None,
        };
        let rate = Figure {
            value: tasks as f64 / medians.ours,
            unit: "tasks a second",
            good: Good::High,
            peer_value: tasks as f64 / medians.peer,
            ratio: medians.quotient.recip(),
            ..cost.clone()
        };
        for figure in [cost, rate] {
            figure.report().expect("the file for results can be written");
        }
    }
}
