//! The defects of the control plane before this one, each as a test that this one does not have it; and the rules.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics_engine::control::outbox::PublishError;
use metrics_engine::control::rejection::{Disposition, Error, Rejection};
use metrics_engine::control::status::RunStatus;
use metrics_engine::control::update::Recorded;
use metrics_engine::control::{runs, sweep};
use metrics_engine::ids::{MetricCode, RunId};
use metrics_engine::request;
use serde_json::json;
use tracing_subscriber::layer::SubscriberExt;

use crate::world::{World, failure, heartbeat, spec, started, success, sum};

#[tokio::test]
async fn nothing_is_published_before_the_commit_and_a_rollback_leaves_no_run() {
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    // A run that cannot be written takes the update, the outbox and the other runs with it.
    sqlx::query("ALTER TABLE run_dataset_updates ADD CHECK (dataset_id <> 'a')").execute(&world.pool).await.unwrap();
    let error = world.try_update("a", "v1").await.unwrap_err();
    assert!(matches!(error, Error::Database(_)), "{error}");
    assert_eq!(world.relay().await.published, 0);
    assert_eq!(world.count("SELECT count(*) FROM dataset_updates").await, 0);
    assert_eq!(world.runs().await, []);
    sqlx::query("ALTER TABLE run_dataset_updates DROP CONSTRAINT run_dataset_updates_dataset_id_check")
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(world.update("a", "v1").await.released, 1);
    assert_eq!(world.relay().await.published, 1);
}

#[tokio::test]
async fn a_relay_that_dies_before_it_says_so_publishes_the_same_run_again() {
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    world.update("a", "v1").await;
    *world.topic.fault.lock().unwrap() = Some(PublishError::Transient("no answer".to_owned()));
    assert_eq!(world.relay().await.postponed, 1);
    *world.topic.fault.lock().unwrap() = None;
    assert_eq!(world.relay().await.published, 0, "it waits before it tries again");
    sqlx::query("UPDATE outbox SET claimed_until = now()").execute(&world.pool).await.unwrap();
    assert_eq!(world.relay().await.published, 1);
    assert_eq!(world.relay().await, Default::default());
    let taken = world.topic.taken.lock().unwrap().clone();
    assert_eq!((taken.len(), &taken[0].group_id[..]), (1, "m"));
    assert_eq!(world.standing().await, ["m dispatched a v1"]);
}

#[tokio::test]
async fn a_request_that_the_topic_never_takes_fails_its_run_and_its_group_goes_on() {
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    world.update("a", "v1").await;
    *world.topic.fault.lock().unwrap() = Some(PublishError::Refused("too large".to_owned()));
    assert_eq!(world.relay().await.refused, 1);
    *world.topic.fault.lock().unwrap() = None;
    world.update("a", "v2").await;
    assert_eq!(world.relay().await.published, 1);
    assert_eq!(world.standing().await, ["m failed a v1", "m dispatched a v2"]);
}

#[tokio::test]
async fn a_late_started_does_not_turn_success_back_into_running() {
    let (world, run) = dispatched().await;
    assert_eq!(world.say(&success(&run, "m", 5)).await.unwrap(), RunStatus::Succeeded);
    assert_eq!(world.say(&started(&run, "m")).await.unwrap(), RunStatus::Succeeded);
    assert_eq!(world.say(&heartbeat(&run, "m", 0.5)).await.unwrap(), RunStatus::Succeeded);
    assert_eq!(world.say(&failure(&run, "m")).await.unwrap(), RunStatus::Succeeded);
    assert_eq!(world.count("SELECT count(*) FROM metric_runs WHERE error IS NULL AND progress = 1").await, 1);
}

#[tokio::test]
async fn a_redriven_run_may_succeed_after_it_failed_or_was_given_up() {
    let (world, run) = dispatched().await;
    assert_eq!(world.say(&failure(&run, "m")).await.unwrap(), RunStatus::Failed);
    assert_eq!(world.say(&started(&run, "m")).await.unwrap(), RunStatus::Failed);
    assert_eq!(world.say(&success(&run, "m", 5)).await.unwrap(), RunStatus::Succeeded);
    let (world, run) = dispatched().await;
    world.hours_pass(2).await;
    assert_eq!(sweep(&world).await.silent, 1);
    assert_eq!(world.say(&failure(&run, "m")).await.unwrap(), RunStatus::Failed);
}

#[tokio::test]
async fn a_waiting_run_absorbs_further_updates_and_is_released_once_with_the_newest() {
    let world = World::with_datasets(&["a", "b"]).await;
    world.metric("m", &["A", "B"]).await;
    for version in ["v1", "v2", "v3"] {
        let released = world.update("a", version).await;
        assert_eq!((released.released, released.waiting), (0, 1));
    }
    assert_eq!(world.standing().await, ["m pending_dependencies"]);
    assert_eq!(world.update("b", "v1").await.released, 1);
    assert_eq!(world.standing().await, ["m queued a v3, b v1"]);
    assert_eq!(world.update("a", "v4").await.released, 1);
    assert_eq!(world.standing().await, ["m queued a v3, b v1", "m queued a v4, b v1"]);
}

#[tokio::test]
async fn concurrent_updates_of_two_datasets_never_both_stay_waiting() {
    let world = World::with_datasets(&["a", "b"]).await;
    for number in 0..20 {
        world.metric(&format!("m{number}"), &["A", "B"]).await;
    }
    let (one, two) = tokio::join!(world.update("a", "v1"), world.update("b", "v1"));
    assert_eq!((one.released + two.released, one.waiting + two.waiting), (20, 20));
    assert!(world.standing().await.iter().all(|line| line.ends_with("queued a v1, b v1")));
}

#[tokio::test]
async fn an_unknown_dataset_is_a_named_error_and_goes_to_the_dead_letters() {
    let world = World::with_datasets(&["a"]).await;
    let error = world.try_update("nobody", "v1").await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.disposition()), ("no dataset nobody", Disposition::DeadLetter));
}

#[tokio::test]
async fn a_metric_with_a_series_that_no_dataset_has_holds_nobody_up() {
    let world = World::with_datasets(&["a", "b"]).await;
    world.metric("good", &["A"]).await;
    world.metric("orphan", &["A", "B"]).await;
    world.dataset("b", &[]).await;
    let released = world.update("a", "v1").await;
    assert_eq!((released.released, released.waiting, released.unresolved), (1, 0, vec!["orphan".to_owned()]));
    assert_eq!(world.standing().await, ["good queued a v1"]);
    let unknown = world.put_metric("bad", &sum(&["A", "NOWHERE"])).await.unwrap_err();
    assert_eq!(unknown.to_string(), "no series NOWHERE");
}

#[tokio::test]
async fn operands_at_any_depth_are_dependencies_in_the_order_of_the_expression() {
    let world = World::with_datasets(&["a", "b", "c", "d"]).await;
    let of = |code: &str| json!({ "series_code": code });
    let deep = json!({ "op": "ratio",
        "left": { "op": "sum", "operands": [of("D"), { "op": "avg", "operands": [of("B"), { "seriesCode": "A" }] }] },
        "right": { "op": "lag", "window": 3, "series": { "op": "subtract", "left": of("B"), "right": of("C") } } });
    world.put_metric("m", &spec("series_math", deep)).await.unwrap();
    for dataset in ["a", "b", "c"] {
        assert_eq!(world.update(dataset, "v1").await.waiting, 1, "{dataset}");
    }
    assert_eq!(world.update("d", "v1").await.released, 1);
    world.relay().await;
    let inputs = &world.requests()[0]["inputs"];
    let expected = ["D", "B", "A", "C"].map(|code| json!({ "datasetId": code.to_lowercase(), "seriesCode": code }));
    assert_eq!(inputs, &json!(expected));
}

#[tokio::test]
async fn the_request_is_one_that_the_worker_takes() {
    let world = World::with_datasets(&["a", "b"]).await;
    world.metric("m", &["A", "B"]).await;
    world.update("a", "v1").await;
    world.update("b", "v2").await;
    world.relay().await;
    let request = &world.requests()[0];
    let decoded = request::decode(&request.to_string(), &world.rules).unwrap();
    assert_eq!(decoded.run.run_id.as_str(), world.only_run().await);
    let work = decoded.work.unwrap();
    assert_eq!(work.datasets.len(), 2);
    assert_eq!(request["output"]["basePath"], "s3://own/metrics/m/");
    assert_eq!(
        request["catalog"]["datasets"]["b"],
        json!({ "manifestPath": "datasets/b/versions/v2/manifest.json", "projectionsPath": "datasets/b/projections/" })
    );
}

#[tokio::test]
async fn a_run_goes_through_every_status_and_a_silent_one_is_timed_out() {
    let world = World::with_datasets(&["a", "b"]).await;
    world.metric("m", &["A", "B"]).await;
    world.update("a", "v1").await;
    assert_eq!(world.standing().await, ["m pending_dependencies"]);
    world.update("b", "v1").await;
    assert_eq!(world.standing().await, ["m queued a v1, b v1"]);
    world.relay().await;
    assert_eq!(world.standing().await, ["m dispatched a v1, b v1"]);
    let run = world.only_run().await;
    assert_eq!(sweep(&world).await, Default::default());
    assert_eq!(world.say(&heartbeat(&run, "m", 0.25)).await.unwrap(), RunStatus::Running);
    assert_eq!(world.say(&started(&run, "m")).await.unwrap(), RunStatus::Running);
    assert_eq!(sweep(&world).await, Default::default());
    world.hours_pass(1).await;
    assert_eq!(sweep(&world).await.silent, 1);
    assert_eq!(world.standing().await, ["m timed_out a v1, b v1"]);
    assert_eq!(world.say(&heartbeat(&run, "m", 0.5)).await.unwrap(), RunStatus::TimedOut);
    assert_eq!(world.say(&success(&run, "m", 1)).await.unwrap(), RunStatus::Succeeded);
}

#[tokio::test]
async fn a_run_whose_request_waits_in_the_outbox_is_not_taken_for_silent() {
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    world.update("a", "v1").await;
    *world.topic.fault.lock().unwrap() = Some(PublishError::Transient("down for hours".to_owned()));
    world.relay().await;
    world.hours_pass(5).await;
    assert_eq!(sweep(&world).await.silent, 0);
}

#[tokio::test]
async fn a_waiting_run_whose_updates_became_too_old_is_timed_out_and_the_next_update_waits_anew() {
    let world = World::with_datasets(&["a", "b"]).await;
    world.metric("m", &["A", "B"]).await;
    world.update("a", "v1").await;
    world.hours_pass(7 * 24 - 1).await;
    assert_eq!(sweep(&world).await.expired, 0);
    world.hours_pass(2).await;
    assert_eq!(world.update("b", "v1").await.waiting, 1, "a's update is outside its window");
    assert_eq!(sweep(&world).await.expired, 0, "b's update is inside");
    world.hours_pass(7 * 24 + 1).await;
    assert_eq!(sweep(&world).await.expired, 1);
    world.update("b", "v2").await;
    assert_eq!(world.standing().await, ["m timed_out", "m pending_dependencies"]);
    world.update("a", "v2").await;
    assert_eq!(world.standing().await, ["m timed_out", "m queued a v2, b v2"]);
}

#[tokio::test]
async fn zero_rows_are_kept_as_zero() {
    let (world, run) = dispatched().await;
    world
        .say(&json!({ "type": "metric_run_completed", "run_id": run, "metric_code": "m", "status": "SUCCESS",
        "version_ts": "2025-01-15T10-30-00", "output_manifest": "metrics/m/x/manifest.json", "row_count": 0 }))
        .await
        .unwrap();
    let stored: (Option<i64>, Option<String>, Option<String>) =
        sqlx::query_as("SELECT row_count, version_ts, manifest_path FROM metric_runs")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    let expected = (Some(0), Some("2025-01-15T10-30-00".to_owned()), Some("metrics/m/x/manifest.json".to_owned()));
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn an_update_takes_the_same_number_of_statements_whatever_the_number_of_metrics() {
    let mut counts = Vec::new();
    for metrics in [0, 1, 6, 60] {
        // On a busy machine the first update of a process was seen with one statement more, whatever the metrics: the
        // fewest of three count. A statement for each metric would be in all three.
        let mut fewest = (u64::MAX, u64::MAX);
        for _ in 0..3 {
            let world = World::with_datasets(&["a", "b"]).await;
            for number in 0..metrics {
                world.metric(&format!("m{number}"), &["A", "B"]).await;
            }
            let waiting = statements(world.update("a", "v1")).await;
            let releasing = statements(world.update("b", "v1")).await;
            fewest = (fewest.0.min(waiting), fewest.1.min(releasing));
        }
        counts.push(fewest);
    }
    assert!(counts[0].0 > 3, "statements are counted at all: {counts:?}");
    assert!(counts.iter().all(|count| *count == counts[0]) && counts[0].0 == counts[0].1, "{counts:?}");
}

#[tokio::test]
async fn an_update_that_comes_twice_is_recorded_once() {
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    world.update("a", "v1").await;
    assert_eq!(world.try_update("a", "v1").await.unwrap(), Recorded::Known);
    assert_eq!(world.standing().await, ["m queued a v1"]);
    assert_eq!(world.count("SELECT count(*) FROM event_log").await, 1);
}

#[tokio::test]
async fn a_message_without_effect_leaves_no_lock_behind_for_a_function_that_is_frozen_after_it() {
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    world.update("a", "v1").await;
    let other = world.database.another_pool();
    for attempt in 0..20 {
        world.try_update("a", "v1").await.unwrap();
        let free = sqlx::query("SELECT FROM datasets FOR UPDATE NOWAIT").execute(&other).await;
        assert!(free.is_ok(), "attempt {attempt}: {free:?}");
        let metric = MetricCode::parse("m").unwrap();
        sqlx::query("DELETE FROM dataset_series").execute(&world.pool).await.unwrap();
        runs::run_now(&world.pool, &metric, &world.rules).await.unwrap_err();
        let free = sqlx::query("SELECT FROM metrics FOR UPDATE NOWAIT").execute(&other).await;
        assert!(free.is_ok(), "attempt {attempt}: {free:?}");
    }
}

#[tokio::test]
async fn the_worker_s_own_parser_judges_an_expression_when_it_is_written() {
    let world = World::with_datasets(&["a"]).await;
    let a = json!({ "series_code": "A" });
    for (expression_type, expression, message) in [
        ("median", json!({}), "expression_type is \"median\", expected series_math, window_op or composite"),
        (
            "window_op",
            json!({ "op": "sma", "series": a, "window": 0 }),
            "expression_json: window must be an integer of at least 1, found 0 at $.window",
        ),
        (
            "composite",
            json!({ "op": "ratio", "left": a, "right": a }),
            "expression_json: expressionType says composite, the expression is a series_math at $",
        ),
    ] {
        let error = world.put_metric("m", &spec(expression_type, expression)).await.unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let mut days = sum(&["A"]);
    days.required_days = Some(0);
    let error = world.put_metric("m", &days).await.unwrap_err();
    assert_eq!(error.to_string(), "required_days must be an integer from 1 to 36500");
}

#[tokio::test]
async fn a_canceled_run_stays_canceled_and_keeps_the_manifest_that_arrives() {
    let (world, run) = dispatched().await;
    let id = RunId::parse(&run).unwrap();
    runs::cancel(&world.pool, &id).await.unwrap();
    runs::cancel(&world.pool, &id).await.unwrap();
    assert_eq!(world.say(&started(&run, "m")).await.unwrap(), RunStatus::Canceled);
    assert_eq!(world.say(&success(&run, "m", 3)).await.unwrap(), RunStatus::Canceled);
    let kept =
        "SELECT count(*) FROM metric_runs WHERE status = 'canceled' AND row_count = 3 AND manifest_path IS NOT NULL";
    assert_eq!(world.count(kept).await, 1);
    let (world, run) = dispatched().await;
    world.say(&success(&run, "m", 3)).await.unwrap();
    let error = runs::cancel(&world.pool, &RunId::parse(&run).unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Rejected(Rejection::RunIsOver { .. })), "{error}");
    let unknown = runs::cancel(&world.pool, &RunId::parse("nobody").unwrap()).await.unwrap_err();
    assert_eq!(unknown.to_string(), "no run nobody");
}

#[tokio::test]
async fn a_run_that_was_canceled_before_its_request_was_published_never_is() {
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    world.update("a", "v1").await;
    runs::cancel(&world.pool, &RunId::parse(&world.only_run().await).unwrap()).await.unwrap();
    let relayed = world.relay().await;
    assert_eq!((relayed.published, relayed.dropped), (0, 1));
    assert_eq!(world.count("SELECT count(*) FROM outbox").await, 0);
}

#[tokio::test]
async fn a_canceled_waiting_run_makes_room_for_the_next() {
    let world = World::with_datasets(&["a", "b"]).await;
    world.metric("m", &["A", "B"]).await;
    world.update("a", "v1").await;
    runs::cancel(&world.pool, &RunId::parse(&world.only_run().await).unwrap()).await.unwrap();
    world.update("a", "v2").await;
    world.update("b", "v1").await;
    assert_eq!(world.standing().await, ["m canceled", "m queued a v2, b v1"]);
}

#[tokio::test]
async fn a_run_now_takes_the_newest_updates_however_old_and_leaves_the_waiting_run() {
    let world = World::with_datasets(&["a", "b"]).await;
    world.metric("m", &["A", "B"]).await;
    let code = MetricCode::parse("m").unwrap();
    let error = runs::run_now(&world.pool, &code, &world.rules).await.unwrap_err();
    assert_eq!(error.to_string(), "metric m cannot run: no update was ever recorded of a, b");
    world.update("a", "v1").await;
    world.hours_pass(24 * 30).await;
    world.update("b", "v1").await;
    runs::run_now(&world.pool, &code, &world.rules).await.unwrap();
    assert_eq!(world.standing().await, ["m pending_dependencies", "m queued a v1, b v1"]);
    let unknown = runs::run_now(&world.pool, &MetricCode::parse("x").unwrap(), &world.rules).await.unwrap_err();
    assert_eq!(unknown.to_string(), "no metric x");
}

#[tokio::test]
async fn a_metric_that_needs_less_than_before_is_not_left_waiting() {
    let world = World::with_datasets(&["a", "b"]).await;
    world.metric("m", &["A", "B"]).await;
    world.update("a", "v1").await;
    world.metric("m", &["A"]).await;
    assert_eq!(world.standing().await, ["m queued a v1"]);
}

#[tokio::test]
async fn feedback_of_an_unknown_run_is_a_named_error() {
    let (world, run) = dispatched().await;
    for body in
        [started("nobody", "m"), heartbeat("nobody", "m", 0.1), success("nobody", "m", 1), failure("nobody", "m")]
    {
        let error = world.say(&body).await.unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.disposition()),
            ("no run nobody of metric m", Disposition::DeadLetter)
        );
    }
    let error = world.say(&success(&run, "other", 1)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no run {run} of metric other"));
}

#[tokio::test]
async fn a_series_belongs_to_one_dataset() {
    let world = World::with_datasets(&["a", "b"]).await;
    let spec = metrics_engine::control::catalogue::DatasetSpec { series: vec!["A".to_owned()], ..Default::default() };
    let b = metrics_engine::ids::DatasetId::parse("b").unwrap();
    let error = metrics_engine::control::catalogue::put_dataset(&world.pool, &b, &spec).await.unwrap_err();
    assert_eq!(error.to_string(), "series A belongs to dataset a already");
}

/// A metric `m` over dataset `a`, with one dispatched run.
async fn dispatched() -> (World, String) {
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    world.update("a", "v1").await;
    world.relay().await;
    let run = world.only_run().await;
    (world, run)
}

async fn sweep(world: &World) -> sweep::Swept {
    let patience = metrics_engine::control::config::Patience {
        start: std::time::Duration::from_secs(3_600),
        heartbeat: std::time::Duration::from_secs(900),
    };
    sweep::sweep(&world.pool, &patience, 30, &world.rules).await.unwrap()
}

tokio::task_local! {
    /// Statements that the task sent to the database.
    static STATEMENTS: AtomicU64;
}

/// Counts what is sent to the database, for the task that sends it.
struct Counter;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Counter {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            let _ = STATEMENTS.try_with(|count| count.fetch_add(1, Ordering::Relaxed));
        }
    }
}

async fn statements<T>(work: impl Future<Output = T>) -> u64 {
    static INSTALLED: std::sync::Once = std::sync::Once::new();
    INSTALLED.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Counter)).unwrap();
    });
    let counted = async {
        work.await;
        STATEMENTS.with(|count| count.load(Ordering::Relaxed))
    };
    STATEMENTS.scope(AtomicU64::new(0), counted).await
}
