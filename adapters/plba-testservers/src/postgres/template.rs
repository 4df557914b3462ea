//! A new cluster of databases, as `initdb` makes it: made once in a process, for it takes a second, and copied for each
//! server.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::programs::Programs;
use super::{PASSWORD, USER, WHAT};
use crate::account::Account;
use crate::directory::TemporaryDirectory;
use crate::process::Guard;
use crate::{StartError, program};

/// Kept until the process ends; the guard then removes the directory.
struct Template {
    data: PathBuf,
    _directory: TemporaryDirectory,
    _guard: Guard,
}

/// Makes `data`, which must not exist yet, a new cluster.
pub(super) fn copy_to(data: &Path, programs: &Programs, account: &Account) -> Result<(), StartError> {
    static TEMPLATE: OnceLock<Result<Template, StartError>> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| create(programs, account));
    let template = template.as_ref().map_err(Clone::clone)?;
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=auto", "--"]).arg(&template.data).arg(data);
    account.apply(&mut copy);
    program::run(WHAT, &mut copy).map(drop)
}

fn create(programs: &Programs, account: &Account) -> Result<Template, StartError> {
    let failed = |error| StartError::io(WHAT, "make a directory for new databases", &error);
    let directory = TemporaryDirectory::create("initdb", account).map_err(failed)?;
    let guard = Guard::of_directory(account, directory.path()).map_err(failed)?;
    let password = directory.join("password");
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&password)
        .and_then(|mut file| file.write_all(PASSWORD.as_bytes()))
        .and_then(|()| account.own(&password))
        .map_err(failed)?;
    let data = directory.join("data");
    let mut initdb = Command::new(programs.path("initdb"));
    // What is made here is copied: syncing it would be for nothing.
    initdb
        .args(["--no-sync", "--no-instructions", "--encoding=UTF8", "--no-locale"])
        .args(["--auth-local=trust", "--auth-host=scram-sha-256", "--username", USER])
        .arg("--pwfile")
        .arg(&password)
        .arg("--pgdata")
        .arg(&data)
        .current_dir(directory.path());
    account.apply(&mut initdb);
    program::run(WHAT, &mut initdb)?;
    Ok(Template {
        data,
        _directory: directory,
        _guard: guard,
    })
}
