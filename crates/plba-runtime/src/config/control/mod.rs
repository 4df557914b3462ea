//! The configuration on the control plane: views that tell what runs, where each value came from and what a reload would
//! change, and the actions that set and take back overrides and reload. The command line asks the same ones.

mod actions;
mod parameters;
mod views;

pub use actions::{ConfigActed, endpoints as actions};
pub use parameters::{assignments, keys, recorded, until, why};
pub use views::{OverrideView, ReloadPreview, endpoints as views, listed};
