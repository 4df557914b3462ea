//! plba-tasks.
