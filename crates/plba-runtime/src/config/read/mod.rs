//! Reading: from files, variables, arguments and providers to trees whose values know their places. Whether they make sense
//! is found in `check`.

pub(crate) mod annotate;
pub(crate) mod assignments;
pub(crate) mod bootstrap;
pub(crate) mod files;
pub(crate) mod json_file;
pub(crate) mod layers;
pub(crate) mod mask;
pub(crate) mod providers;
pub(crate) mod reader;
pub(crate) mod renames;
pub(crate) mod secrets;
pub(crate) mod sources;
pub(crate) mod syntax;
pub(crate) mod toml_file;
mod toml_words;
pub(crate) mod tree;
pub(crate) mod watch;
pub(crate) mod yaml_file;
