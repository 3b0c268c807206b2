//! The pages that show commands, word for word: their files are written, their commands run in order, their output
//! compared with what the page shows, and their pictures with what is committed. What cannot run here is listed with the reason.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot run the pages should fail at once")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::local_aws::LocalAws;
use tempfile::TempDir;
use tokio::process::Command;

/// Commands of the guide and the README that no test runs, and why.
const NOT_RUN: [(&str, &str); 13] = [
    ("cargo lambda watch", "what make invoke starts; it is named, not shown"),
    ("make test", "this test is a part of it"),
    ("make lint test", "this test is a part of it"),
    ("make build", "builds for Lambda, for many minutes; tests/kill.rs and tests/end_to_end.rs run what it builds"),
    ("make validate", "the workflow runs it beside the tests"),
    ("make deploy", "needs an account of AWS; tests/template.rs holds the template"),
    ("make deploy-cargo", "needs an account of AWS"),
    (
        "make invoke EVENT=events/01-cross-rate.json",
        "needs what make build builds; tests/events.rs sends the same batches",
    ),
    ("make poll", "runs until it is stopped, over a queue of one's own; tests/polling.rs runs the same"),
    ("make up", "runs until it is stopped; tests/whole runs the same program"),
    ("make change", "changes what make up runs; tests/whole runs the same program"),
    ("cargo install --path .", "a release build, for many minutes"),
    ("cargo run --bin metrics --", "the binary that the tests run is built already"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// A fenced block of a page.
struct Block<'a> {
    kind: &'a str,
    before: &'a str,
    lines: &'a str,
}

impl Block<'_> {
    /// The name in backticks at the end of the text before a file.
    fn file_name(&self) -> Option<&str> {
        let before = self.before.trim_end().strip_suffix("`:")?;
        before.rsplit('`').next()
    }

    /// Commands and what each says.
    fn commands(&self) -> Vec<(&str, &str)> {
        if self.kind != "console" {
            return Vec::new();
        }
        let sessions = self.lines.strip_prefix("$ ").unwrap().split("\n$ ");
        sessions.map(|session| session.split_once('\n').unwrap_or((session, ""))).collect()
    }
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let parts: Vec<&str> = page.split("```").collect();
    assert!(parts.len() % 2 == 1, "a block that does not end");
    parts
        .chunks(2)
        .filter_map(|pair| match pair {
            [before, block] => {
                let (kind, lines) = block.split_once('\n').unwrap();
                Some(Block { kind, before, lines })
            }
            _ => None,
        })
        .collect()
}

/// A folder in which commands run, and what they find in their environment.
struct Shell {
    folder: TempDir,
    variables: BTreeMap<&'static str, String>,
    environment: Vec<(&'static str, String)>,
}

impl Shell {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), variables: BTreeMap::new(), environment: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Splits a line as a shell does, as far as the pages need it: blanks separate, quotes hold together, and variables
    /// stand for themselves outside of single quotes.
    fn words(&self, line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quote = None;
        for character in line.chars() {
            match (character, quote) {
                ('\'' | '"', None) => quote = Some(character),
                (_, Some(open)) if open == character => quote = None,
                (' ', None) => words.push(String::new()),
                _ => words.last_mut().unwrap().push(character),
            }
        }
        words.retain(|word| !word.is_empty());
        let expanded = |word: String| match word.strip_prefix('$') {
            Some(name) => self.variables[name].clone(),
            None => word,
        };
        words.into_iter().map(expanded).collect()
    }

    /// What a command says, the error after it where there is one.
    async fn answer(&self, line: &str) -> String {
        let words = self.words(line);
        assert_eq!(words[0], "metrics", "{line}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_metrics"));
        command.args(&words[1..]).current_dir(self.folder.path()).envs(self.environment.clone());
        let output = command.output().await.unwrap();
        let mut said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        for (name, value) in &self.variables {
            said = said.replace(value, &format!("${name}"));
        }
        said
    }

    /// Runs a block: its file is written, its commands are run and their answers compared.
    async fn run(&self, block: &Block<'_>) -> usize {
        if let Some(name) = block.file_name() {
            fs::write(self.path(name), block.lines).unwrap();
        }
        let commands = block.commands();
        for (command, expected) in &commands {
            let said = self.answer(command).await;
            assert_eq!(masked(&said).trim_end(), masked(expected).trim_end(), "{command}");
        }
        commands.len()
    }
}

/// The version of a run is the second in which it began: in a page and in a test two different ones.
fn masked(text: &str) -> String {
    const PATTERN: &[u8] = b"0000-00-00T00-00-00";
    let is_version = |word: &str| {
        let same = |(byte, pattern): (u8, &u8)| if *pattern == b'0' { byte.is_ascii_digit() } else { byte == *pattern };
        word.len() == PATTERN.len() && word.bytes().zip(PATTERN).all(same)
    };
    let (mut masked, mut at) = (String::new(), 0);
    while let Some(character) = text[at..].chars().next() {
        if text.get(at..at + PATTERN.len()).is_some_and(is_version) {
            masked.push_str("VERSION");
            at += PATTERN.len();
        } else {
            masked.push(character);
            at += character.len_utf8();
        }
    }
    masked
}

#[tokio::test]
async fn the_guide_works_as_it_says() {
    let aws = LocalAws::start().await;
    aws.bucket("my-shop-metrics").await;
    let (requests, dead) = (aws.fifo_queue("metric-run-requests").await, aws.fifo_queue("metric-run-dead").await);
    let topic = aws.fifo_topic("events").await;
    let mut shell = Shell::new();
    shell.variables.insert("REQUESTS", requests.url.clone());
    shell.environment = aws.environment();
    let guide = page("docs/guide.md");
    let mut command_count = 0;
    for block in blocks(&guide) {
        command_count += shell.run(&block).await;
        if block.commands().iter().any(|(command, _)| command.contains("--to ")) {
            // What the function does in the account, the worker does here.
            let settings = [
                ("AWS_S3_BUCKET", "my-shop-metrics"),
                ("AWS_SNS_EVENTS_TOPIC_ARN", &*topic),
                ("AWS_SQS_RUN_REQUEST_QUEUE_URL", &*requests.url),
                ("DEAD_LETTER_QUEUE_URL", &*dead.url),
                ("PROMETHEUS_PORT", "0"),
            ];
            let mut worker = Command::new(env!("CARGO_BIN_EXE_worker"));
            worker.arg("--poll").current_dir(shell.folder.path()).envs(aws.environment()).envs(settings);
            let mut worker = worker.kill_on_drop(true).spawn().unwrap();
            let marker = "metrics/shop.return_rate/runs/run-1.ok";
            let start = Instant::now();
            while aws.get("my-shop-metrics", marker).await.is_none() {
                assert!(start.elapsed() < Duration::from_secs(60), "the worker did not run the request");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            worker.kill().await.unwrap();
        }
    }
    assert!(command_count >= 17, "{command_count}");
    assert!(shell.path("sales.svg").exists());
}

#[tokio::test]
async fn the_readme_works_as_it_says() {
    let shell = Shell::new();
    for name in ["events", "sample-data"] {
        symlink(root().join(name), shell.path(name)).unwrap();
    }
    let readme = page("README.md");
    let demo = recipe("demo").split_once(" -- ").map(|(_, rest)| format!("metrics {rest}")).unwrap();
    let demo = shell.answer(&demo).await;
    let shown: Vec<Block<'_>> = blocks(&readme).into_iter().filter(|block| block.lines.starts_with("━━")).collect();
    assert_eq!(shown.len(), 1);
    assert!(masked(&demo).contains(&masked(shown[0].lines)), "make demo does not show\n{}", shown[0].lines);
    let mut command_count = 0;
    for block in blocks(&readme) {
        command_count += shell.run(&block).await;
    }
    assert!(command_count >= 1, "{command_count}");
}

/// What a make target would run. A make around this test must not add its own words.
fn recipe(target: &str) -> String {
    let mut make = std::process::Command::new("make");
    make.args(["-n", target]).current_dir(root()).env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    let output = make.output().unwrap();
    assert!(output.status.success(), "make {target}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Commands in blocks of `sh`, and in backticks within the text.
fn other_commands(page: &str) -> BTreeSet<String> {
    let is_command =
        |text: &&str| ["make ", "cargo ", "aws ", "docker ", "sam "].iter().any(|start| text.starts_with(start));
    let mut commands = BTreeSet::new();
    for block in blocks(page) {
        let inline = block.before.split('`').skip(1).step_by(2);
        let lines = if block.kind == "sh" { block.lines } else { "" };
        let lines = lines.lines().map(|line| line.split(" #").next().unwrap().trim());
        commands.extend(inline.chain(lines).filter(is_command).map(str::to_owned));
        let metrics = if block.kind == "sh" { block.lines } else { "" };
        assert!(!metrics.contains("metrics "), "commands of metrics belong into a block of console: {metrics}");
    }
    let after = page.rsplit("```").next().unwrap();
    commands.extend(after.split('`').skip(1).step_by(2).filter(is_command).map(str::to_owned));
    commands
}

#[test]
fn what_no_test_runs_is_listed_with_its_reason() {
    let mut found = other_commands(&page("README.md"));
    found.extend(other_commands(&page("docs/guide.md")));
    for command in &found {
        for target in command.strip_prefix("make ").unwrap_or_default().split(' ').filter(|word| !word.contains('=')) {
            assert!(target.is_empty() || !recipe(target).is_empty(), "{command}");
        }
    }
    assert!(found.remove("make demo"), "the README's own test runs it");
    let listed: BTreeSet<String> = NOT_RUN.iter().map(|(command, _)| (*command).to_owned()).collect();
    assert_eq!(found, listed, "run it in a test, or say why it cannot be run");
}

/// The pictures of the function reference, from its own commands. `UPDATE_DOCS=1` writes them.
#[tokio::test]
async fn the_pictures_are_what_their_commands_make() {
    let shell = Shell::new();
    fs::create_dir_all(shell.path("docs/img")).unwrap();
    fs::copy(root().join("docs/img/operators.csv"), shell.path("docs/img/operators.csv")).unwrap();
    let reference = page("docs/expressions.md");
    for block in blocks(&reference) {
        shell.run(&block).await;
    }
    let files = |folder: &Path| -> BTreeSet<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".svg")).collect()
    };
    let made = files(&shell.path("docs/img"));
    for name in &made {
        assert!(reference.contains(&format!("](img/{name})")), "{name} is not shown");
        let (new, committed) = (shell.path("docs/img").join(name), root().join("docs/img").join(name));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::copy(&new, &committed).unwrap();
        }
        let is_same = fs::read(&new).unwrap() == fs::read(&committed).unwrap_or_default();
        assert!(is_same, "docs/img/{name} is not what its command makes: make pictures");
    }
    assert_eq!(files(&root().join("docs/img")), made, "every picture has its command");
    assert_eq!(made.len(), 15, "a picture for each operator, and one for nulls that propagate");
}
