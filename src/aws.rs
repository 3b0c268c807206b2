//! The clients of AWS: region and endpoints in, one client each of S3, SNS and SQS out.
//!
//! They are built once, at cold start, and share one connection pool, one TLS set-up and one cache of credentials.
//! The SDK's defaults are made for programs without a deadline: no limit on an operation, idle connections kept for
//! longer than the servers keep them. Every value that differs is a constant here, with its reason.

#[cfg(feature = "control")]
pub mod control;
pub mod failure;
pub mod ports;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig, identity::IdentityCache};
use aws_sdk_s3::config::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::{Builder as HttpClientBuilder, Connector, tls};

use crate::keys::Prefix;

/// Within a region a connection takes milliseconds; a lost SYN is sent again after one second, and a second loss
/// means that another address should be tried.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(2_500);

/// How long S3 may take to send the first byte of its answer. It counts from the start of the request, so an upload
/// has to fit: 20 s carry 200 MB at 10 MB/s, more than the largest output. Without it, a silent peer is waited for
/// without end.
const OBJECT_READ_TIMEOUT: Duration = Duration::from_secs(20);

/// One attempt of an S3 operation: the connection and the first byte. The body of an answer comes after it and is
/// bounded by `storage::s3`.
const OBJECT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(23);

/// An S3 operation with all its attempts. Three slow attempts do not fit, two do: the third is for quick failures.
/// A minute is what a run can lose to one request and still answer within the function's fifteen minutes.
const OBJECT_OPERATION_TIMEOUT: Duration = Duration::from_secs(60);

/// SNS and SQS carry at most 1 MiB and answer in milliseconds; what takes longer than this is lost.
const MESSAGE_READ_TIMEOUT: Duration = Duration::from_secs(5);

/// One attempt of an SNS or SQS operation: the connection and the answer.
const MESSAGE_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);

/// An SNS or SQS operation with all its attempts: they happen at the end of a run, close to the deadline.
const MESSAGE_OPERATION_TIMEOUT: Duration = Duration::from_secs(20);

/// A long poll is answered after 20 s where there is no message.
const LONG_POLL_READ_TIMEOUT: Duration = Duration::from_secs(25);

/// One attempt of a long poll: the connection and the answer.
const LONG_POLL_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(28);

/// A long poll with all its attempts.
const LONG_POLL_OPERATION_TIMEOUT: Duration = Duration::from_secs(60);

/// The first and three more. Of some thousand requests in a run one meets a lost connection or a 503; four attempts
/// make a run fail for that only when the store is really down. Beyond them the queue's own retry is the better one.
const MAX_ATTEMPTS: u32 = 4;

/// A request is retried after a random part of 0.1, 0.2, 0.4 s; the SDK's first wait of up to 1 s is long beside a
/// run that takes two.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);

/// Also under throttling no wait is longer, so that four attempts keep within the operation's time-out.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// S3 closes a connection that was idle for some seconds: 20 by its documentation, and clients saw less than 10. The
/// pool's default of 90 s hands out connections that the server has closed, and each costs an attempt. After a
/// freeze between two invocations the pool's clock may have stood still; the retry covers that.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// A body that brings nothing for so long is given up, and fetched again, while there is time for it. The SDK's own
/// value is 20 s.
const STALLED_STREAM_GRACE: Duration = Duration::from_secs(8);

/// Credentials come from the environment (at once), or from the container's or machine's endpoint (milliseconds).
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(5);

/// The part of the cold start that credentials may take: Lambda allows ten seconds for all of it.
const CREDENTIALS_WARM_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// The part of the cold start that the first connection to S3 may take. Within a region it takes some milliseconds, and
/// some more on a fraction of a core; what takes longer is better left to the first run, which has the time.
const CONNECTION_WARM_UP_TIMEOUT: Duration = Duration::from_millis(250);

/// Where the SDK warns of every object that was uploaded in parts with a checksum of parts, which no reader can verify.
pub const CHECKSUM_WARNINGS: &str = "aws_sdk_s3::http_response_checksum";

/// Where AWS is: its region, or a local stand-in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AwsSettings {
    /// The region.
    pub region: String,
    /// A stand-in for all services.
    pub endpoint_url: Option<String>,
    /// A stand-in for S3, before `endpoint_url`.
    pub endpoint_url_s3: Option<String>,
    /// A stand-in for SNS, before `endpoint_url`.
    pub endpoint_url_sns: Option<String>,
    /// A stand-in for SQS, before `endpoint_url`.
    pub endpoint_url_sqs: Option<String>,
}

impl AwsSettings {
    /// The stand-in for S3, if there is one.
    #[must_use]
    pub fn s3_endpoint(&self) -> Option<&str> {
        self.endpoint_url_s3.as_deref().or(self.endpoint_url.as_deref())
    }

    /// The stand-in for SNS, if there is one.
    #[must_use]
    pub fn sns_endpoint(&self) -> Option<&str> {
        self.endpoint_url_sns.as_deref().or(self.endpoint_url.as_deref())
    }

    /// The stand-in for SQS, if there is one. Queue URLs that are derived from a queue's ARN begin with it.
    #[must_use]
    pub fn sqs_endpoint(&self) -> Option<&str> {
        self.endpoint_url_sqs.as_deref().or(self.endpoint_url.as_deref())
    }
}

/// One client for each service.
#[derive(Debug, Clone)]
pub struct Clients {
    /// S3.
    pub s3: aws_sdk_s3::Client,
    /// SNS.
    pub sns: aws_sdk_sns::Client,
    /// SQS.
    pub sqs: aws_sdk_sqs::Client,
}

/// Reads the system's certificates on a thread of its own: with a core to spare they are there when the first connection
/// needs them. They are read once in a process, whoever comes first.
pub fn read_certificates_ahead() {
    let read = || drop(Connector::builder().tls_provider(tls_provider()).build());
    // Without a thread the first connection reads them, as it would have.
    let _ = std::thread::Builder::new().name("certificates".to_owned()).spawn(read);
}

/// The same crate and cryptography as the SDK's own client, so that there is one TLS stack in the binary.
fn tls_provider() -> tls::Provider {
    tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)
}

/// The clients, with the credentials of the process: environment, profile, container or machine, whichever comes
/// first. They are looked for now, so that the first request finds their source known and connected.
pub async fn clients(settings: &AwsSettings) -> Clients {
    build(settings, loader(settings)).await
}

/// The clients, with these credentials.
pub async fn clients_with_credentials(settings: &AwsSettings, credentials: SharedCredentialsProvider) -> Clients {
    build(settings, loader(settings).credentials_provider(credentials)).await
}

fn loader(settings: &AwsSettings) -> ConfigLoader {
    let http_client =
        HttpClientBuilder::new().tls_provider(tls_provider()).pool_idle_timeout(POOL_IDLE_TIMEOUT).build_https();
    let retries = RetryConfig::standard()
        .with_max_attempts(MAX_ATTEMPTS)
        .with_initial_backoff(INITIAL_BACKOFF)
        .with_max_backoff(MAX_BACKOFF);
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(settings.region.clone()))
        .http_client(http_client)
        .retry_config(retries)
        .timeout_config(message_timeouts())
        .identity_cache(IdentityCache::lazy().load_timeout(CREDENTIALS_TIMEOUT).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(STALLED_STREAM_GRACE).build())
}

async fn build(settings: &AwsSettings, loader: ConfigLoader) -> Clients {
    let shared = loader.load().await;
    warm_credentials(&shared).await;

    // Set also where there is none: the environment is read by the configuration alone.
    let mut s3 = aws_sdk_s3::config::Builder::from(&shared).timeout_config(object_timeouts());
    s3.set_endpoint_url(settings.s3_endpoint().map(str::to_owned));
    // A stand-in has no DNS name for each bucket.
    s3.set_force_path_style(settings.s3_endpoint().map(|_| true));
    let mut sns = aws_sdk_sns::config::Builder::from(&shared);
    sns.set_endpoint_url(settings.sns_endpoint().map(str::to_owned));
    let mut sqs = aws_sdk_sqs::config::Builder::from(&shared);
    sqs.set_endpoint_url(settings.sqs_endpoint().map(str::to_owned));
    Clients {
        s3: aws_sdk_s3::Client::from_conf(s3.build()),
        sns: aws_sdk_sns::Client::from_conf(sns.build()),
        sqs: aws_sdk_sqs::Client::from_conf(sqs.build()),
    }
}

/// Resolves the credentials once. A failure is no reason not to start: the first request meets it again, and its
/// error says what is missing.
async fn warm_credentials(shared: &SdkConfig) {
    let Some(provider) = shared.credentials_provider() else { return };
    match tokio::time::timeout(CREDENTIALS_WARM_UP_TIMEOUT, provider.provide_credentials()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "no credentials at start"),
        Err(_) => tracing::debug!("credentials took too long at start"),
    }
}

/// Opens a connection to S3 with a listing of one key, while the whole processor is the cold start's: the first run finds
/// it open, and the others of a run take its TLS session up. A failure is no reason not to start.
pub async fn warm_connection(s3: &aws_sdk_s3::Client, bucket: &str, prefix: &Prefix) {
    let once = aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled());
    let listing = s3.list_objects_v2().bucket(bucket).prefix(prefix.as_str()).max_keys(1);
    match tokio::time::timeout(CONNECTION_WARM_UP_TIMEOUT, listing.customize().config_override(once).send()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(reason = failure::chain(&error), "no connection to S3 at start"),
        Err(_) => tracing::debug!("the connection to S3 took too long at start"),
    }
}

fn object_timeouts() -> TimeoutConfig {
    timeouts(OBJECT_READ_TIMEOUT, OBJECT_ATTEMPT_TIMEOUT, OBJECT_OPERATION_TIMEOUT)
}

fn message_timeouts() -> TimeoutConfig {
    timeouts(MESSAGE_READ_TIMEOUT, MESSAGE_ATTEMPT_TIMEOUT, MESSAGE_OPERATION_TIMEOUT)
}

/// For receiving messages, where no answer is no failure for 20 s.
#[must_use]
pub fn long_poll_timeouts() -> TimeoutConfig {
    timeouts(LONG_POLL_READ_TIMEOUT, LONG_POLL_ATTEMPT_TIMEOUT, LONG_POLL_OPERATION_TIMEOUT)
}

fn timeouts(read: Duration, attempt: Duration, operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(read)
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::config::Credentials;

    use super::*;

    async fn check(settings: &AwsSettings) -> Clients {
        let credentials = Credentials::new("key", "secret", None, None, "test");
        clients_with_credentials(settings, SharedCredentialsProvider::new(credentials)).await
    }

    #[tokio::test]
    async fn every_request_is_bounded_in_time() {
        let clients = check(&AwsSettings { region: "eu-west-1".into(), ..AwsSettings::default() }).await;
        for timeouts in [
            &long_poll_timeouts(),
            clients.s3.config().timeout_config().unwrap(),
            clients.sns.config().timeout_config().unwrap(),
            clients.sqs.config().timeout_config().unwrap(),
        ] {
            let operation = timeouts.operation_timeout().unwrap();
            let attempt = timeouts.operation_attempt_timeout().unwrap();
            let read = timeouts.read_timeout().unwrap();
            assert!(read + timeouts.connect_timeout().unwrap() <= attempt, "an attempt has time to connect and read");
            assert!(2 * attempt + MAX_BACKOFF <= operation, "after a slow attempt there is time for another");
            assert!(operation <= Duration::from_secs(60));
        }
        assert_eq!(clients.sqs.config().retry_config().unwrap().max_attempts(), MAX_ATTEMPTS);
        assert_eq!(clients.s3.config().region().unwrap().as_ref(), "eu-west-1");
    }

    #[test]
    fn a_service_s_own_endpoint_comes_first() {
        let settings = AwsSettings {
            endpoint_url: Some("http://all".into()),
            endpoint_url_sqs: Some("http://sqs".into()),
            ..AwsSettings::default()
        };
        assert_eq!(settings.s3_endpoint(), Some("http://all"));
        assert_eq!(settings.sns_endpoint(), Some("http://all"));
        assert_eq!(settings.sqs_endpoint(), Some("http://sqs"));
        assert_eq!(AwsSettings::default().sqs_endpoint(), None);
    }
}
