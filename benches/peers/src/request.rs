//! What one process measures, from its command line: `PEER URL TASKS WORKERS [PICKUPS]`.

use crate::Result;

/// One measurement.
pub(crate) struct Request {
    /// Whom to measure.
    pub(crate) peer: String,
    /// Where its tasks are kept.
    pub(crate) url: String,
    /// How many there are.
    pub(crate) tasks: usize,
    /// How many consumers carry them out.
    pub(crate) workers: usize,
    /// How often to look how long one task takes to a waiting consumer, instead of how many go through.
    pub(crate) pickups: Option<usize>,
}

impl Request {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut next = |what: &str| arguments.next().ok_or_else(|| format!("which {what}?"));
        Ok(Self {
            peer: next("peer")?,
            url: next("url")?,
            tasks: next("number of tasks")?.parse()?,
            workers: next("number of workers")?.parse()?,
            pickups: next("number of pick-ups").ok().map(|count| count.parse()).transpose()?,
        })
    }
}
