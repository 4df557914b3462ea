//! A cluster of three nodes without replicas, each with a third of the slots.

use std::time::Duration;

use super::config::Role;
use super::server::WHAT;
use super::{RedisOptions, RedisServer};
use crate::blocking::blocking;
use crate::{StartError, port, wait};

/// How long the nodes may take to agree.
const AGREEMENT: Duration = Duration::from_secs(30);

/// Each node's first and last slot.
const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

/// Three nodes. A node that doesn't answer for two seconds makes the cluster refuse everything, until it is back: no
/// replica takes over. Dropping it ends all three.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: [RedisServer; 3],
}

impl RedisCluster {
    /// Starts the nodes, gives them their slots and waits until all three call the cluster complete.
    ///
    /// # Errors
    ///
    /// Those of [`RedisServer::start_with`]; [`StartError::Failed`] when the nodes do not agree.
    pub async fn start(options: RedisOptions) -> Result<RedisCluster, StartError> {
        let buses: [u16; 3] = port::free_ports().map_err(|error| StartError::io(WHAT, "find ports", &error))?;
        let nodes = [
            RedisServer::in_role(options.clone(), Role::Node { bus: buses[0] }).await?,
            RedisServer::in_role(options.clone(), Role::Node { bus: buses[1] }).await?,
            RedisServer::in_role(options, Role::Node { bus: buses[2] }).await?,
        ];
        let refused = |error: crate::CommandError| StartError::failed(WHAT, error.to_string());
        for (index, (node, (first, last))) in nodes.iter().zip(SLOTS).enumerate() {
            let (first, last) = (first.to_string(), last.to_string());
            node.cli(["CLUSTER", "ADDSLOTSRANGE", &first, &last])
                .await
                .map_err(refused)?;
            // Another epoch each, so that they need not settle a conflict first.
            let epoch = (index + 1).to_string();
            node.cli(["CLUSTER", "SET-CONFIG-EPOCH", &epoch])
                .await
                .map_err(refused)?;
        }
        for (node, bus) in nodes.iter().zip(buses).skip(1) {
            let (port, bus) = (node.port().to_string(), bus.to_string());
            nodes[0]
                .cli(["CLUSTER", "MEET", "127.0.0.1", &port, &bus])
                .await
                .map_err(refused)?;
        }
        let cluster = RedisCluster { nodes };
        cluster.wait_until_complete().await?;
        Ok(cluster)
    }

    /// The three nodes, in the order of their slots.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// `redis://127.0.0.1:PORT/0` of each node; one is enough for a client to find the others.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// Waits until all nodes call the cluster complete, as they do some time after an absent one is back.
    ///
    /// # Errors
    ///
    /// [`StartError::Failed`] when they do not within 30 seconds.
    pub async fn wait_until_complete(&self) -> Result<(), StartError> {
        let servers: Vec<_> = self.nodes.iter().map(|node| node.server.clone()).collect();
        let agreed = blocking(move || {
            let question = ["CLUSTER".to_owned(), "INFO".to_owned()];
            wait::until(AGREEMENT, || {
                let complete = servers.iter().all(|server| {
                    let answer = server.cli(0, &question).unwrap_or_default();
                    ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"]
                        .iter()
                        .all(|line| answer.contains(line))
                });
                complete.then_some(())
            })
        });
        agreed.await.ok_or_else(|| StartError::Failed {
            what: WHAT,
            reason: format!("its nodes did not agree within {} s", AGREEMENT.as_secs()),
            log: self.nodes[0].log(),
        })
    }
}
