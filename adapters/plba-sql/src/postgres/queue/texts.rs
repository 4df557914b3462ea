//! The statements of the verbs. Each is whole: it needs no transaction around it, and one round trip.

use super::super::schema::fill;

/// The statements, with the schema filled in.
pub(super) struct Texts {
    pub(super) queue: String,
    pub(super) holder: String,
    pub(super) holders: String,
    pub(super) bereave: String,
    pub(super) publish: String,
    pub(super) take: String,
    pub(super) end: String,
    pub(super) end_publish: String,
    pub(super) end_take: String,
    pub(super) end_publish_take: String,
    pub(super) hold: String,
    pub(super) extend: String,
    pub(super) sleepers: String,
    pub(super) pause: String,
    pub(super) recover: String,
    pub(super) stats: String,
    pub(super) tasks: String,
    pub(super) dead: String,
    pub(super) dead_task: String,
    pub(super) dead_locks: String,
    pub(super) retry_dead: String,
    pub(super) drop_dead: String,
    pub(super) trim_dead: String,
    pub(super) tidy: String,
}

/// The columns of a delivery, and after them what ended: only in the last row, which is none.
const TAKEN: &str = "SELECT t.place, t.id, t.due, t.deliveries, t.attempts, t.crashes, t.published, t.expires, \
    t.key_bucket, t.unique_bucket, t.key, t.ordered, t.history, t.former, t.envelope, t.payload, t.fence";

/// `$1` to `$14` of every ending.
const END: &str = "{schema}.end_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) AS e(ended)";
/// The first value after those of an ending.
const AFTER: usize = 15;

/// Follow-ups of endings: those whose owner has ended.
fn publish(first: usize) -> String {
    format!(
        "{{schema}}.publish_1($1, $2, NULL, NULL, NULL, NULL, NULL, NULL, false, {}, e.ended, {}) AS p",
        numbers(first, 1),
        numbers(first + 1, 18)
    )
}

/// What is to be taken, `max` of it being the fourth value; `alone` if that is all there is to do.
fn take(first: usize, alone: bool, max: impl FnOnce(usize) -> String) -> String {
    format!(
        "{{schema}}.take_1($1, {}, {alone}, {}, {}) AS t",
        numbers(first, 3),
        max(first + 3),
        numbers(first + 4, 10)
    )
}

fn numbers(first: usize, count: usize) -> String {
    let numbers: Vec<String> = (first..first + count).map(|number| format!("${number}")).collect();
    numbers.join(", ")
}

impl Texts {
    pub(super) fn new(schema: &str) -> Self {
        let fill = |text: &str| fill(text, schema);
        Self {
            queue: fill(
                "WITH made AS (INSERT INTO {schema}.queues (name) SELECT $1 WHERE NOT EXISTS \
                 (SELECT FROM {schema}.queues WHERE name = $1) ON CONFLICT DO NOTHING RETURNING number) \
                 SELECT number FROM made UNION ALL SELECT number FROM {schema}.queues WHERE name = $1",
            ),
            holder: fill(
                "INSERT INTO {schema}.holders AS h (name, seen, place, presence) \
                 VALUES ($1, {schema}.now_1($2), $3, $4) \
                 ON CONFLICT (name) DO UPDATE SET seen = excluded.seen RETURNING number",
            ),
            holders: fill("SELECT number, presence FROM {schema}.holders WHERE place = $1"),
            bereave: fill("SELECT {schema}.bereave_1($1, $2)"),
            publish: fill(&format!(
                "SELECT full_queue, inserted, changed_orders, changed_ids, there_counts, there_bytes \
                 FROM {{schema}}.publish_1({}, NULL, {})",
                numbers(1, 10),
                numbers(11, 18)
            )),
            take: fill(&format!(
                "{TAKEN}, NULL::bigint[] FROM {}",
                take(2, true, |max| format!("${max}"))
            )),
            end: fill(&format!("SELECT e.ended FROM {END}")),
            end_publish: fill(&format!(
                "SELECT e.ended, p.inserted FROM {END}, LATERAL {}",
                publish(AFTER)
            )),
            // What is taken depends on what ended, so that it comes after it.
            end_take: fill(&format!(
                "{TAKEN}, CASE WHEN t.place IS NULL THEN e.ended END FROM {END}, LATERAL {}",
                take(AFTER, false, |max| format!(
                    "CASE WHEN e.ended IS NULL THEN 0 ELSE ${max} END"
                ))
            )),
            end_publish_take: fill(&format!(
                "{TAKEN}, CASE WHEN t.place IS NULL THEN e.ended END FROM {END}, LATERAL {}, LATERAL {}",
                publish(AFTER),
                take(AFTER + 19, false, |max| format!(
                    "CASE WHEN e.ended IS NULL OR p.inserted IS NULL THEN 0 ELSE ${max} END"
                ))
            )),
            hold: fill(
                "SELECT 1 FROM {schema}.tasks WHERE queue = $2 AND place = $3 AND fence = $4 AND holder IS NOT NULL \
                 AND deadline > {schema}.now_1($1) FOR UPDATE",
            ),
            extend: fill("SELECT {schema}.extend_1($1, $2, $3, $4, $5)"),
            sleepers: fill(
                // A word that is lost with the server's power is given again.
                "UPDATE {schema}.queues SET sleepers_until = {schema}.now_1($1) + $3 \
                 FROM (SELECT set_config('synchronous_commit', 'off', true)) quick \
                 WHERE number = $2 AND sleepers_until < {schema}.now_1($1) + $3 / 2",
            ),
            pause: fill("UPDATE {schema}.queues SET paused_until = $2 WHERE number = $1"),
            recover: fill(
                "SELECT q.number, r.lost FROM (SELECT number FROM {schema}.queues WHERE number >= $2 \
                 ORDER BY number LIMIT 1) q, LATERAL {schema}.recover_1(q.number, {schema}.now_1($1), $3, $4) r",
            ),
            stats: fill(include_str!("../sql/stats.sql")),
            tasks: fill(include_str!("../sql/listing.sql")),
            dead: fill(
                "SELECT t.queue, q.name, t.place, t.id, t.died, t.reason, t.deliveries, t.decoded, t.history, t.former, \
                 t.envelope FROM {schema}.tasks t JOIN {schema}.queues q ON q.number = t.queue \
                 WHERE t.place >= {dead} AND ($1::text IS NULL OR q.name = $1) \
                 AND (t.queue, t.place) > ($2, $3) ORDER BY t.queue, t.place LIMIT $4",
            ),
            dead_task: fill(
                "SELECT t.queue, q.name, t.place, t.id, t.died, t.reason, t.deliveries, t.decoded, t.history, t.former, \
                 t.envelope, t.payload FROM {schema}.tasks t JOIN {schema}.queues q ON q.number = t.queue \
                 WHERE t.id = $2 AND q.name = $1 AND t.place >= {dead}",
            ),
            dead_locks: fill(
                "SELECT key_bucket, unique_bucket FROM {schema}.tasks WHERE id = ANY($2) AND place >= {dead} \
                 AND queue = (SELECT number FROM {schema}.queues WHERE name = $1) \
                 AND (key_bucket IS NOT NULL OR unique_bucket IS NOT NULL)",
            ),
            retry_dead: fill("SELECT {schema}.retry_dead_1($1, $2, $3, $4, $5)"),
            drop_dead: fill("SELECT {schema}.drop_dead_1($1, $2)"),
            trim_dead: fill("SELECT {schema}.trim_dead_1($1, $2, $3, $4)"),
            tidy: fill(
                "WITH a AS (DELETE FROM {schema}.uniques WHERE until IS NOT NULL AND until <= {schema}.now_1($1)), \
                 b AS (DELETE FROM {schema}.key_states WHERE leased = 0 AND arrival <= {schema}.now_1($1)), \
                 c AS (UPDATE {schema}.holders SET seen = {schema}.now_1($1) WHERE number = ANY($2)) \
                 DELETE FROM {schema}.holders WHERE seen < {schema}.now_1($1) - 2592000000000 AND NOT number = ANY($2)",
            ),
        }
    }
}
