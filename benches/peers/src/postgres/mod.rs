//! The peers on PostgreSQL.

pub(crate) mod apalis;
pub(crate) mod graphile;
