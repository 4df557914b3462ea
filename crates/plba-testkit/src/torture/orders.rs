//! What a child is told to do, as it stands in its environment.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::planted::Planted;
use crate::failpoint::Failpoint;

/// The variable that holds the orders.
pub(super) const VARIABLE: &str = "PLBA_TORTURE_ORDERS";

/// What a child has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Orders {
    /// The queue.
    pub(super) location: String,
    /// The ledger of the torture.
    pub(super) ledger: PathBuf,
    /// Which child it is; its tasks' ids begin with it.
    pub(super) number: u64,
    pub(super) seed: u64,
    pub(super) produce: Produce,
    /// Ids whose publication is not known to have succeeded: to be published again.
    pub(super) again: Vec<String>,
    pub(super) failpoint: Option<Failpoint>,
    pub(super) planted: Option<Planted>,
    /// End once nothing waits and nothing is in hand.
    pub(super) drain: bool,
}

/// Which tasks a child publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Produce {
    /// None of its own.
    Nothing,
    /// One of each kind that matters to failpoints, some twice.
    Sample,
    /// Random ones, as fast as the queue takes them.
    Endless,
}

impl Orders {
    pub(super) fn text(&self) -> String {
        let produce = match self.produce {
            Produce::Nothing => "nothing",
            Produce::Sample => "sample",
            Produce::Endless => "endless",
        };
        json!({
            "location": self.location,
            "ledger": self.ledger,
            "number": self.number,
            "seed": self.seed,
            "produce": produce,
            "again": self.again,
            "failpoint": self.failpoint.map(|point| point.to_string()),
            "planted": self.planted.map(Planted::name),
            "drain": self.drain,
        })
        .to_string()
    }

    /// Those of this process; `None` when it has none.
    pub(super) fn of_this_process() -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        let read = Self::read(&text);
        assert!(read.is_some(), "orders that can't be read: {text}");
        read
    }

    fn read(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let word = |name: &str| value[name].as_str().map(str::to_owned);
        let again = value["again"].as_array()?.iter();
        Some(Self {
            location: word("location")?,
            ledger: word("ledger")?.into(),
            number: value["number"].as_u64()?,
            seed: value["seed"].as_u64()?,
            produce: match value["produce"].as_str()? {
                "nothing" => Produce::Nothing,
                "sample" => Produce::Sample,
                "endless" => Produce::Endless,
                _ => return None,
            },
            again: again.map(|id| id.as_str().map(str::to_owned)).collect::<Option<_>>()?,
            failpoint: match word("failpoint") {
                Some(name) => Some(Failpoint::named(&name)?),
                None => None,
            },
            planted: match word("planted") {
                Some(name) => Some(Planted::named(&name)?),
                None => None,
            },
            drain: value["drain"].as_bool()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_arrive_as_they_were_given() {
        let orders = Orders {
            location: "file:/tmp/queue?lease=1".to_owned(),
            ledger: "/tmp/ledger".into(),
            number: 7,
            seed: u64::MAX,
            produce: Produce::Endless,
            again: vec!["1.2.ok".to_owned()],
            failpoint: Failpoint::named("ack.during.kill"),
            planted: Some(Planted::NacksInTwoSteps),
            drain: true,
        };
        assert_eq!(Orders::read(&orders.text()), Some(orders));
        assert_eq!(Orders::read("{}"), None);
    }
}
