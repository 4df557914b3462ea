//! plba.
