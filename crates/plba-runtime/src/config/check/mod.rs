//! Checking: the schemas of all sections, the sections read from a tree, and every fault with its place and its remedy.

mod advice;
mod draw;
pub(crate) mod report;
pub(crate) mod schema;
pub(crate) mod sections;
pub(crate) mod words;
