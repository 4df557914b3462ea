//! What a server may forget that loses its power, or is killed before it wrote: that tasks were handed out, and that leases
//! were extended. Nobody waits for the disk for that, and nothing else is forgotten.

use std::str::FromStr;
use std::time::Duration;

use plba_sql::postgres::tokio_postgres::Config;
use plba_sql::postgres::{PostgresSettings, PostgresTaskQueue};
use plba_tasks::queue::{ConsumerId, Delivery, EndError, How, Incarnation, TaskQueue};
use plba_tasks::task::{NewTask, QueueName};
use plba_testkit::runtime;
use plba_testservers::{PostgresOptions, PostgresServer, require};
use tokio::time::{sleep, timeout};

/// Long enough for every case.
const LEASE: Duration = Duration::from_secs(60);

fn orders() -> QueueName {
    QueueName::from("orders")
}

fn consumer() -> ConsumerId {
    ConsumerId::new(Incarnation::of_this_process(1), "worker")
}

fn task(id: &str) -> NewTask {
    NewTask::new(orders(), "test", "").with_id(id)
}

async fn open(server: &PostgresServer, statement_timeout: Duration) -> PostgresTaskQueue {
    let settings = PostgresSettings {
        lease: LEASE,
        statement_timeout,
        ..PostgresSettings::new(Config::from_str(&server.url()).unwrap())
    };
    PostgresTaskQueue::open(settings).await.unwrap()
}

/// Takes one task, if there is one, as soon as the server answers.
async fn take(queue: &PostgresTaskQueue) -> Option<Delivery> {
    let taking = async {
        loop {
            let taken = queue.exchange(Vec::new(), &orders(), &consumer(), 1).await.taken;
            match taken {
                Ok(mut taken) => return taken.pop(),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(Duration::from_secs(30), taking)
        .await
        .expect("the server answers")
}

#[test]
fn failure_29_a_lease_that_the_server_forgot_is_given_anew_and_the_old_token_is_worth_nothing() {
    runtime::real(async {
        let options = PostgresOptions {
            in_memory: true,
            // What nobody waits for is written late.
            settings: vec![("wal_writer_delay".to_owned(), "10s".to_owned())],
            ..PostgresOptions::default()
        };
        let Some(server) = require(PostgresServer::start_with(options).await) else {
            return;
        };
        let queue = open(&server, Duration::from_secs(10)).await;
        let mut forgotten = 0;
        for round in 0..8 {
            let id = format!("{round}");
            queue.publish(vec![task(&id)]).await.unwrap();
            let old = take(&queue).await.expect("it is there");
            server.kill().await;
            server.start_again().await.unwrap();
            let Some(new) = take(&queue).await else {
                // This time it was written.
                queue.end_one(old.token, How::ack(Vec::new())).await.unwrap();
                continue;
            };
            forgotten += 1;
            assert_eq!(new.task.id.as_str(), id, "nothing but the lease is forgotten");
            assert_ne!(new.token.fence, old.token.fence);
            let extended = queue.extend(std::slice::from_ref(&old.token)).await.unwrap().remove(0);
            assert!(matches!(extended, Err(EndError::LeaseLost)), "{extended:?}");
            for how in [
                How::ack(Vec::new()),
                How::Release { delay: Duration::ZERO },
                How::Bury { reason: String::new() },
            ] {
                let ended = queue.end_one(old.token.clone(), how).await;
                assert!(matches!(ended, Err(EndError::LeaseLost)), "{ended:?}");
            }
            // Both at once: each is judged by itself.
            let both = [old.token, new.token].map(|token| plba_tasks::queue::Ending {
                token,
                how: How::ack(Vec::new()),
            });
            let ended = queue.end(both.into()).await.unwrap();
            assert!(matches!(ended[..], [Err(EndError::LeaseLost), Ok(())]), "{ended:?}");
        }
        assert!(forgotten > 0, "no lease was ever forgotten: this shows nothing");
        let stats = queue.stats().await.unwrap();
        assert_eq!((stats[0].ready, stats[0].leased, stats[0].dead), (0, 0, 0), "{stats:?}");
    });
}

#[test]
fn who_takes_or_extends_waits_for_no_disk_and_who_publishes_or_ends_does() {
    runtime::real(async {
        let Some(server) = require(PostgresServer::start().await) else {
            return;
        };
        let queue = open(&server, Duration::from_secs(1)).await;
        queue.publish(vec![task("a"), task("b")]).await.unwrap();
        // The first time the consumer is recorded, which must not be forgotten.
        assert!(take(&queue).await.is_some());
        // From now on a commit that waits for the disk waits for a standby that never comes.
        server
            .query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            .await
            .unwrap();
        server.query("SELECT pg_reload_conf()").await.unwrap();
        while server.query("SHOW synchronous_standby_names").await.unwrap() != "nobody" {
            sleep(Duration::from_millis(10)).await;
        }
        // The sessions have to learn of it, too.
        while queue.publish(vec![task("waits")]).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
        let soon = Duration::from_secs(1);
        let taken = timeout(soon, take(&queue)).await.expect("taking waits for nobody");
        let taken = taken.expect("there is one");
        let extending = queue.extend(std::slice::from_ref(&taken.token));
        let extended = timeout(soon, extending).await.expect("extending waits for nobody");
        extended.unwrap().remove(0).unwrap();
        let ended = timeout(soon, queue.end_one(taken.token, How::ack(Vec::new()))).await;
        assert!(ended.is_err(), "{ended:?}: an end that is answered is kept");
    });
}
