//! Broken configurations: each gets one report that names every fault by file, line and column.

use super::*;

/// Checks the first lines of faults, in order: `place: key: message`.
#[track_caller]
fn check(directory: Directory, expected: &[&str]) {
    let report = directory.report();
    eprintln!("{report}\n");
    let indented = |line: &&str| !line.is_empty() && !line.starts_with(' ');
    let lines: Vec<&str> = report.lines().filter(indented).collect();
    let (closing, faults) = lines.split_last().unwrap();
    let said =
        faults.len() == expected.len() && faults.iter().zip(expected).all(|(line, start)| line.starts_with(start));
    assert!(said, "expected {expected:#?}, got\n{report}");
    let count = if expected.len() == 1 {
        "1 fault".into()
    } else {
        format!("{} faults", expected.len())
    };
    assert_eq!(*closing, format!("{count} in the configuration; nothing was started"));
}

#[test]
fn toml_syntax() {
    check(
        Directory::new().file("bot.toml", "[bot]\nworkers = \npace = \"slow\"\n[bot\n"),
        &["bot.toml:2:11: TOML: a value is missing", "bot.toml:4:5: TOML: "],
    );
}

#[test]
fn yaml_syntax() {
    check(
        Directory::new().file("bot.yaml", "bot:\n  workers: [1, 2\n  pace: slow\n"),
        &["bot.yaml:3:7: YAML: "],
    );
}

#[test]
fn json_syntax() {
    check(
        Directory::new().file("bot.json", "{\n  \"bot\": { \"workers\": 4, }\n}\n"),
        &["bot.json:2:26: JSON: a comma before the closing brace"],
    );
}

#[test]
fn the_wrong_type_in_every_format() {
    check(
        Directory::new()
            .file("a.toml", "[bot]\nworkers = \"four\"\n")
            .file("b.yaml", "bot:\n  pace: often\n")
            .file("c.json", "{\"bot\":{\n  \"replies\": {\"copies\": 900}}}"),
        &[
            "a.toml:2:11: bot.workers: found the text \"four\", expected a whole number from 0 to 4294967295",
            "b.yaml:2:9: bot.pace: `often` is not a choice; expected `slow` or `fast`",
            "c.json:2:25: bot.replies.copies: the number is out of range: `900`, expected a whole number from 0 to 255",
        ],
    );
}

#[test]
fn unknown_keys_get_a_suggestion() {
    let directory = Directory::new().file("bot.toml", "[bot]\n\"wörkers\" = 1\nsorce = \"x\"\nquite_else = 1\n");
    let report = directory.report();
    check(
        directory,
        &[
            "bot.toml:2:1: bot.wörkers: unknown key `wörkers`",
            "bot.toml:3:1: bot.sorce: unknown key `sorce`",
            "bot.toml:4:1: bot.quite_else: unknown key `quite_else`",
        ],
    );
    assert!(
        report.contains("did you mean `workers`?") && report.contains("did you mean `source`?"),
        "{report}"
    );
    assert!(report.contains("the keys known here are "), "{report}");
}

#[test]
fn unknown_tables_and_keys_outside_of_tables() {
    let directory = Directory::new().file(
        "bot.toml",
        "workers = 3\n[platfrom]\nname = \"x\"\n[xyz.inner]\na = 1\n",
    );
    let report = directory.report();
    check(
        directory,
        &[
            "bot.toml:1:1: workers: unknown key `workers`",
            "bot.toml:2:2: platfrom: unknown table `platfrom`",
            "bot.toml:4:2: xyz: unknown table `xyz`",
        ],
    );
    assert!(
        report.contains("did you mean `bot.workers`?") && report.contains("did you mean `platform`?"),
        "{report}"
    );
}

#[test]
fn a_missing_secret_points_to_the_table() {
    check(
        Directory::new().file("bot.toml", "# mail\n[bot]\nsource = \"imaps://bot@mail/INBOX\"\n"),
        &["bot.toml:2:2: bot.password_file: an imaps source needs password_file or password"],
    );
}

#[test]
fn a_missing_field_points_to_its_table() {
    check(
        Directory::new().file(
            "bot.toml",
            "[[bot.rules]]\nsender = \"a\"\npriority = 1\n[[bot.rules]]\nsender = \"b\"\n",
        ),
        &["bot.toml:4:1: bot.rules.1: `priority` is missing"],
    );
}

#[test]
fn two_faults_in_one_file_and_faults_across_files() {
    check(
        Directory::new()
            .file("a.toml", "[bot]\nworkers = 65\n[bot.replies]\ncopies = -1\n")
            .file("b.toml", "[platform]\nname = 3 # not text\n")
            .file("c.toml", "[bot]\npace = [\n"),
        &[
            "c.toml:2:9: TOML: unclosed array",
            "a.toml:2:11: bot.workers: between 1 and 64",
            "a.toml:4:10: bot.replies.copies: ",
            "b.toml:2:8: platform.name: ",
        ],
    );
}

#[test]
fn variables_and_arguments_are_named() {
    let directory = Directory::new()
        .variable("PLBA__BOT__WORKERS", "four")
        .variable("PLBA__BOT__PAEC", "fast")
        .variable("PLBA____WORKERS", "4")
        .variable("PATH", "x")
        .set("bot.workers.many=3")
        .set("bot.replies.copies=no")
        .set("nonsense");
    check(
        directory,
        &[
            "environment variable PLBA____WORKERS: the name has an empty part",
            "command line: not of the form KEY=VALUE",
            "environment variable PLBA__BOT__PAEC: bot.paec: unknown key `paec`",
            "command line: bot.workers: found a table, expected a whole number",
            "command line: bot.replies.copies: found the text \"no\", expected a whole number from 0 to 255",
        ],
    );
}

#[test]
fn files_that_cannot_be_read() {
    let mut directory = Directory::new()
        .file("empty.toml", " \n")
        .file("latin.toml", b"[bot]\n# caf\xE9\nworkers = 1\n")
        .file("wide.toml", b"\xFF\xFE[\0")
        .file("large.yaml", "a".repeat(2 * 1024 * 1024))
        .file("bot.ini", "x");
    directory.sources.files.push(directory.path.join("absent.toml"));
    // A device that never ends.
    let endless = directory.path.join("endless.toml");
    std::os::unix::fs::symlink("/dev/zero", &endless).unwrap();
    directory.sources.files.push(endless);
    check(
        directory,
        &[
            "empty.toml:1:1: the file is empty",
            "latin.toml:2:6: not UTF-8 from here on",
            "wide.toml:1:1: written in UTF-16",
            "large.yaml:1:1: larger than 1024 KiB",
            "bot.ini:1:1: not a known format",
            "absent.toml:1:1: no such file",
            "endless.toml:1:1: not a regular file",
        ],
    );
}

#[test]
fn duplicate_keys() {
    check(
        Directory::new()
            .file("a.toml", "[bot]\nworkers = 1\nworkers = 2\n")
            .file("b.yaml", "bot:\n  workers: 1\n  workers: 2\n")
            .file("c.json", "{\"bot\": {\"workers\": 1,\n \"workers\": 2}}"),
        &[
            "a.toml:3:1: TOML: duplicate key",
            "b.yaml:3:3: YAML: duplicate key `workers`",
            "c.json:2:2: JSON: duplicate key `workers`",
        ],
    );
}

#[test]
fn nesting_and_alias_bombs_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let below = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", "));
    }
    let dotted = format!("{}a = 1\n", "a.".repeat(100_000));
    check(
        Directory::new()
            .file("a.toml", format!("a = {}{}\n", "[".repeat(70), "]".repeat(70)))
            .file("b.toml", dotted)
            .file("c.yaml", "- ".repeat(100_000))
            .file("d.yaml", "[".repeat(100_000))
            .file("e.yaml", bomb)
            .file("f.json", format!("{}{}", "[".repeat(100), "]".repeat(100)))
            .file("g.json", "[".repeat(100_000))
            .file("h.toml", format!("a = {}\n", "{ a = ".repeat(100_000)))
            .file("i.yaml", "a: &a [*a]\n"),
        &[
            "a.toml:1:",
            "b.toml:1:1: TOML: nested more",
            "c.yaml:1:129: YAML: nested more",
            "d.yaml:1:256: YAML: nested more",
            "e.yaml:5:",
            "f.json:1:66: JSON: nested more than 64 levels deep",
            "g.json:1:",
            "h.toml:1:",
            "i.yaml:1:8: YAML: an alias within the value",
        ],
    );
}

#[test]
fn columns_count_characters() {
    let directory = Directory::new().file(
        "bot.toml",
        "bot = { replies = { from = \"Grüße 🦀\", copies = 'x' } }\r\n",
    );
    let report = directory.report();
    assert!(report.starts_with("bot.toml:1:48: bot.replies.copies: "), "{report}");
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(
        lines[1],
        "   1 | bot = { replies = { from = \"Grüße 🦀\", copies = 'x' } }"
    );
    assert_eq!(
        lines[2].chars().position(|character| character == '^'),
        Some(7 + 47),
        "{report}"
    );
    assert!(lines[2].ends_with(" ^^^"), "{report}");
}

#[test]
fn endless_faults_and_keys_are_cut() {
    let keys: String = (0..5_000).map(|number| format!("key{number} = 1\n")).collect();
    let directory = Directory::new().file("a.toml", format!("[bot]\n{} = 1\n{keys}", "k".repeat(500_000)));
    let report = directory.load().unwrap_err();
    assert_eq!(
        (report.faults.len(), report.omitted),
        (MAXIMUM_REPORTED, 5_001 - MAXIMUM_REPORTED)
    );
    let text = report.to_string();
    assert!(text.len() < 100_000, "{} bytes", text.len());
    assert!(text.ends_with("5001 faults, of which the first 200 are shown, in the configuration; nothing was started"));
}

#[test]
fn failure_53_all_files_together_are_limited_and_so_are_anchors_within_anchors() {
    let mut directory = Directory::new();
    for number in 0..9 {
        let text = format!("# {}\n[bot]\nworkers = 4\n", "x".repeat(1024 * 1024 - 100));
        directory = directory.file(&format!("{number}.toml"), text);
    }
    check(directory, &["8.toml:1:1: with this file they are larger than 8192 KiB"]);
    let list = format!("bot: {{words: [{}x]}}\n", "x, ".repeat(60_000));
    let report = Directory::new().file("a.yaml", &list).file("b.yaml", &list).report();
    assert!(
        report.contains("b.yaml:1:1: with this file they hold more than 100000 values"),
        "{report}"
    );
    // Each anchor keeps what is below it.
    let open: String = (0..60).map(|level| format!("[&a{level} ")).collect();
    let nested = format!("a: {open}[{}x]{}\n", "x, ".repeat(30_000), "]".repeat(60));
    check(Directory::new().file("c.yaml", nested), &["c.yaml:1:"]);
}
