//! PostgreSQL: a real server that the tests share, and a schema for each of them.

mod conformance;
mod ground;
