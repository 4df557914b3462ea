//! Processes on PostgreSQL that are killed at every failpoint and at random moments, servers that are killed under them,
//! and connections that are cut after every byte: failures 1, 27 and 29.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use plba_contracts::config::Location;
use plba_contracts::services::BoxFuture;
use plba_sql::postgres::{PostgresSettings, PostgresTaskQueue};
use plba_tasks::queue::TaskQueue;
use plba_testkit::proxy::FaultProxy;
use plba_testkit::runtime;
use plba_testkit::torture::{self, Kills, Place, Reach, ServerFault, Subject};
use plba_testservers::{PostgresOptions, PostgresServer, require};

/// Small bounds, so that publishers wait for consumers, short leases, and few connections, each of which is a process.
const QUERY: &str = "lease=1&capacity=300&pool=3&handlers=1&poll=200&statement_timeout=5";

/// One connection of each pool, and nothing that talks by itself. No lease runs out between two tries on a busy machine.
const CUT: &str = "lease=5&maximum_crashes=100000&pool=1&handlers=1&listen=off";

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

#[test]
fn failure_1_every_failpoint_is_hit_once_and_nothing_is_lost() {
    if let Some(server) = server() {
        torture::sites(&subject(&server));
    }
}

fn killed_and_started_again(server: Arc<PostgresServer>) -> ServerFault {
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
fn failure_29_kills_of_the_server_and_of_processes_lose_nothing() {
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
            let proxy = FaultProxy::start(([127, 0, 0, 1], server.port()).into());
            let direct = format!("{}?schema={}&{CUT}", server.url(), schema());
            let through = direct.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
            assert_ne!(through, direct);
            Reach {
                through: open(&through).await,
                direct: open(&direct).await,
                proxy,
            }
        })
    };
    torture::cuts("postgres", 7, reach);
}
