//! Processes on Redis that are killed at every failpoint and at random moments, servers that are killed under them, and
//! connections that are cut after every byte: failures 1, 19 and 27.

use std::sync::Arc;

use plba_contracts::config::Location;
use plba_contracts::services::BoxFuture;
use plba_redis::{RedisSettings, RedisTaskQueue};
use plba_tasks::queue::TaskQueue;
use plba_testkit::proxy::FaultProxy;
use plba_testkit::runtime;
use plba_testkit::torture::{self, Kills, Place, Reach, ServerFault, Subject};
use plba_testservers::{AppendOnly, RedisOptions, RedisServer, require};

use crate::place::on;

/// Small bounds, so that publishers wait for consumers, and short leases.
const QUERY: &str = "lease=1&capacity=300&response_timeout=0.3";

/// A server whose own death loses nothing.
fn server() -> Option<Arc<RedisServer>> {
    let options = RedisOptions {
        append_only: AppendOnly::Always,
        in_memory: true,
        ..RedisOptions::default()
    };
    let started = runtime::real(RedisServer::start_with(options));
    require(started).map(Arc::new)
}

fn subject(server: &Arc<RedisServer>) -> Subject {
    let server = Arc::clone(server);
    Subject::new("redis", "torture::child", move || {
        let settings = on(&server.url(), QUERY);
        let location = format!("{}?prefix={}&{QUERY}", server.url(), settings.prefix);
        Place::new(location, ())
    })
}

#[test]
fn child() {
    torture::child(|location, _| async move {
        let queue = RedisTaskQueue::open(RedisSettings::read(&location)?).await?;
        Ok(Arc::new(queue) as Arc<dyn TaskQueue>)
    });
}

#[test]
fn failure_1_every_failpoint_is_hit_once_and_nothing_is_lost() {
    if let Some(server) = server() {
        torture::sites(&subject(&server));
    }
}

fn killed_and_started_again(server: Arc<RedisServer>) -> ServerFault {
    Box::new(move || {
        runtime::real(async {
            server.kill().await;
            server.start_again().await.unwrap();
        });
    })
}

#[test]
fn failure_1_kills_at_random_moments_lose_nothing() {
    let Some(server) = server() else { return };
    let subject = subject(&server);
    let fault = killed_and_started_again(server);
    torture::kills(&subject, &Kills::from_environment(100), Some(&fault));
}

#[test]
fn failure_19_kills_of_the_server_and_of_processes_lose_nothing() {
    let Some(server) = server() else { return };
    let plan = Kills {
        kills: 20,
        server_every: Some(4),
        ..Kills::from_environment(20)
    };
    let subject = subject(&server);
    let fault = killed_and_started_again(server);
    torture::kills(&subject, &plan, Some(&fault));
}

#[test]
fn failure_27_each_exchange_is_cut_after_every_byte() {
    let Some(server) = server() else { return };
    let reach = || -> BoxFuture<'static, Reach> {
        let server = Arc::clone(&server);
        Box::pin(async move {
            let direct = on(&server.url(), "lease=1&maximum_crashes=100000");
            let proxy = FaultProxy::start(([127, 0, 0, 1], server.port()).into());
            let location = format!(
                "redis://127.0.0.1:{}?prefix={}&lease=1&maximum_crashes=100000",
                proxy.port(),
                direct.prefix
            );
            let through = RedisSettings::read(&Location::from(&*location)).unwrap();
            Reach {
                through: Arc::new(RedisTaskQueue::open(through).await.unwrap()),
                direct: Arc::new(RedisTaskQueue::open(direct).await.unwrap()),
                proxy,
            }
        })
    };
    torture::cuts("redis", 1, reach);
}
