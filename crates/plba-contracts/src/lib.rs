//! plba-contracts.
