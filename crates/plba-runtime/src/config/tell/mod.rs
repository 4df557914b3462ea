//! Telling: what a configuration is made of, for people and for programs, with no secret in it.

pub(crate) mod default_file;
pub(crate) mod explain;
pub(crate) mod published;
pub(crate) mod show;
