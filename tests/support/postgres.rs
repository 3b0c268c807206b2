//! A private Postgres for a test binary, and in it a database of its own for each test.
//!
//! The server ends with the test process, however that ends: it runs until its standard input closes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use metrics_engine::control::database::{self, DatabaseSettings, Tls};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use std::time::Duration;
use tokio::sync::OnceCell;

/// The database that every other one is a copy of.
const TEMPLATE: &str = "migrated";

struct Server {
    port: u16,
    /// Its standard input is what keeps the server up.
    _process: Child,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A database of its own, with the schema and without data.
pub struct TestDatabase {
    /// A pool of connections to it, as the product opens them.
    pub pool: PgPool,
    /// What leads the product there.
    pub settings: DatabaseSettings,
}

impl TestDatabase {
    /// With the newest schema.
    pub async fn new() -> Self {
        Self::copy_of(TEMPLATE).await
    }

    /// Without any schema.
    pub async fn empty() -> Self {
        Self::copy_of("template0").await
    }

    async fn copy_of(template: &str) -> Self {
        let server = SERVER.get_or_init(start).await;
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        let mut connection = PgConnection::connect_with(&options(server.port)).await.unwrap();
        let create = format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy");
        sqlx::query(AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let settings = settings(server.port, &name);
        Self { pool: database::pool(&settings), settings }
    }

    /// Another pool, as another instance of the product has it.
    pub fn another_pool(&self) -> PgPool {
        database::pool(&self.settings)
    }

    /// The environment that leads a process of the product there.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("DB_HOST", self.settings.host.clone()),
            ("DB_PORT", self.settings.port.to_string()),
            ("DB_NAME", self.settings.name.clone()),
            ("DB_USER", self.settings.user.clone()),
            ("DB_TLS", "disable".to_owned()),
        ]
    }
}

fn options(port: u16) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port).username("postgres");
    options.database("postgres").ssl_mode(sqlx::postgres::PgSslMode::Disable)
}

pub fn settings(port: u16, name: &str) -> DatabaseSettings {
    DatabaseSettings {
        host: "127.0.0.1".to_owned(),
        port,
        name: name.to_owned(),
        user: "postgres".to_owned(),
        password: None,
        tls: Tls::Disable,
        root_certificate: None,
        pool_size: 8,
        connect_timeout: Duration::from_secs(30),
        statement_timeout: Duration::from_secs(60),
    }
}

async fn start() -> Server {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".venv/bin/python");
    assert!(python.exists(), "{} is missing: run make venv", python.display());
    let mut process = Command::new(python)
        .arg(root.join("tools/postgres.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let port = url.trim().split(['/', ':']).rev().nth(1).and_then(|port| port.parse().ok());
    let port = port.unwrap_or_else(|| panic!("the database did not start: {url:?}"));
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options(port)).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {TEMPLATE}"))).execute(&pool).await.unwrap();
    pool.close().await;
    let template = database::pool(&settings(port, TEMPLATE));
    database::migrate_up(&template).await.unwrap();
    template.close().await;
    Server { port, _process: process }
}
