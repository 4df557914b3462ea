//! What is tortured: a backend, the test that is its child's life, and places for queues.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::judge::Judge;
use super::orders::{self, Orders};
use super::planted::Planted;
use crate::child;

/// A backend under torture.
pub struct Subject {
    pub(super) name: &'static str,
    child: &'static str,
    place: Box<dyn Fn() -> Place + Send + Sync>,
    pub(super) lease: Duration,
    pub(super) forgets: bool,
    pub(super) planted: Option<Planted>,
}

/// A place for one queue that nobody else has.
pub struct Place {
    pub(super) location: String,
    _keep: Box<dyn Any + Send>,
}

impl Place {
    /// The location that children open, with a lease of one second; and what has to live as long as they do.
    pub fn new(location: impl Into<String>, keep: impl Any + Send) -> Self {
        Self {
            location: location.into(),
            _keep: Box::new(keep),
        }
    }
}

impl Subject {
    /// A backend: its name, the full name of the test that calls [`child`](super::child), and what makes a fresh place.
    /// Places are asked for from several threads, outside of any runtime.
    pub fn new(name: &'static str, child: &'static str, place: impl Fn() -> Place + Send + Sync + 'static) -> Self {
        Self {
            name,
            child,
            place: Box::new(place),
            lease: Duration::from_secs(1),
            forgets: false,
            planted: None,
        }
    }

    /// The same with a fault, to see it found.
    #[must_use]
    pub fn with(mut self, planted: Planted) -> Self {
        self.planted = Some(planted);
        self
    }

    /// The same, where a server that is killed may forget that it handed tasks out and that leases were extended: these
    /// tasks are handed out anew, as the same delivery, while somebody still works on them; whose tokens must be worth
    /// nothing then.
    #[must_use]
    pub fn forgetting_leases(mut self) -> Self {
        self.forgets = true;
        self
    }

    /// Who judges its ledger.
    pub(super) fn judge(&self) -> Judge {
        let judge = Judge::new(self.lease);
        if self.forgets { judge.forgetting_leases() } else { judge }
    }

    pub(super) fn place(&self) -> Place {
        (self.place)()
    }

    /// Starts a child, which is this very program.
    pub(super) fn spawn(&self, orders: &Orders, said: &Path) -> Child {
        let said = OpenOptions::new().create(true).append(true).open(said);
        let said = said.and_then(|file: File| Ok((file.try_clone()?, file)));
        let (out, error) = match said {
            Ok((out, error)) => (Stdio::from(out), Stdio::from(error)),
            Err(_) => (Stdio::null(), Stdio::null()),
        };
        child::command(self.child)
            .env(orders::VARIABLE, orders.text())
            .stdout(out)
            .stderr(error)
            .spawn()
            .unwrap()
    }
}
