//! Writes that a lease's token fences.

use std::sync::Arc;
use std::time::Duration;

use plba_contracts::lease::{Fence, Lease};
use plba_redis::{FenceError, RedisLease};
use plba_testkit::clock::ManualClock;
use plba_testkit::runtime;
use plba_testservers::{RedisServer, require};

use crate::place::on;

const TTL: Duration = Duration::from_secs(30);

fn set(key: &str, value: &str) -> Vec<Vec<u8>> {
    ["SET", key, value].map(|part| part.as_bytes().to_vec()).into()
}

#[test]
fn a_write_under_a_token_that_is_not_the_newest_is_refused() {
    runtime::real(async {
        let Some(server) = require(RedisServer::shared().await) else {
            return;
        };
        let settings = on(&server.url(), "");
        let key = format!("{{{}}}:data", settings.prefix);
        let clock = Arc::new(ManualClock::new());
        let leases = RedisLease::open_with_clock(settings, Arc::clone(&clock) as _)
            .await
            .unwrap();
        let fence = |token| Fence {
            name: "invoices".into(),
            token,
        };
        let first = leases.acquire("invoices", "a", TTL).await.unwrap().unwrap();
        leases
            .write_fenced(&fence(first.token), &[set(&key, "first")])
            .await
            .unwrap();
        clock.advance(TTL);
        // Nobody has taken over, so nobody is disturbed.
        leases
            .write_fenced(&fence(first.token), &[set(&key, "late")])
            .await
            .unwrap();
        let second = leases.acquire("invoices", "b", TTL).await.unwrap().unwrap();
        leases
            .write_fenced(&fence(second.token), &[set(&key, "second")])
            .await
            .unwrap();
        let stale = leases.write_fenced(&fence(first.token), &[set(&key, "stale")]).await;
        assert!(
            matches!(stale, Err(FenceError::Stale { newest, .. }) if newest == second.token),
            "{stale:?}"
        );
        assert_eq!(server.cli(["GET", &key]).await.unwrap(), "second");
        let broken = leases
            .write_fenced(&fence(second.token), &[vec![b"NONSENSE".to_vec()]])
            .await;
        assert!(matches!(broken, Err(FenceError::Failed { .. })), "{broken:?}");
        let unknown = Fence {
            name: "others".into(),
            token: first.token,
        };
        let unknown = leases.write_fenced(&unknown, &[]).await;
        assert!(matches!(unknown, Err(FenceError::Unknown { .. })), "{unknown:?}");
    });
}
