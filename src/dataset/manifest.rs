//! The manifest of a dataset version, as whoever reads the dataset finds it.

use serde::Serialize;

/// How the files of a dataset are cut.
pub(super) const PARTITION_STRATEGY: &str = "series_year_month";

/// What a version of a dataset holds. Paths are relative to the projections folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The version.
    pub version_id: String,
    /// The dataset.
    pub dataset_id: String,
    /// When the version came to be: RFC 3339, UTC.
    pub created_at: String,
    /// The newest day that was collected.
    pub collection_date: String,
    /// Observations of all series.
    pub data_points_count: usize,
    /// How many series there are.
    pub series_count: usize,
    /// The series.
    pub series_codes: Vec<String>,
    /// The first and the last time of an observation.
    pub date_range: DateRange,
    /// The files that this version wrote.
    pub parquet_files: Vec<String>,
    /// The folders of those files.
    pub partitions: Vec<String>,
    /// How the files are cut.
    pub partition_strategy: &'static str,
}

/// From the first to the last observation, both RFC 3339, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DateRange {
    /// The first.
    pub min_obs_time: String,
    /// The last.
    pub max_obs_time: String,
}
