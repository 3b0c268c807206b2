//! The database: settings in, a pool of connections out; migrations forward and back.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, PgPool, Postgres, Transaction};

use super::rejection::Error;

/// The schema, step by step.
static MIGRATIONS: Migrator = sqlx::migrate!();

/// A transaction that does nothing for so long is not coming back: its locks would hold up everybody else's updates.
/// A Lambda function that was frozen or killed leaves one behind.
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the database is, and how it is spoken to.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseSettings {
    /// `DB_HOST`: a name, an address, or the folder of a socket.
    pub host: String,
    /// `DB_PORT`
    pub port: u16,
    /// `DB_NAME`
    pub name: String,
    /// `DB_USER`
    pub user: String,
    /// `DB_PASSWORD`
    pub password: Option<String>,
    /// `DB_TLS`
    pub tls: Tls,
    /// `DB_TLS_ROOT_CERT`: the authority that signed the server's certificate, where it is not a public one.
    pub root_certificate: Option<RootCertificate>,
    /// `DB_POOL_SIZE`
    pub pool_size: u32,
    /// `DB_CONNECT_TIMEOUT_SECONDS`: how long to wait for a connection.
    pub connect_timeout: Duration,
    /// `DB_STATEMENT_TIMEOUT_SECONDS`: how long a statement may take, its wait for locks included.
    pub statement_timeout: Duration,
}

/// How much of TLS is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Encrypted, and the server proves to be the one that was asked for.
    VerifyFull,
    /// Encrypted, with whoever answers.
    Require,
    /// In the clear.
    Disable,
}

/// The certificate of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCertificate {
    /// A file.
    File(std::path::PathBuf),
    /// The PEM itself.
    Pem(String),
}

/// Without the password: settings end up in logs.
impl std::fmt::Debug for DatabaseSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port, name, user, tls, .. } = self;
        write!(formatter, "{user}@{host}:{port}/{name} with tls {tls:?}")
    }
}

impl DatabaseSettings {
    fn connect_options(&self) -> PgConnectOptions {
        let mode = match self.tls {
            Tls::VerifyFull => PgSslMode::VerifyFull,
            Tls::Require => PgSslMode::Require,
            Tls::Disable => PgSslMode::Disable,
        };
        // Not `new`: that one looks for a file of passwords in the home folder.
        let options = PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .database(&self.name)
            .username(&self.user)
            .application_name("metrics-engine-control")
            .ssl_mode(mode);
        let options = match &self.password {
            Some(password) => options.password(password),
            None => options,
        };
        let options = match &self.root_certificate {
            Some(RootCertificate::File(path)) => options.ssl_root_cert(path),
            Some(RootCertificate::Pem(pem)) => options.ssl_root_cert_from_pem(pem.clone().into_bytes()),
            None => options,
        };
        options.log_statements(tracing::log::LevelFilter::Trace)
    }
}

/// A pool of connections. The first connection is made when it is needed: a database that is away is an error of the
/// message that needed it, which is retried.
#[must_use]
pub fn pool(settings: &DatabaseSettings) -> PgPool {
    let milliseconds = |duration: Duration| duration.as_millis().to_string();
    let (statement, idle) = (milliseconds(settings.statement_timeout), milliseconds(IDLE_IN_TRANSACTION_TIMEOUT));
    PgPoolOptions::new()
        .max_connections(settings.pool_size)
        .acquire_timeout(settings.connect_timeout)
        .after_connect(move |connection, _| {
            let (statement, idle) = (statement.clone(), idle.clone());
            // Not among the start-up parameters: the proxies between a function and its database refuse those.
            Box::pin(async move {
                sqlx::query(
                    "SELECT set_config('statement_timeout', $1, false), \
                     set_config('idle_in_transaction_session_timeout', $2, false)",
                )
                .bind(statement)
                .bind(idle)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .connect_lazy_with(settings.connect_options())
}

/// Ends a transaction as its work ended. A rollback is waited for: a function may be frozen right after its answer, and
/// would keep its locks.
///
/// # Errors
/// The work's own, or that of the commit.
pub async fn end<T>(transaction: Transaction<'_, Postgres>, outcome: Result<T, Error>) -> Result<T, Error> {
    match outcome {
        Ok(value) => {
            transaction.commit().await?;
            Ok(value)
        }
        Err(error) => {
            if let Err(rollback) = transaction.rollback().await {
                tracing::warn!(%rollback, "a transaction could not be rolled back");
            }
            Err(error)
        }
    }
}

/// Brings the schema forward to the newest step. Several instances may do it at once: one does it, the others wait.
///
/// # Errors
/// When a step fails, or the database knows steps that this program does not.
pub async fn migrate_up(pool: &PgPool) -> Result<(), MigrateError> {
    MIGRATIONS.run(pool).await
}

/// Takes the schema back to the step with this number; all the way with 0.
///
/// # Errors
/// When a step back fails.
pub async fn migrate_down(pool: &PgPool, target: i64) -> Result<(), MigrateError> {
    MIGRATIONS.undo(pool, target).await
}

/// Empties every table but those that belong to the schema itself.
///
/// # Errors
/// When the database fails.
pub async fn clear(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "TRUNCATE event_log, outbox, run_dataset_updates, metric_run_pending_datasets, metric_runs, dataset_updates, \
         metric_dependencies, metrics, dataset_series, datasets, series"
    )
    .execute(pool)
    .await?;
    Ok(())
}
