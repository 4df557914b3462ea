//! plba-net.
