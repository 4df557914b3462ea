//! plba-testservers.
