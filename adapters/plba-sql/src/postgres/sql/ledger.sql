-- The ledger of sources. It lies beside the tasks, so that the end of a task and of its entry are one step.
-- `state`: 0 open, 1 done, 2 settled, 3 dead.

CREATE SEQUENCE {schema}.ledger_numbers;

CREATE TABLE {schema}.ledger (
    number bigint NOT NULL,                 -- the order of intake
    changed bigint NOT NULL DEFAULT 0,      -- the order of completion or death
    publisher bigint,                       -- the process that published it
    in_hand bigint,                         -- the process that counted a delivery that has not ended
    died bigint,
    deliveries integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    state smallint NOT NULL DEFAULT 0,
    elsewhere boolean NOT NULL DEFAULT false, -- its dead letter is in the queue
    source bytea NOT NULL,
    key bytea NOT NULL,
    id bytea NOT NULL,                      -- of its task
    history text[],
    queue text,
    kind text,
    reason text,
    PRIMARY KEY (source, key)
) WITH (fillfactor = 80);
CREATE INDEX ledger_id ON {schema}.ledger (id);
CREATE INDEX ledger_open ON {schema}.ledger (source, number) WHERE state = 0;
CREATE INDEX ledger_done ON {schema}.ledger (source, changed) WHERE state = 1;
CREATE INDEX ledger_dead ON {schema}.ledger (changed) WHERE state = 3;
CREATE INDEX ledger_buried ON {schema}.ledger (queue, changed) WHERE state = 3 AND NOT elsewhere;

CREATE TABLE {schema}.cursors (
    source bytea PRIMARY KEY,
    cursor bytea NOT NULL
);
