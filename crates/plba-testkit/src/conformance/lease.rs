//! The suite for stores of leases. The store's clock is the test's: nothing is waited for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use plba_contracts::lease::{FencingToken, Grant, Lease, LeaseError};

use super::{Time, cases, run};
use crate::clock::ManualClock;

/// Opens a store.
pub type Opening = Pin<Box<dyn Future<Output = Arc<dyn Lease>>>>;

/// A store of leases, empty at first.
pub struct LeaseUnderTest {
    /// The store's clock.
    pub clock: Arc<ManualClock>,
    /// Opens the store as another process would, with the same leases and the same clock. Where there can be no other
    /// process, this gives another handle.
    pub open: Box<dyn Fn() -> Opening>,
    /// What must live as long as the store.
    pub keep: Box<dyn std::any::Any>,
}

/// Runs the suite, each case on a store of its own.
///
/// # Panics
/// With a report, when a promise is broken.
pub fn lease<Fut: Future<Output = LeaseUnderTest>>(time: Time, make: impl Fn() -> Fut) {
    run("the store of leases", time, CASES, make);
}

const TTL: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_millis(1);

async fn take(lease: &dyn Lease, holder: &str) -> Option<Grant> {
    lease.acquire("invoices", holder, TTL).await.unwrap()
}

async fn renew(lease: &dyn Lease, token: FencingToken) -> Option<Grant> {
    lease.renew("invoices", token, TTL).await.unwrap()
}

async fn holder(lease: &dyn Lease) -> Option<String> {
    lease.holding("invoices").await.unwrap().map(|holding| holding.holder)
}

cases! { LeaseUnderTest;
    async fn a_free_lease_is_given_to_one_only(s) {
        let (one, other) = ((s.open)().await, (s.open)().await);
        assert_eq!(holder(&*one).await, None);
        assert!(take(&*one, "a").await.is_some());
        assert_eq!(take(&*other, "b").await, None);
        assert_eq!(holder(&*other).await.as_deref(), Some("a"));
    }

    async fn a_holder_of_the_same_name_waits_too(s) {
        let store = (s.open)().await;
        assert!(take(&*store, "a").await.is_some());
        assert_eq!(take(&*store, "a").await, None);
    }

    async fn names_do_not_touch_each_other(s) {
        let store = (s.open)().await;
        let first = take(&*store, "a").await.unwrap();
        let other = store.acquire("reports", "b", TTL).await.unwrap().unwrap();
        store.release("reports", other.token).await.unwrap();
        assert!(renew(&*store, first.token).await.is_some());
    }

    async fn it_is_held_until_its_deadline_and_not_longer(s) {
        let store = (s.open)().await;
        take(&*store, "a").await.unwrap();
        s.clock.advance(TTL - MOMENT);
        assert_eq!(take(&*store, "b").await, None);
        s.clock.advance(MOMENT);
        assert_eq!(holder(&*store).await, None);
        assert!(take(&*store, "b").await.is_some());
    }

    async fn a_renewed_grant_lasts_from_the_renewal(s) {
        let store = (s.open)().await;
        let grant = take(&*store, "a").await.unwrap();
        s.clock.advance(TTL - MOMENT);
        let renewed = renew(&*store, grant.token).await.unwrap();
        assert_eq!(renewed.token, grant.token);
        assert_eq!(renewed.deadline.duration_since(grant.deadline).as_millis(), 29_999);
        s.clock.advance(TTL - MOMENT);
        assert_eq!(take(&*store, "b").await, None);
        s.clock.advance(MOMENT);
        assert!(take(&*store, "b").await.is_some());
    }

    async fn a_renewal_may_change_the_time_to_live(s) {
        let store = (s.open)().await;
        let grant = take(&*store, "a").await.unwrap();
        store.renew("invoices", grant.token, Duration::from_secs(1)).await.unwrap().unwrap();
        s.clock.advance(Duration::from_secs(1));
        assert!(take(&*store, "b").await.is_some());
    }

    async fn what_is_past_its_deadline_is_not_renewed_even_if_nobody_took_it(s) {
        let store = (s.open)().await;
        let grant = take(&*store, "a").await.unwrap();
        s.clock.advance(TTL);
        assert_eq!(renew(&*store, grant.token).await, None);
    }

    async fn an_old_token_renews_and_releases_nothing(s) {
        let store = (s.open)().await;
        let old = take(&*store, "a").await.unwrap();
        s.clock.advance(TTL);
        let new = take(&*store, "b").await.unwrap();
        assert!(new.token > old.token);
        assert_eq!(renew(&*store, old.token).await, None);
        store.release("invoices", old.token).await.unwrap();
        assert_eq!(holder(&*store).await.as_deref(), Some("b"));
        assert!(renew(&*store, new.token).await.is_some());
    }

    async fn a_token_that_was_never_given_renews_and_releases_nothing(s) {
        let store = (s.open)().await;
        assert_eq!(renew(&*store, FencingToken(1)).await, None);
        store.release("invoices", FencingToken(1)).await.unwrap();
        take(&*store, "a").await.unwrap();
        for token in [0, 2, u64::MAX] {
            assert_eq!(renew(&*store, FencingToken(token)).await, None);
            store.release("invoices", FencingToken(token)).await.unwrap();
        }
        assert_eq!(holder(&*store).await.as_deref(), Some("a"));
    }

    async fn a_released_lease_is_free_at_once(s) {
        let store = (s.open)().await;
        let grant = take(&*store, "a").await.unwrap();
        store.release("invoices", grant.token).await.unwrap();
        assert_eq!(holder(&*store).await, None);
        assert_eq!(renew(&*store, grant.token).await, None);
        let next = take(&*store, "b").await.unwrap();
        assert!(next.token > grant.token);
        store.release("invoices", grant.token).await.unwrap();
        assert_eq!(holder(&*store).await.as_deref(), Some("b"));
    }

    async fn tokens_grow_over_releases_ends_and_openings(s) {
        let mut last = FencingToken(0);
        for round in 0..20 {
            let store = (s.open)().await;
            let grant = take(&*store, "a").await.unwrap();
            assert!(grant.token > last, "{} after {last}", grant.token);
            last = grant.token;
            if round % 2 == 0 {
                store.release("invoices", grant.token).await.unwrap();
            } else {
                s.clock.advance(TTL);
            }
        }
    }

    async fn the_holding_tells_who_since_when_and_until_when(s) {
        let store = (s.open)().await;
        let grant = take(&*store, "host-a/4711").await.unwrap();
        let first = store.holding("invoices").await.unwrap().unwrap();
        assert_eq!((first.holder.as_str(), first.token), ("host-a/4711", grant.token));
        assert_eq!(first.since, crate::clock::START);
        assert_eq!(first.deadline, grant.deadline);
        s.clock.advance(Duration::from_secs(10));
        let renewed = renew(&*store, grant.token).await.unwrap();
        let second = store.holding("invoices").await.unwrap().unwrap();
        assert_eq!((second.since, second.deadline), (first.since, renewed.deadline));
    }

    async fn a_time_of_day_set_back_holds_a_lease_for_no_longer_than_its_time_to_live(s) {
        let store = (s.open)().await;
        take(&*store, "a").await.unwrap();
        s.clock.set_back(Duration::from_secs(3600));
        assert_eq!(take(&*store, "b").await, None);
        s.clock.advance(TTL);
        assert!(take(&*store, "b").await.is_some());
    }

    async fn what_is_beyond_the_limits_is_refused(s) {
        let store = (s.open)().await;
        let long = "n".repeat(201);
        for (name, holder, ttl) in [
            ("", "a", TTL),
            (&*long, "a", TTL),
            ("invoices", "", TTL),
            ("invoices", "a", Duration::ZERO),
            ("invoices", "a", Duration::MAX),
        ] {
            let refused = store.acquire(name, holder, ttl).await;
            assert!(matches!(refused, Err(LeaseError::Invalid { .. })), "{refused:?}");
        }
        let refused = store.renew("invoices", FencingToken(1), Duration::ZERO).await;
        assert!(matches!(refused, Err(LeaseError::Invalid { .. })), "{refused:?}");
    }

    async fn of_many_who_ask_at_once_one_gets_it(s) {
        let mut asking = Vec::new();
        for number in 0..8 {
            let store = (s.open)().await;
            asking.push(tokio::spawn(async move { take(&*store, &format!("h/{number}")).await }));
        }
        let mut given = 0;
        for asked in asking {
            given += usize::from(asked.await.unwrap().is_some());
        }
        assert_eq!(given, 1);
    }
}
