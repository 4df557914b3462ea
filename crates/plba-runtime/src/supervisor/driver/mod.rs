//! The one task that owns the step machine: it feeds it commands, reports and time, and carries its effects out. No
//! decision is made here.

mod carrier;
mod command;
mod stop_report;

use std::time::Duration;

use super::machine::Machine;
use super::machine::protocol::{Event, Ticket};
use crate::sync::channel::{Receiver, UnboundedReceiver};
use crate::sync::time::{Instant, sleep_until};

pub(super) use self::carrier::{Carrier, Outlets};
pub(super) use self::command::{Command, Reply, Request};

/// How many reports are handled before commands and timers get a look.
const BATCH: usize = 256;

pub(super) struct Driver {
    machine: Machine<Carrier>,
    origin: Instant,
    next_ticket: Ticket,
}

impl Driver {
    pub(super) fn new(seed: u64, carrier: Carrier) -> Self {
        Self {
            machine: Machine::new(seed, carrier),
            origin: Instant::now(),
            next_ticket: 0,
        }
    }

    /// Runs until the last handle is gone; what still runs then is dropped.
    pub(super) async fn run(mut self, mut requests: Receiver<Request>, mut inbox: UnboundedReceiver<Event>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let wake = self.next_wake();
            let roll_call = self.machine.sink.roll_call;
            // In this order what happens depends on nothing but what came. Commands are few, and each step sees to timers.
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some((command, reply)) => self.command(command, reply),
                    None => break,
                },
                count = inbox.recv_many(&mut batch, BATCH) => {
                    debug_assert!(count > 0, "the driver holds a sender itself");
                    let now = self.look_at_clocks();
                    for event in batch.drain(..) {
                        self.machine.handle(event, now);
                    }
                }
                () = sleep_until(wake) => self.step(Event::Tick),
                () = sleep_until(roll_call.unwrap_or(wake)), if roll_call.is_some() => {
                    self.machine.sink.name_stragglers();
                }
            }
        }
        for (_, _, instance) in self.machine.sink.board.instances() {
            instance.signal(true);
            instance.abort();
        }
    }

    fn next_wake(&self) -> Instant {
        // Where nothing is due, or beyond what the timer can hold, looking again after a day costs nothing.
        const FAR: Duration = Duration::from_secs(24 * 3600);
        let far = Instant::now() + FAR;
        let due = self
            .machine
            .next_deadline()
            .and_then(|due| self.origin.checked_add(due));
        due.map_or(far, |due| due.min(far))
    }

    fn step(&mut self, event: Event) {
        let now = self.look_at_clocks();
        self.machine.handle(event, now);
    }

    /// Reads the time, once for all that is handled together.
    fn look_at_clocks(&mut self) -> Duration {
        let now = self.origin.elapsed();
        self.machine.sink.at(now);
        now
    }
}
