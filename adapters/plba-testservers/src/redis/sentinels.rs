//! A primary with two replicas, watched by three sentinels, of which two decide.

use std::time::Duration;

use super::config::{Role, WATCHED};
use super::{RedisOptions, RedisServer};
use crate::blocking::blocking;
use crate::{StartError, wait};

use super::server::WHAT;

/// How long the servers may take to know each other.
const ACQUAINTANCE: Duration = Duration::from_secs(30);

/// A primary, two replicas and three sentinels. They take a primary for dead after 500 ms without an answer; a failover
/// then takes one to three seconds. Dropping it ends all six.
///
/// Replication is asynchronous: what the primary answered last may be missing after a failover.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: [RedisServer; 3],
    sentinels: [RedisServer; 3],
}

impl RedisSentinels {
    /// Starts all six and waits until each sentinel knows the other two and both replicas, and these are in step.
    ///
    /// # Errors
    ///
    /// Those of [`RedisServer::start_with`]; [`StartError::Failed`] when they do not find each other.
    pub async fn start(options: RedisOptions) -> Result<RedisSentinels, StartError> {
        let primary = RedisServer::start_with(options.clone()).await?;
        let replica = Role::ReplicaOf(primary.port());
        let sentinel = Role::SentinelOf(primary.port());
        let replicas = (
            RedisServer::in_role(options.clone(), replica).await?,
            RedisServer::in_role(options.clone(), replica).await?,
        );
        // Settings are for the servers with data, and sentinels speak no TLS here.
        let options = RedisOptions {
            settings: Vec::new(),
            tls: false,
            ..options
        };
        let sentinels = [
            RedisServer::in_role(options.clone(), sentinel).await?,
            RedisServer::in_role(options.clone(), sentinel).await?,
            RedisServer::in_role(options, sentinel).await?,
        ];
        let group = RedisSentinels {
            servers: [primary, replicas.0, replicas.1],
            sentinels,
        };
        group.wait_until_acquainted().await?;
        Ok(group)
    }

    /// The name under which the sentinels watch the primary.
    pub fn watched_name(&self) -> &'static str {
        WATCHED
    }

    /// The three servers with data; the first one is the primary until a failover.
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The three sentinels.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// `redis://127.0.0.1:PORT/0` of each sentinel.
    pub fn sentinel_urls(&self) -> Vec<String> {
        self.sentinels.iter().map(RedisServer::url).collect()
    }

    /// The server that the first sentinel that answers takes for the primary, if any does.
    pub async fn primary(&self) -> Option<&RedisServer> {
        for sentinel in &self.sentinels {
            let address = sentinel.cli(["SENTINEL", "GET-MASTER-ADDR-BY-NAME", WATCHED]).await;
            let port = address.ok().and_then(|address| address.lines().nth(1)?.parse().ok());
            if let Some(port) = port {
                return self.servers.iter().find(|server| server.port() == port);
            }
        }
        None
    }

    async fn wait_until_acquainted(&self) -> Result<(), StartError> {
        let servers: Vec<_> = self.sentinels.iter().map(|sentinel| sentinel.server.clone()).collect();
        let acquainted = blocking(move || {
            let question = ["SENTINEL".to_owned(), "MASTER".to_owned(), WATCHED.to_owned()];
            wait::until(ACQUAINTANCE, || {
                let complete = servers.iter().all(|server| {
                    let answer = server.cli(0, &question).unwrap_or_default();
                    let value = |name: &str| {
                        let mut lines = answer.lines().skip_while(|line| *line != name);
                        lines.nth(1).map(str::to_owned)
                    };
                    let two = Some("2".to_owned());
                    value("num-slaves") == two && value("num-other-sentinels") == two
                });
                complete.then_some(())
            })
        });
        let replicas: Vec<_> = self.servers[1..].iter().map(|server| server.server.clone()).collect();
        let in_step = blocking(move || {
            let question = ["INFO".to_owned(), "replication".to_owned()];
            wait::until(ACQUAINTANCE, || {
                let complete = replicas.iter().all(|server| {
                    let answer = server.cli(0, &question).unwrap_or_default();
                    answer.contains("master_link_status:up")
                });
                complete.then_some(())
            })
        });
        match (in_step.await, acquainted.await) {
            (Some(()), Some(())) => Ok(()),
            _ => Err(StartError::Failed {
                what: WHAT,
                reason: format!(
                    "replicas and sentinels did not find each other within {} s",
                    ACQUAINTANCE.as_secs()
                ),
                log: self.sentinels[0].log(),
            }),
        }
    }
}
