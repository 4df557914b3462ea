//! Where tests keep their keys: a prefix of their own on the server that all tests share, or on one that they start.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use plba_contracts::config::Location;
use plba_redis::RedisSettings;
use plba_testservers::{RedisServer, require};

/// The settings of a backend that nobody else uses, on the shared server.
pub(crate) async fn fresh() -> Option<RedisSettings> {
    let server = require(RedisServer::shared().await)?;
    Some(on(&server.url(), ""))
}

/// The settings of a backend that nobody else uses, on a server.
pub(crate) fn on(url: &str, query: &str) -> RedisSettings {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    let location = format!("{url}?prefix=t{}-{number}&{query}", std::process::id());
    RedisSettings::read(&Location::from(&*location)).unwrap()
}
