-- Releases runs of metrics, or leaves them waiting: the rule of the control plane, for any number of metrics at once.
--
-- $1  the metrics, whose rows the transaction holds locked
-- $2  the dataset that changed, for mode 'update'
-- $3  the folder of outputs, as a URI
-- $4  the mode: 'update'  a run for each metric that depends on the dataset, or its waiting run
--               'waiting' only metrics that have a waiting run: released if nothing is missing any more
--               'now'     a run on the newest updates however old they are, beside a run that waits
--
-- Whatever is joined is joined once, and grouped by metric at the beginning: no step looks through a list for each metric.
WITH newest AS MATERIALIZED (
    SELECT d.id AS dataset_id, u.id AS update_id, u.created_at, u.version_manifest_path, u.projections_path
    FROM datasets d
    CROSS JOIN LATERAL (
        SELECT * FROM dataset_updates WHERE dataset_id = d.id ORDER BY sequence DESC LIMIT 1
    ) u
    WHERE d.id IN (
        SELECT s.dataset_id FROM metric_dependencies m JOIN dataset_series s ON s.series_code = m.series_code
        WHERE m.metric_id = ANY ($1)
    )
),
need AS (
    SELECT r.metric_id, r.dataset_id, n.update_id, n.created_at, n.version_manifest_path, n.projections_path,
           -- A series that no dataset has is missing for good.
           COALESCE(n.update_id IS NOT NULL
               AND ($4 = 'now' OR n.created_at >= statement_timestamp() - m.required_days * interval '24 hours'),
               false) AS is_received
    FROM (
        SELECT DISTINCT m.metric_id, s.dataset_id
        FROM metric_dependencies m LEFT JOIN dataset_series s ON s.series_code = m.series_code
        WHERE m.metric_id = ANY ($1)
    ) r
    JOIN metrics m ON m.id = r.metric_id
    LEFT JOIN newest n ON n.dataset_id = r.dataset_id
),
verdict AS MATERIALIZED (
    SELECT metric_id,
           bool_and(is_received) AS is_ready,
           bool_and(dataset_id IS NOT NULL) AS is_resolved,
           array_agg(dataset_id ORDER BY dataset_id) AS dataset_ids,
           array_agg(CASE WHEN is_received THEN update_id END ORDER BY dataset_id) AS update_ids,
           array_agg(CASE WHEN is_received THEN created_at END ORDER BY dataset_id) AS received_at,
           array_agg(dataset_id) FILTER (WHERE NOT is_received AND dataset_id IS NOT NULL) AS missing,
           jsonb_object_agg(dataset_id, jsonb_build_object(
               'manifestPath', version_manifest_path, 'projectionsPath', projections_path))
               FILTER (WHERE dataset_id IS NOT NULL) AS catalog
    FROM need
    GROUP BY metric_id
    HAVING $4 <> 'update' OR bool_or(dataset_id = $2)
),
run AS MATERIALIZED (
    SELECT v.*, m.code, m.required_days, m.expression_type, m.expression_json, w.id IS NOT NULL AS was_waiting,
           COALESCE(w.id, gen_random_uuid()::text) AS run_id
    FROM verdict v
    JOIN metrics m ON m.id = v.metric_id
    LEFT JOIN metric_runs w ON $4 <> 'now' AND w.metric_id = v.metric_id AND w.status = 'pending_dependencies'
    WHERE v.is_resolved AND (v.is_ready OR $4 <> 'now') AND (w.id IS NOT NULL OR $4 <> 'waiting')
),
woken AS (
    UPDATE metric_runs r SET status = 'queued', queued_at = statement_timestamp()
    FROM run WHERE r.id = run.run_id AND run.was_waiting AND run.is_ready
),
begun AS (
    INSERT INTO metric_runs (id, metric_id, metric_code, status, queued_at)
    SELECT run_id, metric_id, code, CASE WHEN is_ready THEN 'queued' ELSE 'pending_dependencies' END,
           CASE WHEN is_ready THEN statement_timestamp() END
    FROM run WHERE NOT was_waiting
),
forgotten AS (
    -- What the metric needed when its run began to wait, and needs no more.
    DELETE FROM metric_run_pending_datasets p USING run
    WHERE p.run_id = run.run_id AND run.was_waiting AND NOT p.dataset_id = ANY (run.dataset_ids)
),
awaited AS (
    INSERT INTO metric_run_pending_datasets AS p
        (run_id, dataset_id, required_days, received, received_update_id, received_at)
    SELECT run.run_id, d.dataset_id, run.required_days, d.update_id IS NOT NULL, d.update_id, d.received_at
    FROM run CROSS JOIN LATERAL unnest(run.dataset_ids, run.update_ids, run.received_at)
        AS d (dataset_id, update_id, received_at)
    WHERE run.was_waiting OR NOT run.is_ready
    ON CONFLICT (run_id, dataset_id) DO UPDATE SET required_days = excluded.required_days,
        received = excluded.received, received_update_id = excluded.received_update_id,
        received_at = excluded.received_at
),
lineage AS (
    INSERT INTO run_dataset_updates (run_id, dataset_id, update_id)
    SELECT run.run_id, d.dataset_id, d.update_id
    FROM run CROSS JOIN LATERAL unnest(run.dataset_ids, run.update_ids) AS d (dataset_id, update_id)
    WHERE run.is_ready
),
request AS (
    INSERT INTO outbox (run_id, group_id, body)
    SELECT run.run_id, run.code, jsonb_build_object(
        'schema', 'metrics.run.v1',
        'type', 'metric_run_requested',
        'runId', run.run_id,
        'metricCode', run.code,
        'expressionType', run.expression_type,
        'expressionJson', run.expression_json,
        'inputs', (
            SELECT jsonb_agg(jsonb_build_object('datasetId', s.dataset_id, 'seriesCode', s.series_code)
                             ORDER BY m.position)
            FROM metric_dependencies m JOIN dataset_series s ON s.series_code = m.series_code
            WHERE m.metric_id = run.metric_id),
        'catalog', jsonb_build_object('datasets', run.catalog),
        'output', jsonb_build_object('basePath', $3 || run.code || '/'),
        'messageGroupId', run.code,
        'messageDeduplicationId', run.run_id)
    FROM run WHERE run.is_ready
)
SELECT
    (SELECT count(*) FROM run WHERE is_ready) AS "released!",
    (SELECT count(*) FROM run WHERE NOT is_ready) AS "waiting!",
    (SELECT min(run_id) FROM run WHERE is_ready) AS a_run_id,
    ARRAY(SELECT m.code FROM verdict v JOIN metrics m ON m.id = v.metric_id WHERE NOT v.is_resolved
          ORDER BY m.code LIMIT 20) AS "unresolved!",
    (SELECT v.missing FROM verdict v ORDER BY v.metric_id LIMIT 1) AS missing
