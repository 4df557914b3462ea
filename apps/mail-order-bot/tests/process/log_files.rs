//! Log files that somebody takes away while the bot works: failure 42. No order is lost for it, and no line but those that
//! have nowhere to go.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::bot::{Home, count};
use crate::signals::fill;

const ORDERS: usize = 200;

const SETTINGS: [&str; 8] = [
    "--set",
    "mail_order_bot.source=maildir:inbox",
    "--set",
    "platform.logging.file.path=log/bot.log",
    "--set",
    "platform.logging.file.rotation=never",
    "--set",
    "platform.logging.level=debug",
];

/// What may happen to a log file.
type Fate = fn(&Path);

fn rotated(file: &Path) {
    let _ = fs::rename(file, file.with_extension("1"));
}

fn removed(file: &Path) {
    let _ = fs::remove_file(file);
}

fn removed_with_its_directory(file: &Path) {
    let _ = fs::remove_dir_all(file.parent().unwrap());
}

fn full(file: &Path) {
    let _ = fs::remove_file(file);
    // As on a full disk, every write to this device fails.
    let _ = symlink("/dev/full", file);
}

fn taken_by_a_directory(file: &Path) {
    let _ = fs::remove_file(file);
    let _ = fs::create_dir(file);
}

#[test]
fn failure_42_whatever_becomes_of_the_log_file_every_order_is_carried_out() {
    let fates: [(&str, Fate, bool); 5] = [
        ("rotated", rotated, true),
        ("removed", removed, true),
        ("directory", removed_with_its_directory, true),
        ("full", full, false),
        ("taken", taken_by_a_directory, false),
    ];
    for (name, fate, goes_on) in fates {
        let home = Home::new(&format!("log-{name}"));
        fill(&home, "inbox", ORDERS, 17);
        let mut bot = home.start(&SETTINGS);
        let file = home.join("log/bot.log");
        // Again and again in the midst of the work.
        let (mut done, mut times) = (0, 0);
        while done < ORDERS {
            bot.wait("some orders", || count(&home.join("inbox/new")) <= ORDERS - done);
            fate(&file);
            (done, times) = (done + ORDERS / 5, times + 1);
        }
        bot.wait("every mail as read", || count(&home.join("inbox/new")) == 0);
        bot.stop();
        assert_eq!((home.orders(&SETTINGS).len(), times), (ORDERS, 5), "{name}");
        if goes_on {
            let text = fs::read_to_string(&file).unwrap();
            assert!(
                text.contains("stopped clean"),
                "{name}: the log goes on under its name: {text}"
            );
        } else {
            let told = bot.log();
            let said = told.matches("can't be written, lines are being lost").count();
            // Once each time that it begins.
            assert!(
                (1..=times).contains(&said),
                "{name}: {said} times on standard error: {told}"
            );
        }
    }
}
