//! `metrics schemas`: the contracts as JSON Schemas and an AsyncAPI document, into a folder.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use serde_json::Value;

use crate::schema;

/// Write the contracts as JSON Schemas and an AsyncAPI document
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  metrics schemas --into schemas")]
pub struct Schemas {
    /// The folder that they go to
    #[arg(long, value_name = "FOLDER", default_value = "schemas")]
    into: PathBuf,
}

/// The name and the text of every file.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    let contracts = schema::contracts().into_iter().map(|contract| (contract.file_name(), contract.document));
    let documents = contracts.chain([(schema::asyncapi::FILE_NAME.to_owned(), schema::asyncapi::document())]);
    documents.map(|(name, document)| (name, text(&document))).collect()
}

fn text(document: &Value) -> String {
    format!("{document:#}\n")
}

/// Writes the files, and says which.
pub(super) async fn run(schemas: &Schemas, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let folder = &schemas.into;
    tokio::fs::create_dir_all(folder).await.with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, text) in files() {
        let path = folder.join(name);
        tokio::fs::write(&path, text).await.with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}
