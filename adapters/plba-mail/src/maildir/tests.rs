//! A Maildir on a real disk, with other programs moving and deleting files meanwhile.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::folder::{Content, Delivered, Maildir, MaildirError};
use super::watch::Watch;

/// A Maildir in a directory of its own, removed at the end.
pub(crate) struct Scratch(pub(crate) Maildir);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("plba-maildir-{}-{number}", std::process::id()));
        Scratch(Maildir::create(root).unwrap())
    }

    pub(crate) fn put(&self, place: &str, name: &str, text: &str) -> PathBuf {
        let path = self.0.root().join(place).join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// As a delivery agent does it: written in `tmp`, renamed into `new`.
    pub(crate) fn deliver(&self, name: &str, text: &str) {
        assert_eq!(self.0.deliver(name, text.as_bytes()).unwrap(), Delivered::Now);
    }

    pub(crate) fn names(&self, place: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.root().join(place)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.root());
    }
}

#[test]
fn a_scan_finds_messages_and_nothing_else() {
    let scratch = Scratch::new();
    scratch.put("new", "2.host", "new");
    scratch.put("cur", "1.host:2,S", "seen");
    scratch.put("cur", "3.host:2,F", "flagged");
    scratch.put("tmp", "4.host", "half-written");
    scratch.put("new", ".hidden", "");
    fs::create_dir(scratch.0.new_dir().join("directory")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", scratch.0.new_dir().join("5.link")).unwrap();
    let found: Vec<(String, bool)> = scratch.0.scan().unwrap().into_iter().map(|e| (e.key, e.seen)).collect();
    let expected = [
        ("1.host".to_owned(), true),
        ("2.host".to_owned(), false),
        ("3.host".to_owned(), false),
    ];
    assert_eq!(found, expected);
}

#[test]
fn marking_keeps_flags_moves_to_cur_and_is_idempotent() {
    let scratch = Scratch::new();
    scratch.put("new", "1.host", "");
    scratch.put("cur", "2.host:2,FR", "");
    scratch.put("cur", "3.host:2,S", "");
    for _ in 0..2 {
        let marked = scratch
            .0
            .finish(["1.host", "2.host", "3.host", "4.host"], "S", None)
            .unwrap();
        assert_eq!(marked.done, ["1.host", "2.host", "3.host"]);
        assert_eq!(marked.gone, ["4.host"]);
        assert_eq!(scratch.names("cur"), ["1.host:2,S", "2.host:2,FRS", "3.host:2,S"]);
        assert_eq!(scratch.names("new"), [""; 0]);
    }
}

#[test]
fn delivering_twice_makes_one_message_even_after_it_was_read() {
    let scratch = Scratch::new();
    scratch.deliver("1.host", "hello");
    assert_eq!(scratch.0.deliver("1.host", b"again").unwrap(), Delivered::AlreadyThere);
    scratch.0.finish(["1.host"], "S", None).unwrap();
    assert_eq!(scratch.0.deliver("1.host", b"again").unwrap(), Delivered::AlreadyThere);
    assert_eq!(scratch.names("new"), [""; 0]);
    assert_eq!(scratch.names("tmp"), [""; 0]);
    for bad in ["", ".hidden", "a/b", "../up", "a:2,S"] {
        assert!(scratch.0.deliver(bad, b"").is_err(), "{bad}");
    }
}

#[test]
fn a_message_moved_by_another_program_is_still_read() {
    let scratch = Scratch::new();
    scratch.put("new", "1.host", "hello");
    let entry = scratch.0.scan().unwrap().remove(0);
    fs::rename(&entry.path, scratch.0.cur_dir().join("1.host:2,S")).unwrap();
    assert_eq!(scratch.0.read(&entry, 100).unwrap(), Content::Here("hello".into()));
    fs::remove_file(scratch.0.cur_dir().join("1.host:2,S")).unwrap();
    assert_eq!(scratch.0.read(&entry, 100).unwrap(), Content::Gone);
    assert_eq!(scratch.0.delivered(&entry), None);
}

#[test]
fn a_message_beyond_the_limit_is_reported_and_not_read() {
    let scratch = Scratch::new();
    scratch.put("new", "1.host", "hello");
    let entry = scratch.0.scan().unwrap().remove(0);
    assert_eq!(scratch.0.read(&entry, 5).unwrap(), Content::Here("hello".into()));
    assert_eq!(scratch.0.read(&entry, 4).unwrap(), Content::TooLarge(5));
}

#[test]
fn a_path_without_a_maildir_is_refused_with_what_is_missing() {
    let scratch = Scratch::new();
    fs::remove_dir(scratch.0.cur_dir()).unwrap();
    let error = Maildir::open(scratch.0.root()).unwrap_err();
    assert!(
        matches!(error, MaildirError::NotAMaildir { missing: "cur", .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_delivery_is_noticed_and_reading_is_not() {
    let scratch = Scratch::new();
    scratch.put("new", "0.host", "");
    let watch = Watch::begin(&scratch.0).unwrap();
    let entry = scratch.0.scan().unwrap().remove(0);
    scratch.0.read(&entry, 10).unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(100), watch.changed())
            .await
            .is_err()
    );
    scratch.deliver("1.host", "hello");
    tokio::time::timeout(Duration::from_secs(5), watch.changed())
        .await
        .unwrap();
}
