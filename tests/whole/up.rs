//! `tools/up.py` as a process, which ends with the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use metrics_engine::aws::Clients;
use serde_json::Value;

use crate::local_aws;

/// The running engine.
pub(crate) struct Up {
    /// Where the API is.
    pub(crate) url: String,
    clients: Clients,
    folder: tempfile::TempDir,
    process: Child,
}

fn program() -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".venv/bin/python");
    assert!(python.exists(), "{} is missing: run make venv", python.display());
    let mut command = Command::new(python);
    command.arg(root.join("tools/up.py"));
    command
}

fn send(signal: &str, pid: u32) -> bool {
    let pid = pid.to_string();
    Command::new("kill").args([signal, &pid]).stderr(Stdio::null()).status().unwrap().success()
}

impl Up {
    /// Starts it and waits until every metric has its first version.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("whole-").tempdir().unwrap();
        let binaries = PathBuf::from(env!("CARGO_BIN_EXE_control")).parent().unwrap().to_owned();
        assert_eq!(Path::new(env!("CARGO_BIN_EXE_worker")).parent(), Some(&*binaries));
        let mut process = program()
            .args(["--port", "0", "--no-build", "--days", "1000", "--folder"])
            .arg(folder.path())
            .arg("--binaries")
            .arg(&binaries)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let is_up = lines.any(|line| line.contains("every metric has its first version"));
        // What it says afterwards has to be read, or it waits.
        std::thread::spawn(move || lines.for_each(drop));
        assert!(is_up, "it did not come up: {}", logs(folder.path()));
        let state = state(folder.path());
        let clients = local_aws::clients(state["aws"].as_str().unwrap()).await;
        Self { url: state["url"].as_str().unwrap().to_owned(), clients, folder, process }
    }

    /// A new version of the dataset, by the documented command.
    pub(crate) async fn change(&self) {
        let mut command = tokio::process::Command::from(program());
        let done = command.arg("--folder").arg(self.folder.path()).arg("change").output().await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// The keys of the bucket under a prefix.
    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        let bucket = state(self.folder.path())["bucket"].as_str().unwrap().to_owned();
        let mut pages = self.clients.s3.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            keys.extend(page.unwrap().contents().iter().map(|object| object.key().unwrap().to_owned()));
        }
        keys
    }

    /// Kills the worker as nothing can prevent. Whether there was one.
    pub(crate) fn kill_worker(&self) -> bool {
        let pid = state(self.folder.path())["worker"].as_u64().unwrap();
        send("-KILL", pid.try_into().unwrap())
    }

    /// What Ctrl-C does.
    pub(crate) fn interrupt(mut self) {
        assert!(send("-INT", self.process.id()));
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {}", logs(self.folder.path()));
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            send("-TERM", self.process.id());
            let _ = self.process.wait();
        }
    }
}

fn state(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("state.json")).unwrap()).unwrap()
}

/// The end of every log.
fn logs(folder: &Path) -> String {
    let mut all = String::new();
    for name in ["aws", "postgres", "control", "worker"] {
        let text = std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        all.extend([format!("== {name}\n"), lines.into_iter().rev().map(|line| format!("{line}\n")).collect()]);
    }
    all
}
