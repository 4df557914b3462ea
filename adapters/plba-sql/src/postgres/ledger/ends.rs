//! Ends of deliveries as columns, and the statement that records them.

use plba_tasks::ledger::DeliveryEnd;
use tokio_postgres::types::Type;

use super::super::pool::Value;

/// `$5` states, `$6` attempts as JSON, `$7` when they ended, `$8` queues, `$9` kinds, `$10` reasons. Ways: 0 released, 1
/// failed, 2 done, 3 dead.
pub(super) const END: &str = "WITH numbered AS MATERIALIZED (SELECT n.*, nextval('{schema}.ledger_numbers') AS number FROM \
    (SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
    AS u(source, key, id, ord, way, attempt, at, queue, kind, reason) ORDER BY u.ord) n) \
    INSERT INTO {schema}.ledger AS l (number, source, key, id, changed, state, attempts, history, died, queue, kind, reason) \
    SELECT number, source, key, id, number, CASE way WHEN 2 THEN 1 WHEN 3 THEN 3 ELSE 0 END, \
    (way IN (1, 3))::int, CASE WHEN attempt IS NULL THEN NULL ELSE ARRAY[attempt] END, \
    CASE way WHEN 3 THEN at END, queue, kind, reason \
    FROM numbered ORDER BY source, key \
    ON CONFLICT (source, key) DO UPDATE SET in_hand = NULL, changed = excluded.changed, state = excluded.state, \
    attempts = l.attempts + excluded.attempts, died = excluded.died, queue = excluded.queue, kind = excluded.kind, \
    reason = excluded.reason, history = CASE WHEN excluded.history IS NULL THEN l.history \
    WHEN cardinality(l.history) >= 25 THEN l.history[1:1] || l.history[3:cardinality(l.history)] || excluded.history \
    ELSE coalesce(l.history, '{}') || excluded.history END WHERE l.state = 0";

/// The columns of ends.
#[derive(Default)]
pub(super) struct Ends<'a> {
    ways: Vec<i16>,
    attempts: Vec<Option<String>>,
    times: Vec<Option<i64>>,
    queues: Vec<Option<&'a str>>,
    kinds: Vec<Option<&'a str>>,
    reasons: Vec<Option<String>>,
}

impl<'a> Ends<'a> {
    pub(super) fn push(&mut self, end: &'a DeliveryEnd) {
        let (way, attempt, place) = match end {
            DeliveryEnd::Released => (0, None, None),
            DeliveryEnd::Failed(attempt) => (1, Some(attempt), None),
            DeliveryEnd::Done => (2, None, None),
            DeliveryEnd::Dead { attempt, queue, kind } => (3, Some(attempt), Some((queue, kind))),
        };
        self.ways.push(way);
        self.attempts
            .push(attempt.and_then(|attempt| serde_json::to_string(attempt).ok()));
        self.times.push(attempt.map(|attempt| attempt.at.as_microsecond()));
        self.queues.push(place.map(|(queue, _)| queue.as_str()));
        self.kinds.push(place.map(|(_, kind)| kind.as_str()));
        let reason = attempt
            .filter(|_| way == 3)
            .map(|attempt| attempt.reason.replace('\0', "\u{fffd}"));
        self.reasons.push(reason);
    }

    pub(super) fn values(&self) -> [Value<'_>; 6] {
        [
            (&self.ways, Type::INT2_ARRAY),
            (&self.attempts, Type::TEXT_ARRAY),
            (&self.times, Type::INT8_ARRAY),
            (&self.queues, Type::TEXT_ARRAY),
            (&self.kinds, Type::TEXT_ARRAY),
            (&self.reasons, Type::TEXT_ARRAY),
        ]
    }
}
