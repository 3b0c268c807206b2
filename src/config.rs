//! The configuration: the environment parsed once, at cold start. Every missing or malformed variable is named in one
//! message, so that one deployment mends them all.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::aws::AwsSettings;
use crate::expression;
use crate::keys::{DataFile, Prefixes};
use crate::request::Rules;
use crate::worker::computing::Computing;
use crate::worker::evaluate::Calendar;
use crate::worker::publish::{TopicArn, Topics};
use crate::worker::queue::QueueUrls;
use crate::worker::read::SLICE_OBSERVATIONS;

/// Everything the functions can be told from outside.
#[derive(Debug, Clone)]
pub struct Config {
    /// `AWS_REGION`, `AWS_ENDPOINT_URL` and its service-specific forms.
    pub aws: AwsSettings,
    /// The topics of the three events.
    pub topics: Topics,
    /// `AWS_SQS_RUN_REQUEST_QUEUE_URL`, otherwise derived from a record's `eventSourceARN`; `DEAD_LETTER_QUEUE_URL`.
    pub queue_urls: QueueUrls,
    /// `AWS_SQS_RUN_REQUEST_QUEUE_ENABLED`: whether the polling mode polls. The Lambda handler does not look at it.
    pub queue_enabled: bool,
    /// `MAX_RECEIVE_COUNT`: the receive that is a record's last.
    pub max_receive_count: u32,
    /// `WORKER_HEARTBEAT_INTERVAL_SECONDS`; none where `WORKER_HEARTBEAT_ENABLED` is false.
    pub heartbeat_interval: Option<Duration>,
    /// `INPUT_SCOPE`
    pub input_scope: InputScope,
    /// `OUTPUT_FORMAT`: the files of a version, JSONL first.
    pub output_files: Vec<DataFile>,
    /// `OUTPUT_COMPRESSION`
    pub output_compression: OutputCompression,
    /// `CALENDAR_TIMEZONE`
    pub calendar: Calendar,
    /// `READ_CONCURRENCY`: requests in flight.
    pub read_concurrency: NonZeroUsize,
    /// What requests are held against: `AWS_S3_BUCKET`, the prefixes and the limits.
    pub rules: Rules,
    /// `LIMIT_PAGE_BYTES`: the largest Parquet page, uncompressed.
    pub page_bytes_limit: u64,
    /// `LIMIT_OBSERVATIONS`: the most observations of all series of a run that are held at a time.
    pub observation_limit: u64,
    /// With how many observations a slice of the input is worked on. No variable: nothing but memory depends on it.
    pub slice_observations: usize,
    /// Where long computations run. No variable: only simulations have them run in place.
    pub computing: Computing,
    /// `LOG_LEVEL`, or `AWS_LAMBDA_LOG_LEVEL`.
    pub log_level: tracing::Level,
    /// `PROMETHEUS_PORT`: where the polling mode serves its metrics; nowhere with port 0.
    pub prometheus_address: Option<SocketAddr>,
}

/// Which files of a series a run reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputScope {
    /// The listing of the series' folder and the manifest's files: its whole history.
    Projections,
    /// The manifest's files alone: what one version touched.
    Manifest,
}

/// How Parquet pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputCompression {
    /// Not at all.
    None,
    /// Gzip, at its default level.
    Gzip,
    /// Snappy.
    Snappy,
    /// Zstandard, at its default level.
    Zstd,
    /// LZ4, raw blocks.
    Lz4,
    /// Brotli, at its default level.
    Brotli,
}

/// All that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {} problem(s): {}", problems.len(), problems.join("; "))]
pub struct Error {
    /// One sentence for each variable, naming it.
    pub problems: Vec<String>,
}

/// Every variable that is read, with its default; `.env.example` lists the same, and a test compares them.
pub const VARIABLES: [&str; 34] = [
    "AWS_S3_BUCKET",
    "AWS_SNS_METRIC_RUN_STARTED_TOPIC_ARN",
    "AWS_SNS_METRIC_RUN_HEARTBEAT_TOPIC_ARN",
    "AWS_SNS_METRIC_RUN_COMPLETED_TOPIC_ARN",
    "AWS_SNS_EVENTS_TOPIC_ARN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SNS",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_SQS_RUN_REQUEST_QUEUE_URL",
    "AWS_SQS_RUN_REQUEST_QUEUE_ENABLED",
    "DEAD_LETTER_QUEUE_URL",
    "MAX_RECEIVE_COUNT",
    "WORKER_HEARTBEAT_ENABLED",
    "WORKER_HEARTBEAT_INTERVAL_SECONDS",
    "INPUT_SCOPE",
    "OUTPUT_FORMAT",
    "OUTPUT_COMPRESSION",
    "CALENDAR_TIMEZONE",
    "READ_CONCURRENCY",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "INPUT_PREFIXES",
    "OUTPUT_PREFIXES",
    "LIMIT_BODY_BYTES",
    "LIMIT_EXPRESSION_DEPTH",
    "LIMIT_EXPRESSION_NODES",
    "LIMIT_EXPRESSION_OPERANDS",
    "LIMIT_WINDOW",
    "LIMIT_PAGE_BYTES",
    "LIMIT_OBSERVATIONS",
    "LOG_LEVEL",
    "AWS_LAMBDA_LOG_LEVEL",
    "PROMETHEUS_PORT",
];

/// JSON deeper than 128 levels is not parsed at all, and each level of an expression takes up to two of JSON.
const DEEPEST_EXPRESSION: usize = 60;

impl Config {
    /// Reads the configuration from a lookup of variables. An empty variable counts as missing.
    ///
    /// # Errors
    /// All problems at once.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let mut reader = Reader::new(&lookup);
        let topics = reader.topics();
        let queue_enabled = reader.boolean("AWS_SQS_RUN_REQUEST_QUEUE_ENABLED");
        let max_receive_count = reader.number("MAX_RECEIVE_COUNT", 5, 1, 1_000);
        let heartbeat_interval = reader.heartbeat_interval();
        let input_scope = reader.choice("INPUT_SCOPE", InputScope::Projections, &INPUT_SCOPES);
        let output_files = reader.choice("OUTPUT_FORMAT", OutputFormat::Both, &OUTPUT_FORMATS).files();
        let output_compression = reader.choice("OUTPUT_COMPRESSION", OutputCompression::Snappy, &OUTPUT_COMPRESSIONS);
        let calendar = reader.calendar();
        let memory_mb = reader.memory_mb();
        let read_concurrency = reader.read_concurrency(memory_mb);
        let rules = reader.rules("AWS_S3_BUCKET");
        let page_bytes_limit = reader.number("LIMIT_PAGE_BYTES", 64 << 20, 1 << 10, 1 << 31);
        let observation_limit = reader.observation_limit(memory_mb);
        let log_level = reader.log_level();
        let prometheus_address = reader.prometheus_address();
        let (aws, queue_urls) = (reader.aws(), reader.queue_urls());
        match topics {
            Some(topics) if reader.problems.is_empty() => Ok(Self {
                aws,
                topics,
                queue_urls,
                queue_enabled,
                max_receive_count,
                heartbeat_interval,
                input_scope,
                output_files,
                output_compression,
                calendar,
                read_concurrency,
                rules,
                page_bytes_limit,
                observation_limit,
                slice_observations: SLICE_OBSERVATIONS,
                computing: Computing::OnThreads,
                log_level,
                prometheus_address,
            }),
            _ => Err(Error { problems: reader.problems }),
        }
    }
}

/// Reads a file of lines `NAME=value` into the environment of the process. A variable that is set already stays as it
/// is; without the file nothing happens. Call it before there is a second thread.
///
/// # Errors
/// When the file cannot be read, or a line is none of that kind.
pub fn read_env_file(path: &Path) -> anyhow::Result<()> {
    match dotenvy::from_path(path) {
        Err(error) if !error.not_found() => Err(anyhow::anyhow!("{}: {error}", path.display())),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[derive(Debug, Clone, Copy)]
enum OutputFormat {
    Jsonl,
    Parquet,
    Both,
}

impl OutputFormat {
    fn files(self) -> Vec<DataFile> {
        match self {
            Self::Jsonl => vec![DataFile::Jsonl],
            Self::Parquet => vec![DataFile::Parquet],
            Self::Both => vec![DataFile::Jsonl, DataFile::Parquet],
        }
    }
}

const INPUT_SCOPES: [(&str, InputScope); 2] =
    [("projections", InputScope::Projections), ("manifest", InputScope::Manifest)];

const OUTPUT_FORMATS: [(&str, OutputFormat); 3] =
    [("jsonl", OutputFormat::Jsonl), ("parquet", OutputFormat::Parquet), ("both", OutputFormat::Both)];

const OUTPUT_COMPRESSIONS: [(&str, OutputCompression); 6] = [
    ("none", OutputCompression::None),
    ("gzip", OutputCompression::Gzip),
    ("snappy", OutputCompression::Snappy),
    ("zstd", OutputCompression::Zstd),
    ("lz4", OutputCompression::Lz4),
    ("brotli", OutputCompression::Brotli),
];

const LOG_LEVELS: [(&str, tracing::Level); 5] = [
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

/// Reads variables and collects what is wrong with them; a default stands in for a wrong value until the end.
pub(crate) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// One sentence for each variable that is wrong.
    pub(crate) problems: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, problems: Vec::new() }
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    pub(crate) fn aws(&self) -> AwsSettings {
        AwsSettings {
            region: self.text("AWS_REGION").unwrap_or_else(|| "us-east-1".to_owned()),
            endpoint_url: self.text("AWS_ENDPOINT_URL"),
            endpoint_url_s3: self.text("AWS_ENDPOINT_URL_S3"),
            endpoint_url_sns: self.text("AWS_ENDPOINT_URL_SNS"),
            endpoint_url_sqs: self.text("AWS_ENDPOINT_URL_SQS"),
        }
    }

    fn queue_urls(&self) -> QueueUrls {
        QueueUrls {
            requests: self.text("AWS_SQS_RUN_REQUEST_QUEUE_URL"),
            dead_letters: self.text("DEAD_LETTER_QUEUE_URL"),
            endpoint: self.aws().sqs_endpoint().map(str::to_owned),
        }
    }

    /// The topics, or nothing where one is missing or malformed.
    fn topics(&mut self) -> Option<Topics> {
        let started = self.topic("AWS_SNS_METRIC_RUN_STARTED_TOPIC_ARN");
        let heartbeat = self.topic("AWS_SNS_METRIC_RUN_HEARTBEAT_TOPIC_ARN");
        let completed = self.topic("AWS_SNS_METRIC_RUN_COMPLETED_TOPIC_ARN");
        Some(Topics { started: started?, heartbeat: heartbeat?, completed: completed? })
    }

    fn topic(&mut self, name: &str) -> Option<TopicArn> {
        let Some(text) = self.text(name).or_else(|| self.text("AWS_SNS_EVENTS_TOPIC_ARN")) else {
            self.problems.push(format!("{name} is missing, and so is AWS_SNS_EVENTS_TOPIC_ARN"));
            return None;
        };
        let topic = TopicArn::parse(&text);
        topic.map_err(|error| self.problems.push(format!("{name}: {error}"))).ok()
    }

    pub(crate) fn boolean(&mut self, name: &str) -> bool {
        self.choice(name, true, &[("true", true), ("false", false), ("1", true), ("0", false)])
    }

    pub(crate) fn number<T>(&mut self, name: &str, default: T, least: T, most: T) -> T
    where
        T: FromStr + PartialOrd + Copy + std::fmt::Display,
    {
        let Some(text) = self.text(name) else { return default };
        match text.parse() {
            Ok(number) if number >= least && number <= most => number,
            _ => {
                self.problems.push(format!("{name} is {text:?}, expected a number from {least} to {most}"));
                default
            }
        }
    }

    pub(crate) fn choice<T: Copy>(&mut self, name: &str, default: T, choices: &[(&str, T)]) -> T {
        let Some(text) = self.text(name) else { return default };
        let chosen = choices.iter().find(|(choice, _)| text.eq_ignore_ascii_case(choice));
        if let Some((_, value)) = chosen {
            return *value;
        }
        let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
        self.problems.push(format!("{name} is {text:?}, expected one of {}", names.join(", ")));
        default
    }

    fn heartbeat_interval(&mut self) -> Option<Duration> {
        let is_enabled = self.boolean("WORKER_HEARTBEAT_ENABLED");
        let seconds = self.number("WORKER_HEARTBEAT_INTERVAL_SECONDS", 30.0, 0.1, 3_600.0);
        is_enabled.then(|| Duration::from_secs_f64(seconds))
    }

    fn calendar(&mut self) -> Calendar {
        const NAME: &str = "CALENDAR_TIMEZONE";
        let Some(text) = self.text(NAME) else { return Calendar::utc() };
        Calendar::parse(&text).unwrap_or_else(|_| {
            self.problems.push(format!("{NAME} is {text:?}, expected an IANA time zone such as Europe/Madrid"));
            Calendar::utc()
        })
    }

    /// The function's memory, as Lambda tells it.
    fn memory_mb(&mut self) -> Option<u64> {
        const NAME: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";
        self.text(NAME).map(|_| self.number(NAME, 1_024, 1, 1 << 20))
    }

    /// An observation takes 16 bytes as it is read and as many again in a result and in each of its files; a page of a
    /// few bytes can stand for millions of them. One for each 64 bytes of memory leaves a run within its function.
    /// Outside of Lambda the memory is taken to be 4 GB.
    fn observation_limit(&mut self, memory_mb: Option<u64>) -> u64 {
        const PER_MEGABYTE: u64 = (1 << 20) / 64;
        self.number("LIMIT_OBSERVATIONS", memory_mb.unwrap_or(4_096) * PER_MEGABYTE, 1, 1 << 40)
    }

    /// A request in flight holds a connection with its TLS state and an object of up to 1 MiB, and Lambda gives CPU
    /// in proportion to memory: one request for each 16 MB keeps the smallest function within its memory, and 128 is
    /// where one prefix of S3 and one network card stop getting faster.
    fn read_concurrency(&mut self, memory_mb: Option<u64>) -> NonZeroUsize {
        let from_memory = usize::try_from(memory_mb.unwrap_or(1_024) / 16).unwrap_or(usize::MAX).clamp(8, 128);
        let concurrency = self.number("READ_CONCURRENCY", from_memory, 1, 1_024);
        NonZeroUsize::new(concurrency).unwrap_or(NonZeroUsize::MIN)
    }

    /// The text of a variable that has no default; nothing, and a problem, where it is missing.
    #[cfg(feature = "control")]
    pub(crate) fn required(&mut self, name: &str, meaning: &str) -> Option<String> {
        let text = self.text(name);
        if text.is_none() {
            self.problems.push(format!("{name} is missing: {meaning}"));
        }
        text
    }

    pub(crate) fn rules(&mut self, bucket_variable: &str) -> Rules {
        let bucket = self.text(bucket_variable).unwrap_or_else(|| {
            self.problems.push(format!("{bucket_variable} is missing: the bucket of datasets and metrics"));
            String::new()
        });
        let limits = expression::Limits::default();
        Rules {
            bucket,
            input_prefixes: self.prefixes("INPUT_PREFIXES", "datasets/"),
            output_prefixes: self.prefixes("OUTPUT_PREFIXES", "metrics/"),
            body_bytes: self.number("LIMIT_BODY_BYTES", 1 << 20, 1 << 10, 1 << 24),
            expression: expression::Limits {
                depth: self.number("LIMIT_EXPRESSION_DEPTH", limits.depth, 1, DEEPEST_EXPRESSION),
                nodes: self.number("LIMIT_EXPRESSION_NODES", limits.nodes, 1, 1_000_000),
                operands: self.number("LIMIT_EXPRESSION_OPERANDS", limits.operands, 2, 1_000_000),
                window: self.number("LIMIT_WINDOW", limits.window, 1, u32::MAX),
            },
        }
    }

    fn prefixes(&mut self, name: &str, default: &str) -> Prefixes {
        let text = self.text(name).unwrap_or_else(|| default.to_owned());
        Prefixes::parse(&text).unwrap_or_else(|error| {
            self.problems.push(format!("{name}: {error}"));
            Prefixes::none()
        })
    }

    /// A port alone is one of the loopback interface: nobody is served by accident. Whoever has to be reached from
    /// outside, as in a container, says so with an address before the port.
    fn prometheus_address(&mut self) -> Option<SocketAddr> {
        const NAME: &str = "PROMETHEUS_PORT";
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 9_300));
        let address = self.text(NAME).map_or(Some(default), |text| {
            let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let address = text.parse().map(loopback).or_else(|_| text.parse());
            address.map_err(|_| self.problems.push(format!("{NAME} is {text:?}, expected a port or ADDRESS:PORT"))).ok()
        });
        address.filter(|address| address.port() != 0)
    }

    pub(crate) fn log_level(&mut self) -> tracing::Level {
        let from_lambda = self.choice("AWS_LAMBDA_LOG_LEVEL", tracing::Level::INFO, &LOG_LEVELS);
        self.choice("LOG_LEVEL", from_lambda, &LOG_LEVELS)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, Error> {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        Config::from_lookup(|name| {
            assert!(VARIABLES.contains(&name), "{name} is not in VARIABLES");
            variables.get(name).map(|text| (*text).to_owned())
        })
    }

    const REQUIRED: [(&str, &str); 2] =
        [("AWS_S3_BUCKET", "own"), ("AWS_SNS_EVENTS_TOPIC_ARN", "arn:aws:sns:us-east-1:000000000000:events.fifo")];

    fn with(more: &[(&'static str, &'static str)]) -> Result<Config, Error> {
        config(&[&REQUIRED, more].concat())
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = with(&[]).unwrap();
        assert_eq!(config.max_receive_count, 5);
        assert_eq!(config.heartbeat_interval, Some(Duration::from_secs(30)));
        assert_eq!(config.input_scope, InputScope::Projections);
        assert_eq!(config.output_files, [DataFile::Jsonl, DataFile::Parquet]);
        assert_eq!(config.output_compression, OutputCompression::Snappy);
        assert_eq!(config.topics.started.as_str(), REQUIRED[1].1);
        assert_eq!(config.rules.input_prefixes.to_string(), "datasets/");
        assert_eq!(config.aws.region, "us-east-1");
        assert_eq!(config.read_concurrency.get(), 64);
        assert_eq!(config.prometheus_address, Some("127.0.0.1:9300".parse().unwrap()));
        assert!(config.queue_enabled);
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let error = config(&[
            ("AWS_SNS_METRIC_RUN_STARTED_TOPIC_ARN", "started"),
            ("AWS_SNS_METRIC_RUN_COMPLETED_TOPIC_ARN", "arn:aws:sns:us-east-1:000000000000:completed"),
            ("MAX_RECEIVE_COUNT", "many"),
            ("OUTPUT_FORMAT", "csv"),
            ("CALENDAR_TIMEZONE", "Mars/Olympus"),
            ("WORKER_HEARTBEAT_INTERVAL_SECONDS", "0"),
            ("INPUT_PREFIXES", "../"),
            ("LOG_LEVEL", "loud"),
            ("READ_CONCURRENCY", "0"),
        ])
        .unwrap_err();
        insta::assert_snapshot!(error.problems.join("\n"));
    }

    #[test]
    fn metrics_are_served_to_this_machine_unless_an_address_says_otherwise() {
        let address = |text| with(&[("PROMETHEUS_PORT", text)]).map(|config| config.prometheus_address);
        for (text, expected) in [
            ("9400", Some("127.0.0.1:9400")),
            ("0.0.0.0:9300", Some("0.0.0.0:9300")),
            ("[::1]:9300", Some("[::1]:9300")),
            ("0", None),
            ("0.0.0.0:0", None),
            ("", Some("127.0.0.1:9300")),
        ] {
            assert_eq!(address(text).unwrap(), expected.map(|text| text.parse().unwrap()), "{text}");
        }
        for text in ["65536", "localhost", ":9300", "-1"] {
            assert!(address(text).unwrap_err().problems[0].contains("PROMETHEUS_PORT"), "{text}");
        }
    }

    #[test]
    fn an_empty_variable_counts_as_missing() {
        assert!(with(&[("DEAD_LETTER_QUEUE_URL", " ")]).unwrap().queue_urls.dead_letters.is_none());
        assert!(config(&[("AWS_S3_BUCKET", ""), REQUIRED[1]]).is_err());
    }

    #[test]
    fn the_settings_of_a_service_precede_the_general_one() {
        let aws = with(&[("AWS_ENDPOINT_URL", "http://a"), ("AWS_ENDPOINT_URL_S3", "http://b")]).unwrap().aws;
        assert_eq!((aws.s3_endpoint(), aws.sns_endpoint()), (Some("http://b"), Some("http://a")));
    }

    #[test]
    fn concurrency_and_observations_follow_memory_unless_they_are_set() {
        assert_eq!(with(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")]).unwrap().read_concurrency.get(), 8);
        assert_eq!(with(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "10240")]).unwrap().read_concurrency.get(), 128);
        assert_eq!(with(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")]).unwrap().observation_limit, 2_097_152);
        assert_eq!(with(&[("LIMIT_OBSERVATIONS", "7")]).unwrap().observation_limit, 7);
        assert_eq!(with(&[("READ_CONCURRENCY", "3")]).unwrap().read_concurrency.get(), 3);
    }
}
