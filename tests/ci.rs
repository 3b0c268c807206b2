//! What is checked before a merge: the workflow on GitHub runs what `.ci/run` runs, builds the image, and attaches both
//! artefacts to a release; every tool has a pinned version.

#![expect(clippy::unwrap_used, reason = "a test stops where the tree is not as it must be")]

use std::path::Path;

use serde_json::Value;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn workflow() -> Value {
    serde_saphyr::from_str(&read(".github/workflows/ci.yml")).unwrap()
}

fn commands(job: &Value) -> Vec<&str> {
    job["steps"].as_array().unwrap().iter().filter_map(|step| step["run"].as_str()).collect()
}

#[test]
fn the_workflow_runs_ci_run_and_what_needs_the_network_beside_it() {
    let workflow = workflow();
    let jobs = &workflow["jobs"];
    assert_eq!(commands(&jobs["check"]), [".ci/run"]);
    assert_eq!(commands(&jobs["advisories"]), ["make deny DENY=advisories"]);
    assert!(commands(&jobs["image"]).iter().any(|command| command.starts_with("docker build ")));
    let script = read(".ci/run");
    for target in ["make lint", "make validate", "make scan", "make deny", "make test"] {
        assert!(script.lines().any(|line| line == target), ".ci/run does not {target}");
    }
}

#[test]
fn a_release_has_the_artefact_of_both_architectures_and_waits_for_every_check() {
    let workflow = workflow();
    let jobs = workflow["jobs"].as_object().unwrap();
    let matrix = jobs["artefact"]["strategy"]["matrix"]["include"].as_array().unwrap();
    let architectures: Vec<_> = matrix.iter().map(|one| one["arch"].as_str().unwrap()).collect();
    assert_eq!(architectures, ["arm64", "x86_64"]);
    assert!(commands(&jobs["artefact"]).contains(&"make build ARCH=${{ matrix.arch }}"));
    let release = &jobs["release"];
    assert_eq!(release["if"], "startsWith(github.ref, 'refs/tags/v')");
    let attaches = commands(release).into_iter().find(|command| command.starts_with("gh release create")).unwrap();
    for architecture in architectures {
        assert!(attaches.contains(&format!("worker-{architecture}.zip")), "{attaches}");
    }
    let needed: Vec<_> = release["needs"].as_array().unwrap().iter().map(|job| job.as_str().unwrap()).collect();
    for job in jobs.keys().filter(|job| *job != "release") {
        assert!(needed.contains(&job.as_str()), "a release does not wait for {job}");
    }
}

#[test]
fn every_tool_has_a_pinned_version() {
    for file in ["requirements.txt", "requirements-supply.txt", "requirements-coverage.txt"] {
        let text = read(&format!("tools/{file}"));
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let version = line.split_once("==").map(|(_, version)| version).unwrap_or_default();
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{file}: {line}");
        }
    }
    let is_exact =
        |version: &str| version.split('.').count() == 3 && version.split('.').all(|part| part.parse::<u32>().is_ok());
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert!(is_exact(channel), "{channel}");
    let makefile = read("Makefile");
    let deny = makefile.lines().find_map(|line| line.strip_prefix("CARGO_DENY_VERSION := ")).unwrap();
    assert!(is_exact(deny), "{deny}");
    for job in workflow()["jobs"].as_object().unwrap().values() {
        let machine = job["runs-on"].as_str().unwrap();
        assert!(!machine.ends_with("-latest"), "{machine}");
        for action in job["steps"].as_array().unwrap().iter().filter_map(|step| step["uses"].as_str()) {
            assert!(action.split_once("@v").is_some_and(|(_, version)| version.parse::<u32>().is_ok()), "{action}");
        }
    }
}
