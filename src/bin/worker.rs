//! The worker: cold start, then one SQS batch after the other, from Lambda or, with `--poll`, from the queue itself.

use std::io::Write;
use std::sync::Arc;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use metrics_engine::config::{Config, read_env_file};
use metrics_engine::worker::{batch, deadline::Deadline};
use metrics_engine::{aws, poll, telemetry};

const USAGE: &str = "\
The worker of the metrics engine, as a Lambda function unless told otherwise

Usage: worker [--poll]

Options:
      --poll     Take requests from AWS_SQS_RUN_REQUEST_QUEUE_URL until SIGTERM or SIGINT comes; reads .env
  -h, --help     Print help
  -V, --version  Print version
";

fn main() -> anyhow::Result<()> {
    // For one option a library would be loaded at each cold start.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_polling = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--poll"] => true,
        ["-h" | "--help"] => return Ok(write!(std::io::stdout(), "{USAGE}")?),
        ["-V" | "--version"] => return Ok(writeln!(std::io::stdout(), "worker {}", env!("CARGO_PKG_VERSION"))?),
        ["--poll", unknown, ..] | [unknown, ..] => {
            write!(std::io::stderr(), "error: unexpected argument '{unknown}' found\n\n{USAGE}")?;
            std::process::exit(2);
        }
    };
    if is_polling {
        read_env_file(".env".as_ref())?;
    }
    aws::read_certificates_ahead();
    let config = Config::from_lookup(environment)?;
    telemetry::log_json(config.log_level);
    // Requests wait more than they compute, and computations have threads of their own: a second thread for requests
    // would cost each of them a change of threads, and the smallest functions have a fraction of one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = match is_polling {
        true => runtime.block_on(poll::start(config, Arc::new(now))),
        false => runtime.block_on(serve_lambda(config)),
    };
    // A computation that was cancelled may still run, and nobody waits for its result.
    runtime.shutdown_background();
    ended
}

async fn serve_lambda(config: Config) -> anyhow::Result<()> {
    let collector = telemetry::embedded_metrics("worker")?;
    let clients = aws::clients(&config.aws).await;
    if let Some(prefix) = config.rules.input_prefixes.iter().next() {
        aws::warm_connection(&clients.s3, &config.rules.bucket, prefix).await;
    }
    let (ports, storage) = aws::ports::ports(clients, &config, Arc::new(now));
    let handler = async |event: LambdaEvent<SqsEvent>| -> Result<SqsBatchResponse, Error> {
        let deadline = Deadline::from_unix_ms(event.context.deadline, now());
        let span = telemetry::invocation(&event.context.request_id, event.context.xray_trace_id.as_deref());
        let handling = batch::handle(event.payload, &ports, &config, deadline);
        let response = tracing::Instrument::instrument(handling, span).await;
        telemetry::s3_requests(storage.new_requests());
        collector.flush(std::io::stdout())?;
        Ok(response)
    };
    lambda_runtime::run(service_fn(handler)).await.map_err(anyhow::Error::from_boxed)
}

#[expect(clippy::disallowed_methods, reason = "the one place where the worker reads its environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[expect(clippy::disallowed_methods, reason = "the one place where the worker asks for the time")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
