SELECT t.queue, q.name, t.place, t.id,
    CASE WHEN t.place >= {held} THEN 'held' WHEN t.place >= {delayed} AND t.due > n.now THEN 'delayed'
        WHEN t.holder IS NOT NULL AND t.deadline > n.now THEN 'leased' ELSE 'ready' END AS state,
    t.due, t.deadline, t.published, t.expires, t.attempts, t.deliveries, t.size, h.name, t.key, t.ordered, t.history, t.former,
    t.envelope, t.priority
FROM {schema}.tasks t
JOIN {schema}.queues q ON q.number = t.queue
LEFT JOIN {schema}.holders h ON h.number = t.holder,
(SELECT {schema}.now_1($1) AS now OFFSET 0) n
WHERE t.place < {dead} AND ($2::text IS NULL OR q.name = $2) AND (t.queue, t.place, t.id) > ($3, $4, $5)
ORDER BY t.queue, t.place, t.id LIMIT $6
