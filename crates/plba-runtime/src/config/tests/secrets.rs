//! Directories of secrets: files named by keys, as Kubernetes, Docker and systemd mount them; replaced at once, broken, and
//! never shown.

use std::os::unix::fs::symlink;

use plba_contracts::secret::MASK;

use super::*;

/// A bot whose secrets are in the directory `secrets`.
fn directory() -> Directory {
    let mut directory = Directory::new();
    directory.definitions = on_the_platform;
    let secrets = directory.path.join("secrets");
    fs::create_dir(&secrets).unwrap();
    directory.file("a.toml", "[platform.config]\nsecrets = 'secrets'\n")
}

fn secret(directory: &Directory, name: &str, content: impl AsRef<[u8]>) {
    let path = directory.path.join("secrets").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn password(directory: &Directory) -> String {
    directory.bot().password.as_ref().unwrap().expose().to_owned()
}

#[test]
fn a_file_is_a_value_named_by_its_key() {
    let directory = directory();
    secret(&directory, "bot.password", "\"quoted\" ends=1\n");
    secret(&directory, "bot/replies/from", "a@b\r\n");
    secret(&directory, "bot.workers", "7\n");
    let bot = directory.bot();
    assert_eq!(password(&directory), "\"quoted\" ends=1");
    assert_eq!((bot.replies.from.as_str(), bot.workers), ("a@b", 7));
    let current = directory.load().unwrap().current();
    assert_eq!(
        directory.relative(&current.explain("bot.password").unwrap().origin.to_string()),
        "secrets/bot.password:1:1"
    );
}

#[test]
fn it_lies_above_files_and_below_the_environment() {
    let directory = directory().file("b.toml", "[bot]\nworkers = 3\n");
    secret(&directory, "bot.workers", "7");
    assert_eq!(directory.bot().workers, 7);
    assert_eq!(directory.variable("PLBA__BOT__WORKERS", "8").bot().workers, 8);
}

#[test]
fn whatever_its_type_it_is_never_shown() {
    let directory = directory();
    for (name, content) in [
        ("bot.password", "hunter2"),
        ("bot.workers", "11"),
        ("bot.replies.from", "hunter3"),
        ("bot.source", "imaps://u:hunter4@h"),
    ] {
        secret(&directory, name, content);
    }
    let current = directory.load().unwrap().current();
    let shown = format!(
        "{}{}{}",
        current.show(),
        serde_json::to_string(&current.show()).unwrap(),
        current.explain("bot").unwrap()
    );
    assert!(!shown.contains("hunter") && !shown.contains("= 11"), "{shown}");
    assert!(shown.contains(MASK), "{shown}");

    secret(&directory, "bot.workers", "hunter5");
    secret(&directory, "bot.pace", "hunter6");
    let report = directory.report();
    assert!(!report.contains("hunter"), "{report}");
    assert!(report.contains("secrets/bot.workers:1:1: bot.workers: "), "{report}");
}

#[test]
fn what_kubernetes_mounts_is_read_of_one_moment() {
    let directory = directory();
    let secrets = directory.path.join("secrets");
    for (version, password) in [("..1", "old"), ("..2", "new")] {
        secret(&directory, &format!("{version}/bot.password"), password);
    }
    symlink("..1", secrets.join("..data")).unwrap();
    symlink("..data/bot.password", secrets.join("bot.password")).unwrap();
    assert_eq!(password(&directory), "old");
    symlink("..2", secrets.join("..next")).unwrap();
    fs::rename(secrets.join("..next"), secrets.join("..data")).unwrap();
    fs::remove_dir_all(secrets.join("..1")).unwrap();
    assert_eq!(password(&directory), "new");
}

#[test]
fn what_systemd_has_besides_is_left_alone() {
    let mut directory = Directory::new();
    directory.definitions = on_the_platform;
    let credentials = directory.path.join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("bot.password"), "hunter2").unwrap();
    fs::write(credentials.join("tls.key"), "---").unwrap();
    fs::write(credentials.join("server key"), "---").unwrap();
    let directory = directory.variable("CREDENTIALS_DIRECTORY", credentials.as_os_str());
    assert_eq!(password(&directory), "hunter2");
    let gone = directory.variable("CREDENTIALS_DIRECTORY", "/nowhere");
    gone.load().unwrap();
}

#[test]
fn what_can_not_be_a_secret_is_a_fault_at_its_file() {
    let directory = directory();
    secret(&directory, "bot.pasword", "hunter2");
    secret(&directory, "tls.key", "hunter2");
    secret(&directory, "server key", "hunter2");
    secret(&directory, "bot.password", "");
    secret(&directory, "bot.source", [0xFF, 0xFE]);
    secret(&directory, "bot.catalogue", vec![b'x'; 130 * 1024]);
    secret(&directory, "platform.state_dir", "elsewhere");
    symlink("nowhere", directory.path.join("secrets/bot.pace")).unwrap();
    let report = directory.report();
    for part in [
        "secrets/bot.pasword:1:1: bot.pasword: unknown key `pasword`\n     = help: did you mean `password`?",
        "secrets/tls.key:1:1: tls: unknown table `tls`",
        "secrets/server key:1:1: the name of this file is no key\n     = help: name it by its key, such as mail_order_bot.password",
        "secrets/bot.password:1:1: the file is empty",
        "secrets/bot.source:1:1: not UTF-8",
        "secrets/bot.catalogue:1:1: larger than 128 KiB",
        "secrets/bot.pace:1:1: No such file or directory",
        "secrets/platform.state_dir:1:1: platform.state_dir: `platform.state_dir` can't be set by a secret: it is read before it",
        "8 faults",
    ] {
        assert!(report.contains(part), "no {part} in:\n{report}");
    }
    assert!(!report.contains("hunter"), "{report}");
    fs::remove_dir_all(directory.path.join("secrets")).unwrap();
    let report = directory.report();
    assert!(
        report.starts_with("secrets:1:1: the directory of secrets can't be read: No such file or directory"),
        "{report}"
    );
    fs::create_dir(directory.path.join("secrets")).unwrap();
    (0..300).for_each(|number| secret(&directory, &format!("x{number}"), "x"));
    let report = directory.report();
    assert!(report.contains("more than 256 secrets in this directory"), "{report}");
}
