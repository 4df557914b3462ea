-- What the verbs share.

CREATE FUNCTION {schema}.now_1(given bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(given, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
$$;

CREATE FUNCTION {schema}.stamp_1(moment bigint) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT to_char(to_timestamp(moment / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS')
        || '.' || lpad((moment % 1000000)::text, 6, '0') || 'Z'
$$;

-- Where a task goes that is held by nothing.
CREATE FUNCTION {schema}.place_1(priority smallint, crashes integer, due bigint, now bigint, number bigint)
RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN due > now THEN {delayed} + (least(due / 1000, 4000000000000) << 16) + (number & 65535)
        WHEN crashes >= {suspect} THEN (least(crashes, 200)::bigint << 50) + number
        ELSE ((priority + 1)::bigint << 58) + {middle} + number
    END
$$;

-- An ended attempt after the others; the first one and the latest stay.
CREATE FUNCTION {schema}.remember_1(history text[], now bigint, how text, reason text)
RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN cardinality(history) >= 25 THEN history[1:1] || history[3:cardinality(history)]
                ELSE coalesce(history, '{}') END
        || json_build_object('at', {schema}.stamp_1(now), 'how', how, 'reason', reason)::text
$$;

-- Tells sleeping consumers. One notification for each queue at most: PostgreSQL drops equal ones of one transaction.
CREATE FUNCTION {schema}.wake_1(channel text, numbers integer[], now bigint)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF channel IS NOT NULL THEN
        PERFORM pg_notify(channel, q.number::text) FROM {schema}.queues q
            WHERE q.number = ANY(numbers) AND q.sleepers_until > now;
    END IF;
END
$$;

-- The next of an ordered key, if nothing goes before it. The key's bucket is locked.
CREATE FUNCTION {schema}.follow_1(p_queue integer, p_key bytea, p_now bigint)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF EXISTS (SELECT FROM {schema}.tasks t WHERE t.queue = p_queue AND t.key = p_key AND t.place < {held} AND t.ordered)
        OR EXISTS (SELECT FROM {schema}.tasks t WHERE t.queue = p_queue AND t.key = p_key
                   AND t.place >= {limited} AND t.place < {dead} AND t.ordered)
    THEN
        RETURN;
    END IF;
    UPDATE {schema}.tasks t
        SET place = {schema}.place_1(t.priority, t.crashes, t.due, p_now, nextval('{schema}.task_numbers')),
            due = greatest(t.due, p_now)
        WHERE t.ctid = (SELECT n.ctid FROM {schema}.tasks n WHERE n.queue = p_queue AND n.key = p_key
                        AND n.place >= {held} AND n.place < {limited} ORDER BY n.place LIMIT 1 FOR UPDATE);
END
$$;

-- A lease that was counted is over: the key's next may come. The queue's row is locked.
CREATE FUNCTION {schema}.uncount_1(p_queue integer, p_key bytea, p_now bigint)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE {schema}.queues SET leased = greatest(leased - 1, 0) WHERE number = p_queue;
    IF p_key IS NOT NULL THEN
        UPDATE {schema}.key_states SET leased = greatest(leased - 1, 0) WHERE queue = p_queue AND key = p_key;
        UPDATE {schema}.tasks t
            SET place = {schema}.place_1(t.priority, t.crashes, t.due, p_now, nextval('{schema}.task_numbers')),
                due = greatest(t.due, p_now)
            WHERE t.ctid = (SELECT n.ctid FROM {schema}.tasks n WHERE n.queue = p_queue AND n.key = p_key
                            AND n.place >= {limited} AND n.place < {dead} ORDER BY n.place LIMIT 1 FOR UPDATE SKIP LOCKED);
    END IF;
END
$$;

-- What follows when a task is done or dead.
CREATE FUNCTION {schema}.leave_1(
    p_queue integer, p_id bytea, p_key bytea, p_ordered boolean, p_counted boolean,
    p_unique bytea, p_unique_for bigint, p_now bigint
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_counted THEN
        PERFORM {schema}.uncount_1(p_queue, p_key, p_now);
    END IF;
    IF p_unique IS NOT NULL AND p_unique_for IS NULL THEN
        DELETE FROM {schema}.uniques u WHERE u.queue = p_queue AND u.key = p_unique AND u.id = p_id AND u.until IS NULL;
    END IF;
    IF p_ordered THEN
        PERFORM {schema}.follow_1(p_queue, p_key, p_now);
    END IF;
END
$$;

-- Tries to lock what a task's key and unique key need; a caller that holds rows must not wait for it.
CREATE FUNCTION {schema}.reach_1(key_bucket integer, unique_bucket integer)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (key_bucket IS NULL OR pg_try_advisory_xact_lock({space}, key_bucket))
       AND (unique_bucket IS NULL OR pg_try_advisory_xact_lock({space}, unique_bucket));
END
$$;
