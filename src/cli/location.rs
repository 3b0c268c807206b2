//! Where data is: a folder or `s3://bucket/prefix` in, a store and the worker's own configuration out.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::Args;

use crate::aws::{self, AwsSettings};
use crate::config::Config;
use crate::expression::Limits;
use crate::keys::{Key, Prefix};
use crate::request::Rules;
use crate::storage::ObjectStorage;
use crate::storage::below::Below;
use crate::storage::folder::FolderStorage;
use crate::storage::s3::S3Storage;

/// What a bucket is called that is a folder.
const LOCAL_BUCKET: &str = "bucket";

/// Where datasets are, unless somebody says otherwise.
pub(super) const DATASETS: &str = "datasets/";

/// What a deployment must set and a command does not need: it publishes nothing and has no queue.
const PLACEHOLDERS: [(&str, &str); 2] = [
    ("AWS_SNS_EVENTS_TOPIC_ARN", "arn:aws:sns:us-east-1:000000000000:metric-events.fifo"),
    ("DEAD_LETTER_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/000000000000/metric-run-requests-dead.fifo"),
];

/// The arguments of every command that reads data.
#[derive(Debug, Clone, Args)]
pub(super) struct DataArguments {
    /// Where the data is: a folder that stands for a bucket, s3://BUCKET, or s3://BUCKET/PREFIX
    #[arg(long = "data", value_name = "LOCATION")]
    location: String,
    /// The folder of datasets within the location
    #[arg(long, value_name = "PREFIX", default_value = DATASETS)]
    datasets: String,
}

/// A store, and the configuration of a worker that has it for its bucket.
pub(super) struct Location {
    pub(super) storage: Arc<dyn ObjectStorage>,
    pub(super) config: Config,
    pub(super) datasets: Prefix,
    place: Place,
}

/// What a location's text means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Folder(PathBuf),
    Bucket { name: String, root: Option<Prefix> },
}

impl Place {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let Some(rest) = text.strip_prefix("s3://") else {
            let scheme = text.split_once("://").map(|(scheme, _)| scheme);
            ensure!(scheme.is_none(), "{text}: a location is a folder or begins with s3://");
            ensure!(!text.is_empty(), "a location is a folder or begins with s3://, found nothing");
            return Ok(Self::Folder(PathBuf::from(text)));
        };
        let (name, root) = rest.split_once('/').unwrap_or((rest, ""));
        ensure!(!name.is_empty(), "{text}: no bucket, expected s3://BUCKET or s3://BUCKET/PREFIX");
        let root = root.strip_suffix('/').unwrap_or(root);
        let root = if root.is_empty() { None } else { Some(Prefix::parse(root).with_context(|| text.to_owned())?) };
        Ok(Self::Bucket { name: name.to_owned(), root })
    }

    /// Where an object is, as a person finds it.
    fn of(&self, key: &Key) -> String {
        match self {
            Self::Folder(folder) => folder.join(key.as_str()).display().to_string(),
            Self::Bucket { name, root: None } => key.uri(name),
            Self::Bucket { name, root: Some(root) } => format!("s3://{name}/{root}{key}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(formatter, "{}", folder.display()),
            Self::Bucket { name, root: None } => write!(formatter, "s3://{name}"),
            Self::Bucket { name, root: Some(root) } => {
                write!(formatter, "s3://{name}/{}", root.as_str().trim_end_matches('/'))
            }
        }
    }
}

impl Location {
    /// Where an object is, as a person finds it.
    pub(super) fn of(&self, key: &Key) -> String {
        self.place.of(key)
    }

    /// The location as text.
    pub(super) fn name(&self) -> String {
        self.place.to_string()
    }
}

/// Whether a folder has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// A location is not made by looking at it.
    Refused,
    /// Somebody wants to write to it.
    Created,
}

impl DataArguments {
    /// The arguments of a command that has them only sometimes.
    pub(super) fn at(location: &str, datasets: &str) -> Self {
        Self { location: location.to_owned(), datasets: datasets.to_owned() }
    }

    /// Opens the location.
    ///
    /// # Errors
    /// When there is no such folder, or the environment has a setting that cannot be.
    pub(super) async fn open(&self) -> anyhow::Result<Location> {
        self.open_as(None, Missing::Refused).await
    }

    /// Opens the location for a function of so much memory, or to write to it.
    ///
    /// # Errors
    /// As [`DataArguments::open`].
    pub(super) async fn open_as(&self, memory_mb: Option<u32>, missing: Missing) -> anyhow::Result<Location> {
        let datasets = Prefix::parse(&self.datasets).with_context(|| format!("--datasets {:?}", self.datasets))?;
        let place = Place::parse(&self.location)?;
        let bucket = match &place {
            Place::Folder(_) => LOCAL_BUCKET,
            Place::Bucket { name, .. } => name,
        };
        let config = config(bucket, &datasets, memory_mb)?;
        let storage: Arc<dyn ObjectStorage> = match &place {
            Place::Folder(folder) => {
                let is_there = missing == Missing::Created || folder.is_dir();
                ensure!(is_there, "{}: no such folder", folder.display());
                Arc::new(FolderStorage::new(folder).with_context(|| folder.display().to_string())?)
            }
            Place::Bucket { name, root } => {
                let bucket = S3Storage::new(aws::clients(&config.aws).await.s3, name.as_str());
                match root {
                    None => Arc::new(bucket),
                    Some(root) => Arc::new(Below::new(bucket, root.clone())),
                }
            }
        };
        Ok(Location { storage, config, datasets, place })
    }
}

/// Where AWS is, by the environment.
///
/// # Errors
/// When the environment has a setting that cannot be.
pub(super) fn aws_settings() -> anyhow::Result<AwsSettings> {
    Ok(local()?.aws)
}

/// How large an expression may be, by the environment: as large as for the worker there.
///
/// # Errors
/// When the environment has a setting that cannot be.
pub(super) fn limits() -> anyhow::Result<Limits> {
    Ok(local()?.rules.expression)
}

/// What requests are held against, by the environment; the bucket is the one of `AWS_S3_BUCKET`, if there is one.
///
/// # Errors
/// When the environment has a setting that cannot be.
pub(super) fn rules() -> anyhow::Result<Rules> {
    Ok(Config::from_lookup(|name| environment(name).or_else(|| placeholder(name)))?.rules)
}

fn local() -> anyhow::Result<Config> {
    config(LOCAL_BUCKET, &Prefix::parse(DATASETS)?, None)
}

/// The configuration of the environment, for this bucket.
fn config(bucket: &str, datasets: &Prefix, memory_mb: Option<u32>) -> anyhow::Result<Config> {
    let lookup = |name: &str| match name {
        "AWS_S3_BUCKET" => Some(bucket.to_owned()),
        "INPUT_PREFIXES" => Some(datasets.to_string()),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE" => memory_mb.map(|memory_mb| memory_mb.to_string()),
        _ => environment(name).or_else(|| placeholder(name)),
    };
    Ok(Config::from_lookup(lookup)?)
}

fn placeholder(name: &str) -> Option<String> {
    if name == "AWS_S3_BUCKET" {
        return Some(LOCAL_BUCKET.to_owned());
    }
    PLACEHOLDERS.iter().find(|(placeholder, _)| *placeholder == name).map(|(_, value)| (*value).to_owned())
}

#[expect(clippy::disallowed_methods, reason = "the one place where the command line reads its environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_folder_or_a_part_of_a_bucket() {
        let key = Key::parse("datasets/a").unwrap();
        for (text, name, object) in [
            ("s3://b", "s3://b", "s3://b/datasets/a"),
            ("s3://b/", "s3://b", "s3://b/datasets/a"),
            ("s3://b/team/x/", "s3://b/team/x", "s3://b/team/x/datasets/a"),
            ("./folder", "./folder", "./folder/datasets/a"),
        ] {
            let place = Place::parse(text).unwrap();
            assert_eq!((place.to_string(), place.of(&key)), (name.to_owned(), object.to_owned()));
        }
        for text in ["s3://", "s3:///a", "s3://b/../c", "s3://b//c", "gs://b", "https://b", ""] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }
}
