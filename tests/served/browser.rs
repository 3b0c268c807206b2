//! The pages in a headless Chromium: what a reader sees is what the API says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::program::Program;

/// Where Debian and others put it.
const PROGRAMS: [&str; 4] =
    ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/usr/bin/google-chrome-stable"];

/// The browser; nothing, said aloud, where there is none and that is allowed.
fn browser() -> Option<PathBuf> {
    let named = std::env::var("CHROMIUM").ok().map(PathBuf::from);
    let found = named.into_iter().chain(PROGRAMS.map(PathBuf::from)).find(|path| path.exists());
    let is_required = std::env::var("CI").is_ok_and(|text| !text.is_empty());
    assert!(found.is_some() || !is_required, "no Chromium: apt-get install chromium, or name it in CHROMIUM");
    if found.is_none() {
        eprintln!("NOT TESTED: the pages, for want of a Chromium (apt-get install chromium, or name it in CHROMIUM)");
    }
    found
}

async fn run(browser: &Path, url: &str, output: &[&str]) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--window-size=1200,1500", "--virtual-time-budget=4000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        // Whatever a page asks of another host is an error.
        .args(["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"])
        .args(output)
        .arg(url)
        .kill_on_drop(true);
    let done = tokio::time::timeout(Duration::from_secs(120), command.output()).await;
    let done = done.expect("the browser ends").unwrap();
    String::from_utf8(done.stdout).unwrap()
}

/// What lies between the first such opening and its end.
fn part<'a>(document: &'a str, opening: &str, end: &str) -> &'a str {
    let (_, rest) = document.split_once(opening).unwrap_or_else(|| panic!("no {opening} in {document}"));
    rest.split_once(end).unwrap().0
}

#[tokio::test]
async fn the_status_page_shows_metrics_runs_freshness_and_a_chart() {
    let Some(browser) = browser() else { return };
    let program = Program::start().await;
    let document = run(&browser, &format!("{}/", program.url), &["--dump-dom"]).await;
    assert!(document.contains("data-ready=\"true\""), "the script ran to its end: {document}");
    assert!(part(&document, "id=\"problem\"", ">").contains("hidden"), "{document}");
    assert!(part(&document, "id=\"health\"", "/span>").contains("works, version"));

    let metrics = part(&document, "<tbody id=\"metrics\">", "</tbody>");
    for text in ["ratio.a_b", "2026-03-01T00-00-00", "400", "mean.a", "failed", "never", "rates"] {
        assert!(metrics.contains(text), "{text} in {metrics}");
    }
    let runs = part(&document, "<tbody id=\"runs\">", "</tbody>");
    for text in ["11111111", "3.0 s", "succeeded", "&lt;script&gt;alert(1)&lt;/script&gt;"] {
        assert!(runs.contains(text), "{text} in {runs}");
    }
    let datasets = part(&document, "<tbody id=\"datasets\">", "</tbody>");
    assert!(datasets.contains("Rates &lt;b&gt;of exchange") && datasets.contains(">v7<"), "{datasets}");

    let chart = part(&document, "<svg", "</svg>");
    assert!(chart.contains("role=\"img\"") && chart.contains("ratio.a_b: 390 values from 2025-01-25"), "{chart}");
    let curve = part(chart, "class=\"curve\" d=\"", "\"");
    assert_eq!((curve.matches('M').count(), curve.matches('L').count()), (2, 388), "a gap parts the curve");
    assert_eq!(part(&document, "<tbody id=\"points\">", "</tbody>").matches("<tr>").count(), 20);
}

#[tokio::test]
async fn what_is_chosen_is_drawn_and_the_rest_says_why_not() {
    let Some(browser) = browser() else { return };
    let program = Program::start().await;
    let document = run(&browser, &format!("{}/#mean.a", program.url), &["--dump-dom"]).await;
    assert!(!document.contains("<svg") && document.contains("data-ready=\"true\""), "{document}");
    assert_eq!(part(&document, "<tbody id=\"metrics\">", "</tbody>").matches("aria-pressed=\"true\"").count(), 1);
}

#[tokio::test]
async fn the_documentation_shows_every_call() {
    let Some(browser) = browser() else { return };
    let program = Program::start().await;
    let document = run(&browser, &format!("{}/docs", program.url), &["--dump-dom"]).await;
    for operation in metrics_engine::control::api::operations::operations() {
        assert!(document.contains(&format!("<section id=\"{}\">", operation.id)), "{} in {document}", operation.id);
    }
    assert!(document.contains("schema-MetricSpec") && document.contains("Needs the key."));
}

/// To look at: `SCREENSHOT=/tmp/status.png cargo test --test served -- --ignored`
#[tokio::test]
#[ignore = "for people"]
async fn a_picture_of_the_status_page() {
    let (Some(browser), Ok(file)) = (browser(), std::env::var("SCREENSHOT")) else { return };
    let program = Program::start().await;
    run(&browser, &format!("{}/", program.url), &[&format!("--screenshot={file}")]).await;
}
