//! The examples as applications of their own: where they lie, and what one of them, `faults`, is told by files. How they
//! are run and watched is in the testkit.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use plba_testkit::process::{Application, Home, PATIENCE, named, pause};

/// An example and a directory for it; `settings` go with every command.
pub(crate) fn example(name: &str, test: &str, settings: &[&str]) -> Home {
    Home::new(executable(name), &format!("{name}-{test}"), settings)
}

/// Where the executable of an application lies, which cargo need not have built.
pub(crate) fn application(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().join(name)
}

/// Cargo builds examples together with the tests, one directory beside them. What is no example is an application.
fn executable(example: &str) -> PathBuf {
    let path = Some(application("examples").join(example)).filter(|path| path.exists());
    let path = path.unwrap_or_else(|| application(example));
    assert!(
        path.exists(),
        "no {}; build it with `cargo build --examples`",
        path.display()
    );
    path
}

/// Drops work into the spool of `faults`.
pub(crate) fn drop_work(home: &Home, names: &[&str]) {
    let spool = home.join("var/spool");
    fs::create_dir_all(&spool).unwrap();
    names.iter().for_each(|name| fs::write(spool.join(name), "").unwrap());
}

/// Whether a piece of work still lies in the spool.
pub(crate) fn lies_there(home: &Home, name: &str) -> bool {
    home.join("var/spool").join(name).exists()
}

/// The example's source.
pub(crate) fn source(example: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(example)
        .with_extension("rs");
    fs::read_to_string(path).unwrap()
}
