//! Certificates that expire under a queue, authorities that nobody trusts, and servers without TLS where it is expected:
//! failure 28 of the catalogue, on PostgreSQL.

use std::time::{Duration, Instant};

use plba_contracts::config::Location;
use plba_contracts::describe;
use plba_sql::postgres::{PostgresSettings, PostgresTaskQueue};
use plba_tasks::queue::{ConsumerId, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::complaints::Complaints;
use plba_testkit::proxy::FaultProxy;
use plba_testkit::runtime;
use plba_testservers::{PostgresOptions, PostgresServer, Validity, require};
use tokio::time::timeout;

/// How long a certificate stays expired.
const SPAN: Duration = Duration::from_secs(4);

/// How many connections may be tried for within that: of two pools and one that listens, each with a growing pause.
const CONNECTIONS: u64 = 40;

async fn server(tls: bool) -> Option<PostgresServer> {
    let options = PostgresOptions {
        tls,
        in_memory: true,
        scram: false,
        ..PostgresOptions::default()
    };
    require(PostgresServer::start_with(options).await)
}

fn settings(server: &PostgresServer, port: u16, query: &str) -> PostgresSettings {
    let url = server.url();
    let url = url.replace(&format!("127.0.0.1:{}/", server.port()), &format!("localhost:{port}/"));
    PostgresSettings::from_location(&Location::from(&*format!("{url}?{query}"))).unwrap()
}

fn verified(server: &PostgresServer) -> String {
    format!(
        "sslmode=verify-full&sslrootcert={}",
        server.ca_path().unwrap().display()
    )
}

fn task(id: &str) -> Vec<NewTask> {
    vec![NewTask::new("orders", "test", "").with_id(id)]
}

async fn refusal(settings: PostgresSettings) -> String {
    let opened = PostgresTaskQueue::open(settings).await;
    describe(opened.err().expect("it is refused").as_ref())
}

#[test]
fn failure_28_a_certificate_that_expires_is_named_calmly_and_its_renewal_noticed() {
    runtime::real(async {
        let Some(server) = server(true).await else { return };
        let proxy = FaultProxy::start(([127, 0, 0, 1], server.port()).into());
        let settings = settings(&server, proxy.port(), &format!("{}&lease=2&pool=2", verified(&server)));
        let queue = PostgresTaskQueue::open(settings.clone()).await.unwrap();
        queue.publish(task("before")).await.unwrap();

        server.show_certificate(Validity::Expired).await.unwrap();
        proxy.reset_all();
        let (complaints, began, before) = (Complaints::new(), Instant::now(), proxy.counts().accepted);
        let mut refusals = 0;
        while began.elapsed() < SPAN {
            let refused = queue.publish(task("after")).await.unwrap_err();
            let said = describe(&refused);
            // The first ones may hear of the connections that were reset.
            assert!(refusals < 4 || said.contains("xpired"), "{said}");
            refusals += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let tried = proxy.counts().accepted - before;
        assert!(
            (1..=CONNECTIONS).contains(&tried),
            "{tried} connections in {:?}",
            began.elapsed()
        );
        let (said, seconds) = (complaints.count(), began.elapsed().as_secs() + 1);
        assert!(said <= seconds + 1, "{said} warnings in {:?}", began.elapsed());
        let refused = refusal(settings).await;
        assert!(refused.contains("xpired"), "{refused}");

        server.show_certificate(Validity::Valid).await.unwrap();
        let renewed = Instant::now();
        while queue.publish(task("after")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(renewed.elapsed() < Duration::from_secs(8), "{:?}", renewed.elapsed());
        let consumer = ConsumerId::new(Incarnation::of_this_process(1), "test");
        let (name, mut ids) = (QueueName::from("orders"), Vec::new());
        while ids.len() < 2 {
            let taking = queue.consume(&name, &consumer, 8);
            let taken = timeout(Duration::from_secs(5), taking).await.expect("both are there");
            for delivery in taken.unwrap() {
                ids.push(delivery.task.id.to_string());
                queue.end_one(delivery.token, How::ack(Vec::new())).await.unwrap();
            }
        }
        assert_eq!(ids, ["before", "after"]);
    });
}

#[test]
fn failure_28_an_authority_that_nobody_trusts_and_a_server_without_tls_are_refused() {
    runtime::real(async {
        let (Some(with), Some(without)) = (server(true).await, server(false).await) else {
            return;
        };
        let refused = refusal(settings(&with, with.port(), "sslmode=verify-full")).await;
        assert!(refused.contains("certificate"), "{refused}");
        let refused = refusal(settings(&without, without.port(), &verified(&with))).await;
        assert!(refused.contains("TLS"), "{refused}");
    });
}
