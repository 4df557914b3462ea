//! Processes on PostgreSQL that are killed at every failpoint and at random moments, servers that are killed under them,
//! and networks that cut connections after every byte, swallow one direction or flap: failures 1, 23, 27 and 29.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use plba_contracts::config::Location;
use plba_contracts::services::BoxFuture;
use plba_sql::postgres::{PostgresSettings, PostgresTaskQueue};
use plba_tasks::queue::TaskQueue;
use plba_testkit::proxy::FaultProxy;
use plba_testkit::runtime;
use plba_testkit::torture::{self, OnServer, Place, Reach, Subject};
use plba_testservers::{PostgresOptions, PostgresServer, require};

/// Small bounds, so that publishers wait for consumers, short leases, and few connections, each of which is a process.
const QUERY: &str = "lease=1&capacity=300&pool=3&handlers=1&poll=200&statement_timeout=5";

/// One connection of each pool, and nothing that talks by itself. No lease runs out between two tries on a busy machine.
const CUT: &str = "lease=5&maximum_crashes=100000&pool=1&handlers=1&listen=off";

/// Answers that are given up soon, and leases that are lost often.
const PARTED: &str = "lease=2&maximum_crashes=100000&pool=3&handlers=1&poll=200&statement_timeout=1";

fn server() -> Option<Arc<PostgresServer>> {
    let options = PostgresOptions {
        in_memory: true,
        max_connections: 300,
        scram: false,
        ..PostgresOptions::default()
    };
    require(runtime::real(PostgresServer::start_with(options))).map(Arc::new)
}

/// A schema that nobody else has.
fn schema() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("torture{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn subject(server: &Arc<PostgresServer>) -> Subject {
    let server = Arc::clone(server);
    Subject::new("postgres", "postgres::torture::child", move || {
        Place::new(format!("{}?schema={}&{QUERY}", server.url(), schema()), ())
    })
    .forgetting_leases()
}

async fn open(location: &str) -> Arc<dyn TaskQueue> {
    let settings = PostgresSettings::from_location(&Location::from(location)).unwrap();
    Arc::new(PostgresTaskQueue::open(settings).await.unwrap())
}

#[test]
fn child() {
    torture::child(|location, _| async move {
        let queue = PostgresTaskQueue::open(PostgresSettings::from_location(&location)?).await?;
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
fn failure_29_kills_of_the_server_and_of_processes_lose_nothing() {
    if let Some(server) = on_server() {
        server.kills_of_both();
    }
}

/// A fresh queue that is reached through a proxy, and past it.
fn reach(server: &Arc<PostgresServer>, query: &'static str) -> impl Fn() -> BoxFuture<'static, Reach> {
    let server = Arc::clone(server);
    move || {
        let server = Arc::clone(&server);
        Box::pin(async move {
            let proxy = FaultProxy::start(([127, 0, 0, 1], server.port()).into());
            let direct = format!("{}?schema={}&{query}", server.url(), schema());
            let through = direct.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
            assert_ne!(through, direct);
            Reach {
                through: open(&through).await,
                direct: open(&direct).await,
                proxy,
            }
        })
    }
}

#[test]
fn failure_27_each_exchange_is_cut_after_every_byte() {
    if let Some(server) = server() {
        torture::cuts("postgres", 7, reach(&server, CUT));
    }
}

#[test]
fn failure_23_a_hole_in_either_direction_is_noticed_and_the_others_go_on() {
    if let Some(server) = server() {
        torture::partitions(reach(&server, PARTED));
    }
}

#[test]
fn failure_29_a_network_that_flaps_for_long_loses_nothing_and_everybody_stays_calm() {
    if let Some(server) = server() {
        torture::flapping(reach(&server, PARTED));
    }
}

#[test]
fn what_is_looked_for_late_is_not_handed_out() {
    if let Some(server) = server() {
        let location = format!("{}?schema={}&lease=2", server.url(), schema());
        runtime::real(async { torture::late(&*open(&location).await).await });
    }
}
