//! Queues beside their peers and beside the limit of each server, in one run on the same servers: tasks enqueued and carried
//! out in a second, and how long one task takes to a consumer that waits. plba has everything on: leases, counted attempts,
//! retries, ids that are known twice, trace headers; its tasks go through the task worker.
//!
//! `cargo xtask bench queues [--backend memory|sqlite|postgres|redis]… [--million] [--json]`

mod bullmq;
mod contest;
mod disk;
mod guest;
mod memory;
mod ours;
mod postgres;
mod redis;
mod seen;
mod sqlite;

use std::error::Error;

type Failure = Box<dyn Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

const BACKENDS: [&str; 4] = ["memory", "sqlite", "postgres", "redis"];

fn main() -> Result<()> {
    let request = Request::parse(std::env::args().skip(1))?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?;
    // On the executor's own threads: the thread that waits here is none of them.
    runtime.block_on(async { tokio::spawn(run(request)).await })?
}

async fn run(request: Request) -> Result<()> {
    let guests = guest::Guests::build().await;
    for backend in BACKENDS.into_iter().filter(|backend| request.wants(backend)) {
        match backend {
            "memory" => memory::run(&guests).await?,
            "sqlite" => sqlite::run(&guests).await?,
            "postgres" => postgres::run(&guests).await?,
            _ => redis::run(&guests, request.million).await?,
        }
    }
    Ok(())
}

/// What the command line asks for.
struct Request {
    backends: Vec<String>,
    million: bool,
}

impl Request {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut request = Self {
            backends: Vec::new(),
            million: false,
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // Cargo says so to every bench.
                "--bench" => {}
                "--million" => request.million = true,
                "--backend" => {
                    let name = arguments.next().unwrap_or_default();
                    if !BACKENDS.contains(&name.as_str()) {
                        return Err(format!("--backend is one of {}, not \"{name}\"", BACKENDS.join(", ")).into());
                    }
                    request.backends.push(name);
                }
                unknown => return Err(format!("there is no option `{unknown}`").into()),
            }
        }
        Ok(request)
    }

    fn wants(&self, backend: &str) -> bool {
        self.backends.is_empty() || self.backends.iter().any(|name| name == backend)
    }
}
