//! Many events through several instances, each a process of its own that is killed in between.
//!
//! The queue is a table: messages come in any order, twice, and again when whoever took them was killed. The topic is a
//! table too, and whoever publishes to it also puts the feedback of that run's worker into the queue: started,
//! heartbeats, failures and successes, in any order and twice. In the end every run must have been released exactly once,
//! with the updates that were the newest of their datasets at that moment.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use metrics_engine::control::batch::{self, Handling};
use metrics_engine::control::database::{self, DatabaseSettings};
use metrics_engine::control::outbox::{self, Outgoing, PublishError, RequestPublisher};
use metrics_engine::control::status::RunStatus;
use metrics_engine::worker::deadline::Deadline;
use metrics_engine::worker::queue::ReceivedRecord;
use metrics_engine::worker::recorder::QueueRecorder;
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom, IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::world::{World, failure, heartbeat, rules, started, success, update_body};

const DATASETS: usize = 10;
const METRICS: usize = 30;
const INSTANCES: usize = 3;

/// An update leads to about seven runs, and a run to four messages, each of them twice.
const EVENTS_PER_UPDATE: usize = 45;

/// How long the test waits for the end.
const PATIENCE: Duration = Duration::from_secs(6 * 3_600);

#[expect(clippy::disallowed_methods, reason = "what a test is told, and an instance by its test")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[tokio::test]
async fn every_run_is_released_once_with_the_right_updates_although_instances_are_killed() {
    let events: usize = environment("SOAK_EVENTS").map_or(10_000, |text| text.parse().unwrap());
    let seed: u64 = environment("SOAK_SEED").map_or(7, |text| text.parse().unwrap());
    let world = World::new().await;
    let mut random = StdRng::seed_from_u64(seed);
    prepare(&world, &mut random, events.div_ceil(EVENTS_PER_UPDATE)).await;
    let start = Instant::now();
    let kills = run_until_drained(&world, &mut random).await;
    let handled = world.count("SELECT count(*) FROM handled").await;
    println!("{handled} messages, {kills} kills, seed {seed}, {:.0?}", start.elapsed());
    assert!(handled >= i64::try_from(events).unwrap(), "{handled} messages of {events}");
    check(&world).await;
}

async fn execute(pool: &PgPool, statement: &'static str) {
    sqlx::raw_sql(statement).execute(pool).await.unwrap();
}

/// Datasets, metrics over one to four of them, tables for the test's queue and topic, and every update twice in the queue.
async fn prepare(world: &World, random: &mut StdRng, updates: usize) {
    let pool = &world.pool;
    execute(
        pool,
        "CREATE TABLE inbox (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, body text NOT NULL,
             visible_at timestamptz NOT NULL DEFAULT now(), place float8 NOT NULL DEFAULT random());
         CREATE INDEX ON inbox (place);
         CREATE TABLE handled (id bigint NOT NULL, letter text);
         CREATE TABLE topic (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, run_id text, group_id text, body text);
         CREATE TABLE answered (run_id text PRIMARY KEY);
         CREATE TABLE audit (run_id text, before text, after text);
         CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO audit VALUES (NEW.id, OLD.status, NEW.status); RETURN NEW; END $$;
         CREATE TRIGGER audited AFTER UPDATE ON metric_runs FOR EACH ROW
             WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION audited();",
    )
    .await;
    let names: Vec<String> = (0..DATASETS).map(|number| format!("d{number}")).collect();
    for name in &names {
        world.dataset(name, &[&name.to_uppercase()]).await;
    }
    for number in 0..METRICS {
        let count = random.random_range(1..=4);
        let series: Vec<String> = names.sample(random, count).map(|name| name.to_uppercase()).collect();
        let series: Vec<&str> = series.iter().map(String::as_str).collect();
        world.metric(&format!("m{number}"), &series).await;
    }
    let mut bodies = Vec::new();
    for number in 0..updates.max(2 * DATASETS) {
        let body = update_body(&names[number % DATASETS], &format!("v{number}")).to_string();
        bodies.extend([body.clone(), body]);
    }
    bodies.shuffle(random);
    sqlx::query("INSERT INTO inbox (body) SELECT unnest($1::text[])").bind(&bodies).execute(pool).await.unwrap();
}

/// Instances work and are killed until there is nothing left to do. Returns how many were killed.
async fn run_until_drained(world: &World, random: &mut StdRng) -> usize {
    let mut instances: Vec<Child> = (0..INSTANCES).map(|_| launch(&world.database.settings)).collect();
    let (start, mut kills) = (Instant::now(), 0);
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(300..1_500))).await;
        let left = "SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM outbox)";
        if world.count(left).await == 0 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "it does not come to an end");
        let have_all_worked = instances.iter_mut().all(|instance| instance.try_wait().unwrap().is_none());
        assert!(have_all_worked, "an instance ended by itself: its relay failed, or it panicked");
        let victim = instances.choose_mut(random).unwrap();
        victim.kill().unwrap();
        victim.wait().unwrap();
        *victim = launch(&world.database.settings);
        kills += 1;
        // What it had claimed would be free again after a minute.
        let sooner =
            "UPDATE outbox SET claimed_until = LEAST(claimed_until, now() + interval '0.5 seconds') WHERE id IN
                      (SELECT id FROM outbox WHERE claimed_until IS NOT NULL ORDER BY id FOR UPDATE SKIP LOCKED)";
        execute(&world.pool, sooner).await;
    }
    for mut instance in instances {
        instance.kill().unwrap();
        instance.wait().unwrap();
    }
    kills
}

fn launch(settings: &DatabaseSettings) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["many::instance", "--exact", "--ignored", "--nocapture"])
        .env("INSTANCE_DATABASE", &settings.name)
        .env("INSTANCE_PORT", settings.port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a process of the test above"]
async fn instance() {
    let (Some(name), Some(port)) = (environment("INSTANCE_DATABASE"), environment("INSTANCE_PORT")) else { return };
    let pool = database::pool(&crate::postgres::settings(port.parse().unwrap(), &name));
    let topic = TopicTable(pool.clone());
    let relaying = async {
        loop {
            outbox::relay(&pool, &topic).await.expect("a relay failed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let handling = async {
        loop {
            if handle_some(&pool).await == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    // A test that dies takes its server with it, and then these end as well.
    tokio::join!(relaying, handling);
}

/// Takes messages from the queue, handles them and deletes those that do not go back.
async fn handle_some(pool: &PgPool) -> usize {
    let take = "UPDATE inbox SET visible_at = now() + interval '2 seconds', place = random() WHERE id IN (
                    SELECT id FROM inbox WHERE visible_at <= now() ORDER BY place LIMIT 10 FOR UPDATE SKIP LOCKED)
                RETURNING id, body";
    let taken: Vec<(i64, String)> = sqlx::query_as(take).fetch_all(pool).await.unwrap();
    let record = |(id, body): &(i64, String)| {
        let (message_id, group_id) = (id.to_string(), Some(id.to_string()));
        ReceivedRecord { message_id, group_id, body: body.clone(), receive_count: 1, ..ReceivedRecord::default() }
    };
    let (queue, deadline, rules) = (QueueRecorder::new(true), Deadline::unknown(), rules());
    let handling = Handling { pool, queue: &queue, rules: &rules, max_receive_count: 1_000, deadline: &deadline };
    let returned = batch::handle_records(taken.iter().map(record).collect(), &handling).await;
    let done: Vec<i64> = taken.iter().map(|(id, _)| *id).filter(|id| !returned.contains(&id.to_string())).collect();
    let letters: Vec<String> = queue.dead_letters().into_iter().map(|(_, reason)| reason).collect();
    let delete = "WITH gone AS (DELETE FROM inbox WHERE id = ANY ($1) RETURNING id),
                  letters AS (INSERT INTO handled SELECT 0, unnest($2::text[]))
                  INSERT INTO handled SELECT id FROM gone";
    sqlx::query(delete).bind(done).bind(letters).execute(pool).await.unwrap();
    taken.len()
}

/// How the worker of a run ends it, by the run's id.
enum Fate {
    Succeeds,
    FailsAndSucceeds,
    Fails,
}

fn fate(run_id: &str) -> Fate {
    match run_id.bytes().last().unwrap_or_default() % 4 {
        0 => Fate::Fails,
        1 => Fate::FailsAndSucceeds,
        _ => Fate::Succeeds,
    }
}

fn feedback(run_id: &str, metric: &str) -> Vec<Value> {
    let mut said = vec![started(run_id, metric), heartbeat(run_id, metric, 0.5)];
    match fate(run_id) {
        Fate::Succeeds => said.push(success(run_id, metric, 0)),
        Fate::FailsAndSucceeds => said.extend([failure(run_id, metric), success(run_id, metric, 0)]),
        Fate::Fails => said.push(failure(run_id, metric)),
    }
    said
}

/// A topic, and the workers behind it.
struct TopicTable(PgPool);

#[async_trait]
impl RequestPublisher for TopicTable {
    async fn publish(&self, requests: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let fault = || Err(PublishError::Transient("scripted".to_owned()));
        if rand::random_bool(0.02) {
            return requests.iter().map(|_| fault()).collect();
        }
        let column = |of: fn(&Outgoing) -> &String| requests.iter().map(|one| of(one).clone()).collect::<Vec<_>>();
        let (runs, groups, bodies) = (column(|one| &one.run_id), column(|one| &one.group_id), column(|one| &one.body));
        let said: Vec<(String, String)> = requests
            .iter()
            .flat_map(|one| feedback(&one.run_id, &one.group_id).into_iter().map(|body| (one.run_id.clone(), body)))
            .flat_map(|(run, body)| [(run.clone(), body.to_string()), (run, body.to_string())])
            .collect();
        let (said_of, said): (Vec<String>, Vec<String>) = said.into_iter().unzip();
        let publish =
            "WITH new AS (INSERT INTO answered SELECT unnest($1::text[]) ON CONFLICT DO NOTHING RETURNING run_id),
            said AS (INSERT INTO inbox (body) SELECT s.body FROM unnest($4::text[], $5::text[]) AS s (run_id, body)
                     JOIN new ON new.run_id = s.run_id)
            INSERT INTO topic (run_id, group_id, body) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])";
        let publish = sqlx::query(publish).bind(runs).bind(groups).bind(bodies).bind(said_of).bind(said);
        match publish.execute(&self.0).await {
            // Published, and whoever did it does not know.
            Ok(_) if rand::random_bool(0.02) => requests.iter().map(|_| fault()).collect(),
            Ok(_) => requests.iter().map(|_| Ok(())).collect(),
            Err(_) => requests.iter().map(|_| fault()).collect(),
        }
    }
}

async fn check(world: &World) {
    let letters: Vec<String> =
        sqlx::query_scalar("SELECT letter FROM handled WHERE letter IS NOT NULL").fetch_all(&world.pool).await.unwrap();
    assert_eq!(letters, Vec::<String>::new(), "no message was rejected");
    let waiting = "SELECT count(*) FROM metric_runs WHERE status = 'pending_dependencies'";
    assert_eq!(world.count(waiting).await, 0, "no run waits for ever");
    for (run, before, after) in
        sqlx::query_as::<_, (String, String, String)>("SELECT * FROM audit").fetch_all(&world.pool).await.unwrap()
    {
        let (from, to) = (RunStatus::parse(&before).unwrap(), RunStatus::parse(&after).unwrap());
        assert!(from.may_become(to), "{run} went from {before} to {after}");
    }
    check_endings(world).await;
    check_publications(world).await;
    check_releases(world).await;
}

/// Every run ended as its worker said, whatever the order in which that came.
async fn check_endings(world: &World) {
    for run in world.runs().await {
        let expected = match fate(&run.id) {
            Fate::Succeeds | Fate::FailsAndSucceeds => RunStatus::Succeeded,
            Fate::Fails => RunStatus::Failed,
        };
        assert_eq!(run.status, expected, "{run:?}");
    }
    let zero = "SELECT count(*) FROM metric_runs WHERE status = 'succeeded' AND row_count IS DISTINCT FROM 0";
    assert_eq!(world.count(zero).await, 0, "0 rows are kept as 0");
}

/// Every run was published, never with two bodies, and those of a metric in the order of their release.
async fn check_publications(world: &World) {
    let unpublished = "SELECT count(*) FROM metric_runs r WHERE NOT EXISTS (SELECT FROM topic t WHERE t.run_id = r.id)";
    assert_eq!(world.count(unpublished).await, 0);
    let ambiguous = "SELECT count(*) FROM (SELECT run_id FROM topic GROUP BY run_id HAVING count(DISTINCT body) > 1) x";
    assert_eq!(world.count(ambiguous).await, 0);
    let disordered = "SELECT count(*) FROM (
        SELECT first, lag(first) OVER (PARTITION BY metric_code ORDER BY queued_at) AS before
        FROM (SELECT r.metric_code, r.queued_at, min(t.id) AS first FROM metric_runs r JOIN topic t ON t.run_id = r.id
              GROUP BY r.id) f) o WHERE first < before";
    assert_eq!(world.count(disordered).await, 0, "the runs of a metric were published in order");
}

/// By dataset, which of its updates a run was released with: 1 is the first.
type Places = BTreeMap<String, i64>;

/// A metric's runs, in the order of their release: the first has an update of every dataset, of one of them the very
/// first; each further one differs from the one before in one dataset, by the next update; the last has the newest of all.
async fn check_releases(world: &World) {
    let rows: Vec<(String, String, String, i64)> = sqlx::query_as(
        "SELECT r.metric_code, r.id, l.dataset_id, u.place
         FROM metric_runs r JOIN run_dataset_updates l ON l.run_id = r.id
         JOIN (SELECT id, row_number() OVER (PARTITION BY dataset_id ORDER BY sequence) AS place FROM dataset_updates) u
             ON u.id = l.update_id
         ORDER BY r.metric_code, r.queued_at, r.id, l.dataset_id",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    let newest: BTreeMap<String, i64> =
        sqlx::query_as::<_, (String, i64)>("SELECT dataset_id, count(*) FROM dataset_updates GROUP BY 1")
            .fetch_all(&world.pool)
            .await
            .unwrap()
            .into_iter()
            .collect();
    let mut by_metric: BTreeMap<String, Vec<(String, Places)>> = BTreeMap::new();
    for (metric, run, dataset, place) in rows {
        let runs = by_metric.entry(metric).or_default();
        if runs.last().is_none_or(|(last, _)| *last != run) {
            runs.push((run, Places::new()));
        }
        runs.last_mut().unwrap().1.insert(dataset, place);
    }
    assert_eq!(by_metric.len(), METRICS);
    for (metric, runs) in by_metric {
        let first = &runs[0].1;
        assert!(first.values().any(|place| *place == 1), "{metric}: an earlier release is missing: {first:?}");
        for pair in runs.windows(2) {
            let (before, after) = (&pair[0].1, &pair[1].1);
            let steps: Vec<i64> = before.iter().map(|(dataset, place)| after[dataset] - place).collect();
            let is_one_step = steps.iter().sum::<i64>() == 1 && steps.iter().all(|step| (0..=1).contains(step));
            assert!(is_one_step, "{metric}: from {before:?} to {after:?}");
        }
        let last = &runs[runs.len() - 1].1;
        assert!(last.iter().all(|(dataset, place)| newest[dataset] == *place), "{metric} ends with {last:?}");
    }
    let expected: Value = json!(world.count("SELECT count(*) FROM metric_runs").await);
    assert_eq!(json!(world.count("SELECT count(DISTINCT run_id) FROM run_dataset_updates").await), expected);
}
