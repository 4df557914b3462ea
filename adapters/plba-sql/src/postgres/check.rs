//! What is asked of a server before tasks are trusted to it: its version, and whether its settings keep what is promised.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use plba_tasks::queue::Durability;

use super::fault::{Fault, Kind};
use super::pool::Pool;

/// The oldest version whose planner and statements are known to do.
const OLDEST: i32 = 130_000;
/// Of how many servers a process remembers that it has warned of them.
const REMEMBERED: usize = 1_000;

/// Refuses a server that would not keep what `durability` promises; warns of what is close to it.
pub(crate) async fn check(pool: &Pool, durability: Durability) -> Result<(), Fault> {
    let rows = pool
        .query(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
             current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes'), \
             current_setting('synchronous_standby_names'), current_setting('server_encoding')",
            &[],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Err(Fault::new(Kind::Later, "PostgreSQL did not tell its settings"));
    };
    let found = Found {
        number: row.try_get(0)?,
        version: row.try_get(1)?,
        synchronous_commit: row.try_get(2)?,
        fsync: row.try_get(3)?,
        full_page_writes: row.try_get(4)?,
        standbys: row.try_get(5)?,
        encoding: row.try_get(6)?,
    };
    found.judge(durability).map_err(|text| Fault::new(Kind::Setup, text))?;
    let server = pool.server();
    if found.is_frail(durability) && is_news(server.clone()) {
        tracing::warn!(
            server,
            "this PostgreSQL server does not survive the loss of its machine: tasks may be lost then"
        );
    }
    Ok(())
}

/// Whether this process was not told of this server yet: queue and ledger each check it, and a reload does again.
fn is_news(server: String) -> bool {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.len() >= REMEMBERED || told.insert(server)
}

struct Found {
    number: i32,
    version: String,
    synchronous_commit: String,
    fsync: String,
    full_page_writes: String,
    standbys: String,
    encoding: String,
}

impl Found {
    fn judge(&self, durability: Durability) -> Result<(), String> {
        if self.number < OLDEST {
            return Err(format!(
                "PostgreSQL {} is too old; version 13 or newer is needed",
                self.version
            ));
        }
        if self.encoding != "UTF8" {
            return Err(format!(
                "the database has the encoding {}; create one with UTF8: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
                self.encoding
            ));
        }
        let mut faults = Vec::new();
        if durability >= Durability::OsCrash {
            if self.synchronous_commit == "off" {
                faults.push("synchronous_commit is off: the latest tasks would be lost with the machine");
            }
            if self.fsync == "off" {
                faults.push("fsync is off: the whole database may be lost with the machine");
            }
            if self.full_page_writes == "off" {
                faults.push("full_page_writes is off: pages torn by a loss of power would not be repaired");
            }
        }
        if durability >= Durability::Replicated {
            if self.standbys.is_empty() {
                faults.push("synchronous_standby_names is empty: no other machine has what was committed");
            }
            if !matches!(self.synchronous_commit.as_str(), "on" | "remote_write" | "remote_apply") {
                faults.push("synchronous_commit does not wait for a standby");
            }
        }
        if !faults.is_empty() {
            return Err(format!(
                "this PostgreSQL server does not keep tasks as declared: {}; change its settings, or declare less in the \
                 location: `durability=process_crash`",
                faults.join("; ")
            ));
        }
        Ok(())
    }

    /// Whether it keeps what is declared, and no more than that.
    fn is_frail(&self, durability: Durability) -> bool {
        durability < Durability::OsCrash && (self.fsync == "off" || self.synchronous_commit == "off")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Found {
        Found {
            number: 150_000,
            version: "15.1".into(),
            synchronous_commit: "on".into(),
            fsync: "on".into(),
            full_page_writes: "on".into(),
            standbys: String::new(),
            encoding: "UTF8".into(),
        }
    }

    #[test]
    fn a_server_below_what_is_declared_is_refused_with_the_remedy() {
        assert_eq!(sound().judge(Durability::OsCrash), Ok(()));
        let standby = sound().judge(Durability::Replicated).unwrap_err();
        assert!(standby.contains("synchronous_standby_names"), "{standby}");
        for (found, says) in [
            (
                Found {
                    fsync: "off".into(),
                    ..sound()
                },
                "fsync is off",
            ),
            (
                Found {
                    synchronous_commit: "off".into(),
                    ..sound()
                },
                "synchronous_commit is off",
            ),
            (
                Found {
                    full_page_writes: "off".into(),
                    ..sound()
                },
                "full_page_writes is off",
            ),
        ] {
            let refused = found.judge(Durability::OsCrash).unwrap_err();
            assert!(
                refused.contains(says) && refused.contains("durability=process_crash"),
                "{refused}"
            );
            assert_eq!(found.judge(Durability::ProcessCrash), Ok(()));
        }
        let old = Found {
            number: 120_010,
            ..sound()
        }
        .judge(Durability::ProcessCrash)
        .unwrap_err();
        assert!(old.contains("13 or newer"), "{old}");
    }
}
