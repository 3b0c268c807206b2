DROP TABLE metric_dependencies;
DROP TABLE metrics;
DROP TABLE dataset_series;
DROP TABLE datasets;
DROP TABLE series;
