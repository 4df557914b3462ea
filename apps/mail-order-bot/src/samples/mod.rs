//! Sample data.

/// The sample catalogue.
pub const CATALOGUE_CSV: &str = include_str!("catalogue.csv");

pub mod workbook;
