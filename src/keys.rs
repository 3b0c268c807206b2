//! Every object key: built, parsed and confined here and nowhere else.
//!
//! Paths in requests and manifests are untrusted text. They become a [`Key`] or a [`Prefix`] once, here, and a key
//! is used only after [`Prefixes::confine`] found it under an allowed prefix.

use std::fmt;

use jiff::civil::DateTime;

use crate::ids::{DatasetId, RunId, SeriesCode};

/// S3 allows 1,024 bytes of UTF-8; these keys are ASCII.
const MAX_KEY_BYTES: usize = 1_024;

/// How `versionTs` is written.
const VERSION_FORMAT: &str = "%Y-%m-%dT%H-%M-%S";

/// Why a text is no key, or a key may not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The path is empty.
    #[error("path is empty")]
    Empty,
    /// The path is too long.
    #[error("path has {length_bytes} bytes, at most {MAX_KEY_BYTES} are allowed")]
    TooLong {
        /// Its length.
        length_bytes: usize,
    },
    /// The path has a segment that is empty, `.` or `..`.
    #[error("path {path:?} has a segment that is empty, . or ..")]
    Segment {
        /// The path.
        path: String,
    },
    /// The path has a control or non-ASCII character.
    #[error("path {path:?} has a control or non-ASCII character")]
    Character {
        /// The path.
        path: String,
    },
    /// The path names a bucket that is not this function's.
    #[error("bucket {bucket:?} is not this function's bucket {own:?}")]
    ForeignBucket {
        /// The bucket in the path.
        bucket: String,
        /// The bucket of `AWS_S3_BUCKET`.
        own: String,
    },
    /// The key is not under an allowed prefix.
    #[error("{key} is not under an allowed prefix ({allowed})")]
    NotAllowed {
        /// The key or prefix.
        key: String,
        /// The allowed prefixes.
        allowed: String,
    },
    /// A dataset's root cannot be told from its manifest path.
    #[error("no projectionsPath, and {path} does not end in versions/<version>/manifest.json or current/manifest.json")]
    NoDatasetRoot {
        /// The manifest path.
        path: String,
    },
}

/// The key of one object.
///
/// Invariants: 1 to 1,024 printable ASCII characters; no segment is empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Checks the text.
    ///
    /// # Errors
    /// When an invariant does not hold.
    pub fn parse(path: &str) -> Result<Self, Error> {
        check(path)?;
        Ok(Self(path.to_owned()))
    }

    /// The key as S3 knows it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path segments, from the root.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether the object is a Parquet file, by its name.
    #[must_use]
    pub fn is_parquet(&self) -> bool {
        self.0.ends_with(".parquet")
    }

    /// The key as a URI: `s3://bucket/key`.
    #[must_use]
    pub fn uri(&self, bucket: &str) -> String {
        format!("s3://{bucket}/{self}")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A folder of keys: a [`Key`] followed by `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(String);

impl Prefix {
    /// Checks the text; a missing final `/` is added.
    ///
    /// # Errors
    /// When what precedes the final `/` is no [`Key`].
    pub fn parse(path: &str) -> Result<Self, Error> {
        let folder = path.strip_suffix('/').unwrap_or(path);
        check(folder)?;
        if folder.len() + 1 > MAX_KEY_BYTES {
            return Err(Error::TooLong { length_bytes: folder.len() + 1 });
        }
        Ok(Self(format!("{folder}/")))
    }

    /// The prefix as a URI in this bucket.
    #[must_use]
    pub fn uri(&self, bucket: &str) -> String {
        format!("s3://{bucket}/{}", self.0)
    }

    /// The prefix, with its final `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the text lies in this folder.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        key.starts_with(&self.0)
    }

    /// The path segments of a key below this folder; all of them where the key lies elsewhere.
    pub fn segments_below<'a>(&self, key: &'a Key) -> impl Iterator<Item = &'a str> {
        key.0.strip_prefix(&self.0).unwrap_or(&key.0).split('/')
    }

    /// The key of a path relative to this folder.
    ///
    /// # Errors
    /// When the whole is no [`Key`].
    pub fn join(&self, relative: &str) -> Result<Key, Error> {
        Key::parse(&format!("{}{relative}", self.0))
    }

    /// The path of a key below this folder, as a key of its own; nothing where the key lies elsewhere.
    #[must_use]
    pub fn relative(&self, key: &Key) -> Option<Key> {
        Key::parse(key.0.strip_prefix(&self.0)?).ok()
    }

    /// The folder in this folder.
    ///
    /// # Errors
    /// When the whole is no [`Prefix`].
    pub fn folder(&self, name: &str) -> Result<Self, Error> {
        Self::parse(&format!("{}{name}", self.0))
    }

    /// A key in this folder, of a name that is known to be made of valid segments.
    fn fixed(&self, name: &str) -> Key {
        Key(format!("{}{name}", self.0))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn check(path: &str) -> Result<(), Error> {
    if path.is_empty() {
        return Err(Error::Empty);
    }
    if path.len() > MAX_KEY_BYTES {
        return Err(Error::TooLong { length_bytes: path.len() });
    }
    if !path.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(Error::Character { path: path.to_owned() });
    }
    if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(Error::Segment { path: path.to_owned() });
    }
    Ok(())
}

/// The prefixes that may be read, or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefixes(Vec<Prefix>);

impl Prefixes {
    /// Parses a comma-separated list.
    ///
    /// # Errors
    /// When an entry is no [`Prefix`], or there is none.
    pub fn parse(list: &str) -> Result<Self, Error> {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let prefixes = entries.map(Prefix::parse).collect::<Result<Vec<_>, _>>()?;
        if prefixes.is_empty() { Err(Error::Empty) } else { Ok(Self(prefixes)) }
    }

    /// No prefix: nothing lies under it.
    #[must_use]
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// The key or prefix, if it lies under one of these.
    ///
    /// # Errors
    /// When it does not.
    pub fn confine<T: fmt::Display>(&self, key: T) -> Result<T, Error> {
        let text = key.to_string();
        if self.0.iter().any(|prefix| prefix.contains(&text)) {
            return Ok(key);
        }
        Err(Error::NotAllowed { key: text, allowed: self.to_string() })
    }

    /// The prefixes.
    pub fn iter(&self) -> impl Iterator<Item = &Prefix> {
        self.0.iter()
    }
}

impl fmt::Display for Prefixes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.0.iter().map(Prefix::as_str).collect();
        formatter.write_str(&texts.join(", "))
    }
}

/// The path without `s3://BUCKET/`. The bucket must be `own`, or one of the placeholders `bucket` and `bucket-name`
/// that the existing control plane sends and that mean "your own bucket".
///
/// # Errors
/// When the path names another bucket.
pub fn without_bucket<'a>(path: &'a str, own: &str) -> Result<&'a str, Error> {
    let Some(rest) = path.strip_prefix("s3://") else {
        return Ok(path);
    };
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket == own || matches!(bucket, "bucket" | "bucket-name") {
        return Ok(key);
    }
    // A bucket's name has at most 63 characters; a longer one need not be shown whole to be told.
    Err(Error::ForeignBucket { bucket: bucket.chars().take(64).collect(), own: own.to_owned() })
}

/// The version of a run's output: a second in UTC, written `2025-01-15T10-30-00`. A later second is a newer version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionTs(DateTime);

impl VersionTs {
    /// The version of that second since the epoch; seconds outside the years 1 to 9999 are moved to its border.
    #[must_use]
    pub fn from_unix_seconds(seconds: i64) -> Self {
        const FIRST: i64 = -62_135_596_800;
        const LAST: i64 = 253_402_207_200;
        let timestamp = jiff::Timestamp::from_second(seconds.clamp(FIRST, LAST)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Self(jiff::tz::Offset::UTC.to_datetime(timestamp))
    }

    /// Seconds since the epoch.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        jiff::tz::Offset::UTC.to_timestamp(self.0).map_or(0, jiff::Timestamp::as_second)
    }

    /// Reads `2025-01-15T10-30-00`; nothing else is a version, and no second outside the range of [`Self::from_unix_seconds`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let datetime = DateTime::strptime(VERSION_FORMAT, text).ok()?;
        let version = Self(datetime);
        let is_in_range = Self::from_unix_seconds(version.unix_seconds()) == version;
        (is_in_range && version.to_string() == text).then_some(version)
    }

    /// The next second.
    #[must_use]
    pub fn next(self) -> Self {
        Self::from_unix_seconds(self.unix_seconds() + 1)
    }
}

impl fmt::Display for VersionTs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.strftime(VERSION_FORMAT))
    }
}

impl serde::Serialize for VersionTs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for VersionTs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not YYYY-MM-DDTHH-MM-SS")))
    }
}

/// The files of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataFile {
    /// One JSON object a line.
    Jsonl,
    /// Parquet.
    Parquet,
}

impl DataFile {
    /// The name in the data folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "metrics.jsonl",
            Self::Parquet => "metrics.parquet",
        }
    }

    /// The media type of its bytes.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Jsonl => "application/x-ndjson",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// The keys of a metric's output, all under `output.basePath`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputKeys {
    base: Prefix,
}

/// What an output key is the key of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputKey {
    /// A data file of a version.
    Data(VersionTs, DataFile),
    /// A version's manifest.
    Manifest(VersionTs),
    /// The copy of the newest version's manifest.
    Current,
    /// A run's marker.
    Marker(RunId),
    /// A run's claim.
    Claim(RunId),
}

/// What the longest of the names below a base takes: `runs/<128 bytes>.claim`.
const LONGEST_NAME_BYTES: usize = 140;

impl OutputKeys {
    /// The keys under a base path.
    ///
    /// # Errors
    /// When the base leaves no room for the names below it.
    pub fn new(base: Prefix) -> Result<Self, Error> {
        let length_bytes = base.as_str().len() + LONGEST_NAME_BYTES;
        if length_bytes > MAX_KEY_BYTES { Err(Error::TooLong { length_bytes }) } else { Ok(Self { base }) }
    }

    /// The base path.
    #[must_use]
    pub fn base(&self) -> &Prefix {
        &self.base
    }

    /// The folder of a version's data, without a final `/`, as manifests write it.
    #[must_use]
    pub fn data_prefix(&self, version: VersionTs) -> String {
        self.base.fixed(&format!("{version}/data")).0
    }

    /// The key of any output.
    #[must_use]
    pub fn key(&self, output: &OutputKey) -> Key {
        match output {
            OutputKey::Data(version, file) => self.base.fixed(&format!("{version}/data/{}", file.name())),
            OutputKey::Manifest(version) => self.base.fixed(&format!("{version}/manifest.json")),
            OutputKey::Current => self.base.fixed("current/manifest.json"),
            OutputKey::Marker(run_id) => self.base.fixed(&format!("runs/{run_id}.ok")),
            OutputKey::Claim(run_id) => self.base.fixed(&format!("runs/{run_id}.claim")),
        }
    }

    /// A data file of a version.
    #[must_use]
    pub fn data(&self, version: VersionTs, file: DataFile) -> Key {
        self.key(&OutputKey::Data(version, file))
    }

    /// A version's manifest.
    #[must_use]
    pub fn manifest(&self, version: VersionTs) -> Key {
        self.key(&OutputKey::Manifest(version))
    }

    /// The copy of the newest version's manifest.
    #[must_use]
    pub fn current(&self) -> Key {
        self.key(&OutputKey::Current)
    }

    /// A run's marker.
    #[must_use]
    pub fn marker(&self, run_id: &RunId) -> Key {
        self.key(&OutputKey::Marker(run_id.clone()))
    }

    /// A run's claim.
    #[must_use]
    pub fn claim(&self, run_id: &RunId) -> Key {
        self.key(&OutputKey::Claim(run_id.clone()))
    }

    /// What the key is the key of; nothing if it is no output under this base.
    #[must_use]
    pub fn parse(&self, key: &Key) -> Option<OutputKey> {
        let segments: Vec<&str> = key.as_str().strip_prefix(self.base.as_str())?.split('/').collect();
        match segments.as_slice() {
            ["current", "manifest.json"] => Some(OutputKey::Current),
            ["runs", name] => {
                let parsed = |suffix| name.strip_suffix(suffix).and_then(|id| RunId::parse(id).ok());
                parsed(".ok").map(OutputKey::Marker).or_else(|| parsed(".claim").map(OutputKey::Claim))
            }
            [version, "manifest.json"] => VersionTs::parse(version).map(OutputKey::Manifest),
            [version, "data", name] => {
                let file = [DataFile::Jsonl, DataFile::Parquet].into_iter().find(|file| file.name() == *name)?;
                VersionTs::parse(version).map(|version| OutputKey::Data(version, file))
            }
            _ => None,
        }
    }
}

/// The folder of a dataset's projections: `projections_path` where the request has one, otherwise `projections/`
/// beside the dataset's root.
///
/// # Errors
/// When the path is no prefix, or the manifest's path does not tell the root.
pub fn projections(manifest: &Key, dataset_id: &DatasetId, projections_path: Option<&str>) -> Result<Prefix, Error> {
    if let Some(path) = projections_path {
        return Prefix::parse(path);
    }
    let segments: Vec<&str> = manifest.segments().collect();
    let root = match segments.as_slice() {
        [root @ .., "versions", _, "manifest.json"] | [root @ .., "current", "manifest.json"] => root,
        other => match other.iter().position(|segment| *segment == dataset_id.as_str()) {
            Some(index) if index + 1 < other.len() => &other[..=index],
            _ => return Err(Error::NoDatasetRoot { path: manifest.to_string() }),
        },
    };
    if root.is_empty() {
        return Err(Error::NoDatasetRoot { path: manifest.to_string() });
    }
    Prefix::parse(&format!("{}/projections", root.join("/")))
}

/// The key of a dataset version's manifest, for whoever builds a dataset.
///
/// # Errors
/// When the version is no path segment.
pub fn dataset_manifest(datasets: &Prefix, dataset_id: &DatasetId, version: &str) -> Result<Key, Error> {
    datasets.join(&format!("{dataset_id}/versions/{version}/manifest.json"))
}

/// The key of the copy of a dataset's newest manifest, under the dataset's root.
#[must_use]
pub fn dataset_current(root: &Prefix) -> Key {
    root.fixed("current/manifest.json")
}

/// The path of a month of a series, relative to the projections folder, for whoever builds a dataset.
#[must_use]
pub fn month_file(series_code: &SeriesCode, year: i16, month: i8) -> String {
    format!("{series_code}/year={year:04}/month={month:02}/data.parquet")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_paths_are_no_keys() {
        for path in ["", "/", "a//b", "/a", "a/", "../a", "a/../b", "a/./b", "a\0b", "a\nb", "á/b", &"x".repeat(1_025)]
        {
            assert!(Key::parse(path).is_err(), "{path:?}");
        }
        assert!(Key::parse("a/..b/c d/%2e%2e/…").is_err());
        assert!(Key::parse("a/..b/c d/%2e%2e/year=2024").is_ok());
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let prefixes = Prefixes::parse("metrics/, other").unwrap();
        assert!(prefixes.confine(Key::parse("metrics/a").unwrap()).is_ok());
        assert!(prefixes.confine(Key::parse("other/a").unwrap()).is_ok());
        for key in ["metricsX/a", "metrics", "datasets/metrics/a", "othera"] {
            assert!(prefixes.confine(Key::parse(key).unwrap()).is_err(), "{key}");
        }
        assert!(Prefixes::parse(" , ").is_err());
    }

    #[test]
    fn only_the_own_bucket_and_its_placeholders_are_accepted() {
        for path in ["s3://own/metrics/a/", "s3://bucket/metrics/a/", "s3://bucket-name/metrics/a/", "metrics/a/"] {
            assert_eq!(without_bucket(path, "own"), Ok("metrics/a/"));
        }
        assert!(without_bucket("s3://ownx/metrics/a/", "own").is_err());
        assert!(without_bucket("s3:///metrics/a/", "own").is_err());
    }

    #[test]
    fn projections_lie_beside_the_root() {
        let dataset_id = DatasetId::parse("d").unwrap();
        let of = |manifest: &str, path: Option<&str>| {
            projections(&Key::parse(manifest).unwrap(), &dataset_id, path).map(|prefix| prefix.to_string())
        };
        assert_eq!(of("datasets/d/versions/v1/manifest.json", None).unwrap(), "datasets/d/projections/");
        assert_eq!(of("datasets/d/current/manifest.json", None).unwrap(), "datasets/d/projections/");
        assert_eq!(of("datasets/d/x/y.json", None).unwrap(), "datasets/d/projections/");
        assert_eq!(of("datasets/d/versions/v1/manifest.json", Some("p/q")).unwrap(), "p/q/");
        assert!(of("x/y.json", None).is_err());
        assert!(of("current/manifest.json", None).is_err());
    }

    #[test]
    fn a_version_is_a_second_in_utc() {
        let version = VersionTs::from_unix_seconds(1_736_937_000);
        assert_eq!(version.to_string(), "2025-01-15T10-30-00");
        assert_eq!(VersionTs::parse("2025-01-15T10-30-00"), Some(version));
        assert_eq!(version.next().to_string(), "2025-01-15T10-30-01");
        for text in [
            "2025-01-15T10:30:00",
            "2025-01-15",
            "2025-1-15T10-30-00",
            "2025-02-30T00-00-00",
            "current",
            "",
            "-225-01-15T10-30-00",
            "0000-01-01T00-00-00",
            "9999-12-31T23-59-59",
        ] {
            assert_eq!(VersionTs::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_output_key_parses_back(seconds in 0_i64..4_102_444_800, run in "[A-Za-z0-9._:-]{1,128}", which in 0_u8..6) {
            prop_assume!(run != "." && run != "..");
            let keys = OutputKeys::new(Prefix::parse("metrics/m.x").unwrap()).unwrap();
            let version = VersionTs::from_unix_seconds(seconds);
            let run_id = RunId::parse(&run).unwrap();
            let output = match which {
                0 => OutputKey::Data(version, DataFile::Jsonl),
                1 => OutputKey::Data(version, DataFile::Parquet),
                2 => OutputKey::Manifest(version),
                3 => OutputKey::Current,
                4 => OutputKey::Marker(run_id),
                _ => OutputKey::Claim(run_id),
            };
            let key = keys.key(&output);
            prop_assert_eq!(Key::parse(key.as_str()).unwrap(), key.clone());
            prop_assert_eq!(keys.parse(&key), Some(output));
            prop_assert_eq!(VersionTs::from_unix_seconds(seconds).unix_seconds(), seconds);
        }
    }
}
