//! What the toolkit contributes to the control plane: views of queues, tasks, dead letters and schedules, and the actions
//! on them. All of it asks services (`dyn TaskQueue`, and where they are registered `dyn SourceLedger`, `Schedules` and
//! `QueuesConfig`), so it works for every backend, running and not running.
//!
//! | file | endpoints |
//! |---|---|
//! | `queues` | `queues`, `queues.pause`, `queues.resume` |
//! | `rates` | what `queues` knows of tasks a minute |
//! | `tasks` | `tasks` |
//! | `dead` | `dead.list`, `dead.show` |
//! | `bulk` | `dead.retry`, `dead.drop` |
//! | `letters` | whose dead letters these are: the queue's, the ledger's |
//! | `schedules` | `schedules` |
//! | `parameters` | how parameters are read |

mod bulk;
mod dead;
mod letters;
mod parameters;
mod queues;
mod rates;
mod schedules;
mod tasks;

use std::sync::Arc;

use plba_contracts::control::{ControlError, Endpoint};
use plba_contracts::services::Services;

pub use bulk::{Changed, GoOn};
pub use dead::{DeadShown, HeaderShown, PayloadForm};
pub use queues::{Paused, QueueShown, QueueTotals, QueuesView, RulesShown};
pub use schedules::{ScheduleShown, SchedulesView};

use crate::queue::TaskQueue;

/// Everything there is.
pub fn endpoints() -> Vec<Endpoint> {
    let parts = [
        queues::endpoints(),
        tasks::endpoints(),
        dead::endpoints(),
        bulk::endpoints(),
        schedules::endpoints(),
    ];
    parts.into_iter().flatten().collect()
}

async fn queue(services: &Services) -> Result<Arc<dyn TaskQueue>, ControlError> {
    services.get::<dyn TaskQueue>().await.map_err(failed)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ControlError {
    ControlError::Failed(error.into())
}
