//! A bell that is struck again and again, by a configuration that can be changed while it rings: rightly, wrongly, and in
//! ways that show only once it rings.
//!
//! ```text
//! echo '[bell]' > bell.toml; cargo run -p plba --example bell -- --config bell.toml
//! ```
//!
//! `metal = "glass"` breaks at the first stroke, so that the change is taken back; `listen` with an address that somebody
//! else has can't be put to work.

use std::sync::Arc;

use plba::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

fn main() -> ExitCode {
    App::new("bell").module(Bell).run()
}

/// The section `[bell]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct BellConfig {
    /// From stroke to stroke, at least 10ms.
    every: TimeSpan,
    /// What it is cast of.
    metal: Metal,
    /// Where visitors come in, such as `127.0.0.1:7000`; without it nobody does.
    listen: Option<String>,
    /// Whether only known visitors come in.
    known_only: bool,
}

/// What a bell is cast of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Metal {
    /// It rings.
    Bronze,
    /// It breaks.
    Glass,
}

impl Default for BellConfig {
    fn default() -> Self {
        Self {
            every: TimeSpan(millis(100)),
            metal: Metal::Bronze,
            listen: None,
            known_only: false,
        }
    }
}

impl ConfigSection for BellConfig {
    fn validate(&self, faults: &mut Faults) {
        faults.require(
            self.every.0 >= millis(10),
            "every",
            "at least 10ms from stroke to stroke",
        );
    }
}

/// The module: the bell, and the door if there is one.
struct Bell;

impl ApplicationModule for Bell {
    fn name(&self) -> &str {
        "bell"
    }

    fn declare(&self, declaration: &mut Declaration) {
        declaration.section::<BellConfig>();
    }

    fn assemble(&self, assembly: &mut Assembly) -> Result<(), BoxError> {
        let config = assembly.section::<BellConfig>()?;
        let metal = config.metal;
        assembly.worker(worker::every("ring", config.every.into(), move || async move {
            if metal == Metal::Glass {
                panic!("the bell is broken");
            }
            Ok(())
        }));
        if let Some(listen) = &config.listen {
            assembly.service(door(listen.clone()));
        }
        Ok(())
    }
}

/// The door, held for as long as it is open.
struct Door(#[expect(dead_code, reason = "it is held, and nobody is let in")] TcpListener);

fn door(listen: String) -> ServiceDefinition {
    ServiceDefinition::new::<Door, _, _>(move |_| {
        let listen = listen.clone();
        async move {
            let listener = TcpListener::bind(&listen).await;
            let listener = listener.map_err(|error| format!("{listen} can't be listened on: {error}"))?;
            Ok(Arc::new(Door(listener)))
        }
    })
}
