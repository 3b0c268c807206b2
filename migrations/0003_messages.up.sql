-- Messages on their way out, and those that came in.

-- Written with the run that it releases, in one transaction; gone when it is published. Rows of a group are written
-- under the lock of their metric, so their ids grow in the order in which they became visible.
CREATE TABLE outbox (
    id            bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    run_id        text NOT NULL UNIQUE REFERENCES metric_runs,
    group_id      text NOT NULL,
    body          jsonb NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Until then it belongs to a relay, or waits after a failure.
    claimed_until timestamptz,
    attempts      integer NOT NULL DEFAULT 0,
    last_error    text
);

CREATE UNIQUE INDEX outbox_by_group ON outbox (group_id, id);

CREATE TABLE event_log (
    event_key    text PRIMARY KEY,
    event_type   text NOT NULL,
    payload      jsonb NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX event_log_by_time ON event_log (processed_at);
