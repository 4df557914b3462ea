//! Where notices must come from so that no change of a path is missed: the directory of every link on the way to it and of
//! what it ends in, or of what is missing of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::Watched;

/// How many links are followed on the way to one file, as the system does.
const MAXIMUM_LINKS: usize = 40;

/// Directories, and what of them matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// The directories, each with its device and inode: another one of the same name is another place.
    pub(super) directories: BTreeMap<PathBuf, (u64, u64)>,
    /// What matters whatever it is: links, files, and what is missing.
    names: BTreeSet<PathBuf>,
    /// Directories of which everything matters.
    whole: BTreeSet<PathBuf>,
}

impl Places {
    /// The places of everything that is watched, as links lead now.
    pub(super) fn of(watched: &Watched) -> Self {
        let mut places = Self::default();
        for path in &watched.files {
            places.add(path, 1);
        }
        for path in &watched.secrets {
            places.add(path, 2);
        }
        places
    }

    /// Whether a notice of this path matters.
    pub(super) fn concern(&self, path: &Path) -> bool {
        let within = path.parent().is_some_and(|parent| self.whole.contains(parent));
        within || self.names.contains(path) || self.directories.contains_key(path)
    }

    /// Adds a path and, if it is a directory, what is in it, `depth` levels deep.
    fn add(&mut self, path: &Path, depth: usize) {
        let Some(real) = self.follow(path) else { return };
        if depth == 0 || !real.is_dir() {
            return;
        }
        self.watch(&real);
        self.whole.insert(real.clone());
        // Links in a directory lead elsewhere, and so may directories.
        for entry in fs::read_dir(&real).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_symlink() || kind.is_dir()) {
                self.add(&entry.path(), depth - 1);
            }
        }
    }

    /// Notes every link on the way to a path, and its end; the end without links, if it is there.
    fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        let absolute = std::path::absolute(path).ok()?;
        let mut left: VecDeque<OsString> = names(&absolute);
        let (mut at, mut links) = (PathBuf::from("/"), 0);
        while let Some(name) = left.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let Ok(metadata) = fs::symlink_metadata(&next) else {
                self.name(&at, next);
                return None;
            };
            if !metadata.is_symlink() {
                if left.is_empty() {
                    self.name(&at, next.clone());
                }
                at = next;
                continue;
            }
            self.name(&at, next.clone());
            links += 1;
            if links > MAXIMUM_LINKS {
                return None;
            }
            let target = fs::read_link(&next).ok()?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            let mut rest = names(&target);
            rest.append(&mut left);
            left = rest;
        }
        Some(at)
    }

    fn name(&mut self, directory: &Path, name: PathBuf) {
        self.watch(directory);
        self.names.insert(name);
    }

    fn watch(&mut self, directory: &Path) {
        if let Ok(metadata) = fs::metadata(directory) {
            self.directories
                .insert(directory.to_owned(), (metadata.dev(), metadata.ino()));
        }
    }
}

/// The names in a path, `..` being one.
fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}
