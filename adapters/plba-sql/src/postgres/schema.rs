//! The tables and functions, and their versions. Migrations run once, one after the other, each in a transaction of its
//! own together with its number, under a lock that two programs can't hold at once: one that is killed half-way leaves
//! nothing, and the next start goes on. Functions carry their version in their names, so that a program that runs goes on
//! with the old ones while a newer one starts. What has nothing to do with each other is a part, with versions of its own.

use std::time::Duration;

use plba_tasks::queue::SUSPECT_CRASHES;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::fault::{Fault, Kind};
use super::link::Target;

/// Tables and functions that are brought up to date together.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    /// The table of its versions.
    versions: &'static str,
    /// What takes it from each version to the next; never changed once released.
    migrations: &'static [&'static [&'static str]],
}

/// Tasks, and the ledger and leases that go with them.
pub(crate) const TASKS: Part = Part {
    versions: "plba_schema",
    migrations: &[&[
        include_str!("sql/tables.sql"),
        include_str!("sql/ledger.sql"),
        include_str!("sql/leases.sql"),
        include_str!("sql/common.sql"),
        include_str!("sql/publish.sql"),
        include_str!("sql/take.sql"),
        include_str!("sql/end.sql"),
        include_str!("sql/dead.sql"),
    ]],
};

/// Configuration, which may lie in another database than tasks.
pub(crate) const CONFIG: Part = Part {
    versions: "config_schema",
    migrations: &[&[include_str!("sql/config.sql")]],
};

/// How long a start waits for another program's migration.
const PATIENCE: Duration = Duration::from_secs(60);

/// A region of `tasks.place`, of which the one before the first is the suspects'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Region {
    High = 1,
    Delayed = 4,
    Held = 5,
    Limited = 6,
    Dead = 7,
}

/// The middle of a region: what was given back goes before it.
const MIDDLE: i64 = 1 << 57;

/// How many numbers a batch takes from their sequence in one step.
const BLOCK: i64 = 256;

impl Region {
    /// Its first place.
    pub(crate) const fn start(self) -> i64 {
        (self as i64) << 58
    }
}

/// A statement or migration with the schema's name and the numbers filled in.
pub(crate) fn fill(text: &str, schema: &str) -> String {
    let number = |region: Region| region.start().to_string();
    text.replace("{schema}", &format!("\"{schema}\""))
        .replace("{high}", &number(Region::High))
        .replace("{delayed}", &number(Region::Delayed))
        .replace("{held}", &number(Region::Held))
        .replace("{limited}", &number(Region::Limited))
        .replace("{dead}", &number(Region::Dead))
        .replace("{middle}", &MIDDLE.to_string())
        .replace("{block}", &BLOCK.to_string())
        .replace("{suspect}", &SUSPECT_CRASHES.to_string())
        .replace("{space}", &space(schema).to_string())
}

/// The first half of the advisory locks of a schema: another schema of the database has other ones.
fn space(schema: &str) -> i32 {
    // FNV-1a, which will be the same in every version.
    let hash = schema.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.cast_signed()
}

/// Brings the schema of tasks up to date.
pub(crate) async fn migrate(target: &Target) -> Result<(), Fault> {
    let link = target.connect(None).await?;
    let schema = target.settings().schema.as_str();
    bring_up(&link.client, schema, TASKS).await
}

/// Brings a part up to date.
pub(crate) async fn bring_up(client: &Client, schema: &str, part: Part) -> Result<(), Fault> {
    if version(client, schema, part).await? == Some(part.current()) {
        return Ok(());
    }
    for (index, migration) in part.migrations.iter().enumerate() {
        // Transaction-wide, so that it holds behind a pooler too, and ends with a connection that is lost.
        let begin = format!(
            "BEGIN; SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = {limit}; \
             SELECT pg_advisory_xact_lock({}, 0);",
            space(schema),
            limit = PATIENCE.as_millis(),
        );
        client.batch_execute(&begin).await?;
        let number = i32::try_from(index).unwrap_or(i32::MAX) + 1;
        let found = version(client, schema, part).await?;
        if found.is_some_and(|found| found >= number) {
            client.batch_execute("ROLLBACK").await?;
            continue;
        }
        let versions = part.versions;
        let mut script = format!(
            "CREATE SCHEMA IF NOT EXISTS \"{schema}\"; \
             CREATE TABLE IF NOT EXISTS \"{schema}\".{versions} (version integer PRIMARY KEY, made timestamptz NOT NULL \
             DEFAULT now());"
        );
        script.extend(migration.iter().map(|part| fill(part, schema)));
        script += &format!("INSERT INTO \"{schema}\".{versions} (version) VALUES ({number}); COMMIT;");
        client.batch_execute(&script).await?;
        tracing::info!(
            schema,
            versions,
            version = number,
            "the tables in PostgreSQL are up to date"
        );
    }
    Ok(())
}

impl Part {
    /// The version of this program.
    const fn current(self) -> i32 {
        self.migrations.len() as i32
    }
}

/// Which version a part has, if it is there; refuses one that is newer than this program.
pub(crate) async fn version(client: &Client, schema: &str, part: Part) -> Result<Option<i32>, Fault> {
    let versions = part.versions;
    // Read from the catalogue's tables: `to_regclass` would answer from a cache, which a transaction that has waited for
    // another's migration has not refreshed yet.
    let exists = client
        .query_typed_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = $2)",
            &[(&schema, Type::TEXT), (&versions, Type::TEXT)],
        )
        .await?;
    if !exists.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let found = client
        .query_typed_one(&format!("SELECT max(version) FROM \"{schema}\".{versions}"), &[])
        .await?;
    let found: Option<i32> = found.try_get(0)?;
    let known = part.current();
    if let Some(found) = found.filter(|found| *found > known) {
        return Err(Fault::new(
            Kind::Setup,
            format!("schema \"{schema}\" is version {found}, this program knows up to {known}; run the newer program"),
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_in_braces_is_filled_in() {
        let parts = [TASKS, CONFIG];
        for part in parts.iter().flat_map(|part| part.migrations.iter().copied().flatten()) {
            let filled = fill(part, "shop");
            for name in [
                "{schema}",
                "{high}",
                "{delayed}",
                "{held}",
                "{limited}",
                "{dead}",
                "{middle}",
                "{block}",
                "{space}",
                "{suspect}",
            ] {
                assert!(!filled.contains(name), "{name}");
            }
        }
    }

    #[test]
    fn schemas_do_not_share_locks() {
        assert_ne!(space("plba"), space("plba2"));
        assert_eq!(space("plba"), space("plba"));
    }
}
