//! Relays whose claims end while they publish: two have the same requests then, and both have to come through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::future::join_all;
use metrics_engine::control::outbox::{self, Outgoing, PublishError, RequestPublisher};
use sqlx::PgPool;

use crate::world::World;

const METRICS: usize = 30;
const UPDATES: usize = 12;
const RELAYS: usize = 6;

/// The rows lie in another order than that of their ids, and each change of one takes its time: whoever does not care for
/// an order meets the others.
const SLOWLY: [&str; 4] = [
    "CREATE TABLE shuffled AS SELECT * FROM outbox ORDER BY md5(id::text)",
    "WITH gone AS (DELETE FROM outbox) SELECT",
    "INSERT INTO outbox OVERRIDING SYSTEM VALUE SELECT * FROM shuffled",
    "DO $$ BEGIN
         CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_sleep(0.0002); RETURN COALESCE(NEW, OLD); END';
         CREATE TRIGGER slowly BEFORE UPDATE OR DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION slowly();
     END $$",
];

/// Ends every claim while it publishes, and takes two publications of three.
struct Slow {
    pool: PgPool,
    calls: AtomicUsize,
    taken: Mutex<Vec<Outgoing>>,
}

#[async_trait]
impl RequestPublisher for Slow {
    async fn publish(&self, requests: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        // Waits for nobody, so that it is never part of a circle.
        let end = "UPDATE outbox SET claimed_until = clock_timestamp() WHERE id IN (
                       SELECT id FROM outbox ORDER BY id FOR UPDATE SKIP LOCKED)";
        sqlx::query(end).execute(&self.pool).await.unwrap();
        tokio::task::yield_now().await;
        if call % 3 == 2 {
            return requests.iter().map(|_| Err(PublishError::Transient("for now".to_owned()))).collect();
        }
        self.taken.lock().unwrap().extend_from_slice(requests);
        requests.iter().map(|_| Ok(())).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn relays_that_have_the_same_requests_never_wait_for_each_other_in_a_circle() {
    let world = World::with_datasets(&["a"]).await;
    for number in 0..METRICS {
        world.metric(&format!("m{number}"), &["A"]).await;
    }
    for version in 0..UPDATES {
        world.update("a", &format!("v{version}")).await;
    }
    let runs: BTreeMap<String, String> = world.runs().await.into_iter().map(|run| (run.id, run.metric)).collect();
    assert_eq!(runs.len(), METRICS * UPDATES);

    for sql in SLOWLY {
        sqlx::query(sql).execute(&world.pool).await.unwrap();
    }
    let slow = Slow { pool: world.database.another_pool(), calls: AtomicUsize::default(), taken: Mutex::default() };
    let pools: Vec<PgPool> = (0..RELAYS).map(|_| world.database.another_pool()).collect();
    while world.count("SELECT count(*) FROM outbox").await > 0 {
        let relays = pools.iter().map(|pool| outbox::relay(pool, &slow));
        for relayed in join_all(relays).await {
            relayed.expect("a relay failed");
        }
        sqlx::query("UPDATE outbox SET claimed_until = NULL").execute(&world.pool).await.unwrap();
    }
    let taken: BTreeSet<String> = slow.taken.lock().unwrap().iter().map(|request| request.run_id.clone()).collect();
    assert_eq!(taken, runs.into_keys().collect(), "each was published");
}

#[tokio::test]
async fn a_relay_takes_of_a_metric_what_comes_before_the_first_request_that_somebody_is_busy_with() {
    let world = World::with_datasets(&["a"]).await;
    world.metric("m", &["A"]).await;
    for version in ["v1", "v2", "v3", "v4"] {
        world.update("a", version).await;
    }
    let mut busy = world.pool.begin().await.unwrap();
    let third = "SELECT id FROM outbox WHERE id = (SELECT id FROM outbox ORDER BY id OFFSET 2 LIMIT 1) FOR UPDATE";
    sqlx::query(third).execute(&mut *busy).await.unwrap();
    assert_eq!(world.relay().await.published, 2);
    busy.rollback().await.unwrap();
    assert_eq!(world.relay().await.published, 2);
    let versions: Vec<String> = world.requests().iter().map(|request| request["catalog"].to_string()).collect();
    let in_order = versions.iter().zip(["v1", "v2", "v3", "v4"]).all(|(catalog, version)| catalog.contains(version));
    assert!(in_order && versions.len() == 4, "{versions:?}");
}
