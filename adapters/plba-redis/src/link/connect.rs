//! Finding the server that has the queue, and opening a connection to it. A replica is not taken for it.

use std::collections::HashMap;
use std::time::Duration;

use plba_net::{ConnectSettings, connect, connect_tls};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, Value, cmd};

use super::Shared;
use super::live::Live;
use crate::failure::{Failure, Kind};
use crate::reply;
use crate::settings::Site;

/// Silence after which the kernel asks whether the server is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// One server of several may take so long to answer before the next one is asked.
const ONE_OF_SEVERAL: Duration = Duration::from_millis(1500);
const STEP: Duration = Duration::from_secs(4);

/// Opens a connection to the server that takes the queue's writes.
pub(super) async fn open(shared: &Shared) -> Result<Live, Failure> {
    let (host, port) = match &shared.settings.site {
        Site::Server(host, port) => (host.clone(), *port),
        Site::Sentinel { sentinels, name } => primary(shared, sentinels, name).await?,
        Site::Cluster(nodes) => owner(shared, nodes).await?,
    };
    let live = dial(shared, &host, port, true, STEP).await?;
    let facts = information(&live, "server").await?;
    let replication = information(&live, "replication").await?;
    let fact = |name: &str| facts.get(name).map(String::as_str).unwrap_or_default();
    if replication.get("role").is_some_and(|role| role != "master") {
        return Err(Failure {
            kind: Kind::Elsewhere,
            sentence: format!(
                "the Redis server {host}:{port} is a read-only replica; name the primary in the queue's location, or use \
                 redis+sentinel:"
            ),
        });
    }
    let version = fact("redis_version");
    if version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok())
        .is_some_and(|major| major < 7)
    {
        return Err(Failure::refused(format!(
            "the Redis server {host}:{port} is version {version}; version 7.0 or newer is needed"
        )));
    }
    let time = live.ask(&cmd("TIME"), STEP).await?;
    if let Value::Array(parts) = &time
        && let [seconds, microseconds] = &parts[..]
        && let (Some(seconds), Some(microseconds)) = (reply::integer(seconds), reply::integer(microseconds))
    {
        shared.learn_time(seconds as f64 * 1e3 + microseconds as f64 / 1e3);
    }
    shared
        .counters
        .connected_to(&format!("{host}:{port}"), version, fact("run_id"));
    Ok(live)
}

/// A section of INFO, as names and values.
async fn information(live: &Live, section: &str) -> Result<HashMap<String, String>, Failure> {
    let answer = live.ask(cmd("INFO").arg(section), STEP).await?;
    let text = reply::text(answer).ok_or_else(|| Failure::answer("INFO"))?;
    Ok(facts(&text))
}

/// The lines of an answer to INFO.
fn facts(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Asks the sentinels for the primary, one after the other.
async fn primary(shared: &Shared, sentinels: &[(String, u16)], name: &str) -> Result<(String, u16), Failure> {
    let mut said = Vec::new();
    for (host, port) in sentinels {
        let asked = async {
            let live = dial(shared, host, *port, false, ONE_OF_SEVERAL).await?;
            live.ask(cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name), ONE_OF_SEVERAL)
                .await
        };
        match asked.await {
            Ok(Value::Array(parts)) if parts.len() == 2 => {
                let mut parts = parts.into_iter();
                let host = parts.next().and_then(reply::text);
                let port = parts.next().as_ref().and_then(reply::integer);
                if let (Some(host), Some(Ok(port))) = (host, port.map(u16::try_from)) {
                    return Ok((host, port));
                }
            }
            Ok(_) => said.push(format!("{host}:{port} watches no \"{name}\"")),
            Err(failure) => said.push(format!("{host}:{port}: {}", failure.sentence)),
        }
    }
    Err(Failure::broken(format!(
        "no sentinel knows the primary \"{name}\": {}",
        said.join("; ")
    )))
}

/// Asks the nodes of a cluster for the one that has the slot of the prefix.
async fn owner(shared: &Shared, nodes: &[(String, u16)]) -> Result<(String, u16), Failure> {
    let mut said = Vec::new();
    for (host, port) in nodes {
        let asked = async {
            let live = dial(shared, host, *port, true, ONE_OF_SEVERAL).await?;
            let slot = live
                .ask(cmd("CLUSTER").arg("KEYSLOT").arg(shared.keys.prefix()), ONE_OF_SEVERAL)
                .await?;
            let ranges = live.ask(cmd("CLUSTER").arg("SLOTS"), ONE_OF_SEVERAL).await?;
            Ok::<_, Failure>((slot, ranges))
        };
        match asked.await {
            Ok((slot, Value::Array(ranges))) => {
                let slot = reply::integer(&slot).unwrap_or(-1);
                if let Some((found, port)) = ranges.iter().find_map(|range| owner_in(range, slot)) {
                    let found = if found.is_empty() { host.clone() } else { found };
                    return Ok((found, port));
                }
                said.push(format!("{host}:{port} knows no node for slot {slot}"));
            }
            Ok(_) => said.push(format!("{host}:{port} gave no list of slots")),
            Err(failure) => said.push(format!("{host}:{port}: {}", failure.sentence)),
        }
    }
    Err(Failure::broken(format!(
        "no node of the cluster tells where the queue is: {}",
        said.join("; ")
    )))
}

/// The primary of a range of slots, if the slot lies in it: `[first, last, [host, port, ..], ..]`.
fn owner_in(range: &Value, slot: i64) -> Option<(String, u16)> {
    let Value::Array(parts) = range else { return None };
    let [first, last, Value::Array(node), ..] = &parts[..] else {
        return None;
    };
    if !(reply::integer(first)?..=reply::integer(last)?).contains(&slot) {
        return None;
    }
    let [host, port, ..] = &node[..] else { return None };
    let host = reply::text(host.clone()).unwrap_or_default();
    Some((host, u16::try_from(reply::integer(port)?).ok()?))
}

async fn dial(shared: &Shared, host: &str, port: u16, account: bool, limit: Duration) -> Result<Live, Failure> {
    let settings = ConnectSettings {
        timeout: limit,
        keepalive: KEEPALIVE,
    };
    let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
    if account {
        if let Some(user) = &shared.settings.user {
            info = info.set_username(user);
        }
        if let Some(password) = &shared.settings.password {
            info = info.set_password(password.expose());
        }
        info = info.set_db(shared.settings.database);
    }
    // Limits are set per call, because some wait on purpose.
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None);
    let greeted = async {
        if let Some(tls) = &shared.tls {
            let stream = connect_tls(host, port, tls.clone(), settings).await?;
            let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await?;
            Ok::<_, Failure>(Live::new(connection, tokio::spawn(driver)))
        } else {
            let stream = connect(host, port, settings).await?;
            let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await?;
            Ok(Live::new(connection, tokio::spawn(driver)))
        }
    };
    tokio::time::timeout(limit, greeted).await.unwrap_or_else(|_| {
        Err(Failure::broken(format!(
            "{host}:{port} did not answer within {limit:?}"
        )))
    })
}
