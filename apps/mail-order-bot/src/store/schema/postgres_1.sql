CREATE TABLE ~orders (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    customer_name TEXT NOT NULL,
    customer_address TEXT NOT NULL,
    message_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    received_at BIGINT NOT NULL,        -- milliseconds since 1970
    total BIGINT NOT NULL,              -- hundredths of the currency
    currency TEXT NOT NULL,
    possible_duplicate_of BIGINT REFERENCES ~orders (id),
    lines_fingerprint TEXT NOT NULL,
    notes TEXT NOT NULL,                -- JSON array of strings
    reply_withheld TEXT,
    version BIGINT NOT NULL DEFAULT 1,
    state TEXT NOT NULL DEFAULT 'open',
    changed_at BIGINT NOT NULL
);
CREATE INDEX orders_by_lines ON ~orders (customer_id, lines_fingerprint, received_at);
CREATE INDEX orders_by_status ON ~orders (status, id);
CREATE INDEX orders_by_customer ON ~orders (customer_id, id);
CREATE INDEX orders_by_change ON ~orders (changed_at, id);

CREATE TABLE ~order_lines (
    order_id BIGINT NOT NULL REFERENCES ~orders (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    article TEXT NOT NULL,
    name TEXT,
    quantity BIGINT,                    -- thousandths of the unit; NULL if it could not be read
    quantity_given TEXT NOT NULL,
    unit TEXT,
    price_given TEXT,
    place TEXT NOT NULL,
    unit_price BIGINT,                  -- set if accepted
    amount BIGINT,                      -- set if accepted
    reason TEXT,                        -- set if rejected: JSON
    PRIMARY KEY (order_id, position),
    CHECK ((reason IS NULL) = (amount IS NOT NULL))
);

CREATE TABLE ~order_versions (
    order_id BIGINT NOT NULL REFERENCES ~orders (id) ON DELETE CASCADE,
    version BIGINT NOT NULL,
    message_id TEXT NOT NULL,
    replaced_at BIGINT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (order_id, version)
);

CREATE TABLE ~messages (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    sender TEXT NOT NULL,
    subject TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    order_id BIGINT REFERENCES ~orders (id),
    not_an_order TEXT,                  -- why, if it is none
    UNIQUE (message_id, body_hash),
    CHECK ((order_id IS NULL) = (not_an_order IS NOT NULL))
);
CREATE INDEX messages_by_order ON ~messages (order_id);

CREATE TABLE ~threads (
    message_id TEXT NOT NULL,
    order_id BIGINT NOT NULL REFERENCES ~orders (id) ON DELETE CASCADE,
    PRIMARY KEY (message_id, order_id)
);

CREATE TABLE ~mails (
    message BIGINT PRIMARY KEY REFERENCES ~messages (id) ON DELETE CASCADE,
    kept_at BIGINT NOT NULL,
    raw BYTEA NOT NULL
);
CREATE INDEX mails_by_time ON ~mails (kept_at);

CREATE TABLE ~attachments (
    message BIGINT NOT NULL REFERENCES ~messages (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    kept_at BIGINT NOT NULL,
    file_name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (message, position)
);
CREATE INDEX attachments_by_time ON ~attachments (kept_at);

CREATE TABLE ~reviews (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message BIGINT NOT NULL UNIQUE REFERENCES ~messages (id),
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'open',
    created_at BIGINT NOT NULL,
    decided_at BIGINT
);
CREATE INDEX reviews_by_state ON ~reviews (state, id);

CREATE TABLE ~correspondents (
    address TEXT PRIMARY KEY,
    replies BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL
);

CREATE TABLE ~outbox (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    channel TEXT NOT NULL,
    order_id BIGINT REFERENCES ~orders (id),
    recipient TEXT NOT NULL,
    message BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    sent_at BIGINT,
    traceparent TEXT
);
CREATE INDEX outbox_pending ON ~outbox (seq) WHERE sent_at IS NULL;
CREATE INDEX outbox_by_recipient ON ~outbox (recipient, created_at);
CREATE INDEX outbox_by_order ON ~outbox (order_id);
CREATE INDEX outbox_by_sent ON ~outbox (sent_at) WHERE sent_at IS NOT NULL;
