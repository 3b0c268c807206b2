//! Lists stay the same lists while rows are added to them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::caller::Caller;

const RUNS: &str = "INSERT INTO metric_runs (id, metric_id, metric_code, status, requested_at) \
                    SELECT $1 || '-' || number, id, code, 'queued', $2::timestamptz + (number / 3) * interval '1 second' \
                    FROM metrics, generate_series(1, $3) AS number WHERE code = 'm'";

async fn add_runs(caller: &Caller, name: &str, from: &str, count: i32) {
    let insert = sqlx::query(RUNS).bind(name).bind(from).bind(count);
    insert.execute(&caller.database.pool).await.unwrap();
}

fn column(page: &Value, name: &str) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|row| row[name].as_str().unwrap().to_owned()).collect()
}

/// Every row of a list, page by page; `between` happens after each page.
async fn walk(caller: &Caller, path: &str, name: &str, mut between: impl AsyncFnMut(usize)) -> Vec<String> {
    let mut all = Vec::new();
    let mut page = caller.get(path).await.json();
    for number in 0.. {
        all.extend(column(&page, name));
        between(number).await;
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        page = caller.get(&format!("{path}&cursor={cursor}")).await.json();
    }
    all
}

#[tokio::test]
async fn runs_that_come_in_the_meantime_move_nothing() {
    let caller = Caller::new().await;
    caller.register(&["m"]).await;
    add_runs(&caller, "old", "2026-01-01T00:00:00Z", 50).await;
    let before: Vec<String> = walk(&caller, "/runs?limit=200", "run_id", async |_| {}).await;
    assert_eq!(before.len(), 50);

    for path in ["/runs?limit=7", "/runs?limit=7&metric=m&status=queued", "/metrics/m/runs?limit=7"] {
        let walked = walk(&caller, path, "run_id", async |number| {
            add_runs(&caller, &format!("new{number}{}", path.len()), "2026-02-01T00:00:00Z", 10).await;
        });
        let old: Vec<String> = walked.await.into_iter().filter(|id| id.starts_with("old")).collect();
        assert_eq!(old, before, "{path}");
    }
}

#[tokio::test]
async fn metrics_are_listed_once_each_while_others_are_registered() {
    let caller = Caller::new().await;
    let codes: Vec<String> = (0..30).map(|number| format!("m.{number:02}")).collect();
    caller.register(&codes.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let walked = walk(&caller, "/metrics?limit=4", "code", async |number| {
        let spec = crate::caller::ratio();
        caller.put(&format!("/metrics/a.{number}"), &spec).await;
        caller.put(&format!("/metrics/z.{number}"), &spec).await;
    });
    let walked = walked.await;
    let unique: BTreeSet<&String> = walked.iter().collect();
    assert_eq!(unique.len(), walked.len());
    assert_eq!(walked.iter().filter(|code| code.starts_with("m.")).count(), 30);
}

#[tokio::test]
async fn only_the_runs_that_were_asked_for_are_listed() {
    let caller = Caller::new().await;
    caller.register(&["m", "other"]).await;
    add_runs(&caller, "r", "2026-01-01T00:00:00Z", 3).await;
    for (path, count) in [
        ("/runs?metric=m", 3),
        ("/runs?metric=other", 0),
        ("/runs?status=queued", 3),
        ("/runs?status=succeeded", 0),
        ("/metrics/other/runs", 0),
        ("/runs?limit=3", 3),
    ] {
        let page = caller.get(path).await.json();
        assert_eq!((column(&page, "run_id").len(), page["next_cursor"].is_null()), (count, true), "{path}");
    }
}
