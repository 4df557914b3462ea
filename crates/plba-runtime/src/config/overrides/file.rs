//! The file of overrides in the state directory: whole or not at all, for this user only, with a version. What counts of it
//! is decided beside.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::origin::Override;
use crate::state::write_private;

/// The file in the state directory.
pub const FILE: &str = "config-overrides.json";

/// How many overrides there may be; beyond that a file is the better place.
pub const MAXIMUM_OVERRIDES: usize = 1_000;

/// The largest file, in bytes.
const MAXIMUM_SIZE: u64 = 4 * 1024 * 1024;

/// The version that this program writes; a newer one is refused.
const VERSION: u32 = 1;

/// Why overrides can't be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum OverridesError {
    /// The file can't be read.
    #[error("the overrides in {} can't be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what this program writes.
    #[error("the overrides in {} are broken: {reason}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A newer program has written the file.
    #[error(
        "the overrides in {} were written by a newer version of this program (format {found}, this one knows {VERSION})",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format's version found.
        found: u32,
    },
    /// The file can't be written.
    #[error("the overrides can't be kept in {}: {source}; see whether there is room and whether this user may write there", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl OverridesError {
    /// The file concerned.
    pub fn path(&self) -> &Path {
        match self {
            Self::Unreadable { path, .. }
            | Self::Broken { path, .. }
            | Self::Newer { path, .. }
            | Self::Unwritable { path, .. } => path,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "give the user that runs this process the right to read it",
            Self::Broken { .. } => "mend it, or put it aside: without it there are no overrides",
            Self::Newer { .. } => "use that version, or put the file aside: without it there are no overrides",
            Self::Unwritable { .. } => "see whether there is room, and whether this user may write there",
        }
    }
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kept {
    /// What is kept.
    pub(super) overrides: Vec<Override>,
    /// All that holds while a change of them is on trial.
    pub(super) trial: Option<Vec<Override>>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    #[serde(default)]
    overrides: Vec<Override>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trial: Option<Vec<Override>>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Kept {
    /// What is in the file; nothing where there is none.
    pub(super) fn read(directory: &Path) -> Result<Self, OverridesError> {
        let path = directory.join(FILE);
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            // That the state directory is none is told where it is locked.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Self::default());
            }
            Err(source) => return Err(OverridesError::Unreadable { path, source }),
        };
        let broken = |reason: String| OverridesError::Broken {
            path: path.clone(),
            reason,
        };
        if bytes.len() as u64 > MAXIMUM_SIZE {
            return Err(broken(format!("larger than {} KiB", MAXIMUM_SIZE / 1024)));
        }
        // What serde says of a value it can't use may repeat it: only the place is told.
        let placed = |error: serde_json::Error| match error.is_data() {
            true => broken(format!("line {}: not what this program writes", error.line())),
            false => broken(format!("line {}: no JSON", error.line())),
        };
        let Version { version } = serde_json::from_slice(&bytes).map_err(placed)?;
        if version > VERSION {
            return Err(OverridesError::Newer { path, found: version });
        }
        let document: Document = serde_json::from_slice(&bytes).map_err(placed)?;
        if document.overrides.len() > MAXIMUM_OVERRIDES {
            return Err(broken(format!("more than {MAXIMUM_OVERRIDES} overrides")));
        }
        Ok(Self {
            overrides: document.overrides,
            trial: document.trial,
        })
    }

    /// Writes the file; where nothing is kept there is none.
    pub(super) fn write(&self, directory: &Path) -> Result<(), OverridesError> {
        let path = directory.join(FILE);
        let written = match self == &Self::default() {
            true => remove(&path),
            false => self.text().and_then(|text| write_private(&path, &text)),
        };
        written.map_err(|source| OverridesError::Unwritable { path, source })
    }

    fn text(&self) -> std::io::Result<Vec<u8>> {
        let document = Document {
            version: VERSION,
            overrides: self.overrides.clone(),
            trial: self.trial.clone(),
        };
        let mut text = serde_json::to_vec_pretty(&document)?;
        text.push(b'\n');
        Ok(text)
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    // Opening a pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MAXIMUM_SIZE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
