-- Leases of singleton workers. A row stays for good: its token never goes back.

CREATE TABLE {schema}.leases (
    name text COLLATE "C" PRIMARY KEY,
    token bigint NOT NULL,
    holder text,                            -- NULL once released
    since bigint NOT NULL,
    renewed bigint NOT NULL,
    deadline bigint NOT NULL
) WITH (fillfactor = 50);

CREATE FUNCTION {schema}.acquire_lease_1(p_now bigint, p_name text, p_holder text, p_ttl bigint, OUT token bigint, OUT deadline bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now bigint;
    r {schema}.leases;
BEGIN
    -- Those who stand by ask often, and should not queue for the row.
    v_now := {schema}.now_1(p_now);
    SELECT * INTO r FROM {schema}.leases l WHERE l.name = p_name;
    IF FOUND AND r.holder IS NOT NULL AND v_now < r.deadline AND r.renewed <= v_now THEN
        RETURN;
    END IF;
    INSERT INTO {schema}.leases (name, token, since, renewed, deadline) VALUES (p_name, 0, 0, 0, 0) ON CONFLICT DO NOTHING;
    SELECT * INTO r FROM {schema}.leases l WHERE l.name = p_name FOR UPDATE;
    v_now := {schema}.now_1(p_now);
    IF r.holder IS NOT NULL AND v_now < r.deadline THEN
        IF r.renewed > v_now THEN
            -- The server's clock was set back: what was left of the grant counts from now on, for its whole length at most.
            UPDATE {schema}.leases l SET renewed = v_now, deadline = v_now + (r.deadline - r.renewed) WHERE l.name = p_name;
        END IF;
        RETURN;
    END IF;
    UPDATE {schema}.leases l SET token = l.token + 1, holder = p_holder, since = v_now, renewed = v_now, deadline = v_now + p_ttl
        WHERE l.name = p_name RETURNING l.token, l.deadline INTO token, deadline;
END
$$;
