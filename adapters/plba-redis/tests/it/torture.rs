//! Processes on Redis that are killed at every failpoint and at random moments, servers that are killed under them, and
//! networks that cut connections after every byte, swallow one direction or flap: failures 1, 19, 23 and 27.

use std::sync::Arc;

use plba_contracts::services::BoxFuture;
use plba_redis::{RedisSettings, RedisTaskQueue, Site};
use plba_tasks::queue::TaskQueue;
use plba_testkit::proxy::FaultProxy;
use plba_testkit::runtime;
use plba_testkit::torture::{self, OnServer, Place, Reach, Subject};
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

fn on_server() -> Option<OnServer> {
    let server = server()?;
    let restarted = Arc::clone(&server);
    let again = move || {
        let server = Arc::clone(&restarted);
        async move {
            server.kill().await;
            server.start_again().await.unwrap();
        }
    };
    Some(OnServer::new(subject(&server), again))
}

#[test]
fn failure_1_every_failpoint_is_hit_once_and_nothing_is_lost() {
    if let Some(server) = on_server() {
        server.every_failpoint();
    }
}

#[test]
fn failure_1_kills_at_random_moments_lose_nothing() {
    if let Some(server) = on_server() {
        server.kills_of_processes();
    }
}

#[test]
fn failure_19_kills_of_the_server_and_of_processes_lose_nothing() {
    if let Some(server) = on_server() {
        server.kills_of_both();
    }
}

/// A fresh queue that is reached through a proxy, and past it.
fn reach(server: &Arc<RedisServer>, query: &'static str) -> impl Fn() -> BoxFuture<'static, Reach> {
    let server = Arc::clone(server);
    move || {
        let server = Arc::clone(&server);
        Box::pin(async move {
            let direct = on(&server.url(), query);
            let proxy = FaultProxy::start(([127, 0, 0, 1], server.port()).into());
            let through = RedisSettings {
                site: Site::Server("127.0.0.1".into(), proxy.port()),
                ..direct.clone()
            };
            Reach {
                through: Arc::new(RedisTaskQueue::open(through).await.unwrap()),
                direct: Arc::new(RedisTaskQueue::open(direct).await.unwrap()),
                proxy,
            }
        })
    }
}

#[test]
fn failure_27_each_exchange_is_cut_after_every_byte() {
    if let Some(server) = server() {
        torture::cuts("redis", 1, reach(&server, "lease=1&maximum_crashes=100000"));
    }
}

/// Answers that are given up soon, and leases that are lost often.
const PARTED: &str = "lease=2&response_timeout=0.5&maximum_crashes=100000";

#[test]
fn failure_23_a_hole_in_either_direction_is_noticed_and_the_others_go_on() {
    if let Some(server) = server() {
        torture::partitions(reach(&server, PARTED));
    }
}

#[test]
fn failures_19_and_23_a_network_that_flaps_for_long_loses_nothing_and_everybody_stays_calm() {
    if let Some(server) = server() {
        torture::flapping(reach(&server, PARTED));
    }
}
