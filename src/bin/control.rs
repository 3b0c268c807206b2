//! The control plane: a Lambda function unless its arguments say otherwise.

use std::sync::Arc;

use clap::Parser;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use metrics_engine::config::read_env_file;
use metrics_engine::control::api::serve::Bounds;
use metrics_engine::control::api::settings::ApiSettings;
use metrics_engine::control::api::{self, router};
use metrics_engine::control::config::ControlConfig;
use metrics_engine::control::database::{self, DatabaseSettings};
use metrics_engine::control::lambda::{self, Invocation};
use metrics_engine::control::{sample, serve};
use metrics_engine::poll::Signals;
use metrics_engine::worker::deadline::{Deadline, Stop};
use metrics_engine::{aws, telemetry};
use serde_json::Value;

/// The control plane of the metrics engine, as a Lambda function unless told otherwise
#[derive(clap::Parser)]
#[command(name = "control", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Poll the queues, relay, sweep and serve the HTTP API until SIGTERM or SIGINT comes; reads .env
    #[arg(long)]
    serve: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Bring the schema of the database forward, or back
    Migrate {
        #[command(subcommand)]
        direction: Direction,
    },
    /// Register the sample catalogue
    Seed,
    /// Empty every table of a test database
    Reset {
        /// The name of the database, so that it is not another one
        #[arg(long)]
        database: String,
    },
}

#[derive(clap::Subcommand)]
enum Direction {
    /// To the newest step
    Up,
    /// Back to the step with this number
    Down {
        /// 0 takes everything away
        #[arg(long)]
        to: i64,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.serve || arguments.command.is_some() {
        read_env_file(".env".as_ref())?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    match arguments.command {
        Some(command) => runtime.block_on(run(command)),
        None => {
            let config = ControlConfig::from_lookup(environment)?;
            telemetry::log_json(config.log_level);
            match arguments.serve {
                true => runtime.block_on(serve_here(config, ApiSettings::from_lookup(environment)?.decided()?)),
                false => runtime.block_on(serve_lambda(config, ApiSettings::from_lookup(environment)?)),
            }
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    let settings = DatabaseSettings::from_lookup(environment)?;
    let pool = database::pool(&settings);
    match command {
        Command::Migrate { direction: Direction::Up } => database::migrate_up(&pool).await?,
        Command::Migrate { direction: Direction::Down { to } } => database::migrate_down(&pool, to).await?,
        Command::Seed => sample::seed(&pool, &ControlConfig::from_lookup(environment)?.rules).await?,
        Command::Reset { database } => {
            anyhow::ensure!(
                database == settings.name,
                "DB_NAME is {}, not {database}: nothing was emptied",
                settings.name
            );
            database::clear(&pool).await?;
        }
    }
    Ok(())
}

async fn serve_here(config: ControlConfig, settings: ApiSettings) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let clients = aws::clients(&config.aws).await;
    let pool = database::pool(&config.database);
    let service = aws::control::service(&clients, config, pool);
    let queues = serve::open(&service, &clients).await?;
    let router = router(aws::control::api(&clients, &service, settings.writers));
    let listener = api::serve::listen(settings.address).await?;
    let serving =
        |stop: Arc<Stop>| api::serve::serve(listener, router, Bounds::default(), async move { stop.requested().await });
    serve::run(&service, &queues, signals, serving).await;
    Ok(())
}

#[expect(clippy::future_not_send, reason = "a function has one call at a time, on the task of its runtime")]
async fn serve_lambda(config: ControlConfig, settings: ApiSettings) -> anyhow::Result<()> {
    let collector = telemetry::embedded_metrics("control")?;
    let clients = aws::clients(&config.aws).await;
    let pool = database::pool(&config.database);
    let service = aws::control::service(&clients, config, pool);
    let router = router(aws::control::api(&clients, &service, settings.writers));
    let handler = async |event: LambdaEvent<Value>| -> Result<Value, Error> {
        let deadline = Deadline::from_unix_ms(event.context.deadline, now());
        let span = telemetry::invocation(&event.context.request_id, event.context.xray_trace_id.as_deref());
        let answering = async {
            match Invocation::parse(event.payload)? {
                Invocation::Batch(batch) => Ok(lambda::batch(&service, batch, &deadline).await?),
                Invocation::Tick => Ok(lambda::tick(&service).await?),
                Invocation::Http(call) => {
                    let may_release = api::lambda::may_release(&call);
                    let answer = api::lambda::serve(router.clone(), call, event.context.clone()).await?;
                    if may_release {
                        service.relay_within(&deadline).await;
                    }
                    Ok(answer)
                }
            }
        };
        let answer = tracing::Instrument::instrument(answering, span).await;
        collector.flush(std::io::stdout())?;
        answer
    };
    lambda_runtime::run(service_fn(handler)).await.map_err(anyhow::Error::from_boxed)
}

#[expect(clippy::disallowed_methods, reason = "the one place where the control plane reads its environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[expect(clippy::disallowed_methods, reason = "the one place where the control plane asks for the time")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
