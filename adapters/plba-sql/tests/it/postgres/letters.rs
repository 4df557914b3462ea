//! Dead letters of what came from sources.

use std::sync::Arc;
use std::time::Duration;

use plba_sql::postgres::PostgresLedger;
use plba_testkit::runtime;

use super::ground::{Ground, is_there};
use crate::letters::{self, Post};

fn with_post<Fut: Future<Output = ()>>(test: impl FnOnce(Post) -> Fut) {
    if !is_there() {
        return;
    }
    runtime::real(async {
        let ground = Ground::new().await;
        let queue = ground.open_moved(Duration::from_secs(60)).await;
        let ledger = PostgresLedger::open(ground.settings()).await.unwrap();
        let clock = Arc::clone(&ground.clock);
        test(Post {
            queue: Arc::new(queue),
            ledger: Arc::new(ledger),
            clock: Arc::clone(&clock) as _,
            advance: Box::new(move |by: Duration| clock.advance(by)),
        })
        .await;
    });
}

#[test]
fn what_was_buried_goes_by_the_rules_of_its_queue() {
    with_post(letters::what_was_buried_goes_by_the_rules_of_its_queue);
}

#[test]
fn a_letter_that_goes_settles_an_entry_that_came_after_its_death() {
    with_post(letters::a_letter_that_goes_settles_an_entry_that_came_after_its_death);
}

#[test]
fn a_source_that_has_found_nothing_is_listed() {
    with_post(letters::a_source_that_has_found_nothing_is_listed);
}
