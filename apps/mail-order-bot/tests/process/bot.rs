//! A running bot: what its tests ask of it beyond what they ask of any application, which is in the testkit.

use std::ops::{Deref, DerefMut};

use plba_testkit::process;
use serde_json::Value;

pub(crate) use plba_testkit::process::{PATIENCE, count, pause};

/// A directory for one bot, removed at the end.
pub(crate) struct Home(process::Home);

impl Home {
    /// A fresh directory whose name tells the test.
    pub(crate) fn new(test: &str) -> Self {
        let name = format!("mail-order-bot-{test}");
        Self(process::Home::new(env!("CARGO_BIN_EXE_mail-order-bot"), &name, &[]))
    }

    /// Starts the bot.
    pub(crate) fn start(&self, arguments: &[&str]) -> Bot {
        Bot(self.0.start(arguments))
    }

    /// All orders, however many.
    pub(crate) fn orders(&self, arguments: &[&str]) -> Vec<Value> {
        let mut orders: Vec<Value> = Vec::new();
        loop {
            let before = orders.last().map(|order| order["id"].to_string());
            let page = match &before {
                None => vec!["orders", "--limit", "1000"],
                Some(before) => vec!["orders", "--limit", "1000", "--before", before],
            };
            let Value::Array(page) = self.ask(&[&page, arguments].concat()) else {
                panic!("orders are a list")
            };
            if page.is_empty() {
                return orders;
            }
            orders.extend(page);
        }
    }

    /// How many replies lie in the outbox.
    pub(crate) fn replies(&self) -> usize {
        ["new", "cur"]
            .iter()
            .map(|part| count(&self.join("var/outbox").join(part)))
            .sum()
    }
}

impl Deref for Home {
    type Target = process::Home;

    fn deref(&self) -> &process::Home {
        &self.0
    }
}

/// A bot's process. Dropped, it is killed.
pub(crate) struct Bot(process::Application);

impl Bot {
    /// Waits until `holds`, asking again and again.
    #[track_caller]
    pub(crate) fn wait(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        self.0.wait(what, |_| holds().then_some(()));
    }

    /// Asks a path of the control plane; gives status and body.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let (status, body) = self.0.get(path)?;
        Some((status, body.as_str().map_or_else(|| body.to_string(), str::to_owned)))
    }

    /// Waits for its end, and for the last line of its log; gives the exit code, `None` for a signal.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.0.end().code()
    }

    /// Ends it as an operator would, and expects a clean end.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let code = self.0.stop();
        assert_eq!(code, Some(0), "{}", self.log());
    }
}

impl Deref for Bot {
    type Target = process::Application;

    fn deref(&self) -> &process::Application {
        &self.0
    }
}

impl DerefMut for Bot {
    fn deref_mut(&mut self) -> &mut process::Application {
        &mut self.0
    }
}
