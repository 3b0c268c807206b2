//! The guide, word for word: its files are written, its commands run in order, and their output compared with what the
//! page shows.

#![expect(clippy::unwrap_used, reason = "a test that cannot run the guide should fail at once")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use metrics_engine::cli::screen::Screen;
use metrics_engine::cli::{self, Arguments};

/// Splits a line as a shell does, as far as the guide needs it: blanks separate, single quotes hold together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for character in line.chars() {
        match character {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(character),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

async fn answer(line: &str) -> String {
    let arguments = Arguments::try_parse_from(words(line)).unwrap();
    let now = "2026-10-30T16:06:00Z".parse().unwrap();
    let mut out = Vec::new();
    match cli::run(arguments, Arc::new(move || now), Screen::plain(100), &mut out).await {
        Ok(_) => String::from_utf8(out).unwrap(),
        Err(error) => format!("error: {error:#}\n"),
    }
}

/// The fenced blocks of a page: what they are, the text before them, and their lines.
fn blocks(page: &str) -> Vec<(&str, &str, &str)> {
    let mut blocks = Vec::new();
    let parts: Vec<&str> = page.split("```").collect();
    for pair in parts.chunks(2) {
        if let [before, block] = pair {
            let (kind, lines) = block.split_once('\n').unwrap();
            blocks.push((kind, *before, lines));
        }
    }
    blocks
}

/// The name in backticks at the end of the text before a file.
fn file_name(before: &str) -> &str {
    before.trim_end().trim_end_matches([':', '`']).rsplit('`').next().unwrap()
}

#[tokio::test]
async fn the_guide_works_as_it_says() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guide.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // The other test of this binary names its files in full.
    std::env::set_current_dir(folder.path()).unwrap();
    let mut command_count = 0;
    for (kind, before, lines) in blocks(&page) {
        if kind != "console" {
            fs::write(file_name(before), lines).unwrap();
            continue;
        }
        for session in lines.strip_prefix("$ ").unwrap().split("\n$ ") {
            let (command, expected) = session.split_once('\n').unwrap_or((session, ""));
            assert_eq!(answer(command).await.trim_end(), expected.trim_end(), "{command}");
            command_count += 1;
        }
    }
    assert!(command_count >= 12, "{command_count}");
    assert!(Path::new("sales.svg").exists());
}

#[tokio::test]
async fn the_commands_of_the_readme_do_something() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().to_str().unwrap();
    let csv = concat!(env!("CARGO_MANIFEST_DIR"), "/sample-data/eurofxref-hist.csv");
    answer(&format!("metrics dataset build --csv {csv} --into {bucket}")).await;
    let page = include_str!("../README.md");
    let commands: Vec<&str> = page.lines().filter(|line| line.starts_with("metrics ")).collect();
    assert!(!commands.is_empty());
    for command in commands {
        let shown = answer(&command.replace("target/demo/bucket", bucket)).await;
        assert!(!shown.is_empty() && !shown.starts_with("error"), "{command}: {shown}");
    }
}
