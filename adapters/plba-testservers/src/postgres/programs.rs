//! PostgreSQL's programs. Debian keeps those of each version in a directory that no `PATH` names, and puts wrappers in
//! Perl where `PATH` looks.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::MISSING;
use crate::{NotRun, program};

/// Where Debian keeps `VERSION/bin`.
const VERSIONS: &str = "/usr/lib/postgresql";

const NEEDED: [&str; 3] = ["initdb", "postgres", "psql"];

/// The programs of one version, all from one directory.
#[derive(Debug, Clone)]
pub(super) struct Programs(PathBuf);

impl Programs {
    /// Those of `PATH`, if it names a server, or else Debian's newest.
    pub(super) fn find() -> Result<Programs, NotRun> {
        let path = env::var_os("PATH").unwrap_or_default();
        // A link leads to the directory where the others are, too.
        let of_path = env::split_paths(&path)
            .filter_map(|directory| directory.join("postgres").canonicalize().ok())
            .filter_map(|postgres| postgres.parent().map(Path::to_owned));
        of_path
            .chain(versions(Path::new(VERSIONS)))
            .find(|directory| NEEDED.iter().all(|name| program::is_executable(&directory.join(name))))
            .map(Programs)
            .ok_or(MISSING)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// The directories of programs, of the newest version first.
fn versions(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, directory)| directory).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;
    use crate::directory::TemporaryDirectory;

    #[test]
    fn the_newest_version_comes_first_by_number() {
        let account = Account::for_servers("a test").unwrap();
        let root = TemporaryDirectory::create("versions", &account).unwrap();
        for name in ["9", "15", "17", "common"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        let found = versions(root.path());
        assert_eq!(found, ["17/bin", "15/bin", "9/bin"].map(|name| root.join(name)));
        assert_eq!(versions(&root.join("absent")), Vec::<PathBuf>::new());
    }
}
