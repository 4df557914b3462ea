//! What a diff tells of two configurations.

use super::*;

/// The lines of the diff from one file to another.
fn lines(before: &str, after: &str) -> Vec<String> {
    diff(before, after).to_string().lines().map(str::to_owned).collect()
}

fn diff(before: &str, after: &str) -> ConfigDiff {
    let directory = Directory::new().file("bot.toml", before);
    let earlier = directory.load().unwrap_or_else(|report| panic!("{report}")).current();
    fs::write(directory.path.join("bot.toml"), after).unwrap();
    let later = directory.load().unwrap_or_else(|report| panic!("{report}")).current();
    let mut diff = ConfigDiff::between(&earlier, &later);
    for change in &mut diff.changes {
        if let plba_contracts::config::Origin::File { path, .. } = &mut change.origin {
            *path = path.file_name().unwrap().into();
        }
    }
    diff
}

#[test]
fn each_changed_key_is_named_with_what_was_what_is_and_where_it_stands() {
    let before = "[bot]\nworkers = 4\npace = 'fast'\n[bot.replies]\nfrom = 'shop@example.com'\n";
    let after = "[bot]\nworkers = 8\n\n[bot.replies]\nfrom = 'shop@example.com'\ncopies = 1\n[platform]\nstate_dir = '/srv'\n\
                 limit = 0.5\n";
    assert_eq!(
        lines(before, after),
        [
            "bot.pace: \"fast\" → \"slow\"  # built-in default",
            "bot.replies.copies: 0 → 1  # bot.toml:6:10",
            "bot.workers: 4 → 8  # bot.toml:2:11",
            "platform.limit: not set → 0.5  # bot.toml:9:9",
            "platform.state_dir: \"\" → \"/srv\"  # bot.toml:8:13; takes effect at the next start",
        ]
    );
    let diff = diff(before, after);
    assert_eq!(diff.needs_restart().collect::<Vec<_>>(), ["platform.state_dir"]);
    let stored = serde_json::to_string(&diff).unwrap();
    assert_eq!(serde_json::from_str::<ConfigDiff>(&stored).unwrap(), diff);
}

#[test]
fn a_changed_secret_shows_as_changed_and_nothing_of_it_is_seen() {
    let file = |password: &str, source: &str| format!("[bot]\npassword = '{password}'\nsource = '{source}'\n");
    let before = file("hunter2", "imaps://bot:hunter3@mail/INBOX");
    let after = file("hunter4", "imaps://bot:hunter5@mail/INBOX");
    let found = diff(&before, &after);
    assert_eq!(
        found.to_string(),
        "bot.password: \"***\" → \"***\" (another secret)  # bot.toml:2:12\n\
         bot.source: \"imaps://bot:***@mail/INBOX\" → \"imaps://bot:***@mail/INBOX\" (another secret)  # bot.toml:3:10\n"
    );
    let removed = diff(&before, "[bot]\nsource = 'maildir:var'\n");
    for told in [found, removed].map(|diff| serde_json::to_string(&diff).unwrap() + &diff.to_string()) {
        assert!(!told.contains("hunter"), "{told}");
    }
}

#[test]
fn elements_that_come_and_go_shift_no_others() {
    let file = |rules: &[(&str, u8)]| {
        let rule =
            |(sender, priority): &(&str, u8)| format!("[[bot.rules]]\nsender = '{sender}'\npriority = {priority}\n");
        rules.iter().map(rule).collect::<String>() + "[bot]\n"
    };
    let three = file(&[("a", 1), ("b", 2), ("c", 3)]);
    assert_eq!(
        lines(&three, &file(&[("a", 1), ("new", 9), ("b", 2), ("c", 3)])),
        [
            "bot.rules.1.priority: not set → 9  # bot.toml:6:12",
            "bot.rules.1.sender: not set → \"new\"  # bot.toml:5:10",
        ]
    );
    assert_eq!(
        lines(&three, &file(&[("a", 1), ("b", 7), ("c", 3)])),
        ["bot.rules.1.priority: 2 → 7  # bot.toml:6:12"]
    );
    assert_eq!(lines(&three, &file(&[("b", 2), ("c", 3)])).len(), 2);
    assert_eq!(lines(&three, &three), [""; 0]);
}

#[test]
fn a_diff_is_bounded_in_number_and_size() {
    let rules =
        |priority: u8| format!("[[bot.rules]]\nsender = 'x'\npriority = {priority}\n").repeat(MAXIMUM_CHANGES + 3);
    let found = diff(&rules(1), &rules(2));
    assert_eq!((found.changes.len(), found.omitted), (MAXIMUM_CHANGES, 3));
    assert!(found.to_string().ends_with("and 3 more\n"));
    let long = format!("[bot]\nsource = 'maildir:{}'\n", "ä".repeat(10_000));
    let found = diff("[bot]\n", &long);
    assert_eq!(found.changes[0].after.as_str().unwrap().chars().count(), 501);
}

#[test]
fn where_a_value_stands_is_no_change() {
    assert_eq!(
        lines("[bot]\nworkers = 5\n", "# moved\n\n[bot]\nworkers = 5\n"),
        [""; 0]
    );
    assert_eq!(lines("[bot]\nworkers = 4\n", "[bot]\n"), [""; 0]);
}
