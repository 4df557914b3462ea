//! graphile_worker at its best settings: a local queue of 500 and completions in batches; a consumer is a worker with as
//! many places as its local queue keeps busy.

use std::time::{Duration, Instant};

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, Worker, WorkerContext, WorkerOptions,
};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;

use crate::Result;
use crate::request::Request;
use crate::sight::{Seen, Sight, payload, per_second};

#[derive(Clone, Deserialize, Serialize)]
struct Job {
    text: String,
}

impl TaskHandler for Job {
    const IDENTIFIER: &'static str = "bench";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(sight) = context.get_ext::<Sight>() {
            sight.task(&self.text);
        }
        Ok::<(), String>(())
    }
}

async fn worker(request: &Request, sight: &Sight, busy: bool) -> Result<Worker> {
    let pool = PgPoolOptions::new().max_connections(8).connect(&request.url).await?;
    let mut options = WorkerOptions::default()
        .pg_pool(pool)
        .schema("graphile_worker")
        .poll_interval(Duration::from_millis(100))
        .listen_os_shutdown_signals(false)
        .add_extension(sight.clone())
        .define_job::<Job>();
    if busy {
        options = options
            .concurrency(16)
            .local_queue(LocalQueueConfig::default().with_size(500))
            .complete_job_batch_delay(Duration::from_millis(1));
    } else {
        options = options.concurrency(1);
    }
    Ok(options.init().await?)
}

pub(crate) async fn pace(request: &Request) -> Result<Seen> {
    let sight = Sight::counting();
    let mut workers = Vec::new();
    for _ in 0..request.workers {
        workers.push(worker(request, &sight, true).await?);
    }
    let utils = workers.first().ok_or("which workers?")?.create_utils();
    let payload = serde_json::to_value(Job { text: payload() })?;
    let began = Instant::now();
    for first in (0..request.tasks).step_by(1_000) {
        let job = RawJobSpec {
            identifier: Job::IDENTIFIER.to_owned(),
            payload: payload.clone(),
            spec: JobSpec::default(),
        };
        let jobs = vec![job; 1_000.min(request.tasks - first)];
        utils.add_raw_jobs(&jobs).await?;
    }
    let enqueue = per_second(request.tasks, began);
    let began = Instant::now();
    for worker in workers {
        tokio::spawn(async move { worker.run().await });
    }
    let seen = sight.pace(request.tasks, began).await;
    Ok(Seen {
        enqueue: Some(enqueue),
        ..seen
    })
}

pub(crate) async fn pickups(request: &Request, count: usize) -> Result<Seen> {
    let sight = Sight::timing();
    let worker = worker(request, &sight, false).await?;
    let utils = worker.create_utils();
    tokio::spawn(async move { worker.run().await });
    let job = Job { text: payload() };
    let enqueue = || async {
        utils.add_job(job.clone(), JobSpec::default()).await?;
        Ok(())
    };
    sight.pickups(count, enqueue).await
}
