-- Configuration: a row is a value. People write it with plain SQL; the triggers note who and when, and tell of it. Functions
-- may be there from a table that somebody dropped.

CREATE TABLE {schema}.config (
    key text COLLATE "C" PRIMARY KEY CHECK (octet_length(key) BETWEEN 1 AND 500), -- dotted, as in a file
    value jsonb NOT NULL,
    changed_by text NOT NULL DEFAULT session_user,
    changed_at timestamptz NOT NULL DEFAULT now(),
    note text                               -- what for
);

CREATE OR REPLACE FUNCTION {schema}.stamp_config_1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_at := pg_catalog.now();
    IF NEW.changed_by IS NULL OR (TG_OP = 'UPDATE' AND NEW.changed_by = OLD.changed_by) THEN
        NEW.changed_by := session_user;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON {schema}.config FOR EACH ROW EXECUTE FUNCTION {schema}.stamp_config_1();

-- Once for each statement, and the server tells once for each transaction.
CREATE OR REPLACE FUNCTION {schema}.tell_config_1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_notify(TG_TABLE_SCHEMA || '_config', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {schema}.config
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.tell_config_1();
