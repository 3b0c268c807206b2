//! Where data is: a folder or `s3://bucket` in, a store and the worker's own configuration out.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::Args;

use crate::aws::{self, AwsSettings};
use crate::config::Config;
use crate::keys::Prefix;
use crate::storage::ObjectStorage;
use crate::storage::folder::FolderStorage;
use crate::storage::s3::S3Storage;

/// What a bucket is called that is a folder.
const LOCAL_BUCKET: &str = "bucket";

/// What a deployment must set and a command does not need: it publishes nothing and has no queue.
const PLACEHOLDERS: [(&str, &str); 2] = [
    ("AWS_SNS_EVENTS_TOPIC_ARN", "arn:aws:sns:us-east-1:000000000000:metric-events.fifo"),
    ("DEAD_LETTER_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/000000000000/metric-run-requests-dead.fifo"),
];

/// The arguments of every command that reads data.
#[derive(Debug, Clone, Args)]
pub(super) struct DataArguments {
    /// Where the data is: a folder that stands for a bucket, or s3://BUCKET
    #[arg(long = "data", value_name = "LOCATION")]
    location: String,
    /// The folder of datasets within the bucket
    #[arg(long, value_name = "PREFIX", default_value = "datasets/")]
    datasets: String,
}

/// A store, and the configuration of a worker that has it for its bucket.
pub(super) struct Location {
    pub(super) storage: Arc<dyn ObjectStorage>,
    pub(super) config: Config,
    pub(super) datasets: Prefix,
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
        self.open_with_memory(None).await
    }

    /// Opens the location for a function of so much memory.
    ///
    /// # Errors
    /// As [`DataArguments::open`].
    pub(super) async fn open_with_memory(&self, memory_mb: Option<u32>) -> anyhow::Result<Location> {
        let datasets = Prefix::parse(&self.datasets).with_context(|| format!("--datasets {:?}", self.datasets))?;
        if let Some(bucket) = self.location.strip_prefix("s3://") {
            let bucket = bucket.trim_end_matches('/');
            ensure!(!bucket.contains('/'), "--data {}: a bucket, without a path in it", self.location);
            let config = config(bucket, &datasets, memory_mb)?;
            let clients = aws::clients(&config.aws).await;
            let storage = Arc::new(S3Storage::new(clients.s3, bucket));
            return Ok(Location { storage, config, datasets });
        }
        let folder = Path::new(&self.location);
        ensure!(folder.is_dir(), "--data {}: no such folder", self.location);
        let storage = FolderStorage::new(folder).with_context(|| self.location.clone())?;
        Ok(Location { storage: Arc::new(storage), config: config(LOCAL_BUCKET, &datasets, memory_mb)?, datasets })
    }
}

/// Where AWS is, by the environment.
///
/// # Errors
/// When the environment has a setting that cannot be.
pub(super) fn aws_settings() -> anyhow::Result<AwsSettings> {
    Ok(config(LOCAL_BUCKET, &Prefix::parse("datasets")?, None)?.aws)
}

/// The configuration of the environment, for this bucket.
fn config(bucket: &str, datasets: &Prefix, memory_mb: Option<u32>) -> anyhow::Result<Config> {
    let lookup = |name: &str| match name {
        "AWS_S3_BUCKET" => Some(bucket.to_owned()),
        "INPUT_PREFIXES" => Some(datasets.to_string()),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE" => memory_mb.map(|memory_mb| memory_mb.to_string()),
        _ => environment(name).or_else(|| {
            let placeholder = PLACEHOLDERS.iter().find(|(placeholder, _)| *placeholder == name);
            placeholder.map(|(_, value)| (*value).to_owned())
        }),
    };
    Ok(Config::from_lookup(lookup)?)
}

#[expect(clippy::disallowed_methods, reason = "the one place where the command line reads its environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
