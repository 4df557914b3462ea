//! Dead letters of what came from sources.

use std::sync::Arc;
use std::time::Duration;

use plba_testkit::runtime;

use super::ground::Ground;
use crate::letters::{self, Post};

fn with_post<Fut: Future<Output = ()>>(test: impl FnOnce(Post) -> Fut) {
    let ground = Ground::new();
    runtime::real(async {
        let queue = ground.open().await;
        let ledger = queue.ledger().await.unwrap();
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
