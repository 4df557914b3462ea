//! Finds and reads configuration files: directories in name order, limits on size, encoding, the format by its
//! extension. What the values mean lives elsewhere.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::mask::KnownKeys;
use super::sources::{Place, SourceKind, Sources};
use super::syntax::{MAXIMUM_VALUES, SyntaxFault};
use super::tree::{Content, Node};
use super::{json_file, toml_file, yaml_file};
use crate::config::check::report::{ConfigFault, ConfigFaultKind, Located, bare};

/// The largest configuration file, in bytes.
pub const MAXIMUM_FILE_SIZE: u64 = 1024 * 1024;

/// How large all configuration files may be together, in bytes.
pub const MAXIMUM_TOTAL_SIZE: u64 = 8 * MAXIMUM_FILE_SIZE;

/// How many files a configuration may have.
pub const MAXIMUM_FILES: usize = 256;

/// The key by which a file tells editors where its schema is; it sets nothing.
pub(crate) const SCHEMA_KEY: &str = "$schema";

const EXTENSIONS: [&str; 4] = ["toml", "yaml", "yml", "json"];

/// The files to read, directories replaced by what they hold in the order of names.
pub(crate) fn list(paths: &[PathBuf], faults: &mut Vec<ConfigFault>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        // An empty directory would be an empty configuration, and nobody would notice that the file is missing.
        if extension(path).is_some() {
            faults.push(unreadable(path, "a directory, where a file is expected", MOUNTED));
            continue;
        }
        match entries(path) {
            Ok(found) => files.extend(found),
            Err(error) => faults.push(unreadable(path, format!("can't be listed: {error}"), PERMISSION)),
        }
    }
    if let Some(excess) = files.get(MAXIMUM_FILES) {
        let message = format!("more than {MAXIMUM_FILES} configuration files");
        faults.push(unreadable(
            excess,
            message,
            "merge some of them, or name another directory",
        ));
        files.truncate(MAXIMUM_FILES);
    }
    files
}

const TOTAL: &str = "are these configuration files? Name fewer of them if they are";

const MOUNTED: &str = "put the file there; where a file to be mounted is missing, Docker makes a directory of its name";

const PERMISSION: &str = "give the user that runs this process the right to read it";

/// A directory's configuration files; what begins with a dot belongs to editors and to whoever mounts it.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && extension(&path).is_some() && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn extension(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    EXTENSIONS.into_iter().find(|known| *known == extension)
}

/// What all files together hold.
#[derive(Debug, Default)]
pub(crate) struct Total {
    bytes: u64,
    values: usize,
}

/// Reads one file into a tree; what is wrong with it is added to `faults`.
pub(crate) fn read(
    path: &Path,
    keys: &KnownKeys,
    total: &mut Total,
    sources: &mut Sources,
    faults: &mut Vec<ConfigFault>,
) -> Option<Node> {
    if extension(path).is_none() {
        let remedy = "name it .toml, .yaml, .yml or .json";
        faults.push(unreadable(path, "not a known format of configuration file", remedy));
        return None;
    }
    let text = match text(path, sources) {
        Ok(text) => text,
        Err(fault) => {
            faults.push(*fault);
            return None;
        }
    };
    total.bytes = total.bytes.saturating_add(text.len() as u64);
    if total.bytes > MAXIMUM_TOTAL_SIZE {
        let message = format!("with this file they are larger than {} KiB", MAXIMUM_TOTAL_SIZE / 1024);
        faults.push(unreadable(path, message, TOTAL));
        return None;
    }
    parse(path, text, keys, total, sources, faults)
}

/// Parses a file whose text was read before.
pub(crate) fn parse(
    path: &Path,
    text: String,
    keys: &KnownKeys,
    total: &mut Total,
    sources: &mut Sources,
    faults: &mut Vec<ConfigFault>,
) -> Option<Node> {
    let extension = extension(path)?;
    let source = sources.add(SourceKind::File(path.to_owned()), text);
    let parsed = match extension {
        "toml" => toml_file::parse(sources.text(source), source),
        "json" => json_file::parse(sources.text(source), source),
        _ => yaml_file::parse(sources.text(source), source),
    };
    match parsed {
        Ok(mut root) => {
            // Each file keeps to this limit by itself, aliases counted out.
            total.values += root.count();
            if total.values > MAXIMUM_VALUES {
                let message = format!("with this file they hold more than {MAXIMUM_VALUES} values");
                faults.push(unreadable(path, message, TOTAL));
                return None;
            }
            if let Content::Table(entries) = &mut root.content {
                entries.remove(SCHEMA_KEY);
            }
            Some(root)
        }
        Err(found) => {
            faults.extend(
                found
                    .into_iter()
                    .map(|fault| syntax(fault, source, extension, keys, sources)),
            );
            None
        }
    }
}

fn syntax(fault: SyntaxFault, source: usize, extension: &str, keys: &KnownKeys, sources: &mut Sources) -> ConfigFault {
    let starts = std::iter::once(&fault.range).chain(fault.hints.related.iter().map(|(range, _)| range));
    for start in starts.map(|range| range.start) {
        if let Some(hidden) = keys.hidden_around(sources.text(source), start) {
            sources.hide(Place::new(source, hidden));
        }
    }
    let format = if extension == "yml" {
        "YAML".to_owned()
    } else {
        extension.to_uppercase()
    };
    let message = format!("{format}: {}", fault.message.replace('\n', "; "));
    let related = fault.hints.related.into_iter();
    let located = Located {
        place: Some(Place::new(source, fault.range)),
        label: fault.hints.label,
        remedy: fault.hints.help,
        related: related
            .map(|(range, label)| (Place::new(source, range), label))
            .collect(),
        ..Located::new(ConfigFaultKind::Syntax, message)
    };
    located.report(sources)
}

fn text(path: &Path, sources: &mut Sources) -> Result<String, Box<ConfigFault>> {
    let fail = |message: String, remedy: &str| Box::new(unreadable(path, message, remedy));
    let bytes = bytes(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => fail("no such file".into(), "create it, or name another with --config"),
        io::ErrorKind::PermissionDenied => fail("permission denied".into(), PERMISSION),
        _ => fail(error.to_string(), "a configuration file is a regular, readable file"),
    })?;
    if bytes.len() as u64 > MAXIMUM_FILE_SIZE {
        let message = format!("larger than {} KiB", MAXIMUM_FILE_SIZE / 1024);
        return Err(fail(
            message,
            "is this a configuration file? Split it over several if it is",
        ));
    }
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(fail("written in UTF-16".into(), "save it as UTF-8"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let start = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..start]).into_owned();
        let source = sources.add(SourceKind::File(path.to_owned()), before);
        let mut fault = unreadable(path, "not UTF-8 from here on", "save it as UTF-8");
        fault.origin = Some(sources.origin(Place::new(source, start..start)));
        Box::new(fault)
    })?;
    let text = text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text);
    match text.trim().is_empty() {
        // An editor or a deployment that is not done yet truncates first.
        true => Err(fail(
            "the file is empty".into(),
            "write a comment into it if it is meant to set nothing",
        )),
        false => Ok(text),
    }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAXIMUM_FILE_SIZE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn unreadable(path: &Path, message: impl Into<String>, remedy: &str) -> ConfigFault {
    ConfigFault {
        origin: Some(plba_contracts::config::Origin::File {
            path: path.to_owned(),
            line: 1,
            column: 1,
        }),
        remedy: Some(remedy.to_owned()),
        ..bare(ConfigFaultKind::Unreadable, message.into())
    }
}
