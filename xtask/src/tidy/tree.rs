//! What the rules look at: the files of the checkout and the packages of the workspace. Read once; the rules touch no
//! disk, so that a test plants a violation by writing it down.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::source::Source;
use crate::{Stop, cargo};

/// Directories that hold nothing anyone wrote here.
const SKIPPED: [&str; 4] = ["target", "var", ".git", "node_modules"];

/// File names, and ends of file names, that are read: text somebody writes.
const READ: [&str; 14] = [
    ".rs",
    ".toml",
    ".md",
    ".sh",
    ".js",
    ".css",
    ".html",
    ".json",
    ".yaml",
    ".yml",
    ".sql",
    "run",
    "Cargo.lock",
    ".gitignore",
];

#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: BTreeMap<String, File>,
    pub(super) packages: Vec<Package>,
    /// Names of the packages that a bare `cargo run` means.
    pub(super) default_members: Vec<String>,
    /// Whether git knows `Cargo.lock`; `None` where there is no git to ask.
    pub(super) lock_is_committed: Option<bool>,
}

#[derive(Debug)]
pub(super) struct File {
    pub(super) text: String,
    /// For Rust only.
    pub(super) source: Option<Source>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Package {
    pub(super) name: String,
    /// Its directory, seen from the root: `crates/plba-runtime`.
    pub(super) room: String,
    pub(super) dependencies: Vec<Dependency>,
    pub(super) features: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// Of tests, examples and benches only.
    pub(super) dev: bool,
}

impl Package {
    pub(super) fn manifest(&self) -> String {
        format!("{}/Cargo.toml", self.room)
    }
}

impl Tree {
    /// Reads the checkout.
    pub(super) fn read() -> Result<Tree, Stop> {
        let root = cargo::root();
        let mut tree = Tree::default();
        tree.read_directory(&root, "")?;
        let metadata = cargo::metadata(&root.join("Cargo.toml"))?;
        tree.packages = packages(&metadata, &root);
        let ids = metadata["workspace_default_members"].as_array().into_iter().flatten();
        let ids: Vec<&Value> = ids.collect();
        let all = metadata["packages"].as_array().into_iter().flatten();
        tree.default_members = all
            .filter(|package| ids.contains(&&package["id"]))
            .map(|package| string(&package["name"]))
            .collect();
        tree.lock_is_committed = lock_is_committed(&root);
        Ok(tree)
    }

    fn read_directory(&mut self, directory: &Path, prefix: &str) -> Result<(), Stop> {
        let failed = |error| Stop::Failed(format!("could not read {}: {error}", directory.display()));
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                self.read_directory(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file()
                && READ.iter().any(|end| name.ends_with(end))
                && let Ok(text) = fs::read_to_string(entry.path())
            {
                self.add(&path, text);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, text: String) {
        let source = path.ends_with(".rs").then(|| Source::new(&text));
        self.files.insert(path.to_owned(), File { text, source });
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// All Rust files with their sources.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.files()
            .filter_map(|(path, file)| Some((path, file.source.as_ref()?)))
    }

    /// A tree of these files, for tests of rules.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        files.iter().for_each(|(path, text)| tree.add(path, (*text).to_owned()));
        tree
    }
}

#[cfg(test)]
impl Package {
    /// A package for tests of rules: `check("crates/plba-tasks", "plba-contracts, dev plba-testkit")`.
    pub(super) fn of(room: &str, dependencies: &str) -> Package {
        let dependencies = dependencies.split(", ").filter(|name| !name.is_empty()).map(|name| {
            let bare = name.trim_start_matches("dev ");
            Dependency {
                name: bare.to_owned(),
                dev: bare != name,
            }
        });
        Package {
            name: room.rsplit('/').next().unwrap().to_owned(),
            room: room.to_owned(),
            dependencies: dependencies.collect(),
            features: Vec::new(),
        }
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn packages(metadata: &Value, root: &Path) -> Vec<Package> {
    let dependency = |value: &Value| Dependency {
        name: string(&value["name"]),
        dev: value["kind"] == "dev",
    };
    let package = |value: &Value| {
        let manifest = string(&value["manifest_path"]);
        let room = Path::new(&manifest)
            .parent()
            .and_then(|room| room.strip_prefix(root).ok());
        Package {
            name: string(&value["name"]),
            room: room.map(|room| room.display().to_string()).unwrap_or_default(),
            dependencies: value["dependencies"]
                .as_array()
                .into_iter()
                .flatten()
                .map(dependency)
                .collect(),
            features: value["features"]
                .as_object()
                .into_iter()
                .flat_map(|all| all.keys().cloned())
                .collect(),
        }
    };
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .map(package)
        .collect()
}

fn lock_is_committed(root: &Path) -> Option<bool> {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(arguments)
            .current_dir(root)
            .stdin(Stdio::null())
            .output()
            .ok()
            .map(|output| output.status.success())
    };
    if git(&["rev-parse", "--git-dir"])? {
        git(&["ls-files", "--error-unmatch", "Cargo.lock"])
    } else {
        None
    }
}
