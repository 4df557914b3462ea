//! Certificates that expire under a queue, and servers that speak no TLS where it is expected: failure 28 of the catalogue.
//! Who is trusted at all is tested in `several`.

use std::time::{Duration, Instant};

use plba_contracts::describe;
use plba_redis::{RedisSettings, RedisTaskQueue};
use plba_tasks::queue::{ConsumerId, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::complaints::Complaints;
use plba_testkit::proxy::FaultProxy;
use plba_testkit::runtime;
use plba_testservers::{RedisOptions, RedisServer, Validity, require};
use tokio::time::timeout;

use crate::place::on;

/// How long a certificate stays expired.
const SPAN: Duration = Duration::from_secs(4);

/// How many connections may be tried for within that: of a few links, each with a pause that grows to a second.
const CONNECTIONS: u64 = 40;

/// A server with TLS, a proxy before that port, and the settings that lead through it.
async fn behind_a_proxy() -> Option<(RedisServer, FaultProxy, RedisSettings)> {
    let options = RedisOptions {
        tls: true,
        in_memory: true,
        ..RedisOptions::default()
    };
    let server = require(RedisServer::start_with(options).await)?;
    let url = server.tls_url().unwrap();
    let port: u16 = url.rsplit(':').next().unwrap().trim_end_matches("/0").parse().unwrap();
    let proxy = FaultProxy::start(([127, 0, 0, 1], port).into());
    let query = format!(
        "ca={}&only_ca=true&lease=2&response_timeout=1",
        server.ca_path().unwrap().display()
    );
    let settings = on(&format!("rediss://localhost:{}/0", proxy.port()), &query);
    Some((server, proxy, settings))
}

fn task(id: &str) -> Vec<NewTask> {
    vec![NewTask::new("orders", "test", "").with_id(id)]
}

#[test]
fn failure_28_a_certificate_that_expires_is_named_calmly_and_its_renewal_noticed() {
    runtime::real(async {
        let Some((server, proxy, settings)) = behind_a_proxy().await else {
            return;
        };
        let queue = RedisTaskQueue::open(settings.clone()).await.unwrap();
        queue.publish(task("before")).await.unwrap();

        server.show_certificate(Validity::Expired).await.unwrap();
        // What is open stays open: a certificate is looked at once.
        queue.publish(task("on an open connection")).await.unwrap();
        proxy.reset_all();
        let (complaints, began, before) = (Complaints::new(), Instant::now(), proxy.counts().accepted);
        let mut refusals = 0;
        while began.elapsed() < SPAN {
            let refused = queue.publish(task("after")).await.unwrap_err();
            let said = describe(&refused);
            // The first one may hear of the connection that was reset.
            assert!(refusals == 0 || said.contains("expired"), "{said}");
            refusals += 1;
        }
        assert!(refusals > 1, "{refusals} refusals in {:?}", began.elapsed());
        let tried = proxy.counts().accepted - before;
        assert!(tried <= CONNECTIONS, "{tried} connections in {:?}", began.elapsed());
        let (said, seconds) = (complaints.count(), began.elapsed().as_secs() + 1);
        assert!(said <= seconds + 1, "{said} warnings in {:?}", began.elapsed());
        let refused = RedisTaskQueue::open(settings).await.err().unwrap().to_string();
        assert!(refused.contains("expired"), "{refused}");

        server.show_certificate(Validity::Valid).await.unwrap();
        let renewed = Instant::now();
        while queue.publish(task("after")).await.is_err() {}
        assert!(renewed.elapsed() < Duration::from_secs(5), "{:?}", renewed.elapsed());
        let consumer = ConsumerId::new(Incarnation::of_this_process(1), "test");
        let (name, mut ids) = (QueueName::from("orders"), Vec::new());
        while ids.len() < 3 {
            let taking = queue.consume(&name, &consumer, 8);
            let taken = timeout(Duration::from_secs(5), taking)
                .await
                .expect("all three are there");
            for delivery in taken.unwrap() {
                ids.push(delivery.task.id.to_string());
                queue.end_one(delivery.token, How::ack(Vec::new())).await.unwrap();
            }
        }
        assert_eq!(ids, ["before", "on an open connection", "after"]);
    });
}

#[test]
fn failure_28_a_server_without_tls_where_it_is_expected_is_refused_and_so_is_the_reverse() {
    runtime::real(async {
        let Some((server, proxy, settings)) = behind_a_proxy().await else {
            return;
        };
        proxy.set_upstream(([127, 0, 0, 1], server.port()).into());
        let began = Instant::now();
        let refused = RedisTaskQueue::open(settings.clone()).await.err().unwrap().to_string();
        assert!(refused.contains("connecting to localhost"), "{refused}");

        let port = server.tls_url().unwrap().rsplit(':').next().unwrap().to_owned();
        let plain = on(&format!("redis://127.0.0.1:{port}"), "");
        let refused = RedisTaskQueue::open(plain).await.err().unwrap().to_string();
        assert!(refused.contains("127.0.0.1"), "{refused}");
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    });
}
