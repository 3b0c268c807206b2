//! S3, SNS and SQS on this machine: `MiniStack` as a child process that ends with the test, however the test ends.
//!
//! One server serves a test binary: start it once and give every step its own bucket, topic or queue. Its clients
//! belong to the tokio runtime that first used them, so keep one `LocalAws` within one test function.

use std::collections::HashMap;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use metrics_engine::aws::{self, AwsSettings, Clients};

/// The region of everything in it.
pub const REGION: &str = "us-east-1";

/// The account of everything in it.
pub const ACCOUNT: &str = "000000000000";

/// It is up in under a second on an idle machine; a loaded one may take twenty times as long.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the server, and ends it together with the functions it started when standard input closes. That happens when
/// the guard is dropped and also when the test process is killed, where no destructor runs. The folder goes with it.
const SUPERVISOR: &str = r#"
    folder="$1"; shift
    "$@" &
    server=$!
    cat > /dev/null
    trap '' TERM
    kill -TERM 0
    kill -KILL "$server" 2> /dev/null
    wait
    rm -rf "$folder"
"#;

/// A running local AWS.
pub struct LocalAws {
    /// Where it listens, such as `http://127.0.0.1:40123`.
    pub endpoint: String,
    /// The product's own clients, with its time-outs and retries, for this endpoint.
    pub clients: Clients,
    folder: PathBuf,
    supervisor: Child,
}

/// A queue, by both of its names.
#[derive(Debug, Clone)]
pub struct LocalQueue {
    pub url: String,
    pub arn: String,
}

/// How SNS hands a message to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The message is the body; its attributes are the record's.
    Raw,
    /// The body is an envelope, `"Type":"Notification"`.
    Wrapped,
}

impl LocalAws {
    /// Starts it on a free port of the loopback interface, in a folder of its own.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts it with more variables in its environment.
    pub async fn start_with(environment: &[(&str, &str)]) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/ministack");
        assert!(program.exists(), "{} is missing: run make venv", program.display());
        let folder = tempfile::Builder::new().prefix("local-aws-").tempdir().unwrap().keep();
        let port = free_port();
        let mut supervisor = launch(&program, &folder, port, environment);
        if let Err(reason) = wait_until_it_listens(&folder, port).await {
            let log = std::fs::read_to_string(log_file(&folder)).unwrap_or_default();
            stop(&mut supervisor);
            panic!("the local AWS {reason}; its log:\n{log}");
        }
        let endpoint = format!("http://127.0.0.1:{port}");
        let clients = clients(&endpoint).await;
        Self { endpoint, clients, folder, supervisor }
    }

    /// The settings that lead the product's clients here.
    pub fn settings(&self) -> AwsSettings {
        settings(&self.endpoint)
    }

    /// The environment that leads any SDK in a child process here.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// Its folder, which disappears with it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it wrote to its log so far, the output of its functions included.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_file(&self.folder)).unwrap_or_default()
    }

    /// Creates a bucket.
    pub async fn bucket(&self, name: &str) {
        self.clients.s3.create_bucket().bucket(name).send().await.unwrap();
    }

    /// Writes an object, whatever is there.
    pub async fn put(&self, bucket: &str, key: &str, body: impl Into<bytes::Bytes>) {
        self.clients.s3.put_object().bucket(bucket).key(key).body(body.into().into()).send().await.unwrap();
    }

    /// Reads an object, if there is one.
    pub async fn get(&self, bucket: &str, key: &str) -> Option<bytes::Bytes> {
        match self.clients.s3.get_object().bucket(bucket).key(key).send().await {
            Ok(object) => Some(object.body.collect().await.unwrap().into_bytes()),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_no_such_key()) => None,
            Err(error) => panic!("{key}: {error:?}"),
        }
    }

    /// The keys under a prefix, ascending.
    pub async fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let mut pages = self.clients.s3.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            keys.extend(page.unwrap().contents().iter().map(|object| object.key().unwrap().to_owned()));
        }
        keys
    }

    /// Creates a FIFO topic; `.fifo` is added to its name. Returns its ARN.
    pub async fn fifo_topic(&self, name: &str) -> String {
        let topic = self.clients.sns.create_topic().name(format!("{name}.fifo")).attributes("FifoTopic", "true");
        topic.send().await.unwrap().topic_arn.unwrap()
    }

    /// Creates a topic that is not FIFO. Returns its ARN.
    pub async fn standard_topic(&self, name: &str) -> String {
        self.clients.sns.create_topic().name(name).send().await.unwrap().topic_arn.unwrap()
    }

    /// Creates a FIFO queue; `.fifo` is added to its name.
    pub async fn fifo_queue(&self, name: &str) -> LocalQueue {
        self.fifo_queue_with(name, &[]).await
    }

    /// Creates a FIFO queue with attributes such as `VisibilityTimeout` or `RedrivePolicy`.
    pub async fn fifo_queue_with(&self, name: &str, attributes: &[(QueueAttributeName, &str)]) -> LocalQueue {
        let mut all: Vec<_> = attributes.to_vec();
        all.push((QueueAttributeName::FifoQueue, "true"));
        self.queue_of(&format!("{name}.fifo"), &all).await
    }

    /// Creates a FIFO queue and its dead-letter queue, `NAME-dlq`, where a message goes after so many receives.
    pub async fn fifo_queue_with_dead_letters(
        &self,
        name: &str,
        max_receive_count: u32,
        visibility_seconds: u32,
    ) -> (LocalQueue, LocalQueue) {
        let dead_letters = self.fifo_queue(&format!("{name}-dlq")).await;
        let policy =
            format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":"{max_receive_count}"}}"#, dead_letters.arn);
        let visibility = visibility_seconds.to_string();
        let attributes = [
            (QueueAttributeName::RedrivePolicy, policy.as_str()),
            (QueueAttributeName::VisibilityTimeout, visibility.as_str()),
        ];
        (self.fifo_queue_with(name, &attributes).await, dead_letters)
    }

    /// Creates a queue that is not FIFO.
    pub async fn standard_queue(&self, name: &str) -> LocalQueue {
        self.queue_of(name, &[]).await
    }

    async fn queue_of(&self, name: &str, attributes: &[(QueueAttributeName, &str)]) -> LocalQueue {
        let attributes: HashMap<_, _> =
            attributes.iter().map(|(name, value)| (name.clone(), (*value).to_owned())).collect();
        let request = self.clients.sqs.create_queue().queue_name(name).set_attributes(Some(attributes));
        let url = request.send().await.unwrap().queue_url.unwrap();
        LocalQueue { url, arn: format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}") }
    }

    /// Lets a queue receive what a topic publishes.
    pub async fn subscribe(&self, topic_arn: &str, queue: &LocalQueue, delivery: Delivery) {
        let raw = if delivery == Delivery::Raw { "true" } else { "false" };
        let request = self.clients.sns.subscribe().topic_arn(topic_arn).protocol("sqs").endpoint(&queue.arn);
        request.attributes("RawMessageDelivery", raw).send().await.unwrap();
    }

    /// Sends a message to a FIFO queue.
    pub async fn send(&self, queue: &LocalQueue, group_id: &str, dedup_id: &str, body: &str) {
        let request = self.clients.sqs.send_message().queue_url(&queue.url).message_body(body);
        request.message_group_id(group_id).message_deduplication_id(dedup_id).send().await.unwrap();
    }

    /// Receives up to ten messages with all their attributes, and waits up to `wait_seconds` for the first. They stay
    /// in flight.
    pub async fn receive(&self, queue: &LocalQueue, wait_seconds: i32) -> Vec<Message> {
        let request = self.clients.sqs.receive_message().queue_url(&queue.url).max_number_of_messages(10);
        let request = request.message_system_attribute_names(MessageSystemAttributeName::All);
        let request = request.message_attribute_names("All").wait_time_seconds(wait_seconds);
        request.send().await.unwrap().messages.unwrap_or_default()
    }

    /// Deletes a message.
    pub async fn delete(&self, queue: &LocalQueue, message: &Message) {
        let request = self.clients.sqs.delete_message().queue_url(&queue.url);
        request.receipt_handle(message.receipt_handle().unwrap()).send().await.unwrap();
    }

    /// Receives and deletes everything that is in a queue now.
    pub async fn drain(&self, queue: &LocalQueue) -> Vec<Message> {
        let mut all = Vec::new();
        loop {
            let messages = self.receive(queue, 0).await;
            if messages.is_empty() {
                return all;
            }
            for message in &messages {
                self.delete(queue, message).await;
            }
            all.extend(messages);
        }
    }

    /// Receives and deletes until `count` messages have come, for at most `timeout`.
    pub async fn collect(&self, queue: &LocalQueue, count: usize, timeout: Duration) -> Vec<Message> {
        let start = Instant::now();
        let mut all = self.drain(queue).await;
        while all.len() < count && start.elapsed() < timeout {
            tokio::time::sleep(Duration::from_millis(50)).await;
            all.extend(self.drain(queue).await);
        }
        all
    }
}

impl Drop for LocalAws {
    fn drop(&mut self) {
        stop(&mut self.supervisor);
    }
}

fn settings(endpoint: &str) -> AwsSettings {
    AwsSettings { region: REGION.to_owned(), endpoint_url: Some(endpoint.to_owned()), ..AwsSettings::default() }
}

/// The product's clients for an endpoint, with credentials that any stand-in accepts.
pub async fn clients(endpoint: &str) -> Clients {
    let credentials = Credentials::new("test", "test", None, None, "local");
    aws::clients_with_credentials(&settings(endpoint), SharedCredentialsProvider::new(credentials)).await
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("log.txt")
}

fn launch(program: &Path, folder: &Path, port: u16, environment: &[(&str, &str)]) -> Child {
    let log = File::create(log_file(folder)).unwrap();
    Command::new("sh")
        .args(["-c", SUPERVISOR, "local-aws"])
        .arg(folder)
        .arg(program)
        .env("PYTHONUNBUFFERED", "1")
        .env("GATEWAY_PORT", port.to_string())
        // Its default is every interface of the machine.
        .env("BIND_HOST", "127.0.0.1")
        // The host in queue URLs; `localhost` may be resolved to IPv6 first.
        .env("MINISTACK_HOST", "127.0.0.1")
        // Otherwise it opens a second port with a certificate of its own.
        .env("IOT_MTLS_ENABLED", "0")
        .env("STATE_DIR", folder.join("state"))
        .env("S3_DATA_DIR", folder.join("s3"))
        .env("TMPDIR", folder)
        .envs(environment.iter().copied())
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// The log names the port once this server has it, so a stranger on the same port is not taken for it.
async fn wait_until_it_listens(folder: &Path, port: u16) -> Result<(), &'static str> {
    let start = Instant::now();
    let running = format!("Running on http://127.0.0.1:{port}");
    loop {
        let log = std::fs::read_to_string(log_file(folder)).unwrap_or_default();
        if log.contains(&running) && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(());
        }
        if log.contains("already in use") || log.contains("Traceback") {
            return Err("did not start");
        }
        if start.elapsed() > START_TIMEOUT {
            return Err("was not up in time");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Closes the supervisor's standard input and waits for it: afterwards process and folder are gone.
fn stop(supervisor: &mut Child) {
    drop(supervisor.stdin.take());
    let _ = supervisor.wait();
}
