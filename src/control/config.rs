//! The control plane's configuration: the environment parsed once, at cold start. Every missing or malformed variable is
//! named in one message.

use std::path::PathBuf;
use std::time::Duration;

use super::database::{DatabaseSettings, RootCertificate, Tls};
use crate::aws::AwsSettings;
use crate::config::{Error, Reader};
use crate::request::Rules;
use crate::worker::publish::TopicArn;

/// Everything the control plane can be told from outside.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// `AWS_REGION`, `AWS_ENDPOINT_URL` and its service-specific forms.
    pub aws: AwsSettings,
    /// `DB_…`
    pub database: DatabaseSettings,
    /// `SNS_TOPIC_ARN`, which `SNS_TOPIC_IS_FIFO` must not contradict: where requests of runs go.
    pub topic: TopicArn,
    /// `SQS_…`: where messages come from.
    pub queues: InboundQueues,
    /// `MAX_RECEIVE_COUNT`: the receive that is a record's last.
    pub max_receive_count: u32,
    /// `S3_BUCKET`, the prefixes and the limits: what metrics and updates are held against, as the worker will.
    pub rules: Rules,
    /// When a run that says nothing is given up.
    pub patience: Patience,
    /// `EVENT_LOG_DAYS`: how long handled messages are remembered.
    pub event_log_days: u32,
    /// `PORT`: where `--serve` listens.
    pub port: u16,
    /// `LOG_LEVEL`, or `AWS_LAMBDA_LOG_LEVEL`.
    pub log_level: tracing::Level,
}

/// A queue of inbound messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InboundQueue {
    /// `SQS_…_QUEUE_URL`; in Lambda it follows from a record's `eventSourceARN`.
    pub url: Option<String>,
    /// `SQS_…_QUEUE_ENABLED`: whether `--serve` polls it.
    pub is_enabled: bool,
    /// `SQS_…_DEAD_LETTER_QUEUE_URL`
    pub dead_letter_url: Option<String>,
}

/// The four queues of inbound messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InboundQueues {
    /// `SQS_PROJECTION_UPDATE_…`
    pub projection_update: InboundQueue,
    /// `SQS_METRIC_RUN_STARTED_…`
    pub started: InboundQueue,
    /// `SQS_METRIC_RUN_HEARTBEAT_…`
    pub heartbeat: InboundQueue,
    /// `SQS_METRIC_RUN_COMPLETED_…`
    pub completed: InboundQueue,
}

/// How long silence is borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// `RUN_START_TIMEOUT_SECONDS`: from a request's publication to the first sign of its worker.
    pub start: Duration,
    /// `RUN_HEARTBEAT_TIMEOUT_SECONDS`: from one sign to the next.
    pub heartbeat: Duration,
}

/// Every variable that is read; `.env.control.example` lists the same, and a test compares them.
pub const VARIABLES: [&str; 48] = [
    "DB_HOST",
    "DB_PORT",
    "DB_NAME",
    "DB_USER",
    "DB_PASSWORD",
    "DB_TLS",
    "DB_TLS_ROOT_CERT",
    "DB_POOL_SIZE",
    "DB_CONNECT_TIMEOUT_SECONDS",
    "DB_STATEMENT_TIMEOUT_SECONDS",
    "SNS_TOPIC_ARN",
    "SNS_TOPIC_IS_FIFO",
    "SQS_PROJECTION_UPDATE_QUEUE_URL",
    "SQS_PROJECTION_UPDATE_QUEUE_ENABLED",
    "SQS_PROJECTION_UPDATE_DEAD_LETTER_QUEUE_URL",
    "SQS_METRIC_RUN_STARTED_QUEUE_URL",
    "SQS_METRIC_RUN_STARTED_QUEUE_ENABLED",
    "SQS_METRIC_RUN_STARTED_DEAD_LETTER_QUEUE_URL",
    "SQS_METRIC_RUN_HEARTBEAT_QUEUE_URL",
    "SQS_METRIC_RUN_HEARTBEAT_QUEUE_ENABLED",
    "SQS_METRIC_RUN_HEARTBEAT_DEAD_LETTER_QUEUE_URL",
    "SQS_METRIC_RUN_COMPLETED_QUEUE_URL",
    "SQS_METRIC_RUN_COMPLETED_QUEUE_ENABLED",
    "SQS_METRIC_RUN_COMPLETED_DEAD_LETTER_QUEUE_URL",
    "MAX_RECEIVE_COUNT",
    "S3_BUCKET",
    "INPUT_PREFIXES",
    "OUTPUT_PREFIXES",
    "LIMIT_BODY_BYTES",
    "LIMIT_EXPRESSION_DEPTH",
    "LIMIT_EXPRESSION_NODES",
    "LIMIT_EXPRESSION_OPERANDS",
    "LIMIT_WINDOW",
    "RUN_START_TIMEOUT_SECONDS",
    "RUN_HEARTBEAT_TIMEOUT_SECONDS",
    "EVENT_LOG_DAYS",
    "PORT",
    "API_ADDRESS",
    "API_KEY",
    "API_UNPROTECTED",
    "LOG_LEVEL",
    "AWS_LAMBDA_LOG_LEVEL",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SNS",
    "AWS_ENDPOINT_URL_SQS",
    "DEAD_LETTER_QUEUE_URL",
];

/// What `DB_TLS` may say.
const TLS_MODES: [(&str, Tls); 3] =
    [("verify-full", Tls::VerifyFull), ("require", Tls::Require), ("disable", Tls::Disable)];

impl ControlConfig {
    /// Reads the configuration from a lookup of variables. An empty variable counts as missing.
    ///
    /// # Errors
    /// All problems at once.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let mut reader = Reader::new(&lookup);
        let database = database(&mut reader);
        let topic = topic(&mut reader);
        let queues = InboundQueues {
            projection_update: queue(&mut reader, "PROJECTION_UPDATE"),
            started: queue(&mut reader, "METRIC_RUN_STARTED"),
            heartbeat: queue(&mut reader, "METRIC_RUN_HEARTBEAT"),
            completed: queue(&mut reader, "METRIC_RUN_COMPLETED"),
        };
        let max_receive_count = reader.number("MAX_RECEIVE_COUNT", 5, 1, 1_000);
        let rules = reader.rules("S3_BUCKET");
        // A dispatched request may wait behind others for an hour; a run that fails for now is silent for the five
        // minutes until its next delivery, and one invocation of Lambda lasts fifteen at most.
        let start = Duration::from_secs(reader.number("RUN_START_TIMEOUT_SECONDS", 3_600, 1, 30 * 86_400));
        let heartbeat = Duration::from_secs(reader.number("RUN_HEARTBEAT_TIMEOUT_SECONDS", 900, 1, 86_400));
        let event_log_days = reader.number("EVENT_LOG_DAYS", 30, 1, 36_500);
        let port = reader.number("PORT", 3_000, 0, u16::MAX);
        let log_level = reader.log_level();
        let aws = reader.aws();
        match (database, topic) {
            (Some(database), Some(topic)) if reader.problems.is_empty() => Ok(Self {
                aws,
                database,
                topic,
                queues,
                max_receive_count,
                rules,
                patience: Patience { start, heartbeat },
                event_log_days,
                port,
                log_level,
            }),
            _ => Err(Error { problems: reader.problems }),
        }
    }
}

impl DatabaseSettings {
    /// Reads the settings of the database alone, which is all that migrations need.
    ///
    /// # Errors
    /// All problems at once.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let mut reader = Reader::new(&lookup);
        match database(&mut reader) {
            Some(settings) if reader.problems.is_empty() => Ok(settings),
            _ => Err(Error { problems: reader.problems }),
        }
    }
}

/// The settings, or nothing where one is missing.
fn database(reader: &mut Reader<'_>) -> Option<DatabaseSettings> {
    let host = reader.required("DB_HOST", "the host of the database");
    let name = reader.required("DB_NAME", "the name of the database");
    let user = reader.required("DB_USER", "the user of the database");
    let port = reader.number("DB_PORT", 5_432, 1, u16::MAX);
    let tls = reader.choice("DB_TLS", Tls::VerifyFull, &TLS_MODES);
    // Ten groups of a batch can be worked on at a time, and a function has many instances.
    let pool_size = reader.number("DB_POOL_SIZE", 5, 1, 1_000);
    let connect_timeout = Duration::from_secs(reader.number("DB_CONNECT_TIMEOUT_SECONDS", 10, 1, 300));
    let statement_timeout = Duration::from_secs(reader.number("DB_STATEMENT_TIMEOUT_SECONDS", 60, 1, 3_600));
    let root_certificate = reader.text("DB_TLS_ROOT_CERT").map(|text| match text.contains("-----BEGIN") {
        true => RootCertificate::Pem(text),
        false => RootCertificate::File(PathBuf::from(text)),
    });
    Some(DatabaseSettings {
        host: host?,
        port,
        name: name?,
        user: user?,
        password: reader.text("DB_PASSWORD"),
        tls,
        root_certificate,
        pool_size,
        connect_timeout,
        statement_timeout,
    })
}

fn topic(reader: &mut Reader<'_>) -> Option<TopicArn> {
    const NAME: &str = "SNS_TOPIC_ARN";
    let text = reader.required(NAME, "the topic that requests of runs are published to")?;
    let topic = TopicArn::parse(&text).map_err(|error| reader.problems.push(format!("{NAME}: {error}"))).ok()?;
    let is_fifo = reader.choice("SNS_TOPIC_IS_FIFO", topic.is_fifo(), &[("true", true), ("false", false)]);
    if is_fifo != topic.is_fifo() {
        reader.problems.push(format!("SNS_TOPIC_IS_FIFO is {is_fifo}, and {NAME} says otherwise: {topic}"));
    }
    Some(topic)
}

fn queue(reader: &mut Reader<'_>, name: &str) -> InboundQueue {
    let dead_letters = reader.text(&format!("SQS_{name}_DEAD_LETTER_QUEUE_URL"));
    InboundQueue {
        url: reader.text(&format!("SQS_{name}_QUEUE_URL")),
        is_enabled: reader.boolean(&format!("SQS_{name}_QUEUE_ENABLED")),
        dead_letter_url: dead_letters.or_else(|| reader.text("DEAD_LETTER_QUEUE_URL")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::control::api::settings::ApiSettings;

    fn minimal() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([
            ("DB_HOST", "db"),
            ("DB_NAME", "metrics"),
            ("DB_USER", "control"),
            ("DB_PASSWORD", "secret"),
            ("SNS_TOPIC_ARN", "arn:aws:sns:us-east-1:1:runs.fifo"),
            ("S3_BUCKET", "own"),
        ])
    }

    fn read(variables: &BTreeMap<&str, &str>) -> Result<ControlConfig, Error> {
        ControlConfig::from_lookup(|name| variables.get(name).map(|&value| value.to_owned()))
    }

    #[test]
    fn without_a_setting_the_connection_is_encrypted_and_its_server_verified() {
        let config = read(&minimal()).unwrap();
        assert_eq!(config.database.tls, Tls::VerifyFull);
        let mut variables = minimal();
        variables.insert("DB_TLS", "disable");
        assert_eq!(read(&variables).unwrap().database.tls, Tls::Disable);
    }

    #[test]
    fn the_password_is_not_in_what_is_logged() {
        assert!(!format!("{:?}", read(&minimal()).unwrap()).contains("secret"));
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let variables = BTreeMap::from([
            ("DB_PORT", "0"),
            ("DB_TLS", "maybe"),
            ("SNS_TOPIC_ARN", "runs"),
            ("SQS_METRIC_RUN_STARTED_QUEUE_ENABLED", "perhaps"),
            ("PORT", "web"),
        ]);
        let problems = read(&variables).unwrap_err().problems.join("\n");
        for name in [
            "DB_HOST is missing",
            "DB_NAME is missing",
            "DB_USER is missing",
            "DB_PORT is \"0\"",
            "DB_TLS is \"maybe\"",
            "SNS_TOPIC_ARN: \"runs\"",
            "S3_BUCKET is missing",
            "SQS_METRIC_RUN_STARTED_QUEUE_ENABLED",
            "PORT is \"web\"",
        ] {
            assert!(problems.contains(name), "{name} in {problems}");
        }
    }

    #[test]
    fn a_topic_is_fifo_by_its_name_and_no_setting_may_say_otherwise() {
        let mut variables = minimal();
        variables.insert("SNS_TOPIC_IS_FIFO", "false");
        let error = read(&variables).unwrap_err().to_string();
        assert!(error.contains("SNS_TOPIC_IS_FIFO is false"), "{error}");
    }

    #[test]
    fn a_queue_has_its_own_dead_letters_before_those_of_all() {
        let mut variables = minimal();
        variables.insert("DEAD_LETTER_QUEUE_URL", "http://all");
        variables.insert("SQS_METRIC_RUN_STARTED_DEAD_LETTER_QUEUE_URL", "http://own");
        let queues = read(&variables).unwrap().queues;
        assert_eq!(queues.started.dead_letter_url.as_deref(), Some("http://own"));
        assert_eq!(queues.heartbeat.dead_letter_url.as_deref(), Some("http://all"));
    }

    #[test]
    fn the_example_lists_every_variable_with_its_default() {
        let example = include_str!("../../.env.control.example");
        let lines: BTreeMap<&str, &str> =
            example.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')).collect();
        assert_eq!(lines.keys().copied().collect::<std::collections::BTreeSet<_>>(), VARIABLES.into());
        let minimal = minimal();
        let from_example = ControlConfig::from_lookup(|name| {
            let own = minimal.get(name).or_else(|| lines.get(name));
            own.map(|&value| value.to_owned())
        });
        assert_eq!(format!("{:?}", from_example.unwrap()), format!("{:?}", read(&minimal).unwrap()));
    }

    #[test]
    fn every_variable_is_read_and_every_one_that_is_read_is_listed() {
        let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
        let minimal = minimal();
        let lookup = |name: &str| {
            seen.borrow_mut().insert(name.to_owned());
            minimal.get(name).map(|&value| value.to_owned())
        };
        ControlConfig::from_lookup(lookup).unwrap();
        ApiSettings::from_lookup(lookup).unwrap();
        let listed: std::collections::BTreeSet<String> = VARIABLES.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(seen.into_inner(), listed);
    }
}
