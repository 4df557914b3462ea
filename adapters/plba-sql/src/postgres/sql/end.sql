-- Ending and extending. Locks are taken in one order: buckets, governed queues, tasks by their places, new ids.

-- `p_place` are acks, `p_queue` are their queues, each once; their fences are the places and `p_random`, added, or, if that is
-- NULL, those in `p_fence`. The others each have a way: 1 failed, 2 rejected,
-- 3 given back, 4 undecodable. `p_held`: the caller's transaction has the row, so that the lease can't be lost. Gives the
-- fences whose lease was held.
CREATE FUNCTION {schema}.end_1(
    p_now bigint, p_channel text, p_locks integer[], p_held boolean,
    p_queue integer[], p_place bigint[], p_random bigint, p_fence bigint[],
    p_other_queue integer[], p_other_place bigint[], p_other_fence bigint[], p_other_way smallint[], p_other_delay bigint[], p_other_reason text[]
) RETURNS bigint[] LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_now bigint;
    v_ended bigint[] := '{}';
    v_queue integer;
    v_fences bigint[];
    v_sourced bytea[];
    v_special {schema}.tasks[];
    v_changed integer[];
    r {schema}.tasks;
    o record;
    v_due bigint;
BEGIN
    PERFORM pg_advisory_xact_lock({space}, l) FROM unnest(p_locks) l;
    PERFORM FROM {schema}.queues k WHERE k.number = ANY(p_queue || p_other_queue) AND k.governed ORDER BY k.number FOR UPDATE;
    v_now := {schema}.now_1(p_now);
    FOREACH v_queue IN ARRAY p_queue LOOP
        WITH gone AS (
            DELETE FROM {schema}.tasks t WHERE t.queue = v_queue AND t.place = ANY(p_place)
                AND (t.fence = t.place + p_random OR p_random IS NULL AND t.fence = ANY(p_fence))
                AND t.holder IS NOT NULL AND (p_held OR t.deadline > v_now)
            RETURNING t.fence, t.id, t.sourced, t.key IS NOT NULL OR t.unique_key IS NOT NULL OR t.counted AS special,
                CASE WHEN t.key IS NOT NULL OR t.unique_key IS NOT NULL OR t.counted THEN t END AS row
        )
        SELECT array_agg(g.fence), array_agg(g.id) FILTER (WHERE g.sourced), array_agg(g.row) FILTER (WHERE g.special)
            INTO v_fences, v_sourced, v_special FROM gone g;
        v_ended := v_ended || v_fences;
        IF v_sourced IS NOT NULL THEN
            UPDATE {schema}.ledger l SET state = 1, in_hand = NULL, changed = nextval('{schema}.ledger_numbers')
                WHERE l.id = ANY(v_sourced) AND l.state = 0;
        END IF;
        IF v_special IS NOT NULL THEN
            v_changed := v_changed || v_queue;
            FOREACH r IN ARRAY v_special LOOP
                PERFORM {schema}.leave_1(r.queue, r.id, r.key, r.ordered, r.counted, r.unique_key, r.unique_for, v_now);
            END LOOP;
        END IF;
    END LOOP;

    IF p_other_place IS NOT NULL THEN
        PERFORM FROM {schema}.tasks t WHERE t.queue = ANY(p_other_queue) AND t.place = ANY(p_other_place)
            ORDER BY t.place FOR UPDATE;
        v_changed := v_changed || p_other_queue;
    END IF;
    FOR o IN SELECT * FROM unnest(p_other_queue, p_other_place, p_other_fence, p_other_way, p_other_delay, p_other_reason)
        WITH ORDINALITY AS n(queue, place, fence, way, delay, reason, ord) ORDER BY n.ord
    LOOP
        SELECT t.* INTO r FROM {schema}.tasks t WHERE t.queue = o.queue AND t.place = o.place AND t.fence = o.fence
            AND t.holder IS NOT NULL AND (p_held OR t.deadline > v_now);
        CONTINUE WHEN NOT FOUND;
        v_ended := v_ended || o.fence;
        v_due := v_now + o.delay;
        IF o.way = 1 THEN
            UPDATE {schema}.tasks t SET holder = NULL, counted = false, attempts = t.attempts + 1, due = v_due,
                place = {schema}.place_1(t.priority, t.crashes, v_due, v_now, nextval('{schema}.task_numbers')),
                history = {schema}.remember_1(t.history, v_now, 'failed', o.reason)
                WHERE t.queue = o.queue AND t.place = o.place;
        ELSIF o.way = 3 THEN
            UPDATE {schema}.tasks t SET holder = NULL, counted = false, due = v_due,
                place = CASE WHEN o.delay = 0 AND t.crashes < {suspect}
                    THEN ((t.priority + 1)::bigint << 58) + {middle} - nextval('{schema}.given_back_numbers')
                    ELSE {schema}.place_1(t.priority, t.crashes, v_due, v_now, nextval('{schema}.task_numbers')) END
                WHERE t.queue = o.queue AND t.place = o.place;
        ELSE
            UPDATE {schema}.tasks t SET holder = NULL, counted = false, attempts = t.attempts + 1, died = v_now,
                reason = o.reason, decoded = (o.way <> 4),
                place = {dead} + {middle} + nextval('{schema}.task_numbers'),
                history = {schema}.remember_1(t.history, v_now, 'rejected', left(o.reason, 2000))
                WHERE t.queue = o.queue AND t.place = o.place;
            IF r.sourced THEN
                UPDATE {schema}.ledger l SET state = 3, elsewhere = true, in_hand = NULL,
                    changed = nextval('{schema}.ledger_numbers') WHERE l.id = r.id AND l.state = 0;
            END IF;
            PERFORM {schema}.leave_1(r.queue, r.id, r.key, r.ordered, r.counted, r.unique_key, r.unique_for, v_now);
            CONTINUE;
        END IF;
        IF r.counted THEN
            PERFORM {schema}.uncount_1(r.queue, r.key, v_now);
        END IF;
    END LOOP;
    IF v_changed IS NOT NULL THEN
        PERFORM {schema}.wake_1(p_channel, v_changed, v_now);
    END IF;
    RETURN v_ended;
END
$$;

-- What the server forgets of it when it loses its power ends a lease as early as if it had not been extended. Gives the
-- fences whose lease was held.
CREATE FUNCTION {schema}.extend_1(p_now bigint, p_queues integer[], p_places bigint[], p_fences bigint[], p_lease bigint)
RETURNS bigint[] LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_now bigint := {schema}.now_1(p_now);
    v_fences bigint[];
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH held AS (
        UPDATE {schema}.tasks t SET deadline = v_now + p_lease
            WHERE t.queue = ANY(p_queues) AND t.place = ANY(p_places) AND t.fence = ANY(p_fences)
                AND t.holder IS NOT NULL AND t.deadline > v_now
            RETURNING t.fence
    )
    SELECT array_agg(h.fence) INTO v_fences FROM held h;
    RETURN coalesce(v_fences, '{}');
END
$$;
