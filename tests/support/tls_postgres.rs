//! A private Postgres that takes no connection but one with TLS and a password.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use metrics_engine::control::database::{DatabaseSettings, RootCertificate, Tls};

/// With what a shell, a URL or SQL would take for its own.
pub const PASSWORD: &str = "it's %40 \"secret\"";

/// A server with a certificate for `localhost`, of an authority that nobody else knows. It ends with its standard input.
pub struct Server {
    pub port: u16,
    folder: tempfile::TempDir,
    process: Child,
}

impl Server {
    /// Starts it; it listens afterwards.
    pub fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        let python = root.join(".venv/bin/python");
        let script = root.join("tests/support/certificates.py");
        assert!(Command::new(&python).arg(script).arg(folder.path()).status().unwrap().success());
        let mut server = Command::new(python);
        server.arg(root.join("tools/postgres.py")).arg("--tls").arg(folder.path());
        let mut process = server.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let port = url.trim().split(['/', ':']).rev().nth(1).and_then(|port| port.parse().ok());
        Self { port: port.unwrap_or_else(|| panic!("the server did not start: {url:?}")), folder, process }
    }

    /// Where certificates are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What is in a file of its folder.
    pub fn pem(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// As the product connects where nothing else is said, by the name that is in the certificate.
    pub fn settings(&self) -> DatabaseSettings {
        DatabaseSettings {
            host: "localhost".to_owned(),
            port: self.port,
            name: "postgres".to_owned(),
            user: "postgres".to_owned(),
            password: Some(PASSWORD.to_owned()),
            tls: Tls::VerifyFull,
            root_certificate: Some(RootCertificate::Pem(self.pem("authority.pem"))),
            pool_size: 2,
            connect_timeout: Duration::from_secs(30),
            statement_timeout: Duration::from_secs(60),
        }
    }

    /// The built program, with the settings of the database and nothing else.
    pub fn control(&self, more: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_control"));
        command.args(["migrate", "up"]).env_clear().current_dir(self.folder.path());
        command.envs([("DB_HOST", "localhost"), ("DB_NAME", "postgres"), ("DB_USER", "postgres")]);
        command.env("DB_PORT", self.port.to_string()).env("DB_PASSWORD", PASSWORD);
        command.envs(more.iter().copied()).output().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
