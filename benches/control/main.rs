//! How fast the control plane answers while every thread of the workers' executor is caught in a handler's `loop {}`,
//! beside the same process with nothing to do. Every request comes on a connection of its own, as a probe's does. The
//! process asked lives in `process`.

mod process;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use plba_benches::report::{Figure, Good};

use self::process::{Load, Process, pause};

/// How many requests each figure rests on, and the pause between two of them: probes and people don't hammer.
const REQUESTS: usize = 2_000;
const PAUSE: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    if let Some(load) = process::asked_for() {
        return process::run_here(load);
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> io::Result<()> {
    let blocked = Process::start(Load::Blocked)?;
    let paths = ["/livez", "/api/v1/status"];
    let with_load = paths.map(|path| times(&blocked, path));
    drop(blocked);
    let idle = Process::start(Load::Idle)?;
    let without = paths.map(|path| times(&idle, path));
    for (path, (with_load, without)) in paths.into_iter().zip(with_load.into_iter().zip(without)) {
        let (with_load, without) = (with_load?, without?);
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("slowest", 1.0)] {
            let (value, peer_value) = (at(&with_load, share), at(&without, share));
            let figure = Figure {
                name: &format!("control plane, every executor thread blocked: {path} {name}"),
                value,
                unit: "ms",
                good: Good::Low,
                peer: "idle",
                peer_value,
                ratio: value / peer_value,
                goal: None,
            };
            figure.report()?;
        }
    }
    Ok(())
}

/// How long each request took, the shortest first.
fn times(process: &Process, path: &str) -> io::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let began = Instant::now();
        process.get(path)?;
        times.push(began.elapsed());
        pause(PAUSE);
    }
    times.sort_unstable();
    Ok(times)
}

/// The time, in milliseconds, that this share of the requests did not exceed.
fn at(times: &[Duration], share: f64) -> f64 {
    let place = (times.len() as f64 * share).ceil() as usize;
    times[place.clamp(1, times.len()) - 1].as_secs_f64() * 1_000.0
}
