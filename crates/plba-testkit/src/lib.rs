//! plba-testkit.
