-- Dead letters: tried again, dropped, and removed when there are too many or they are too old.

CREATE FUNCTION {schema}.retry_dead_1(p_now bigint, p_channel text, p_locks integer[], p_queue text, p_ids bytea[])
RETURNS integer LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_now bigint;
    v_count integer := 0;
    v_queues integer[];
    r {schema}.tasks;
    v_number bigint;
BEGIN
    PERFORM pg_advisory_xact_lock({space}, l) FROM unnest(p_locks) l;
    v_now := {schema}.now_1(p_now);
    FOR r IN SELECT t.* FROM {schema}.tasks t
        WHERE t.queue = (SELECT q.number FROM {schema}.queues q WHERE q.name = p_queue) AND t.id = ANY(p_ids)
            AND t.place >= {dead} AND t.decoded
        ORDER BY t.place FOR UPDATE
    LOOP
        v_number := nextval('{schema}.task_numbers');
        UPDATE {schema}.tasks t SET deliveries = 0, attempts = 0, crashes = 0, died = NULL, reason = NULL, due = v_now,
            expires = CASE WHEN t.expires > v_now THEN t.expires END,
            number = v_number, place = CASE WHEN t.ordered AND EXISTS (SELECT FROM {schema}.tasks o WHERE o.queue = t.queue
                    AND o.key = t.key AND o.place < {dead} AND o.ordered)
                THEN {held} + {middle} + v_number ELSE {schema}.place_1(t.priority, 0, v_now, v_now, v_number) END
            WHERE t.queue = r.queue AND t.place = r.place;
        IF r.unique_key IS NOT NULL AND r.unique_for IS NULL THEN
            INSERT INTO {schema}.uniques AS u (queue, key, id) VALUES (r.queue, r.unique_key, r.id)
                ON CONFLICT (queue, key) DO UPDATE SET id = excluded.id, until = NULL WHERE u.until <= v_now;
        END IF;
        IF r.sourced THEN
            UPDATE {schema}.ledger l SET state = 0, elsewhere = false, deliveries = 0, attempts = 0, crashes = 0
                WHERE l.id = r.id AND l.state = 3;
        END IF;
        v_queues := v_queues || r.queue;
        v_count := v_count + 1;
    END LOOP;
    PERFORM {schema}.wake_1(p_channel, v_queues, v_now);
    RETURN v_count;
END
$$;

-- The entry of a letter that goes for good is settled in the same step, or its source would bring it again: one that is open too,
-- for a task may be dead before its intake is recorded.
CREATE FUNCTION {schema}.drop_dead_1(p_queue text, p_ids bytea[]) RETURNS integer LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_count integer;
BEGIN
    WITH gone AS (
        DELETE FROM {schema}.tasks t WHERE t.ctid = ANY(ARRAY(
            SELECT c.ctid FROM {schema}.tasks c
                WHERE c.queue = (SELECT q.number FROM {schema}.queues q WHERE q.name = p_queue) AND c.id = ANY(p_ids)
                    AND c.place >= {dead} ORDER BY c.place FOR UPDATE))
            RETURNING t.id, t.sourced
    ), told AS (
        UPDATE {schema}.ledger l SET state = 2, in_hand = NULL FROM gone g
            WHERE g.sourced AND l.id = g.id AND (l.state = 0 OR l.state = 3 AND (l.elsewhere OR l.queue = p_queue))
    )
    SELECT count(*) INTO v_count FROM gone;
    RETURN v_count;
END
$$;

-- Retention of one queue's dead letters, and of those that only the ledger has, for they were buried before they became tasks; at
-- most 1,000 of each go at once. Gives how many went.
CREATE FUNCTION {schema}.trim_dead_1(p_now bigint, p_queue integer, p_limit bigint, p_age bigint)
RETURNS integer LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_now bigint := {schema}.now_1(p_now);
    v_queue text;
    v_last bigint;
    v_count integer;
    v_buried integer;
BEGIN
    SELECT q.name INTO v_queue FROM {schema}.queues q WHERE q.number = p_queue;
    SELECT t.place INTO v_last FROM {schema}.tasks t WHERE t.queue = p_queue AND t.place >= {dead}
        ORDER BY t.place DESC OFFSET p_limit LIMIT 1;
    WITH gone AS (
        DELETE FROM {schema}.tasks t WHERE t.ctid = ANY(ARRAY(
            SELECT c.ctid FROM {schema}.tasks c WHERE c.queue = p_queue AND c.place >= {dead}
                AND (c.place <= v_last OR c.died <= v_now - p_age) ORDER BY c.place LIMIT 1000 FOR UPDATE SKIP LOCKED))
            RETURNING t.id, t.sourced
    ), told AS (
        UPDATE {schema}.ledger l SET state = 2, in_hand = NULL FROM gone g
            WHERE g.sourced AND l.id = g.id AND (l.state = 0 OR l.state = 3 AND (l.elsewhere OR l.queue = v_queue))
    )
    SELECT count(*) INTO v_count FROM gone;
    SELECT l.changed INTO v_last FROM {schema}.ledger l WHERE l.queue = v_queue AND l.state = 3 AND NOT l.elsewhere
        ORDER BY l.changed DESC OFFSET p_limit LIMIT 1;
    WITH gone AS (
        UPDATE {schema}.ledger l SET state = 2, history = NULL WHERE l.ctid = ANY(ARRAY(
            SELECT c.ctid FROM {schema}.ledger c WHERE c.queue = v_queue AND c.state = 3 AND NOT c.elsewhere
                AND (c.changed <= v_last OR c.died <= v_now - p_age) ORDER BY c.changed LIMIT 1000 FOR UPDATE SKIP LOCKED))
            RETURNING 1
    )
    SELECT count(*) INTO v_buried FROM gone;
    RETURN v_count + v_buried;
END
$$;
