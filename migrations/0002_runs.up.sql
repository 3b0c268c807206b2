-- What happened to datasets, and the runs that follow from it.

CREATE TABLE dataset_updates (
    id                    text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    -- Grows within a dataset in the order in which its updates became visible: they are written under its row's lock.
    sequence              bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    dataset_id            text NOT NULL REFERENCES datasets,
    version_manifest_path text NOT NULL,
    projections_path      text NOT NULL,
    bucket                text,
    event_key             text NOT NULL UNIQUE,
    -- Not now(): that is when the transaction began, and it may have waited for the dataset's lock.
    created_at            timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE UNIQUE INDEX dataset_updates_by_sequence ON dataset_updates (dataset_id, sequence);

CREATE TABLE metric_runs (
    id                text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    metric_id         text NOT NULL REFERENCES metrics,
    metric_code       text NOT NULL,
    status            text NOT NULL CHECK (status IN ('pending_dependencies', 'queued', 'dispatched', 'running',
                                                      'succeeded', 'failed', 'timed_out', 'canceled')),
    requested_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    queued_at         timestamptz,
    dispatched_at     timestamptz,
    started_at        timestamptz,
    finished_at       timestamptz,
    last_heartbeat_at timestamptz,
    -- When the last sign of its worker came, by this database's clock: the worker's own may be wrong.
    heard_at          timestamptz,
    progress          double precision CHECK (progress BETWEEN 0 AND 1),
    error             text,
    error_code        text,
    version_ts        text,
    manifest_path     text,
    row_count         bigint CHECK (row_count >= 0)
);

CREATE UNIQUE INDEX metric_runs_one_waiting ON metric_runs (metric_id) WHERE status = 'pending_dependencies';
CREATE INDEX metric_runs_silent ON metric_runs (status, id) WHERE status IN ('dispatched', 'running');
CREATE INDEX metric_runs_by_time ON metric_runs (requested_at, id);
CREATE INDEX metric_runs_by_metric ON metric_runs (metric_code, requested_at, id);
CREATE INDEX metric_runs_by_status ON metric_runs (status, requested_at, id);

-- The state machine. Whoever writes a run, also by hand, is held against it.
CREATE TABLE run_transitions (
    from_status text NOT NULL,
    to_status   text NOT NULL,
    PRIMARY KEY (from_status, to_status)
);

INSERT INTO run_transitions (from_status, to_status) VALUES
    ('pending_dependencies', 'queued'),
    ('pending_dependencies', 'timed_out'),
    ('pending_dependencies', 'canceled'),
    ('queued', 'dispatched'),
    ('queued', 'timed_out'),
    ('queued', 'canceled'),
    ('dispatched', 'running'),
    ('dispatched', 'succeeded'),
    ('dispatched', 'failed'),
    ('dispatched', 'timed_out'),
    ('dispatched', 'canceled'),
    ('running', 'succeeded'),
    ('running', 'failed'),
    ('running', 'timed_out'),
    ('running', 'canceled'),
    -- A run that is redriven, or was only believed to be lost, may still come to an end.
    ('failed', 'succeeded'),
    ('timed_out', 'succeeded'),
    ('timed_out', 'failed');

CREATE FUNCTION refuse_run_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM run_transitions WHERE from_status = OLD.status AND to_status = NEW.status) THEN
        RAISE EXCEPTION 'run % may not go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'ME001';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER metric_runs_transition BEFORE UPDATE OF status ON metric_runs
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION refuse_run_transition();

CREATE FUNCTION refuse_run_start() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'run % may not begin as %', NEW.id, NEW.status USING ERRCODE = 'ME001';
END $$;

CREATE TRIGGER metric_runs_start BEFORE INSERT ON metric_runs
    FOR EACH ROW WHEN (NEW.status NOT IN ('pending_dependencies', 'queued')) EXECUTE FUNCTION refuse_run_start();

-- What a run that waits, or waited, is waiting for.
CREATE TABLE metric_run_pending_datasets (
    run_id             text NOT NULL REFERENCES metric_runs,
    dataset_id         text NOT NULL REFERENCES datasets,
    required_days      integer NOT NULL CHECK (required_days > 0),
    received           boolean NOT NULL DEFAULT false,
    received_update_id text REFERENCES dataset_updates,
    received_at        timestamptz,
    PRIMARY KEY (run_id, dataset_id),
    CHECK (received = (received_update_id IS NOT NULL) AND received = (received_at IS NOT NULL))
);

-- The updates that a run was released with.
CREATE TABLE run_dataset_updates (
    run_id     text NOT NULL REFERENCES metric_runs,
    dataset_id text NOT NULL REFERENCES datasets,
    update_id  text NOT NULL REFERENCES dataset_updates,
    PRIMARY KEY (run_id, dataset_id)
);

CREATE INDEX run_dataset_updates_by_update ON run_dataset_updates (update_id);
