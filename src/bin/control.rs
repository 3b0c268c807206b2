//! The control plane: what its arguments say, or a Lambda function without any.

use clap::Parser;
use metrics_engine::config::read_env_file;
use metrics_engine::control::database::{self, DatabaseSettings};

/// The control plane of the metrics engine
#[derive(clap::Parser)]
#[command(name = "control", version)]
struct Arguments {
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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    read_env_file(".env".as_ref())?;
    match arguments.command {
        Some(Command::Migrate { direction }) => {
            let pool = database::pool(&DatabaseSettings::from_lookup(environment)?);
            match direction {
                Direction::Up => database::migrate_up(&pool).await?,
                Direction::Down { to } => database::migrate_down(&pool, to).await?,
            }
        }
        None => anyhow::bail!("nothing to do"),
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the one place where the control plane reads its environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
