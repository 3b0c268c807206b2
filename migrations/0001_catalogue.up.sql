-- What is computed from what: metrics over series, series of datasets.

CREATE TABLE series (
    code        text PRIMARY KEY,
    name        text,
    description text,
    unit        text,
    frequency   text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE datasets (
    id          text PRIMARY KEY,
    name        text,
    description text,
    bucket      text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

-- A series belongs to one dataset: the worker refuses a request in which two datasets claim a series.
CREATE TABLE dataset_series (
    dataset_id  text NOT NULL REFERENCES datasets,
    series_code text NOT NULL UNIQUE REFERENCES series,
    PRIMARY KEY (dataset_id, series_code)
);

CREATE TABLE metrics (
    id              text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    code            text NOT NULL UNIQUE,
    expression_type text NOT NULL CHECK (expression_type IN ('series_math', 'window_op', 'composite')),
    expression_json jsonb NOT NULL,
    frequency       text,
    unit            text,
    description     text,
    -- How old, in days of 24 hours, an update of a required dataset may be.
    required_days   integer NOT NULL DEFAULT 7 CHECK (required_days BETWEEN 1 AND 36500),
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);

-- Derived from the expression by whoever writes a metric. The position is that of the series' first mention.
CREATE TABLE metric_dependencies (
    metric_id   text NOT NULL REFERENCES metrics,
    series_code text NOT NULL REFERENCES series,
    position    integer NOT NULL,
    PRIMARY KEY (metric_id, series_code)
);

CREATE INDEX metric_dependencies_by_series ON metric_dependencies (series_code, metric_id);
