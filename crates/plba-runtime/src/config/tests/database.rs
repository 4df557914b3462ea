//! The database that `platform.config.database` names: opened by its scheme, kept open while it stays the same, and never
//! asked where it is itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use plba_contracts::BoxError;
use plba_contracts::config::{ConfigBackend, ConfigProvider, Location, ProvidedValue};
use serde_json::{Value, json};

use super::*;

/// Opens tables whose location is what they hold.
#[derive(Default)]
struct Tables {
    opened: AtomicU32,
}

struct Table(String);

impl ConfigBackend for Tables {
    fn schemes(&self) -> &'static [&'static str] {
        &["table", "tables"]
    }

    fn open(&self, location: &Location) -> Result<Arc<dyn ConfigProvider>, BoxError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        match location.rest().contains('=') {
            true => Ok(Arc::new(Table(location.rest().trim_start_matches('?').to_owned()))),
            false => Err("a table is `table:?KEY=NUMBER`".into()),
        }
    }
}

#[async_trait]
impl ConfigProvider for Table {
    fn name(&self) -> &str {
        "table"
    }

    async fn load(&self) -> Result<Vec<ProvidedValue>, BoxError> {
        let values = self.0.split('&').filter_map(|pair| pair.split_once('='));
        let value = |(key, value): (&str, &str)| ProvidedValue {
            path: key.split('.').map(str::to_owned).collect(),
            value: value.parse::<u32>().map_or_else(|_| json!(value), Value::from),
            place: format!("row {key}"),
        };
        Ok(values.map(value).collect())
    }
}

/// A directory whose configuration may name tables.
fn directory(text: &str) -> (Directory, Arc<Tables>) {
    let mut directory = Directory::new().file("a.toml", text);
    directory.definitions = on_the_platform;
    let tables = Arc::new(Tables::default());
    directory.sources.backends.push(tables.clone());
    (directory, tables)
}

#[test]
fn its_layer_lies_above_files_and_below_the_environment() {
    let text = "[bot]\nworkers = 5\n[platform.config]\ndatabase = 'table:?bot.workers=6'\n";
    let (directory, _) = directory(text);
    let current = directory.load().unwrap().current();
    let explained = current.explain("bot.workers").unwrap();
    let origins: Vec<String> = explained.layers.iter().map(|layer| layer.origin.to_string()).collect();
    assert_eq!(origins[0], "table: row bot.workers", "{origins:?}");
    assert_eq!(explained.value, json!(6));
    assert_eq!(directory.variable("PLBA__BOT__WORKERS", "7").bot().workers, 7);
}

#[test]
fn the_environment_may_say_where_it_is() {
    let (directory, _) = directory("# nothing\n");
    let directory = directory.variable("PLBA__PLATFORM__CONFIG__DATABASE", "tables:?bot.workers=9");
    assert_eq!(directory.bot().workers, 9);
}

#[tokio::test]
async fn it_is_opened_once_while_it_stays_the_same() {
    let (directory, tables) = directory("platform.config.database = 'table:?bot.workers=6'\n");
    let manager = ConfigurationManager::load(on_the_platform(), directory.sources.clone())
        .await
        .unwrap();
    let manager = Arc::new(manager);
    reload(&manager).await;
    assert_eq!(tables.opened.load(Ordering::Relaxed), 1);
    fs::write(
        directory.path.join("a.toml"),
        "platform.config.database = 'table:?bot.workers=8'\n",
    )
    .unwrap();
    assert!(!reload(&manager).await.is_rejected());
    assert_eq!(tables.opened.load(Ordering::Relaxed), 2);
    assert_eq!(manager.current().typed::<Bot>("bot").unwrap().workers, 8);
}

#[test]
fn what_can_not_be_opened_is_a_fault_at_its_place() {
    let report = |location: &str| {
        let (directory, _) = directory(&format!("[platform.config]\ndatabase = '{location}'\n"));
        directory.report()
    };
    let unknown = report("mysql://db/settings");
    assert!(
        unknown.starts_with(
            "a.toml:2:12: platform.config.database: no database is known by the scheme `mysql:`\n   2 | database = 'mysql://db/settings'\n"
        ) && unknown.contains("= help: a location begins with its scheme; there are `table:`, `tables:`"),
        "{unknown}"
    );
    assert!(report("table").contains("its scheme is missing"));
    let wrong = report("table:x");
    assert!(wrong.contains("a table is `table:?KEY=NUMBER`"), "{wrong}");
    let mut without = Directory::new().set("platform.config.database=sqlite:x");
    without.definitions = on_the_platform;
    let without = without.report();
    assert!(without.contains("built without databases for settings"), "{without}");
}

#[test]
fn it_can_not_say_where_it_is_itself() {
    let location = "table:?platform.config.watch=1&platform.state_dir=x&bot.workers=6";
    let (directory, _) = directory(&format!("[platform.config]\ndatabase = '{location}'\n"));
    let report = directory.report();
    for part in [
        "table: row platform.config.watch: platform.config: `platform.config` can't be set by table: it is read before it",
        "table: row platform.state_dir: platform.state_dir: `platform.state_dir` can't be set by table",
        "= help: set it in a file, in the environment or on the command line",
        "2 faults",
    ] {
        assert!(report.contains(part), "no {part} in:\n{report}");
    }
}
