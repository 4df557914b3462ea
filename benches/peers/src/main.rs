//! The peers of plba's queues, each carrying out the tasks that `cargo xtask bench queues` has plba carry out: the same
//! payload, a handler that counts, as many consumers. One measurement a process; what it saw is a line of JSON on standard
//! output. What is measured, how often and beside what lives with the bench.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod memory;
mod postgres;
mod redis;
mod request;
mod sight;
mod sqlite;

use std::error::Error;

use request::Request;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let request = Request::parse(std::env::args().skip(1))?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?;
    let seen = runtime.block_on(async { tokio::spawn(measure(request)).await })??;
    println!("{seen}");
    // Workers of peers don't always end when they are told to, and nothing they hold is of use to anybody.
    std::process::exit(0)
}

async fn measure(request: Request) -> Result<Value> {
    let seen = match (request.peer.as_str(), request.pickups) {
        ("apalis-memory", _) => memory::pace(&request).await?,
        ("apalis-redis", None) => redis::pace(&request).await?,
        ("apalis-redis", Some(count)) => redis::pickups(&request, count).await?,
        ("apalis-postgres", None) => postgres::apalis::pace(&request).await?,
        ("apalis-postgres", Some(count)) => postgres::apalis::pickups(&request, count).await?,
        ("graphile_worker", None) => postgres::graphile::pace(&request).await?,
        ("graphile_worker", Some(count)) => postgres::graphile::pickups(&request, count).await?,
        ("apalis-sqlite", None) => sqlite::pace(&request).await?,
        ("apalis-sqlite", Some(count)) => sqlite::pickups(&request, count).await?,
        (unknown, _) => return Err(format!("there is no peer `{unknown}`").into()),
    };
    Ok(json!({
        "enqueue": seen.enqueue,
        "process": seen.process,
        "pickups_us": seen.pickups.iter().map(|span| span.as_secs_f64() * 1e6).collect::<Vec<_>>(),
        "note": seen.note,
    }))
}
