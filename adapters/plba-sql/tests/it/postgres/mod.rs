//! PostgreSQL: a real server that the tests share, a schema for each of them, and servers of their own for those that end
//! theirs.

mod comeback;
mod completion;
mod config;
mod conflicts;
mod conformance;
mod exchange;
mod faults;
mod forgotten;
mod ground;
mod letters;
mod prepared;
mod random;
mod schema;
mod tls;
mod torture;
