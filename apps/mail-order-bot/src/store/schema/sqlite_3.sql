ALTER TABLE orders ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE orders ADD COLUMN state TEXT NOT NULL DEFAULT 'open';
ALTER TABLE orders ADD COLUMN changed_at INTEGER NOT NULL DEFAULT 0;
UPDATE orders SET changed_at = received_at;
CREATE INDEX orders_by_change ON orders (changed_at, id);

-- What an amendment has replaced.
CREATE TABLE order_versions (
    order_id INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    message_id TEXT NOT NULL,           -- of the mail that replaced it
    replaced_at INTEGER NOT NULL,
    document TEXT NOT NULL,             -- the order as it was: JSON
    PRIMARY KEY (order_id, version)
) STRICT, WITHOUT ROWID;

-- The mails of an order's conversation, ours and theirs.
CREATE TABLE threads (
    message_id TEXT NOT NULL,
    order_id INTEGER NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    PRIMARY KEY (message_id, order_id)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO threads (message_id, order_id) SELECT message_id, id FROM orders;

CREATE TABLE mails (
    message INTEGER PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    kept_at INTEGER NOT NULL,
    raw BLOB NOT NULL
) STRICT;
CREATE INDEX mails_by_time ON mails (kept_at);

CREATE TABLE attachments (
    message INTEGER NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    kept_at INTEGER NOT NULL,
    file_name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (message, position)
) STRICT;
CREATE INDEX attachments_by_time ON attachments (kept_at);

CREATE TABLE reviews (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    message INTEGER NOT NULL UNIQUE REFERENCES messages (id),
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'open', -- accepted, rejected
    created_at INTEGER NOT NULL,
    decided_at INTEGER
) STRICT;
CREATE INDEX reviews_by_state ON reviews (state, id);

CREATE TABLE correspondents (
    address TEXT PRIMARY KEY,
    replies INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO correspondents (address, replies, first_at, last_at)
    SELECT recipient, count(*), min(created_at), max(created_at) FROM outbox GROUP BY recipient;

ALTER TABLE outbox ADD COLUMN channel TEXT NOT NULL DEFAULT 'reply';
CREATE INDEX outbox_by_sent ON outbox (sent_at) WHERE sent_at IS NOT NULL;
CREATE INDEX messages_by_order ON messages (order_id);
