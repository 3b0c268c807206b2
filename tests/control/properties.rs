//! Random lives of runs and random histories of updates on a real Postgres, each against a slow and obvious oracle.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics_engine::control::config::Patience;
use metrics_engine::control::status::RunStatus;
use metrics_engine::control::{runs, sweep};
use metrics_engine::ids::RunId;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use crate::world::{World, failure, heartbeat, started, success};

const PATIENCE: Patience = Patience { start: Duration::from_secs(3_600), heartbeat: Duration::from_secs(900) };

/// Something that happens to a dispatched run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Happening {
    Started,
    Heartbeat,
    Success,
    Failure,
    Silence,
    Cancel,
}

const HAPPENINGS: [Happening; 6] = [
    Happening::Started,
    Happening::Heartbeat,
    Happening::Success,
    Happening::Failure,
    Happening::Silence,
    Happening::Cancel,
];

/// Where a run stands after that: what the contract says, in words as short as possible.
fn expected(status: RunStatus, happening: Happening) -> RunStatus {
    let wanted = match happening {
        Happening::Started | Happening::Heartbeat => RunStatus::Running,
        Happening::Success => RunStatus::Succeeded,
        Happening::Failure => RunStatus::Failed,
        Happening::Silence => RunStatus::TimedOut,
        Happening::Cancel => RunStatus::Canceled,
    };
    if status.may_become(wanted) { wanted } else { status }
}

#[tokio::test]
async fn whatever_happens_to_a_run_in_whatever_order_it_stands_where_the_contract_says() {
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    let mut random = StdRng::seed_from_u64(3);
    for life in 0..60 {
        world.update("a", &format!("v{life}")).await;
        world.relay().await;
        let run = world.runs().await.pop().unwrap().id;
        let (mut status, mut history) = (RunStatus::Dispatched, Vec::new());
        for _ in 0..random.random_range(1..8) {
            let happening = *HAPPENINGS.choose(&mut random).unwrap();
            history.push(happening);
            status = expected(status, happening);
            let said = match happening {
                Happening::Started => Some(started(&run, "m")),
                Happening::Heartbeat => Some(heartbeat(&run, "m", 0.5)),
                Happening::Success => Some(success(&run, "m", 1)),
                Happening::Failure => Some(failure(&run, "m")),
                Happening::Silence => {
                    world.hours_pass(2).await;
                    sweep::sweep(&world.pool, &PATIENCE, 30, &world.rules).await.unwrap();
                    None
                }
                Happening::Cancel => {
                    let _ = runs::cancel(&world.pool, &RunId::parse(&run).unwrap()).await;
                    None
                }
            };
            if let Some(said) = said {
                assert_eq!(world.say(&said).await.unwrap(), status, "{history:?}");
            }
            let stored = world.runs().await.into_iter().find(|one| one.id == run).unwrap().status;
            assert_eq!(stored, status, "{history:?}");
        }
        sqlx::query("DELETE FROM run_dataset_updates").execute(&world.pool).await.unwrap();
        sqlx::query("DELETE FROM metric_runs").execute(&world.pool).await.unwrap();
    }
}

/// The release rule, once more: what is known of datasets, and who waits.
#[derive(Default)]
struct Oracle {
    /// Dataset, its newest version and the hour of its update.
    newest: BTreeMap<String, (String, i32)>,
    /// Metric, its datasets, its window in hours.
    metrics: Vec<(String, Vec<String>, i32)>,
    waiting: std::collections::BTreeSet<String>,
    /// What was released or waits, as the tests show it.
    released: Vec<String>,
}

impl Oracle {
    fn update(&mut self, dataset: &str, version: &str, hour: i32) {
        self.newest.insert(dataset.to_owned(), (version.to_owned(), hour));
        for (metric, datasets, window) in &self.metrics {
            if !datasets.iter().any(|one| one == dataset) {
                continue;
            }
            let inside = |one: &String| self.newest.get(one).is_some_and(|(_, at)| hour - at <= *window);
            if datasets.iter().all(inside) {
                self.waiting.remove(metric);
                let lineage: Vec<String> = datasets.iter().map(|one| format!("{one} {}", self.newest[one].0)).collect();
                self.released.push(format!("{metric} queued {}", lineage.join(", ")));
            } else {
                self.waiting.insert(metric.clone());
            }
        }
    }

    fn standing(&self) -> Vec<String> {
        let waiting = self.waiting.iter().map(|metric| format!("{metric} pending_dependencies"));
        let mut all: Vec<String> = self.released.iter().cloned().chain(waiting).collect();
        all.sort();
        all
    }
}

#[tokio::test]
async fn a_random_history_of_updates_releases_what_the_rule_says() {
    const DATASETS: [&str; 4] = ["a", "b", "c", "d"];
    let mut random = StdRng::seed_from_u64(5);
    for history in 0..8 {
        let world = World::with_datasets(&DATASETS).await;
        let mut oracle = Oracle::default();
        for number in 0..5 {
            let mut datasets = DATASETS.map(str::to_owned).to_vec();
            datasets.shuffle(&mut random);
            datasets.truncate(random.random_range(1..=3));
            let series: Vec<String> = datasets.iter().map(|one| one.to_uppercase()).collect();
            let mut spec = crate::world::sum(&series.iter().map(String::as_str).collect::<Vec<_>>());
            let days = random.random_range(1..=3);
            spec.required_days = Some(days);
            let metric = format!("m{number}");
            world.put_metric(&metric, &spec).await.unwrap();
            datasets.sort();
            oracle.metrics.push((metric, datasets, 24 * days - 1));
        }
        let mut hour = 0;
        for number in 0..25 {
            let passed = *[0, 1, 10, 25].choose(&mut random).unwrap();
            hour += passed;
            world.hours_pass(passed).await;
            let (dataset, version) = (*DATASETS.choose(&mut random).unwrap(), format!("v{number}"));
            world.update(dataset, &version).await;
            oracle.update(dataset, &version, hour);
            let mut standing = world.standing().await;
            standing.sort();
            assert_eq!(standing, oracle.standing(), "history {history}, update {number} of {dataset} at hour {hour}");
        }
    }
}
