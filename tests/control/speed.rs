//! How fast the control plane is: `make bench-control` prints a table of events per second and latencies.
//!
//! An event is what a record of a queue is: read from its JSON and done in its transaction. Updates of one dataset come
//! one after the other, as its group of the queue keeps them; feedback comes from eight connections at a time. Of requests,
//! which leave in batches, the latency is the mean.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use serde_json::json;

use crate::world::{World, started};

const CONNECTIONS: usize = 8;

/// Metrics of the dataset, and updates of it that are measured.
const SIZES: [(i32, usize); 3] = [(1, 500), (100, 200), (10_000, 10)];

/// Runs whose feedback is measured.
const RUNS: i64 = 2_000;

async fn world(metrics: i32) -> World {
    let world = World::with_datasets(&["a", "b"]).await;
    let sql = [
        r#"INSERT INTO metrics (id, code, expression_type, expression_json) SELECT 'm' || n, 'm' || n, 'composite',
           '{"op":"sum","operands":[{"series_code":"A"},{"series_code":"B"}]}' FROM generate_series(1, $1) n"#,
        "INSERT INTO metric_dependencies SELECT 'm' || n, 'A', 1 FROM generate_series(1, $1) n",
        "INSERT INTO metric_dependencies SELECT 'm' || n, 'B', 2 FROM generate_series(1, $1) n",
    ];
    for sql in sql {
        sqlx::query(sql).bind(metrics).execute(&world.pool).await.unwrap();
    }
    world.update("b", "first").await;
    world.update("a", "first").await;
    sqlx::query("ANALYZE").execute(&world.pool).await.unwrap();
    world
}

#[expect(clippy::print_stdout, reason = "the table is what the measurement is for")]
fn print(what: &str, metrics: i32, took: Duration, mut each: Vec<Duration>) {
    each.sort_unstable();
    let at = |percent: usize| each[(each.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    let events = u32::try_from(each.len()).unwrap();
    let rate = f64::from(events) / took.as_secs_f64();
    println!("{what:<22}{metrics:>8}{events:>8}{rate:>12.1}{:>12.2}{:>12.2}{:>12.2}", at(50), at(99), at(100));
}

async fn updates(world: &World, metrics: i32, count: usize) {
    let start = Instant::now();
    let mut each = Vec::new();
    for number in 0..count {
        let begin = Instant::now();
        let released = world.update("a", &format!("v{number}")).await;
        each.push(begin.elapsed());
        assert_eq!(released.released, u64::try_from(metrics).unwrap());
    }
    print("update of a dataset", metrics, start.elapsed(), each);
}

async fn relayed(world: &World, metrics: i32) {
    let start = Instant::now();
    let mut published = 0;
    loop {
        match world.relay().await.published {
            0 => break,
            more => published += more,
        }
    }
    let took = start.elapsed();
    let published = u32::try_from(published).unwrap();
    let each = vec![took / published; usize::try_from(published).unwrap()];
    print("request through outbox", metrics, took, each);
}

async fn feedback(world: &World, metrics: i32) {
    let runs: Vec<(String, String)> =
        sqlx::query_as("SELECT id, metric_code FROM metric_runs WHERE status = 'dispatched' LIMIT $1")
            .bind(RUNS)
            .fetch_all(&world.pool)
            .await
            .unwrap();
    let start = Instant::now();
    let each: Vec<Vec<Duration>> = stream::iter(runs)
        .map(|(run_id, metric)| async move {
            let completed = json!({ "type": "metric_run_completed", "runId": run_id, "metricCode": metric,
                "status": "SUCCESS", "versionTs": "2026-01-01T00-00-00", "outputManifest": "metrics/m/manifest.json",
                "rowCount": 1 });
            let mut each = Vec::new();
            for body in [started(&run_id, &metric), completed] {
                let begin = Instant::now();
                world.say(&body).await.unwrap();
                each.push(begin.elapsed());
            }
            each
        })
        .buffer_unordered(CONNECTIONS)
        .collect()
        .await;
    print("feedback of a run", metrics, start.elapsed(), each.concat());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: make bench-control"]
async fn events_per_second_and_latencies() {
    println!(
        "{:<22}{:>8}{:>8}{:>12}{:>12}{:>12}{:>12}",
        "event", "metrics", "events", "per second", "p50 ms", "p99 ms", "max ms"
    );
    for (metrics, count) in SIZES {
        let world = world(metrics).await;
        updates(&world, metrics, count).await;
        relayed(&world, metrics).await;
        feedback(&world, metrics).await;
    }
}
