//! plba-runtime.
