//! Schedules in the configuration: a list of tables that an application embeds in its own section.

use std::collections::BTreeMap;

use plba_contracts::config::TimeSpan;
use plba_contracts::section::Faults;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Expression, Misfire, Schedule};
use crate::task::NewTask;

/// One schedule: `[[SECTION.schedules]]`.
///
/// ```
/// use plba_tasks::schedule::{Misfire, ScheduleConfig};
///
/// let config: ScheduleConfig = serde_json::from_value(serde_json::json!({
///     "name": "report", "cron": "30 6 * * MON-FRI", "zone": "Europe/Berlin",
///     "queue": "reports", "kind": "report.make", "payload": "{}",
///     "misfire": { "all": { "limit": 3 } }, "jitter": "5m",
/// }))
/// .unwrap();
/// let schedule = config.build().unwrap();
/// assert_eq!(schedule.misfire, Misfire::All { limit: 3 });
/// ```
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleConfig {
    /// Its name, unique in the application: lower-case letters, digits, `-`, `_` and `.`. It must stay the same for ever:
    /// under it the ledger keeps how far the schedule has come.
    pub name: String,
    /// When: minute, hour, day of the month, month, day of the week, such as `30 6 * * MON-FRI`; with seconds before them,
    /// if there are six fields.
    pub cron: String,
    /// The time zone in which that is meant, such as `Europe/Berlin`.
    #[serde(default = "utc")]
    pub zone: String,
    /// The queue that a task goes to at each tick.
    pub queue: String,
    /// The kind of that task.
    pub kind: String,
    /// The payload of that task.
    #[serde(default)]
    pub payload: String,
    /// Headers of that task.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// After how long that task is given up if nobody has begun with it; without a value it is never.
    #[serde(default)]
    pub expires: Option<TimeSpan>,
    /// What becomes of ticks that nobody was there for: `"skip"`, `"once"` (one task for all of them), or
    /// `{ all = { limit = 10 } }` (a task for each of the latest).
    #[serde(default)]
    pub misfire: MisfireConfig,
    /// How late a tick is still on time.
    #[serde(default = "minute")]
    pub grace: TimeSpan,
    /// By how much a tick's task is delayed at most, so that what is scheduled for one time does not begin at one time.
    #[serde(default = "nothing")]
    pub jitter: TimeSpan,
}

/// What becomes of missed ticks; see [`Misfire`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MisfireConfig {
    /// They are counted, and nothing else.
    #[default]
    Skip,
    /// The latest one is made up for.
    Once,
    /// The latest ones are made up for.
    All {
        /// How many at most, 1 to 1,000.
        limit: u32,
    },
}

fn utc() -> String {
    "UTC".to_owned()
}

fn minute() -> TimeSpan {
    TimeSpan::seconds(60)
}

fn nothing() -> TimeSpan {
    TimeSpan::seconds(0)
}

impl ScheduleConfig {
    /// The schedule that this describes.
    ///
    /// # Errors
    /// The key at fault, and the sentence that names what would do.
    pub fn build(&self) -> Result<Schedule, (&'static str, String)> {
        let expression = Expression::parse(&self.cron, &self.zone).map_err(|error| {
            let key = match error {
                super::ExpressionError::Cron { .. } => "cron",
                super::ExpressionError::Zone { .. } => "zone",
            };
            (key, error.to_string())
        })?;
        let mut task = NewTask::new(self.queue.as_str(), self.kind.clone(), self.payload.clone());
        task.headers.clone_from(&self.headers);
        task.expires = self.expires.map(Into::into);
        let mut schedule = Schedule::new(&self.name, expression, task);
        schedule.misfire = match self.misfire {
            MisfireConfig::Skip => Misfire::Skip,
            MisfireConfig::Once => Misfire::Once,
            MisfireConfig::All { limit } => Misfire::All { limit },
        };
        schedule.grace = self.grace.into();
        schedule.jitter = self.jitter.into();
        schedule.validate().map_err(|fault| ("", fault))?;
        Ok(schedule)
    }

    /// Checks a list of schedules for the validation of the section that embeds it under the key `path`.
    pub fn validate_all(schedules: &[Self], path: &str, faults: &mut Faults) {
        for (index, schedule) in schedules.iter().enumerate() {
            if let Err((key, fault)) = schedule.build() {
                faults.report(&format!("{path}.{index}.{key}"), fault);
            }
            if schedules[..index].iter().any(|other| other.name == schedule.name) {
                let fault = format!("there is another schedule \"{}\"", schedule.name);
                faults.report(&format!("{path}.{index}.name"), fault);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn faults_are_reported_at_their_place() {
        let schedule = |name: &str, cron: &str, zone: &str| {
            let value = json!({ "name": name, "cron": cron, "zone": zone, "queue": "reports", "kind": "report.make" });
            serde_json::from_value::<ScheduleConfig>(value).unwrap()
        };
        let schedules = [
            schedule("a", "0 6 * * *", "UTC"),
            schedule("b", "0 25 * * *", "UTC"),
            schedule("c", "0 6 * * *", "Europe/Bern"),
            schedule("A", "0 6 * * *", "UTC"),
            schedule("a", "0 7 * * *", "UTC"),
        ];
        let mut faults = Faults::default();
        ScheduleConfig::validate_all(&schedules, "schedules", &mut faults);
        let paths: Vec<_> = faults
            .into_vec()
            .into_iter()
            .map(|fault| fault.path.join("."))
            .collect();
        assert_eq!(
            paths,
            [
                "schedules.1.cron",
                "schedules.2.zone",
                "schedules.3",
                "schedules.4.name"
            ]
        );
    }
}
