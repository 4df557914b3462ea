//! Tasks by the clock: schedules, each a cron expression in a time zone with the task to publish at every tick, and what
//! becomes of ticks that nobody was there for.
//!
//! **A tick is one task at most**, however many instances run: its task's id is `schedule/NAME/NOMINAL-TIME`, which a queue
//! keeps once; how far the schedule has come is in the ledger; and where tasks survive the process the id is also a unique
//! key, which the queue remembers beyond the task's end for as long as any instance may still come upon the tick.
//!
//! **Late ticks.** A tick that is published within its `grace` of the nominal time is on time. One that nobody was there
//! for (the process was down, the queue was full, the clock was set forward) is a *misfire*, and [`Misfire`] says what
//! becomes of it. With several misfires and [`Misfire::Once`] only the latest is made up for.
//!
//! **Clocks.** Nominal times go forward only. When the machine's clock is set back, ticks that were published don't come
//! again, and the schedule waits until the clock has come to where it was. It waits for at most two hours: a clock that
//! is set back by more was wrong before, and the schedule goes on from the time that it shows now. What a change to or
//! from daylight-saving time does is told at [`Expression`].
//!
//! | file | what |
//! |---|---|
//! | `plan` | what is due, without a clock or input and output |
//! | `source` | the source that publishes it |
//! | `config` | schedules in the configuration |
//! | `board` | all schedules of an application: their workers, and how they stand |

mod board;
mod config;
mod plan;
mod source;

use std::time::Duration;

pub use board::{ScheduleStanding, Schedules};
pub use config::{MisfireConfig, ScheduleConfig};
pub use source::ScheduleSource;

pub use plba_contracts::cron::{Expression, ExpressionError};

use crate::task::NewTask;

/// The header that names the schedule of a task.
pub const SCHEDULE: &str = "schedule";

/// The header that tells the nominal time of a task's tick, in UTC.
pub const SCHEDULED_FOR: &str = "scheduled-for";

/// The header that tells how many missed ticks this task stands for besides its own; left out when there are none.
pub const MISSED_TICKS: &str = "missed-ticks";

/// How many bytes the name of a schedule may have.
pub const MAXIMUM_SCHEDULE_NAME: usize = 100;

/// How many misfires [`Misfire::All`] may make up for.
pub const MAXIMUM_MADE_UP: u32 = 1_000;

/// A task at every tick of a cron expression.
///
/// ```
/// use plba_tasks::schedule::{Expression, Misfire, Schedule};
/// use plba_tasks::task::NewTask;
///
/// let weekdays = Expression::parse("30 6 * * MON-FRI", "Europe/Berlin").unwrap();
/// let mut report = Schedule::new("report", weekdays, NewTask::new("reports", "report.make", "{}"));
/// report.misfire = Misfire::Once;
/// assert!(report.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Schedule {
    /// Its name, unique in the application: lower-case letters, digits, `-`, `_` and `.`. It must stay the same for ever.
    pub name: String,
    /// When.
    pub expression: Expression,
    /// What is published. Its id, unique key and origin are the schedule's to set; a delay comes on top of the jitter.
    pub task: NewTask,
    /// What becomes of missed ticks. Default: skipped.
    pub misfire: Misfire,
    /// How late a tick is still on time. Default: 60 s.
    pub grace: Duration,
    /// By how much a tick's task is delayed at most, spread evenly over the ticks and the same in every instance, so that
    /// what is scheduled for one time does not begin at one time. Default: not at all.
    pub jitter: Duration,
}

/// What becomes of ticks that came too late to be on time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Misfire {
    /// They are counted, and nothing else.
    #[default]
    Skip,
    /// The latest one is made up for, and stands for the others.
    Once,
    /// The latest ones are made up for, oldest first.
    All {
        /// How many at most, 1 to [`MAXIMUM_MADE_UP`].
        limit: u32,
    },
}

impl Schedule {
    /// A schedule that skips missed ticks, with a minute of grace and no jitter.
    pub fn new(name: impl Into<String>, expression: Expression, task: NewTask) -> Self {
        Self {
            name: name.into(),
            expression,
            task,
            misfire: Misfire::default(),
            grace: Duration::from_secs(60),
            jitter: Duration::ZERO,
        }
    }

    /// Checks the name, the task and the ranges.
    ///
    /// # Errors
    /// The first fault, with what would do.
    pub fn validate(&self) -> Result<(), String> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if !(1..=MAXIMUM_SCHEDULE_NAME).contains(&self.name.len()) || !self.name.bytes().all(letter) {
            return Err(format!(
                "\"{}\" can't name a schedule; 1 to {MAXIMUM_SCHEDULE_NAME} lower-case letters, digits, '-', '_' and '.' can",
                self.name
            ));
        }
        const DAY: Duration = Duration::from_secs(24 * 3600);
        for (what, span) in [("grace", self.grace), ("jitter", self.jitter)] {
            if span > DAY {
                return Err(format!("{what} is a day at most"));
            }
        }
        if let Misfire::All { limit } = self.misfire
            && !(1..=MAXIMUM_MADE_UP).contains(&limit)
        {
            return Err(format!(
                "1 to {MAXIMUM_MADE_UP} misfires can be made up for, not {limit}"
            ));
        }
        self.task.check()
    }

    /// Its name as a source, in task ids and in the ledger.
    pub fn source_name(&self) -> String {
        format!("schedule/{}", self.name)
    }
}
