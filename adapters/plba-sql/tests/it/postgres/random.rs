//! Random sequences against the model.

use std::time::Duration;

use plba_testkit::conformance::{Time, model};

use super::ground::{Ground, is_there};

#[test]
fn random_sequences_go_as_the_model_says() {
    if !is_there() {
        return;
    }
    let seed = std::env::var("PLBA_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    model::queue(Time::Real, seed, 10, 60, || async {
        Ground::new().await.under_test(Duration::from_secs(30)).await
    });
}
