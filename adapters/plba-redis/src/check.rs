//! What is asked of a server before its queue is used: that it evicts nothing, and what it keeps on disk.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use plba_tasks::queue::Durability;
use redis::{Value, cmd};

use crate::failure::Failure;
use crate::link::{Link, OpenError};
use crate::reply;

const LIMIT: Duration = Duration::from_secs(5);
/// Of how many servers a process remembers that it has warned of them.
const REMEMBERED: usize = 1_000;

/// Checks the server's settings against what the queue needs; gives the durability that they give.
pub(crate) async fn check(link: &Link) -> Result<Durability, OpenError> {
    let settings = &link.shared.settings;
    let refused = |reason: String| OpenError {
        site: settings.site.to_string(),
        reason,
    };
    let memory = section(link, "memory")
        .await
        .map_err(|failure| refused(failure.sentence))?;
    let policy = fact(&memory, "maxmemory_policy");
    if policy != "noeviction" {
        return Err(refused(format!(
            "it would remove tasks when its memory is full (maxmemory-policy {policy}); set maxmemory-policy noeviction"
        )));
    }
    let persistence = section(link, "persistence")
        .await
        .map_err(|failure| refused(failure.sentence))?;
    let appends = fact(&persistence, "aof_enabled") == "1";
    let durability = if appends {
        synced(link).await
    } else {
        Durability::Volatile
    };
    if let Some(wanted) = settings.durability.filter(|wanted| *wanted > durability) {
        return Err(refused(insufficient(wanted, appends)));
    }
    let frail = durability == Durability::Volatile && settings.durability.is_none();
    if frail && is_news(settings.site.to_string()) {
        tracing::warn!(
            site = %settings.site,
            "Redis keeps nothing on disk: tasks survive this process, but not the server's end; set appendonly yes, or \
             durability=volatile in the location if that is meant"
        );
    }
    Ok(durability)
}

/// Whether this process was not told of this server yet: queue, ledger and leases each check it, and a reload does again.
fn is_news(server: String) -> bool {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.len() >= REMEMBERED || told.insert(server)
}

fn insufficient(wanted: Durability, appends: bool) -> String {
    match wanted {
        Durability::Replicated => {
            "durability=replicated is wanted, which Redis can't promise, because it replicates after it \
                                   has answered; ask for os_crash and set wait_replicas, or use PostgreSQL"
                .into()
        }
        Durability::OsCrash if appends => {
            "durability=os_crash is wanted, and the file is not synced at each write; set appendfsync always".into()
        }
        Durability::OsCrash => {
            "durability=os_crash is wanted, and it keeps nothing on disk; set appendonly yes and appendfsync always"
                .into()
        }
        _ => "durability=process_crash is wanted, and it keeps nothing on disk; set appendonly yes".into(),
    }
}

/// Whether the append-only file is synced at each write; servers that don't tell are taken to do it now and then.
async fn synced(link: &Link) -> Durability {
    let answer = link.ask(cmd("CONFIG").arg("GET").arg("appendfsync"), LIMIT).await;
    let value = match answer {
        Ok(Value::Array(mut pair)) => pair.pop(),
        Ok(Value::Map(mut pairs)) => pairs.pop().map(|(_, value)| value),
        _ => None,
    };
    match value.and_then(reply::text).as_deref() {
        Some("always") => Durability::OsCrash,
        _ => Durability::ProcessCrash,
    }
}

async fn section(link: &Link, name: &str) -> Result<String, Failure> {
    let answer = link.ask(cmd("INFO").arg(name), LIMIT).await?;
    reply::text(answer).ok_or_else(|| Failure::answer("INFO"))
}

fn fact<'a>(section: &'a str, name: &str) -> &'a str {
    let line = section
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}
