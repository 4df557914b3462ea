SELECT q.name, q.paused_until, {schema}.now_1($1),
    coalesce(c.ready, 0), coalesce(c.delayed, 0), coalesce(c.held, 0), coalesce(c.leased, 0), coalesce(c.dead, 0),
    coalesce(c.bytes, 0), c.oldest
FROM {schema}.queues q
LEFT JOIN (
    SELECT t.queue,
        count(*) FILTER (WHERE t.place < {delayed} AND (t.holder IS NULL OR t.deadline <= n.now)
            OR t.place >= {delayed} AND t.place < {held} AND t.due <= n.now) AS ready,
        count(*) FILTER (WHERE t.place >= {delayed} AND t.place < {held} AND t.due > n.now) AS delayed,
        count(*) FILTER (WHERE t.place >= {held} AND t.place < {dead}) AS held,
        count(*) FILTER (WHERE t.place < {delayed} AND t.holder IS NOT NULL AND t.deadline > n.now) AS leased,
        count(*) FILTER (WHERE t.place >= {dead}) AS dead,
        sum(t.size) FILTER (WHERE t.place < {dead})::bigint AS bytes,
        min(t.due) FILTER (WHERE t.place < {held} AND t.due <= n.now AND (t.holder IS NULL OR t.deadline <= n.now)) AS oldest
    FROM {schema}.tasks t, (SELECT {schema}.now_1($1) AS now OFFSET 0) n
    GROUP BY t.queue
) c ON c.queue = q.number
ORDER BY q.name
