//! Torture of a backend on a server of its own, which can be killed under its tasks as its processes can.

use std::future::Future;

use super::{Kills, ServerFault, Subject, kills, sites};
use crate::runtime;

/// Kills of the server in a run that kills it, and after how many kills of processes each.
const KILLS: u64 = 20;
const SERVER_EVERY: u64 = 4;

/// A backend under torture, and the end and next start of its server.
pub struct OnServer {
    subject: Subject,
    fault: ServerFault,
}

impl OnServer {
    /// A backend, and what kills its server and starts it again with the same data.
    pub fn new<F, Fut>(subject: Subject, killed_and_started_again: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()>,
    {
        Self {
            subject,
            fault: Box::new(move || runtime::real(killed_and_started_again())),
        }
    }

    /// Hits each failpoint once.
    pub fn every_failpoint(&self) {
        sites(&self.subject);
    }

    /// Kills processes at random moments: as many as the environment says, or a hundred.
    pub fn kills_of_processes(&self) {
        kills(&self.subject, &Kills::from_environment(100), Some(&self.fault));
    }

    /// Kills processes at random moments, and every now and then the server.
    pub fn kills_of_both(&self) {
        let plan = Kills {
            kills: KILLS,
            server_every: Some(SERVER_EVERY),
            ..Kills::from_environment(KILLS)
        };
        kills(&self.subject, &plan, Some(&self.fault));
    }
}
