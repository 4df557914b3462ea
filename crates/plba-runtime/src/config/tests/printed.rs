//! What is printed: effective values, explanations, the default file; and secrets in none of it.

use super::*;

#[test]
fn effective_values_are_shown_with_their_origins() {
    let directory = Directory::new()
        .file(
            "bot.toml",
            "[bot]\npassword = \"hunter2\"\nworkers = 8\n[bot.replies]\nfrom = \"shop@example.org\"\n",
        )
        .set("platform.name=one");
    let shown = directory.load().unwrap().current().show();
    let text = directory.relative(&shown.to_string());
    let expected = r#"# generation 1

[bot]
catalogue = "catalogue.csv"   # built-in default
pace = "slow"                 # built-in default
password = "***"              # bot.toml:2:12
# password_file               # not set
rules = []                    # built-in default
source = "maildir:var/inbox"  # built-in default
workers = 8                   # bot.toml:3:11

[bot.replies]
copies = 0                 # built-in default
from = "shop@example.org"  # bot.toml:5:8

[platform]
name = "one"    # command line: --set platform.name=one
state_dir = ""  # built-in default
"#;
    assert_eq!(text, expected);
    assert_eq!(
        serde_json::to_value(&shown).unwrap()["tables"][1]["values"][0]["value"],
        0
    );
}

#[test]
fn a_key_is_explained_through_all_layers() {
    let directory = Directory::new()
        .file("a.toml", "[bot]\nworkers = 5\n")
        .variable("PLBA__BOT__WORKERS", "9");
    let current = directory.load().unwrap().current();
    let text = directory.relative(&current.explain("bot.workers").unwrap().to_string());
    let expected = "bot.workers = 9\n  How many orders are handled at once, 1 to 64.\n  type: whole number\n  default: 4\n  \
                    layers, the highest first:\n  * 9  # environment variable PLBA__BOT__WORKERS\n    5  # a.toml:2:11\n    \
                    4  # built-in default\n";
    assert_eq!(text, expected);
    assert_eq!(
        current.explain("bot.pace").unwrap().type_name,
        "one of \"slow\", \"fast\""
    );
    assert_eq!(current.explain("bot.password").unwrap().type_name, "secret text");
    let error = current.explain("bot.wokers").unwrap_err().to_string();
    assert_eq!(error, "there is no key `bot.wokers`; did you mean `workers`?");
    assert!(matches!(current.explain("a b"), Err(ExplainError::Malformed { .. })));
}

#[test]
fn the_default_file_sets_the_defaults_and_names_every_key() {
    let file = Directory::new().load().unwrap().current().default_toml();
    for line in [
        "# Where orders come from.",
        "source = \"maildir:var/inbox\"",
        "# password = \"…\"",
        "[bot.replies]",
        "# limit = 0.0",
    ] {
        assert!(file.lines().any(|known| known == line), "{line} in\n{file}");
    }
    let directory = Directory::new().file("default.toml", &file);
    // In place, so that relative paths stay as they are.
    assert_eq!(directory.bot().workers, 4);
    let uncommented: String = file
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|line| line.contains(" = "))
                .unwrap_or(line)
        })
        .map(|line| format!("{line}\n"))
        .collect();
    Directory::new().file("all.toml", uncommented).bot();
}

#[test]
fn the_schema_describes_every_section() {
    let current = Directory::new().load().unwrap().current();
    let schema = current.schema();
    assert_eq!(schema["properties"]["bot"]["properties"]["workers"]["type"], "integer");
    assert_eq!(schema["properties"]["bot"]["description"], "The orders of a shop.");
    assert_eq!(schema["additionalProperties"], false);
}

/// Everything that can be printed of a configuration, good or bad.
fn everything(directory: &Directory) -> String {
    match directory.load() {
        Err(report) => format!("{report}{report:?}{}", serde_json::to_string(&report).unwrap()),
        Ok(manager) => {
            let current = manager.current();
            let shown = current.show();
            let explained = ["bot", "bot.password", "bot.source"].map(|key| {
                let explained = current.explain(key).unwrap();
                format!("{explained}{explained:?}{}", serde_json::to_string(&explained).unwrap())
            });
            let origins = current.origins();
            let json = serde_json::to_string(&shown).unwrap();
            format!(
                "{shown}{shown:?}{json}{}{origins:?}{current:?}{manager:?}",
                explained.concat()
            )
        }
    }
}

#[test]
fn secrets_are_never_printed() {
    let secret = "hunter2\u{1F980}";
    let cases: Vec<Directory> = [
        ("a.toml", format!("[bot]\npassword = \"{secret}\"\n")),
        // Beside a fault in the same line, in the same file, of the wrong type, under a misspelt key or table.
        (
            "b.toml",
            format!("bot = {{ password = \"{secret}\", workers = \"x\" }}\n"),
        ),
        ("c.toml", format!("[bot]\npassword = [\"{secret}\"]\n")),
        ("d.toml", format!("[bot]\npasword = \"{secret}\"\n")),
        ("e.toml", format!("[bto]\npassword = \"{secret}\"\n")),
        ("e2.toml", format!("bto = {{ x = \"{secret}\" }}\n")),
        ("f.toml", format!("[bot]\npassword = \"{secret}\n")),
        ("g.toml", format!("[bot]\npassword = \"\"\"\nx\n{secret}\n= y")),
        ("h.yaml", format!("bot:\n  password: \"{secret}\n")),
        (
            "i.yaml",
            format!("bot:\n  password: |\n    a\n    {secret}\n  workers: x\n"),
        ),
        (
            "j.json",
            format!("{{\"bot\": {{\"password\": \"{secret}\" \"workers\": 3}}}}"),
        ),
        (
            "k.json",
            format!("{{\"bot\": {{\"password\": {{\"a\": \"{secret}\"}}}}}}"),
        ),
        (
            "l.toml",
            format!("[bot]\nsource = \"imaps://bot:{secret}@mail/INBOX\"\n"),
        ),
        (
            "m.toml",
            format!("[bot]\nworkers = \"imaps://bot:{secret}@mail/INBOX\"\n"),
        ),
        ("n.toml", format!("bot = \"{secret}\"\n")),
        ("o.toml", format!("[bot]\npassword = \"{secret}\" x\n")),
    ]
    .into_iter()
    .map(|(name, text)| Directory::new().file(name, text))
    .chain([
        Directory::new().variable("PLBA__BOT__PASSWORD", secret),
        Directory::new().variable("PLBA__BOT__PASWORD", secret),
        Directory::new().variable("PLBA__BOT__PASSWORD", format!("[\"{secret}\"]")),
        Directory::new()
            .variable("PLBA__BOT__PASSWORD", secret)
            .variable("PLBA__BOT__WORKERS", "x"),
        Directory::new().set(&format!("bot.password={secret}")),
        Directory::new().set(&format!("bot.password={{a='{secret}'}}")),
        Directory::new().set(&format!("bot.pasword={secret}")),
        Directory::new().set(&format!("bot.password:{secret}")),
        Directory::new().set(&format!("password {secret}")),
    ])
    .collect();
    for directory in &cases {
        let printed = everything(directory);
        assert!(!printed.contains("hunter2"), "{:?}\n{printed}", directory.sources);
    }
}

/// The table whose reports are shown, with keys that were renamed or are on their way out.
fn orders(text: &str) -> Directory {
    let mut directory = Directory::new();
    directory.definitions = reports::declared;
    directory.file("bot.toml", text)
}

#[test]
fn a_former_name_is_read_as_the_new_one_wherever_it_stands() {
    let directory = orders("[orders]\nmax_size = 5000\n").variable("PLBA__ORDERS__LARGEST", "6000");
    let current = directory.load().unwrap().current();
    assert_eq!(current.explain("orders.largest").unwrap().value, 6000);
    let layers = current.explain("orders.largest").unwrap().layers;
    let origins: Vec<String> = layers
        .iter()
        .map(|layer| directory.relative(&layer.origin.to_string()))
        .collect();
    assert_eq!(
        origins,
        [
            "environment variable PLBA__ORDERS__LARGEST",
            "bot.toml:2:12",
            "built-in default"
        ]
    );
    let [warning] = current.warnings() else {
        panic!("{:?}", current.warnings())
    };
    let text = directory.relative(&warning.headline());
    assert_eq!(
        text,
        "bot.toml:2:1: warning: orders.max_size: `max_size` is called `largest` now"
    );
    let old = orders("[orders]\nlargest = 5000\n").variable("PLBA__ORDERS__MAX_SIZE", "7000");
    let current = old.load().unwrap().current();
    assert_eq!(
        current.explain("orders.largest").unwrap().value,
        7000,
        "the higher layer wins by any name"
    );
    assert_eq!(current.warnings().len(), 1);
}

#[test]
fn the_schema_is_one_that_editors_understand() {
    let manager = orders("# nothing\n\"$schema\" = \"./x.json\"\n").load().unwrap();
    let current = manager.current();
    let schema = current.schema();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let keys = &schema["properties"]["orders"]["properties"];
    assert_eq!(keys["workers"]["default"], 4);
    assert_eq!(
        keys["workers"]["description"],
        "How many orders are handled at once, 1 to 64."
    );
    assert_eq!(
        keys["largest"]["description"],
        "The largest order that is read.\n\nIn bytes."
    );
    assert_eq!(keys["max_size"]["deprecated"], true);
    assert_eq!(
        keys["max_size"]["deprecationMessage"],
        "`max_size` is called `largest` now"
    );
    assert!(keys["password"].get("default").is_none() && keys["max_size"].get("default").is_none());
    assert_eq!(schema["properties"]["$schema"]["type"], "string");
}

#[test]
fn the_default_file_says_type_unit_and_default_of_each_key() {
    let file = orders("# nothing\n").load().unwrap().current().default_toml();
    for line in [
        "# Whole number; default 4.",
        "# Whole number in bytes; default 1000000.",
        "# Span of time; default \"30s\".",
        "# Secret text; no default.",
        "# Text; no default; on its way out: leave it out; answers are sorted by time.",
        "# Path; default \"\"; takes effect at the next start.",
        "# One of \"slow\", \"fast\"; default \"slow\".",
    ] {
        assert!(file.lines().any(|known| known == line), "{line} in\n{file}");
    }
    assert!(file.contains("#:schema ./configuration.schema.json"));
    assert_eq!(orders(&file).load().unwrap().current().warnings().len(), 0);
}
