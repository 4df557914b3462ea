//! What 100,000 workers cost: the time to start and to stop them through the supervisor, the memory of each, and the
//! processor's time when each has a little to do once a second; beside as many bare tasks and the actors of peers. Every
//! round runs in a process of its own, so that no allocator reuses what another round has freed.

mod actors;
mod ours;
mod round;
mod subsystems;
mod tasks;
mod variant;

use plba_benches::pairs::median;
use plba_benches::report::{Figure, Good};

use self::round::Round;
use self::variant::Variant;

/// How often all variants take their turn, one after the other, so that a noisy neighbour slows them all.
const ROUNDS: usize = 5;

fn main() {
    if let Some(variant) = round::asked_for() {
        return round::run_here(variant);
    }
    let mut rounds: Vec<Vec<(Variant, Round)>> = Vec::new();
    for _ in 0..ROUNDS {
        let turn = |variant| {
            eprint!(".");
            (variant, round::run_elsewhere(variant))
        };
        rounds.push(Variant::ALL.into_iter().map(turn).collect());
    }
    eprintln!();
    for variant in Variant::ALL {
        for &peer in variant.peers() {
            beside(&rounds, variant, peer);
        }
    }
}

/// Reports all figures of a variant beside a peer's.
fn beside(rounds: &[Vec<(Variant, Round)>], variant: Variant, peer: Variant) {
    let pairs: Vec<(Round, Round)> = rounds
        .iter()
        .map(|round| (of(round, variant), of(round, peer)))
        .collect();
    let each = f64::from(variant.count());
    report(variant, peer, "start", "s", &pairs, |round| round.start.as_secs_f64());
    report(variant, peer, "stop", "s", &pairs, |round| round.stop.as_secs_f64());
    report(variant, peer, "memory", "bytes a worker", &pairs, |round| {
        round.bytes as f64 / each
    });
    if variant.beats() && peer.beats() {
        report(variant, peer, "idle", "cores", &pairs, |round| round.idle.as_secs_f64());
    }
}

fn of(round: &[(Variant, Round)], variant: Variant) -> Round {
    let found = round.iter().find(|(other, _)| *other == variant);
    found.expect("every variant takes its turn").1
}

fn report(
    variant: Variant,
    peer: Variant,
    what: &str,
    unit: &str,
    pairs: &[(Round, Round)],
    figure: impl Fn(&Round) -> f64,
) {
    let ours = median(pairs.iter().map(|(ours, _)| figure(ours)));
    let theirs = median(pairs.iter().map(|(_, theirs)| figure(theirs)));
    let ratio = median(pairs.iter().map(|(ours, theirs)| figure(ours) / figure(theirs)));
    let (Some(value), Some(peer_value), Some(ratio)) = (ours, theirs, ratio) else {
        return;
    };
    let figure = Figure {
        name: &format!("{} {}: {what}", variant.count(), variant.name()),
        value,
        unit,
        good: Good::Low,
        peer: peer.name(),
        peer_value,
        ratio,
        goal: None,
    };
    figure.report().expect("the file for results can be written");
}
