-- The tables of tasks. `{schema}` and the numbers in braces are filled in by the program; all times are microseconds since 1970.
--
-- `tasks.place` is a task's region (the bits from 58 on) and its order there:
--   0 suspects   crashes << 50 + number
--   1 high, 2 normal, 3 low: middle + number, or middle - number for what was given back
--   4 delayed    milliseconds of `due` << 16 + number & 65535
--   5 held behind its ordered key, 6 held over its key's number of leases, 7 dead: middle + number
-- A task that is leased keeps its place until the lease ends, however it ends: so a lease is a change of the row that
-- touches no index. A server that loses its power may forget a lease, and give the same place to somebody else: a delivery
-- is known by its fence, which is random.

-- A batch takes its numbers in blocks of so many.
CREATE SEQUENCE {schema}.task_numbers INCREMENT BY {block};
CREATE SEQUENCE {schema}.given_back_numbers;

CREATE TABLE {schema}.queues (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    paused_until bigint,                    -- 9223372036854775807: until it is resumed
    sleepers_until bigint NOT NULL DEFAULT 0, -- until then consumers sleep now and then, and want to be told
    governed boolean NOT NULL DEFAULT false,  -- leases are counted
    leased integer NOT NULL DEFAULT 0,
    arrival double precision NOT NULL DEFAULT 0 -- of the rate's token bucket: the theoretical arrival time
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE {schema}.holders (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    seen bigint NOT NULL,
    place text COLLATE "C",                 -- the machine whose processes can tell that the holder's is gone
    presence text COLLATE "C",              -- by what they can
    gone bigint                             -- when one of them did
);
CREATE INDEX holders_place ON {schema}.holders (place) WHERE place IS NOT NULL;

CREATE TABLE {schema}.tasks (
    place bigint NOT NULL,
    due bigint NOT NULL,                    -- ready since, or ready at
    deadline bigint NOT NULL DEFAULT 0,     -- of the lease, while there is a holder
    fence bigint NOT NULL DEFAULT 0,        -- of the latest delivery
    number bigint NOT NULL,                 -- the order of publication
    published bigint NOT NULL,
    expires bigint,
    unique_for bigint,                      -- NULL: until done
    died bigint,
    queue integer NOT NULL,
    holder integer,
    deliveries integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    size integer NOT NULL,
    key_bucket integer,
    unique_bucket integer,
    priority smallint NOT NULL,
    named boolean NOT NULL,                 -- its id may come again
    ordered boolean NOT NULL DEFAULT false,
    counted boolean NOT NULL DEFAULT false, -- its lease is counted
    sourced boolean NOT NULL DEFAULT false, -- it came from a source
    decoded boolean NOT NULL DEFAULT true,
    id bytea NOT NULL,
    key bytea,
    unique_key bytea,
    reason text,
    history text[],
    former text,                            -- the first envelope of a task that was replaced: its origin stays
    envelope text NOT NULL,
    payload bytea NOT NULL
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_threshold = 5000, autovacuum_analyze_scale_factor = 0.1,
    toast.autovacuum_vacuum_threshold = 5000, toast.autovacuum_vacuum_scale_factor = 0.02,
    toast.autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE {schema}.tasks ALTER COLUMN payload SET STORAGE EXTERNAL;
CREATE INDEX tasks_place ON {schema}.tasks (queue, place);
CREATE UNIQUE INDEX tasks_id ON {schema}.tasks (id, queue) WHERE named OR place >= {dead};
CREATE INDEX tasks_key ON {schema}.tasks (queue, key, place) WHERE key IS NOT NULL;
CREATE INDEX tasks_expires ON {schema}.tasks (queue, expires) WHERE expires IS NOT NULL AND place < {dead};

-- Which tasks were handed out together, to be looked at when the lease has run out. Rows of what was ended in time are
-- removed then too: ending costs nothing here.
CREATE TABLE {schema}.grants (
    due bigint NOT NULL,
    queue integer NOT NULL,
    holder integer NOT NULL,
    places bigint[] NOT NULL
) WITH (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX grants_due ON {schema}.grants (queue, due);

CREATE TABLE {schema}.uniques (
    queue integer NOT NULL,
    key bytea NOT NULL,
    id bytea NOT NULL,
    until bigint,                           -- NULL: until the task is done
    PRIMARY KEY (queue, key)
);
CREATE INDEX uniques_until ON {schema}.uniques (until) WHERE until IS NOT NULL;

CREATE TABLE {schema}.key_states (
    queue integer NOT NULL,
    key bytea NOT NULL,
    leased integer NOT NULL DEFAULT 0,
    arrival double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (queue, key)
) WITH (fillfactor = 50);
