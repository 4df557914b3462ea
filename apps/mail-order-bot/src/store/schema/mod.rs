//! The tables, for each database in its own words. Whatever is added is added to both, under the same names.

pub(super) mod postgres;
pub(super) mod sqlite;
