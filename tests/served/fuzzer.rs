//! Schemathesis against the document and the served API: what the document says holds, whatever is sent.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::program::{KEY, Program};

#[tokio::test]
async fn the_document_says_what_the_api_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schemathesis = root.join(".venv/bin/schemathesis");
    assert!(schemathesis.exists(), "{} is missing: run make venv", schemathesis.display());
    let program = Program::start().await;
    let folder = tempfile::tempdir().unwrap();
    let examples = std::env::var("FUZZ_EXAMPLES").unwrap_or_else(|_| "20".to_owned());
    let done = Command::new(schemathesis)
        .arg("--config-file")
        .arg(root.join("tests/served/schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", program.url), "--max-examples", &examples])
        .args(["--seed", "1"])
        .env("API_KEY", KEY)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("Tested: 15"), "every operation is tested: {said}");
    assert!(said.contains("✅ Stateful"), "calls follow the document's links: {said}");
}
