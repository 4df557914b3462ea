-- Publishing. The arrays are sorted by id, so that publishers of the same ids wait for each other in one order; `orders`
-- tells the order of publication. Arrays of what no task has may be NULL; where all tasks have the same, the first element
-- stands for all of them.

-- The number of the task at this place of a batch, which has taken these blocks.
CREATE FUNCTION {schema}.number_1(blocks bigint[], ord integer) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT blocks[(ord - 1) / {block} + 1] + (ord - 1) % {block}
$$;

CREATE FUNCTION {schema}.publish_1(
    p_now bigint, p_channel text, p_locks integer[],
    p_check_queues integer[], p_check_counts bigint[], p_check_bytes bigint[], p_capacity bigint, p_bytes bigint,
    p_careful boolean, p_owners bigint[], p_only bigint[],
    p_orders integer[], p_queues integer[], p_ids bytea[], p_named boolean[], p_sourced boolean[], p_priorities smallint[],
    p_delays bigint[], p_expires bigint[], p_sizes integer[], p_envelopes text[], p_payloads bytea[],
    p_keys bytea[], p_key_buckets integer[], p_ordered boolean[],
    p_uniques bytea[], p_unique_buckets integer[], p_unique_for bigint[], p_replace boolean[],
    OUT full_queue integer, OUT inserted integer, OUT changed_orders integer[], OUT changed_ids bytea[],
    OUT there_counts bigint[], OUT there_bytes bigint[]
) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    v_now bigint;
    v_blocks bigint[];
    v_alike boolean;
    v_first bigint;
    v_queue integer;
    v_named boolean;
    v_sourced boolean;
    v_priority smallint;
    v_count bigint;
    v_bytes bigint;
    v_place integer;
    r record;
    v_id bytea;
    v_until bigint;
    v_number bigint;
BEGIN
    inserted := 0;
    PERFORM pg_advisory_xact_lock({space}, l) FROM unnest(p_locks) l;
    v_now := {schema}.now_1(p_now);
    FOR v_place IN 1 .. coalesce(cardinality(p_check_queues), 0) LOOP
        SELECT count(*), coalesce(sum(t.size), 0) INTO v_count, v_bytes FROM (
            SELECT size FROM {schema}.tasks WHERE queue = p_check_queues[v_place] AND place < {dead} LIMIT p_capacity + 1
        ) t;
        -- An empty queue takes whatever comes, or a large batch could never be published.
        IF v_count > 0 AND (v_count + p_check_counts[v_place] > p_capacity OR v_bytes + p_check_bytes[v_place] > p_bytes) THEN
            full_queue := p_check_queues[v_place];
            RETURN;
        END IF;
        there_counts := there_counts || v_count;
        there_bytes := there_bytes || v_bytes;
    END LOOP;
    IF p_keys IS NULL AND p_uniques IS NULL THEN
        v_blocks := ARRAY(SELECT nextval('{schema}.task_numbers')
            FROM generate_series(0, (cardinality(p_ids) - 1) / {block}));
        -- Most batches are alike in all but what follows here.
        v_alike := p_expires IS NULL AND p_owners IS NULL AND cardinality(p_queues) = 1 AND cardinality(p_named) = 1
            AND cardinality(p_sourced) = 1 AND cardinality(p_priorities) = 1 AND cardinality(p_delays) = 1 AND p_delays[1] = 0
            AND cardinality(v_blocks) = 1;
        v_number := v_blocks[1] - 1;
        v_first := ((p_priorities[1] + 1)::bigint << 58) + {middle} + v_number;
        v_queue := p_queues[1];
        v_named := p_named[1];
        v_sourced := p_sourced[1];
        v_priority := p_priorities[1];
        LOOP
            -- Asking for each id whether it is known costs as much as the rest, and few are: who has lately met some is
            -- careful, the others find out.
            BEGIN
                IF v_alike AND NOT p_careful THEN
                    INSERT INTO {schema}.tasks (place, due, number, published, queue, size, priority, named, sourced, id,
                            envelope, payload)
                        SELECT v_first + n.ord, v_now, v_number + n.ord, v_now, v_queue, n.size, v_priority, v_named, v_sourced,
                            n.id, n.envelope, n.payload
                        FROM unnest(p_orders, p_ids, p_sizes, p_envelopes, p_payloads) AS n(ord, id, size, envelope, payload);
                ELSE
                    INSERT INTO {schema}.tasks (place, due, number, published, expires, queue, size, priority, named, sourced, id,
                            envelope, payload)
                        SELECT {schema}.place_1(n.priority, 0, v_now + n.delay, v_now, {schema}.number_1(v_blocks, n.ord)),
                            v_now + n.delay, {schema}.number_1(v_blocks, n.ord), v_now, v_now + n.expires, n.queue, n.size,
                            n.priority, n.named, n.sourced, n.id, n.envelope, n.payload
                        FROM (SELECT u.ord, coalesce(u.queue, p_queues[1]) AS queue, u.id, coalesce(u.named, p_named[1]) AS named,
                            coalesce(u.sourced, p_sourced[1]) AS sourced, coalesce(u.priority, p_priorities[1]) AS priority,
                            coalesce(u.delay, p_delays[1]) AS delay, u.expires, u.size, u.envelope,
                            u.payload, u.owner
                            FROM unnest(p_orders, p_queues, p_ids, p_named, p_sourced, p_priorities, p_delays, p_expires, p_sizes,
                                p_envelopes, p_payloads, p_owners)
                                AS u(ord, queue, id, named, sourced, priority, delay, expires, size, envelope, payload, owner)) n
                        WHERE (p_only IS NULL OR n.owner IS NULL OR n.owner = ANY(p_only))
                            AND (NOT p_careful OR NOT n.named OR (SELECT 1 FROM {schema}.tasks t WHERE t.id = n.id
                                AND t.queue = n.queue AND (t.named OR t.place >= {dead}) LIMIT 1) IS NULL);
                END IF;
                GET DIAGNOSTICS inserted = ROW_COUNT;
                PERFORM {schema}.wake_1(p_channel, p_queues, v_now);
                RETURN;
            EXCEPTION WHEN unique_violation THEN
                -- Careful ones meet an id that came just now, or twice in the batch: one after the other, then.
                EXIT WHEN p_careful;
                p_careful := true;
            END;
        END LOOP;
    END IF;
    FOR r IN
        SELECT n.ord, coalesce(n.queue, p_queues[1]) AS queue, n.id, coalesce(n.named, p_named[1]) AS named,
            coalesce(n.sourced, p_sourced[1]) AS sourced, coalesce(n.priority, p_priorities[1]) AS priority,
            coalesce(n.delay, p_delays[1]) AS delay, n.expires, n.size, n.envelope, n.payload,
            n.key, n.key_bucket, n.ordered, n.unique_key, n.unique_bucket, n.unique_for, n.replace
        FROM unnest(p_orders, p_queues, p_ids, p_named, p_sourced, p_priorities, p_delays, p_expires, p_sizes,
                p_envelopes, p_payloads, p_owners, p_keys, p_key_buckets, p_ordered, p_uniques, p_unique_buckets,
                p_unique_for, p_replace)
            AS n(ord, queue, id, named, sourced, priority, delay, expires, size, envelope, payload, owner, key, key_bucket,
                ordered, unique_key, unique_bucket, unique_for, replace)
        WHERE p_only IS NULL OR n.owner IS NULL OR n.owner = ANY(p_only)
        ORDER BY n.ord
    LOOP
        CONTINUE WHEN r.named AND EXISTS (
            SELECT FROM {schema}.tasks t WHERE t.id = r.id AND t.queue = r.queue AND t.named);
        IF r.unique_key IS NOT NULL THEN
            SELECT u.id, u.until INTO v_id, v_until FROM {schema}.uniques u WHERE u.queue = r.queue AND u.key = r.unique_key;
            IF FOUND AND (v_until IS NULL OR v_until > v_now) THEN
                IF r.replace THEN
                    UPDATE {schema}.tasks t SET
                        envelope = r.envelope, former = coalesce(t.former, t.envelope), payload = r.payload, size = r.size,
                        priority = r.priority, published = v_now, due = v_now + r.delay, expires = v_now + r.expires,
                        unique_for = r.unique_for,
                        place = CASE WHEN t.place >= {held} AND t.place < {limited} THEN t.place
                            ELSE {schema}.place_1(r.priority, t.crashes, v_now + r.delay, v_now, nextval('{schema}.task_numbers'))
                            END
                        WHERE t.id = v_id AND t.queue = r.queue AND t.named AND t.place < {dead} AND t.holder IS NULL;
                    IF FOUND THEN
                        UPDATE {schema}.uniques u SET until = v_now + r.unique_for
                            WHERE u.queue = r.queue AND u.key = r.unique_key;
                    END IF;
                END IF;
                IF FOUND OR NOT r.replace THEN
                    changed_orders := changed_orders || r.ord;
                    changed_ids := changed_ids || v_id;
                    CONTINUE;
                END IF;
            END IF;
        END IF;
        v_number := nextval('{schema}.task_numbers');
        INSERT INTO {schema}.tasks (place, due, number, published, expires, unique_for, queue, size, key_bucket, unique_bucket,
                priority, named, ordered, sourced, id, key, unique_key, envelope, payload)
            VALUES (
                CASE WHEN r.ordered AND EXISTS (SELECT FROM {schema}.tasks t WHERE t.queue = r.queue AND t.key = r.key
                        AND t.place < {dead} AND t.ordered)
                    THEN {held} + {middle} + v_number
                    ELSE {schema}.place_1(r.priority, 0, v_now + r.delay, v_now, v_number) END,
                v_now + r.delay, v_number, v_now, v_now + r.expires, r.unique_for, r.queue, r.size, r.key_bucket, r.unique_bucket,
                r.priority, r.named, coalesce(r.ordered, false), r.sourced, r.id, r.key, r.unique_key, r.envelope, r.payload)
            ON CONFLICT DO NOTHING;
        IF FOUND THEN
            inserted := inserted + 1;
            IF r.unique_key IS NOT NULL THEN
                INSERT INTO {schema}.uniques (queue, key, id, until)
                    VALUES (r.queue, r.unique_key, r.id, v_now + r.unique_for)
                    ON CONFLICT (queue, key) DO UPDATE SET id = excluded.id, until = excluded.until;
            END IF;
        END IF;
    END LOOP;
    PERFORM {schema}.wake_1(p_channel, p_queues, v_now);
END
$$;
