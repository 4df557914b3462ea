//! The view of schedules: when they come next, when they came last, and what they missed.

use jiff::Timestamp;
use plba_contracts::clock::Clock;
use plba_contracts::control::{ControlError, Endpoint, Parameters};
use plba_contracts::services::Services;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::failed;
use crate::ledger::SourceLedger;
use crate::schedule::{Misfire, Schedule, ScheduleStanding, Schedules};

/// The answer of the view `schedules`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SchedulesView {
    /// The schedules, in the order in which they were given.
    pub schedules: Vec<ScheduleShown>,
}

/// One schedule.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleShown {
    /// Its name.
    pub name: String,
    /// The next nominal time, as a clock on the wall in its zone shows it.
    pub next: Option<String>,
    /// The two after it.
    pub then: Vec<String>,
    /// The nominal time of the latest tick that was published, in its zone.
    pub last: Option<String>,
    /// How many ticks came too late to be on time, made up for or not.
    pub missed: u64,
    /// What becomes of such ticks.
    pub misfire: String,
    /// The cron expression.
    pub cron: String,
    /// The time zone.
    pub zone: String,
    /// The expression in words.
    pub words: String,
    /// The queue that its tasks go to.
    pub queue: String,
    /// The kind of its tasks.
    pub kind: String,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    let view = "Shows the schedules: when they come next, came last, and what they missed";
    vec![Endpoint::view("schedules", view, show)]
}

async fn show(services: Services, _: Parameters) -> Result<SchedulesView, ControlError> {
    // An application without schedules registers none.
    let Ok(schedules) = services.get::<Schedules>().await else {
        return Ok(SchedulesView { schedules: Vec::new() });
    };
    let now = services.get::<dyn Clock>().await.map_err(failed)?.now();
    let ledger = services.get::<dyn SourceLedger>().await.ok();
    let mut shown = Vec::new();
    for schedule in schedules.iter() {
        // What has run here is known here; else the ledger tells, also of a process that has ended.
        let mut standing = schedules.standing(&schedule.name);
        if standing.is_none()
            && let Some(ledger) = &ledger
        {
            let cursor = ledger.cursor(&schedule.source_name()).await.map_err(failed)?;
            standing = cursor.and_then(|cursor| ScheduleStanding::read(&cursor).ok());
        }
        shown.push(ScheduleShown::of(schedule, standing, now));
    }
    Ok(SchedulesView { schedules: shown })
}

impl ScheduleShown {
    fn of(schedule: &Schedule, standing: Option<ScheduleStanding>, now: Timestamp) -> Self {
        let expression = &schedule.expression;
        let mut times = expression.times_after(now).map(|time| expression.local(time));
        let next = times.next();
        let misfire = match schedule.misfire {
            Misfire::Skip => "skipped".to_owned(),
            Misfire::Once => "made up for once".to_owned(),
            Misfire::All { limit } => format!("the latest {limit} made up for"),
        };
        let last = standing.as_ref().and_then(|standing| standing.last);
        Self {
            name: schedule.name.clone(),
            next,
            then: times.take(2).collect(),
            last: last.map(|last| expression.local(last)),
            missed: standing.map_or(0, |standing| standing.missed),
            misfire,
            cron: expression.as_str().to_owned(),
            zone: expression.zone().to_owned(),
            words: expression.in_words(),
            queue: schedule.task.queue.as_str().to_owned(),
            kind: schedule.task.kind.clone().into_owned(),
        }
    }
}
