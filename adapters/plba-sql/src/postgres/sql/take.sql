-- Taking tasks, and what is due on the way: expiry, delays, and leases that ran out.

-- A task dies on the way, not by its holder. The row is locked, and its buckets are.
CREATE FUNCTION {schema}.die_1(p_row {schema}.tasks, p_now bigint, p_how text, p_reason text)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE {schema}.tasks t SET place = {dead} + {middle} + nextval('{schema}.task_numbers'), holder = NULL, counted = false,
        died = p_now, reason = p_reason, history = {schema}.remember_1(t.history, p_now, p_how, p_reason)
        WHERE t.queue = p_row.queue AND t.place = p_row.place AND t.id = p_row.id;
    IF p_row.sourced THEN
        UPDATE {schema}.ledger l SET state = 3, elsewhere = true, in_hand = NULL,
            changed = nextval('{schema}.ledger_numbers') WHERE l.id = p_row.id AND l.state = 0;
    END IF;
    PERFORM {schema}.leave_1(p_row.queue, p_row.id, p_row.key, p_row.ordered, p_row.counted, p_row.unique_key,
        p_row.unique_for, p_now);
END
$$;

-- Makes dead what expired before it was handed out; gives how many.
CREATE FUNCTION {schema}.expire_1(p_queue integer, p_now bigint, p_limit integer)
RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    r {schema}.tasks;
    v_count integer := 0;
BEGIN
    FOR r IN SELECT t.* FROM {schema}.tasks t WHERE t.queue = p_queue AND t.expires <= p_now AND t.expires IS NOT NULL
        AND t.place < {dead} AND t.holder IS NULL ORDER BY t.expires LIMIT p_limit FOR UPDATE SKIP LOCKED
    LOOP
        CONTINUE WHEN NOT {schema}.reach_1(r.key_bucket, r.unique_bucket);
        PERFORM {schema}.die_1(r, p_now, 'expired',
            'expired at ' || {schema}.stamp_1(r.expires) || ' before it could be carried out');
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END
$$;

-- Looks at grants whose time has come; gives how many leases had run out, and how many of the tasks died.
CREATE FUNCTION {schema}.recover_1(
    p_queue integer, p_now bigint, p_limit integer, p_crashes integer, OUT lost integer, OUT died integer
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    g record;
    r {schema}.tasks;
    v_left bigint[];
    v_next bigint;
    v_cause text;
    v_reason text;
BEGIN
    lost := 0;
    died := 0;
    FOR g IN DELETE FROM {schema}.grants WHERE ctid = ANY(ARRAY(
        SELECT c.ctid FROM {schema}.grants c WHERE c.queue = p_queue AND c.due <= p_now ORDER BY c.due
            LIMIT greatest(p_limit / 8, 1) FOR UPDATE SKIP LOCKED)) RETURNING holder, places
    LOOP
        FOR r IN SELECT t.* FROM {schema}.tasks t WHERE t.queue = p_queue AND t.place = ANY(g.places) AND t.holder IS NOT NULL
            AND t.deadline <= p_now ORDER BY t.place LIMIT p_limit - lost FOR UPDATE SKIP LOCKED
        LOOP
            v_cause := CASE r.deadline WHEN 0 THEN 'its process ended while the task was in hand'
                ELSE 'the lease ran out while the task was in hand' END;
            IF r.crashes + 1 < p_crashes THEN
                UPDATE {schema}.tasks t SET place = CASE WHEN t.crashes + 1 < {suspect}
                        THEN ((t.priority + 1)::bigint << 58) + {middle} - nextval('{schema}.given_back_numbers')
                        ELSE {schema}.place_1(t.priority, t.crashes + 1, p_now, p_now, nextval('{schema}.task_numbers')) END,
                    due = p_now, holder = NULL, counted = false, crashes = t.crashes + 1,
                    history = {schema}.remember_1(t.history, p_now, 'crashed', v_cause)
                    WHERE t.queue = p_queue AND t.place = r.place;
                IF r.counted THEN
                    PERFORM {schema}.uncount_1(p_queue, r.key, p_now);
                END IF;
            ELSE
                CONTINUE WHEN NOT {schema}.reach_1(r.key_bucket, r.unique_bucket);
                v_reason := (r.crashes + 1) || ' consumers disappeared with it';
                UPDATE {schema}.tasks t SET crashes = t.crashes + 1 WHERE t.queue = p_queue AND t.place = r.place;
                PERFORM {schema}.die_1(r, p_now, 'crashed', v_reason);
                died := died + 1;
            END IF;
            lost := lost + 1;
        END LOOP;
        -- What was extended, is just being ended, or goes beyond the limit is looked at again.
        SELECT array_agg(t.place), min(t.deadline) INTO v_left, v_next FROM {schema}.tasks t
            WHERE t.queue = p_queue AND t.place = ANY(g.places) AND t.holder IS NOT NULL;
        IF v_left IS NOT NULL THEN
            INSERT INTO {schema}.grants (due, queue, holder, places) VALUES (
                CASE WHEN lost >= p_limit THEN v_next ELSE greatest(v_next, p_now + 50000) END, p_queue, g.holder, v_left);
        END IF;
        EXIT WHEN lost >= p_limit;
    END LOOP;
END
$$;

-- Ends the leases of holders whose processes are gone: from now on they have run out. Gives how many. What such a process
-- had sent may still be carried out, so its holders stay for a few seconds and are looked at again.
CREATE FUNCTION {schema}.bereave_1(p_now bigint, p_holders integer[]) RETURNS integer LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_now bigint := {schema}.now_1(p_now);
    g record;
    v_ctids tid[];
    v_count integer := 0;
BEGIN
    FOR g IN SELECT c.ctid AS found, c.queue, c.places FROM {schema}.grants c WHERE c.holder = ANY(p_holders) AND c.due > v_now
        LIMIT 10000 FOR UPDATE SKIP LOCKED
    LOOP
        v_ctids := ARRAY(SELECT t.ctid FROM {schema}.tasks t WHERE t.queue = g.queue AND t.place = ANY(g.places)
            AND t.holder = ANY(p_holders) AND t.deadline > v_now ORDER BY t.place FOR UPDATE SKIP LOCKED);
        UPDATE {schema}.tasks t SET deadline = 0 WHERE t.ctid = ANY(v_ctids);
        UPDATE {schema}.grants c SET due = v_now WHERE c.ctid = g.found;
        v_count := v_count + cardinality(v_ctids);
    END LOOP;
    UPDATE {schema}.holders h SET gone = v_now WHERE h.number = ANY(p_holders) AND h.gone IS NULL;
    DELETE FROM {schema}.holders h WHERE h.number = ANY(p_holders) AND h.gone < v_now - 5000000;
    RETURN v_count;
END
$$;

-- From now on the queue's leases are counted. Its row is locked.
CREATE FUNCTION {schema}.adopt_1(p_queue integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_leased integer;
BEGIN
    UPDATE {schema}.tasks SET counted = true
        WHERE queue = p_queue AND place < {delayed} AND holder IS NOT NULL AND NOT counted;
    SELECT count(*) INTO v_leased FROM {schema}.tasks WHERE queue = p_queue AND place < {delayed} AND counted;
    INSERT INTO {schema}.key_states (queue, key, leased)
        SELECT p_queue, key, count(*) FROM {schema}.tasks
            WHERE queue = p_queue AND place < {delayed} AND counted AND key IS NOT NULL GROUP BY key
        ON CONFLICT (queue, key) DO UPDATE SET leased = excluded.leased;
    UPDATE {schema}.queues SET governed = true, leased = v_leased WHERE number = p_queue;
    RETURN v_leased;
END
$$;

-- How many tokens a bucket has.
CREATE FUNCTION {schema}.tokens_1(arrival double precision, now bigint, count integer, per bigint)
RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(0, least(count, floor((now + per - greatest(arrival, now)) * count / per + 0.000001)))::integer
$$;

-- `p_fence` is random; added to a place it is the delivery's fence. `p_alone`: nothing else is in the transaction. `p_backs`:
-- what was given back is looked for too, wherever the floors are.
--
-- A server that loses its power may forget that it handed something out, and nothing worse: then it is ready again, as if
-- its holder had gone. So where nothing but leases is written, nobody waits for the disk. What else the transaction may do
-- on the way gives new places, which must not be given twice: that is waited for.
--
-- Rows with a place are deliveries. The last row has none: its `due` is after how many microseconds to look again, if that
-- is known; `deliveries`, `attempts` and `crashes` are how many leases had run out, how many tasks expired, and how many
-- died of crashes; `published` is the server's time.
-- Plans are made once, when little may be known of the table: what looks for the first rows in an order has to go by the
-- index that has it, however few rows it seems to find; never by collecting and sorting all of a backlog.
CREATE FUNCTION {schema}.take_1(
    p_now bigint, p_queue integer, p_holder integer, p_fence bigint, p_alone boolean, p_max integer, p_lease bigint,
    p_crashes integer, p_floors bigint[], p_backs boolean,
    p_concurrency integer, p_rate_count integer, p_rate_per bigint,
    p_key_concurrency integer, p_key_count integer, p_key_per bigint
) RETURNS TABLE (
    place bigint, id bytea, due bigint, deliveries integer, attempts integer, crashes integer, published bigint,
    expires bigint, key_bucket integer, unique_bucket integer, key bytea, ordered boolean, history text[], former text,
    envelope text, payload bytea, fence bigint
) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET plan_cache_mode = force_generic_plan SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_now bigint := {schema}.now_1(p_now);
    q record;
    s record;
    r record;
    v_left integer := p_max;
    v_ctids tid[] := '{}';
    v_places bigint[] := '{}';
    v_more_ctids tid[];
    v_more_places bigint[];
    v_again bigint;
    v_lost integer := 0;
    v_died integer := 0;
    v_expired integer := 0;
    v_governed boolean;
    v_keyed boolean := p_key_concurrency IS NOT NULL OR p_key_count IS NOT NULL;
    v_leased integer;
    v_arrival double precision;
    v_key_arrival double precision;
    v_tokens integer;
    v_adopted boolean := false;
    v_region integer;
    v_start bigint;
    v_from bigint;
    v_to bigint;
BEGIN
    SELECT k.paused_until, k.governed, k.leased, k.arrival INTO q FROM {schema}.queues k WHERE k.number = p_queue;
    v_governed := q.governed OR p_concurrency IS NOT NULL OR p_rate_count IS NOT NULL OR v_keyed;
    IF v_governed THEN
        SELECT k.paused_until, k.governed, k.leased, k.arrival INTO q FROM {schema}.queues k WHERE k.number = p_queue FOR UPDATE;
        -- Waiting for the row may have taken a while.
        v_now := {schema}.now_1(p_now);
        IF NOT q.governed AND (p_concurrency IS NOT NULL OR p_key_concurrency IS NOT NULL) THEN
            PERFORM {schema}.adopt_1(p_queue);
            v_adopted := true;
        END IF;
    END IF;
    SELECT
        EXISTS (SELECT FROM {schema}.grants g WHERE g.queue = p_queue AND g.due <= v_now) AS lapsed,
        EXISTS (SELECT FROM {schema}.tasks t WHERE t.queue = p_queue AND t.expires <= v_now AND t.expires IS NOT NULL
            AND t.place < {dead} AND t.holder IS NULL) AS expired,
        EXISTS (SELECT FROM {schema}.tasks t WHERE t.queue = p_queue AND t.place >= {delayed}
            AND t.place < {delayed} + ((v_now / 1000 + 1) << 16) AND t.due <= v_now) AS delayed,
        EXISTS (SELECT FROM {schema}.tasks t WHERE t.queue = p_queue AND t.place < {high} AND t.holder IS NULL) AS suspect,
        p_backs AND (EXISTS (SELECT FROM {schema}.tasks t WHERE t.queue = p_queue AND t.holder IS NULL
                AND t.place >= {high} AND t.place < {high} + {middle})
            OR EXISTS (SELECT FROM {schema}.tasks t WHERE t.queue = p_queue AND t.holder IS NULL
                AND t.place >= {high} * 2 AND t.place < {high} * 2 + {middle})
            OR EXISTS (SELECT FROM {schema}.tasks t WHERE t.queue = p_queue AND t.holder IS NULL
                AND t.place >= {high} * 3 AND t.place < {high} * 3 + {middle})) AS backs,
        EXISTS (SELECT FROM {schema}.tasks t WHERE t.queue = p_queue AND t.place >= {limited} AND t.place < {dead}) AS limited
        INTO s;
    IF s.lapsed THEN
        SELECT c.lost, c.died INTO v_lost, v_died FROM {schema}.recover_1(p_queue, v_now, 1000, p_crashes) c;
        s.suspect := s.suspect OR v_lost > 0;
        s.backs := s.backs OR v_lost > 0;
    END IF;
    IF s.expired THEN
        v_expired := {schema}.expire_1(p_queue, v_now, 1000);
    END IF;
    IF s.limited AND p_key_concurrency IS NULL THEN
        UPDATE {schema}.tasks t SET due = greatest(t.due, v_now),
            place = {schema}.place_1(t.priority, t.crashes, t.due, v_now, n.number)
            FROM (SELECT c.found, nextval('{schema}.task_numbers') AS number FROM (
                SELECT l.ctid AS found FROM {schema}.tasks l WHERE l.queue = p_queue AND l.place >= {limited} AND l.place < {dead}
                    ORDER BY l.place LIMIT 1000 FOR UPDATE SKIP LOCKED) c) n
            WHERE t.ctid = n.found;
    END IF;
    IF s.delayed OR v_expired > 0 OR v_lost > 0 THEN
        UPDATE {schema}.tasks t SET place = {schema}.place_1(t.priority, t.crashes, t.due, v_now, n.number)
            FROM (SELECT c.found, nextval('{schema}.task_numbers') AS number FROM (
                SELECT l.ctid AS found FROM {schema}.tasks l WHERE l.queue = p_queue AND l.place >= {delayed}
                    AND l.place < {delayed} + ((v_now / 1000 + 1) << 16) AND l.due <= v_now
                    ORDER BY l.place LIMIT 1000 FOR UPDATE SKIP LOCKED) c) n
            WHERE t.ctid = n.found;
        IF FOUND AND NOT s.suspect THEN
            s.suspect := EXISTS (SELECT FROM {schema}.tasks t WHERE t.queue = p_queue AND t.place < {high} AND t.holder IS NULL);
        END IF;
    END IF;

    IF q.paused_until > v_now THEN
        v_left := 0;
        v_again := q.paused_until - v_now;
    END IF;
    IF v_left > 0 AND v_governed THEN
        SELECT k.leased, k.arrival INTO v_leased, v_arrival FROM {schema}.queues k WHERE k.number = p_queue;
        IF p_concurrency IS NOT NULL THEN
            v_left := least(v_left, p_concurrency - v_leased);
        END IF;
        IF p_rate_count IS NOT NULL THEN
            -- A bucket that is fuller than full is a slower rate's that was left behind.
            IF v_arrival > v_now + p_rate_per THEN
                UPDATE {schema}.queues k SET arrival = v_now + p_rate_per WHERE k.number = p_queue;
            END IF;
            v_arrival := greatest(least(v_arrival, v_now + p_rate_per), v_now);
            v_tokens := {schema}.tokens_1(v_arrival, v_now, p_rate_count, p_rate_per);
            IF v_tokens < 1 THEN
                v_again := ceil(v_arrival - p_rate_per + p_rate_per::double precision / p_rate_count - v_now);
            END IF;
            v_left := least(v_left, v_tokens);
        END IF;
    END IF;

    FOR v_region IN 0 .. 3 LOOP
        EXIT WHEN v_left <= 0;
        IF v_region = 0 THEN
            CONTINUE WHEN NOT s.suspect;
            -- One suspect at a time, alone: it must take no other down with it.
            CONTINUE WHEN NOT pg_try_advisory_xact_lock({space}, -p_queue);
            CONTINUE WHEN EXISTS (SELECT FROM {schema}.tasks t WHERE t.queue = p_queue AND t.place < {high}
                AND t.holder IS NOT NULL AND t.deadline > v_now);
        END IF;
        v_start := v_region::bigint << 58;
        IF NOT v_keyed THEN
            -- First what was given back, which lies before the middle of its region.
            v_from := CASE WHEN v_region = 0 OR s.backs THEN v_start ELSE greatest(p_floors[v_region], v_start) END;
            v_to := CASE WHEN v_region > 0 AND s.backs THEN v_start + {middle} ELSE v_start + {high} END;
            LOOP
                SELECT array_agg(c.found ORDER BY c.place), array_agg(c.place ORDER BY c.place)
                    INTO v_more_ctids, v_more_places FROM (
                    SELECT t.ctid AS found, t.place FROM {schema}.tasks t
                    WHERE t.queue = p_queue AND t.place >= v_from AND t.place < v_to
                        AND t.holder IS NULL AND (t.expires IS NULL OR t.expires > v_now)
                    ORDER BY t.place LIMIT CASE v_region WHEN 0 THEN 1 ELSE v_left END FOR UPDATE SKIP LOCKED) c;
                IF v_more_ctids IS NOT NULL THEN
                    v_ctids := v_ctids || v_more_ctids;
                    v_places := v_places || v_more_places;
                    v_left := v_left - cardinality(v_more_ctids);
                END IF;
                EXIT WHEN v_left <= 0 OR v_to = v_start + {high};
                v_from := greatest(p_floors[v_region], v_to);
                v_to := v_start + {high};
            END LOOP;
        ELSE
            FOR r IN
                SELECT t.ctid AS found, t.place, t.key, t.priority FROM {schema}.tasks t
                WHERE t.queue = p_queue AND t.place >= v_start AND t.place < v_start + {high}
                    AND t.holder IS NULL AND (t.expires IS NULL OR t.expires > v_now)
                ORDER BY t.place LIMIT 2000 FOR UPDATE SKIP LOCKED
            LOOP
                EXIT WHEN v_left <= 0;
                IF r.key IS NOT NULL THEN
                    SELECT k.leased, k.arrival INTO v_leased, v_key_arrival FROM {schema}.key_states k
                        WHERE k.queue = p_queue AND k.key = r.key;
                    v_leased := coalesce(v_leased, 0);
                    v_key_arrival := greatest(coalesce(v_key_arrival, 0), v_now);
                    IF v_key_arrival > v_now + p_key_per THEN
                        v_key_arrival := v_now + p_key_per;
                        UPDATE {schema}.key_states k SET arrival = v_key_arrival WHERE k.queue = p_queue AND k.key = r.key;
                    END IF;
                    IF v_leased >= p_key_concurrency THEN
                        UPDATE {schema}.tasks t SET place = {limited} + {middle} + t.number WHERE t.ctid = r.found;
                        CONTINUE;
                    END IF;
                    IF p_key_count IS NOT NULL AND {schema}.tokens_1(v_key_arrival, v_now, p_key_count, p_key_per) < 1 THEN
                        v_tokens := ceil(v_key_arrival - p_key_per + p_key_per::double precision / p_key_count - v_now);
                        UPDATE {schema}.tasks t SET due = v_now + v_tokens, place = {schema}.place_1(t.priority, 0,
                                v_now + v_tokens, v_now, nextval('{schema}.task_numbers'))
                            WHERE t.ctid = r.found;
                        CONTINUE;
                    END IF;
                    INSERT INTO {schema}.key_states AS k (queue, key, leased, arrival) VALUES (p_queue, r.key, 1,
                            CASE WHEN p_key_count IS NULL THEN 0
                                ELSE v_key_arrival + p_key_per::double precision / p_key_count END)
                        ON CONFLICT (queue, key) DO UPDATE SET leased = k.leased + 1,
                            arrival = CASE WHEN p_key_count IS NULL THEN k.arrival ELSE excluded.arrival END;
                END IF;
                v_ctids := v_ctids || r.found;
                v_places := v_places || r.place;
                v_left := v_left - 1;
                EXIT WHEN v_region = 0;
            END LOOP;
        END IF;
        EXIT WHEN v_region = 0 AND cardinality(v_ctids) > 0;
    END LOOP;

    IF cardinality(v_ctids) > 0 THEN
        IF v_governed THEN
            UPDATE {schema}.queues k SET leased = k.leased + cardinality(v_ctids),
                arrival = CASE WHEN p_rate_count IS NULL THEN k.arrival ELSE v_arrival
                    + cardinality(v_ctids) * (p_rate_per::double precision / p_rate_count) END
                WHERE k.number = p_queue;
            IF NOT v_keyed THEN
                INSERT INTO {schema}.key_states AS k (queue, key, leased)
                    SELECT p_queue, t.key, count(*) FROM {schema}.tasks t WHERE t.ctid = ANY(v_ctids) AND t.key IS NOT NULL
                        GROUP BY t.key
                    ON CONFLICT (queue, key) DO UPDATE SET leased = k.leased + excluded.leased;
            END IF;
        END IF;
        INSERT INTO {schema}.grants (due, queue, holder, places) VALUES (v_now + p_lease, p_queue, p_holder, v_places);
        IF p_alone AND NOT (v_keyed OR v_adopted OR s.lapsed OR s.expired OR s.delayed OR s.limited) THEN
            PERFORM set_config('synchronous_commit', 'off', true);
        END IF;
        RETURN QUERY UPDATE {schema}.tasks t
            SET holder = p_holder, deadline = v_now + p_lease, fence = t.place + p_fence, deliveries = t.deliveries + 1,
                counted = v_governed
            WHERE t.ctid = ANY(v_ctids)
            RETURNING t.place, t.id, t.due, t.deliveries, t.attempts, t.crashes, t.published, t.expires, t.key_bucket,
                t.unique_bucket, t.key, t.ordered, t.history, t.former, t.envelope, t.payload, t.fence;
    ELSIF v_again IS NULL THEN
        SELECT least(
            (SELECT g.due FROM {schema}.grants g WHERE g.queue = p_queue ORDER BY g.due LIMIT 1),
            (SELECT t.due FROM {schema}.tasks t WHERE t.queue = p_queue AND t.place >= {delayed} AND t.place < {held}
                ORDER BY t.place LIMIT 1),
            (SELECT min(t.expires) FROM {schema}.tasks t WHERE t.queue = p_queue AND t.expires IS NOT NULL
                AND t.place < {dead} AND t.expires > v_now)
        ) - v_now INTO v_again;
    END IF;
    RETURN QUERY SELECT NULL::bigint, NULL::bytea, v_again, v_lost, v_expired, v_died, v_now, NULL::bigint, NULL::integer,
        NULL::integer, NULL::bytea, NULL::boolean, NULL::text[], NULL::text, NULL::text, NULL::bytea, NULL::bigint;
END
$$;
