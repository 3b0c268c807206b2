DROP TABLE run_dataset_updates;
DROP TABLE metric_run_pending_datasets;
DROP TABLE metric_runs;
DROP FUNCTION refuse_run_start();
DROP FUNCTION refuse_run_transition();
DROP TABLE run_transitions;
DROP TABLE dataset_updates;
