//! The table of broken inputs with the report that each of them gets: `REPORTS.md` of this crate, written from here and
//! compared with what is reported. `PLBA_WRITE_REPORTS=1 cargo test -p plba-runtime reports` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write;

use plba_contracts::config::TimeSpan;

use super::*;

/// The orders of a shop.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Orders {
    /// How many orders are handled at once, 1 to 64.
    workers: u32,
    /// Where orders come from.
    source: Location,
    /// The mailbox's password.
    password: Option<Secret>,
    /// A file that holds the mailbox's password.
    password_file: Option<FilePath>,
    /// How often to look.
    pace: Pace,
    /// How long to wait between two looks.
    pause: TimeSpan,
    /// Whether customers are answered.
    answer: bool,
    /// How many copies of an answer are sent.
    copies: u8,
    /// The largest order that is read.
    #[schemars(extend("x-unit" = "bytes", "x-renamed-from" = ["max_size"]))]
    largest: u64,
    /// Words that mark an order.
    words: Vec<String>,
    /// Customers with rules of their own.
    rules: Vec<Rule>,
    /// Prices by article.
    prices: BTreeMap<String, f64>,
    /// How answers were sorted.
    #[schemars(extend("deprecated" = true, "deprecationMessage" = "leave it out; answers are sorted by time"))]
    sorting: Option<String>,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            workers: 4,
            source: "maildir:var/inbox".into(),
            password: None,
            password_file: None,
            pace: Pace::Slow,
            pause: TimeSpan::seconds(30),
            answer: true,
            copies: 1,
            largest: 1_000_000,
            words: Vec::new(),
            rules: Vec::new(),
            prices: BTreeMap::new(),
            sorting: None,
        }
    }
}

impl ConfigSection for Orders {
    fn validate(&self, faults: &mut Faults) {
        let message = "between 1 and 64 workers are possible";
        faults.require((1..=64).contains(&self.workers), "workers", message);
        let needs_password = self.source.scheme() == "imaps" && self.password.is_none() && self.password_file.is_none();
        let message = "an imaps source needs password_file or password";
        faults.require(!needs_password, "password_file", message);
    }
}

pub(super) fn declared() -> Vec<SectionDefinition> {
    vec![
        SectionDefinition::new::<Process>("platform"),
        SectionDefinition::new::<Orders>("orders"),
    ]
}

/// An input: what is wrong with it, its files, and arguments.
struct Case {
    title: &'static str,
    files: Vec<(&'static str, Vec<u8>)>,
    /// What stands in the table for files that can't be shown.
    described: Option<&'static str>,
    set: Vec<&'static str>,
    variables: Vec<(&'static str, &'static str)>,
}

fn case(title: &'static str, name: &'static str, text: impl Into<Vec<u8>>) -> Case {
    Case {
        title,
        files: vec![(name, text.into())],
        described: None,
        set: Vec::new(),
        variables: Vec::new(),
    }
}

impl Case {
    fn and(mut self, name: &'static str, text: &str) -> Self {
        self.files.push((name, text.into()));
        self
    }

    fn described(mut self, as_: &'static str) -> Self {
        self.described = Some(as_);
        self
    }

    /// What is reported, of a refusal or of an acceptance with warnings.
    fn report(&self) -> String {
        let mut directory = Directory::new();
        directory.definitions = declared;
        for (name, text) in &self.files {
            directory = directory.file(name, text);
        }
        for argument in &self.set {
            directory = directory.set(argument);
        }
        for (name, value) in &self.variables {
            directory = directory.variable(name, *value);
        }
        let told = match directory.load() {
            Err(report) => report.to_string(),
            Ok(manager) => {
                let current = manager.current();
                let warnings: Vec<String> = current.warnings().iter().map(ToString::to_string).collect();
                format!("{}\nthe configuration is accepted", warnings.join("\n").trim_end())
            }
        };
        directory.relative(&told)
    }

    fn write(&self, table: &mut String) {
        let _ = writeln!(table, "\n## {}\n", self.title);
        if let Some(described) = self.described {
            let _ = writeln!(table, "{described}\n");
        } else {
            for (name, text) in &self.files {
                let text = String::from_utf8_lossy(text).replace('\t', "→");
                let _ = writeln!(table, "`{name}`\n\n```text\n{}\n```\n", text.trim_end_matches('\n'));
            }
        }
        for (name, value) in &self.variables {
            let _ = writeln!(table, "`{name}={value}`\n");
        }
        for argument in &self.set {
            let _ = writeln!(table, "`--set {argument}`\n");
        }
        let report: Vec<String> = self.report().lines().map(|line| line.trim_end().to_owned()).collect();
        let _ = writeln!(table, "```text\n{}\n```", report.join("\n"));
    }
}

fn syntax() -> Vec<Case> {
    vec![
        case("A value that is missing", "bot.toml", "[orders]\nworkers =\n"),
        case(
            "A list that is not closed",
            "bot.toml",
            "[orders]\nwords = [\"one\", \"two\"\npace = \"slow\"\n",
        ),
        case(
            "Text that is not closed",
            "bot.toml",
            "[orders]\npace = \"slow\nworkers = 4\n",
        ),
        case("A colon in TOML", "bot.toml", "[orders]\nworkers: 4\n"),
        case("Text without quotes", "bot.toml", "[orders]\npace = slow\n"),
        case("A header that is not closed", "bot.toml", "[orders\nworkers = 4\n"),
        case(
            "A key given twice",
            "bot.toml",
            "[orders]\nworkers = 4\npace = \"fast\"\nworkers = 8\n",
        ),
        case(
            "A table given twice",
            "bot.toml",
            "[orders]\nworkers = 4\n[platform]\nname = \"a\"\n[orders]\npace = \"fast\"\n",
        ),
        case(
            "A number that no type holds",
            "bot.toml",
            "[orders]\nworkers = 99999999999999999999\n",
        ),
        case("Tabs in YAML", "bot.yaml", "orders:\n\tworkers: 4\n"),
        case(
            "A list that is not closed, in YAML",
            "bot.yaml",
            "orders:\n  words: [one, two\n  pace: slow\n",
        ),
        case(
            "A key given twice, in YAML",
            "bot.yaml",
            "orders:\n  workers: 4\n  workers: 8\n",
        ),
        case(
            "A key without its space",
            "bot.yaml",
            "orders:\n  workers:4\n  pace: slow\n",
        ),
        case("An alias that is unknown", "bot.yaml", "orders:\n  words: *words\n"),
        case(
            "A tag that means nothing here",
            "bot.yaml",
            "orders: !include orders.yaml\n",
        ),
        case(
            "Two documents in one file",
            "bot.yaml",
            "orders: {workers: 4}\n---\norders: {workers: 8}\n",
        ),
        case(
            "A comma too many",
            "bot.json",
            "{\n  \"orders\": { \"workers\": 4, }\n}\n",
        ),
        case(
            "A comment in JSON",
            "bot.json",
            "{\n  // as many as there are desks\n  \"orders\": { \"workers\": 4 }\n}\n",
        ),
        case(
            "Single quotes in JSON",
            "bot.json",
            "{ \"orders\": { 'workers': 4 } }\n",
        ),
        case(
            "A comma that is missing",
            "bot.json",
            "{ \"orders\": {\n  \"workers\": 4\n  \"pace\": \"slow\"\n} }\n",
        ),
        case(
            "A file that was cut off",
            "bot.json",
            "{\n  \"orders\": { \"workers\": 4,\n",
        ),
    ]
}

fn values() -> Vec<Case> {
    vec![
        case("A number in quotes", "bot.toml", "[orders]\nworkers = \"4\"\n"),
        case("A word for a number", "bot.yaml", "orders:\n  workers: four\n"),
        case(
            "A number that is out of range",
            "bot.json",
            "{\"orders\": {\n  \"copies\": 900\n}}\n",
        ),
        case("A choice that there is not", "bot.toml", "[orders]\npace = \"fsat\"\n"),
        case("Yes in place of true", "bot.toml", "[orders]\nanswer = \"yes\"\n"),
        case("A span of time without its unit", "bot.toml", "[orders]\npause = 30\n"),
        case(
            "A span of time that is none",
            "bot.toml",
            "[orders]\npause = \"half an hour\"\n",
        ),
        case("One value for a list", "bot.toml", "[orders]\nwords = \"order\"\n"),
        case("A table for a value", "bot.yaml", "orders:\n  workers:\n    many: 4\n"),
        case(
            "A value that the section refuses",
            "bot.toml",
            "[orders]\nworkers = 65\n",
        ),
        case(
            "A value in a map",
            "bot.toml",
            "[orders.prices]\napples = 1.20\npears = \"1.50\"\n",
        ),
        case(
            "A field that is missing in a list of tables",
            "bot.toml",
            "[[orders.rules]]\nsender = \"a\"\npriority = 1\n[[orders.rules]]\nsender = \"b\"\n",
        ),
        case(
            "A value that another one needs",
            "bot.toml",
            "# mail\n[orders]\nsource = \"imaps://bot@mail/INBOX\"\n",
        ),
        case(
            "A secret of the wrong type, which is not shown",
            "bot.toml",
            "[orders]\npassword = [\"hunter2\"]\n",
        ),
    ]
}

fn names() -> Vec<Case> {
    vec![
        case("A key that is misspelt", "bot.toml", "[orders]\nworkesr = 8\n"),
        case(
            "A key that is like no other",
            "bot.toml",
            "[orders]\ncolour = \"red\"\n",
        ),
        case("A table that is misspelt", "bot.toml", "[ordres]\nworkers = 8\n"),
        case("A key outside of its table", "bot.toml", "workers = 8\n"),
        case("A former name", "bot.toml", "[orders]\nmax_size = 5000\n"),
        case(
            "A former name beside the new one",
            "bot.toml",
            "[orders]\nlargest = 9000\npace = \"slow\"\nmax_size = 5000\n",
        ),
        case("A key on its way out", "bot.toml", "[orders]\nsorting = \"name\"\n"),
        Case {
            files: Vec::new(),
            variables: vec![("PLBA__ORDERS__WORKERS", "four"), ("PLBA__ORDERS__PAEC", "fast")],
            ..case("Variables", "", "")
        },
        Case {
            files: Vec::new(),
            set: vec!["orders.copies=many", "orders workers 4"],
            ..case("Arguments", "", "")
        },
        case("Faults in several files", "a.toml", "[orders]\nworkers = 65\n")
            .and("b.yaml", "orders:\n  pace: often\n  copise: 2\n")
            .and("c.json", "{\"platform\": {\"name\": 3}}\n"),
    ]
}

fn files() -> Vec<Case> {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        bomb += &format!(
            "a{level}: &a{level} [{}]\n",
            vec![format!("*a{}", level - 1); 10].join(", ")
        );
    }
    vec![
        case("An empty file", "bot.toml", "\n").described("A file with nothing but a line end."),
        case(
            "Another encoding",
            "bot.toml",
            b"[orders]\n# caf\xE9\nworkers = 4\n".as_slice(),
        )
        .described("`# café` in Latin 1 in the second line."),
        case("UTF-16", "bot.toml", b"\xFF\xFE[\0o\0".as_slice()).described("A file as Windows' editor may save it."),
        case("100 MB", "bot.yaml", vec![b' '; 100_000_000]).described("A file of 100 MB."),
        case("Nesting", "bot.json", "[".repeat(100_000)).described("100,000 opening brackets."),
        case("Nesting in TOML", "bot.toml", format!("a = {}\n", "[".repeat(100_000)))
            .described("`a = ` and 100,000 opening brackets."),
        case("A bomb of aliases", "bot.yaml", bomb),
        case(
            "An invisible character",
            "bot.yaml",
            "orders:\n  words: [one\u{85}, two]\n",
        )
        .described("`words: [one, two]` with the character U+0085 before the comma."),
        case("Another extension", "bot.ini", "[orders]\nworkers = 4\n"),
        case(
            "A secret beside the fault, which is not shown",
            "bot.toml",
            "[orders]\npassword = \"hunter2\nworkers = 4\n",
        ),
    ]
}

#[test]
fn every_broken_input_gets_the_report_that_the_table_shows() {
    let rooms = [
        ("What is not understood", syntax()),
        ("Values", values()),
        ("Names", names()),
        ("Files", files()),
    ];
    let count: usize = rooms.iter().map(|(_, cases)| cases.len()).sum();
    let mut table = format!(
        "# Broken configurations and their reports\n\n\
         {count} inputs, each with what is said of it. A test writes this table and compares it (`config/tests/reports.rs`).\n\n\
         The first line of each fault names its place, so that it can be searched for in a log of lines, and editors open the \
         file there; below it the source is shown, what is meant is marked, and other places that belong to it are named. \
         Notes come from the documentation of the key, help says what to write instead. Secrets are masked, also in files that \
         can't be read. `→` is a tab.\n"
    );
    for (room, cases) in rooms {
        let _ = writeln!(table, "\n# {room}");
        cases.iter().for_each(|case| case.write(&mut table));
    }
    let shown = table.replace("hunter2\nworkers", "").replace("[\"hunter2\"]", "");
    assert!(!shown.contains("hunter2"), "a secret is shown");
    assert!(count >= 30);
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("REPORTS.md");
    if std::env::var("PLBA_WRITE_REPORTS").is_ok() {
        fs::write(&file, &table).unwrap();
    }
    let known = fs::read_to_string(&file).unwrap_or_default();
    for (number, (line, expected)) in table.lines().zip(known.lines()).enumerate() {
        assert_eq!(line, expected, "line {} of REPORTS.md", number + 1);
    }
    assert_eq!(
        table.lines().count(),
        known.lines().count(),
        "REPORTS.md has other cases"
    );
}
