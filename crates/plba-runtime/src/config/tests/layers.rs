//! Which layer wins, where values come from, and where relative paths lead.

use std::sync::Arc;

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::config::{ConfigProvider, ProvidedValue};
use serde_json::json;

use super::*;

struct Database(Result<u32, &'static str>);

#[async_trait]
impl ConfigProvider for Database {
    fn name(&self) -> &str {
        "database"
    }

    async fn load(&self) -> Result<Vec<ProvidedValue>, BoxError> {
        let workers = self.0?;
        Ok(vec![ProvidedValue {
            path: vec!["bot".into(), "workers".into()],
            value: json!(workers),
            place: "row 7".into(),
        }])
    }
}

fn origin(directory: &Directory, key: &str) -> String {
    let current = directory.load().unwrap().current();
    let origins = current.origins();
    let (_, origin) = origins.iter().find(|(name, _)| name == key).unwrap();
    directory.relative(&origin.to_string())
}

#[test]
fn higher_layers_win() {
    let mut directory = Directory::new();
    let mut check = |workers: u32, place: &str, next: &dyn Fn(Directory) -> Directory| {
        directory = next(std::mem::replace(&mut directory, Directory::new()));
        assert_eq!(directory.bot().workers, workers);
        assert_eq!(origin(&directory, "bot.workers"), place);
    };
    check(4, "built-in default", &|directory| directory);
    check(5, "a.toml:2:11", &|directory| {
        directory.file("a.toml", "[bot]\nworkers = 5\npace = \"fast\"\n")
    });
    check(6, "b.yaml:2:12", &|directory| {
        directory.file("b.yaml", "bot:\n  workers: 6\n")
    });
    check(7, "c.json:1:21", &|directory| {
        directory.file("c.json", "{\"bot\": {\"workers\": 7}}")
    });
    check(8, "database: row 7", &|mut directory| {
        directory.sources.providers.push(Arc::new(Database(Ok(8))));
        directory
    });
    check(9, "environment variable PLBA__BOT__WORKERS", &|directory| {
        directory.variable("PLBA__BOT__WORKERS", "9")
    });
    check(10, "command line: --set bot.workers=10", &|directory| {
        directory.set("bot.workers=10")
    });
    check(11, "command line: --set bot.workers=11", &|directory| {
        directory.set("bot.workers=11")
    });
    assert_eq!(origin(&directory, "bot.pace"), "a.toml:3:8");
}

#[test]
fn a_directory_is_read_in_name_order() {
    let mut directory = Directory::new()
        .file("conf.d/20.yaml", "bot: {workers: 20}\n")
        .file("conf.d/10.toml", "bot.workers = 10\nbot.pace = \"fast\"\n")
        .file("conf.d/.30.toml", "broken")
        .file("conf.d/40.toml~", "broken");
    directory.sources.files = vec![directory.path.join("conf.d")];
    assert_eq!(directory.bot().workers, 20);
    assert_eq!(origin(&directory, "bot.pace"), "conf.d/10.toml:2:12");
}

#[test]
fn relative_paths_are_relative_to_their_file() {
    let text =
        "[bot]\nsource = \"maildir:in/box?since=all\"\ncatalogue = \"./c.csv\"\npassword_file = \"/etc/secret\"\n";
    let directory = Directory::new()
        .file("conf/bot.toml", text)
        .set("platform.state_dir=var");
    let conf = directory.path.join("conf");
    let bot = directory.bot();
    assert_eq!(
        bot.source.as_str(),
        format!("maildir:{}/in/box?since=all", conf.display())
    );
    assert_eq!(bot.catalogue.0, conf.join("c.csv"));
    assert_eq!(bot.password_file, Some("/etc/secret".into()));
    let process = directory
        .load()
        .unwrap()
        .current()
        .typed::<Process>("platform")
        .unwrap();
    assert_eq!(process.state_dir, "var".into());
    let over = directory
        .variable("PLBA__BOT__SOURCE", "maildir:here")
        .variable("PLBA__BOT__CATALOGUE", "c");
    assert_eq!(
        (over.bot().source.as_str(), &over.bot().catalogue),
        ("maildir:here", &"c".into())
    );
    for location in ["imaps://a@b/INBOX", "memory:", "sqlite::memory:", "maildir:/abs"] {
        let directory = Directory::new().file("x/a.toml", format!("[bot]\npassword = 'x'\nsource = '{location}'\n"));
        assert_eq!(directory.bot().source.as_str(), location);
    }
}

#[test]
fn assigned_values_are_toml_or_text() {
    let directory = Directory::new()
        .variable("PLBA__BOT__REPLIES", "{ from = 'a', copies = 2 }")
        .variable("PLBA__BOT__PASSWORD", "12345")
        .set("bot.rules=[{ sender = 'x', priority = 1 }]")
        .set("platform.name=\"quoted\"")
        .set("platform.\"limit\"=0.5");
    let bot = directory.bot();
    assert_eq!((bot.replies.from.as_str(), bot.replies.copies), ("a", 2));
    assert_eq!(bot.password.as_ref().unwrap().expose(), "12345");
    assert_eq!(bot.rules[0].priority, 1);
    let process = directory
        .load()
        .unwrap()
        .current()
        .typed::<Process>("platform")
        .unwrap();
    assert_eq!((process.name.as_str(), process.limit), ("quoted", Some(0.5)));
}

#[test]
fn yaml_scalars_follow_the_core_schema() {
    let text = "bot:\n  replies: &r {from: no, copies: 0x1F}\n  password: ~\n  rules:\n  - sender: !!str 12\n    priority: 1\n  - *x\n";
    let text = text.replace("- sender", "- &x\n    sender");
    let bot = Directory::new().file("a.yml", text).bot();
    assert_eq!((bot.replies.from.as_str(), bot.replies.copies), ("no", 31));
    assert!(bot.password.is_none());
    assert_eq!(bot.rules.len(), 2);
    assert_eq!(bot.rules[1].sender, "12");
}

#[test]
fn a_provider_that_fails_is_a_fault() {
    let mut directory = Directory::new();
    directory
        .sources
        .providers
        .push(Arc::new(Database(Err("connection refused"))));
    let report = directory.report();
    assert!(
        report.starts_with("database: the whole layer: can't be read: connection refused\n"),
        "{report}"
    );
}

#[test]
fn sections_are_handed_out_as_declared_only() {
    let current = Directory::new().load().unwrap().current();
    assert!(matches!(
        current.typed::<Process>("bot"),
        Err(SectionError::OtherType { .. })
    ));
    assert!(matches!(
        current.typed::<Process>("bto"),
        Err(SectionError::Undeclared { .. })
    ));
}
