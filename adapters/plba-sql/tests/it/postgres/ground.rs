//! What each test stands on: a schema of its own on the shared server, and a time that is moved by hand.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use plba_sql::postgres::tokio_postgres::{Client, Config, NoTls};
use plba_sql::postgres::{PostgresSettings, PostgresTaskQueue};
use plba_tasks::queue::Durability;
use plba_testkit::clock::ManualClock;
use plba_testkit::conformance::queue::{Advance, QueueUnderTest};
use plba_testservers::{PostgresOptions, PostgresServer, StartError, require};
use tokio::sync::OnceCell;

pub(super) const CAPACITY: usize = 50;

/// A schema of one's own.
pub(super) struct Ground {
    pub(super) server: &'static PostgresServer,
    pub(super) clock: Arc<ManualClock>,
    pub(super) schema: String,
}

/// The server that these tests share. It does without fsync: none of them ends it, and thousands of commits are faster.
async fn server() -> Result<&'static PostgresServer, StartError> {
    static SERVER: OnceCell<Result<PostgresServer, StartError>> = OnceCell::const_new();
    let start = || {
        PostgresServer::start_with(PostgresOptions {
            fsync: false,
            // Proving a password costs a program without optimisation a tenth of a second.
            scram: false,
            synchronous_commit: "off".to_owned(),
            max_connections: 400,
            settings: vec![("full_page_writes".to_owned(), "off".to_owned())],
            ..PostgresOptions::default()
        })
    };
    SERVER.get_or_init(start).await.as_ref().map_err(Clone::clone)
}

/// Whether there is a server to test with.
pub(super) fn is_there() -> bool {
    plba_testkit::runtime::real(async { require(server().await).is_some() })
}

impl Ground {
    /// A schema that nobody else has; call [`is_there`] first.
    pub(super) async fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = server().await.unwrap();
        Self {
            server,
            clock: Arc::new(ManualClock::new()),
            schema: format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
        }
    }

    pub(super) fn settings(&self) -> PostgresSettings {
        PostgresSettings {
            schema: self.schema.clone(),
            capacity: CAPACITY,
            durability: Durability::ProcessCrash,
            ..PostgresSettings::new(Config::from_str(&self.server.url()).unwrap())
        }
    }

    /// A queue in the server's time.
    pub(super) async fn open(&self) -> PostgresTaskQueue {
        PostgresTaskQueue::open(self.settings()).await.unwrap()
    }

    /// A queue in this ground's time.
    pub(super) async fn open_moved(&self, lease: Duration) -> PostgresTaskQueue {
        let settings = PostgresSettings {
            lease,
            ..self.settings()
        };
        PostgresTaskQueue::open_with_clock(settings, Arc::clone(&self.clock) as _)
            .await
            .unwrap()
    }

    /// Moves the time, and lets the consumers that this wakes have a look.
    pub(super) fn advance(&self, queues: Vec<PostgresTaskQueue>) -> Advance {
        let clock = Arc::clone(&self.clock);
        Arc::new(move |by: Duration| {
            clock.advance(by);
            queues.iter().for_each(PostgresTaskQueue::look_again);
            Box::pin(tokio::time::sleep(Duration::from_millis(30)))
        })
    }

    /// For the suite: a queue whose time is moved by hand.
    pub(super) async fn under_test(self, lease: Duration) -> QueueUnderTest {
        let queue = self.open_moved(lease).await;
        QueueUnderTest {
            advance: Some(self.advance(vec![queue.clone()])),
            queue: Arc::new(queue),
            capacity: Some(CAPACITY),
            maximum_crashes: 5,
            keep: Box::new(self),
        }
    }

    /// A client of one's own.
    pub(super) async fn client(&self) -> Client {
        let (client, connection) = {
            let config = Config::from_str(&self.server.url()).unwrap();
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.server.port()))
                .await
                .unwrap();
            config.connect_raw(stream, NoTls).await.unwrap()
        };
        tokio::spawn(connection);
        client
    }
}
