//! What 100,000 workers cost: the time to start and to stop them through the supervisor, and the memory of each, beside as
//! many bare tasks with a child token each. Every round runs in a process of its own, so that no allocator reuses what
//! another round has freed.

mod round;
mod variant;

use std::time::Duration;

use criterion::{Criterion, SamplingMode};
use plba_benches::pairs::median;
use plba_benches::report::{Figure, Good};

use self::round::Round;
use self::variant::Variant;

/// How many workers there are.
pub(crate) const WORKERS: u32 = 100_000;

fn main() {
    if let Some(variant) = round::asked_for() {
        return round::run_here(variant);
    }
    let mut criterion = Criterion::default().configure_from_args();
    for variant in [Variant::Definitions, Variant::Pools, Variant::Services] {
        measure(&mut criterion, variant);
    }
    criterion.final_summary();
}

/// Measures rounds of a variant, each beside a round of bare tasks.
fn measure(criterion: &mut Criterion, variant: Variant) {
    let mut rounds: Vec<(Round, Round)> = Vec::new();
    let mut group = criterion.benchmark_group("workers");
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_secs(5));
    group.bench_function(variant.name(), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let pair = (round::run_elsewhere(variant), round::run_elsewhere(Variant::Bare));
                eprint!(".");
                total += pair.0.start + pair.0.stop;
                rounds.push(pair);
            }
            total
        });
    });
    group.finish();
    eprintln!();
    report(variant, "start", "s", &rounds, |round| round.start.as_secs_f64());
    report(variant, "stop", "s", &rounds, |round| round.stop.as_secs_f64());
    report(variant, "memory", "bytes a worker", &rounds, |round| {
        round.bytes as f64 / f64::from(WORKERS)
    });
}

fn report(variant: Variant, what: &str, unit: &str, rounds: &[(Round, Round)], figure: impl Fn(&Round) -> f64) {
    let ours = median(rounds.iter().map(|(ours, _)| figure(ours)));
    let peer = median(rounds.iter().map(|(_, peer)| figure(peer)));
    let ratio = median(rounds.iter().map(|(ours, peer)| figure(ours) / figure(peer)));
    let (Some(value), Some(peer_value), Some(ratio)) = (ours, peer, ratio) else {
        return;
    };
    let figure = Figure {
        name: &format!("{} {}: {what}", WORKERS, variant.name()),
        value,
        unit,
        good: Good::Low,
        peer: Variant::Bare.name(),
        peer_value,
        ratio,
    };
    figure.report().expect("the file for results can be written");
}
