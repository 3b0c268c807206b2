//! Migrations, and the state machine as the database keeps it.

use metrics_engine::control::database;
use metrics_engine::control::status::RunStatus;
use sqlx::PgPool;

use crate::postgres::TestDatabase;

async fn tables(pool: &PgPool) -> Vec<String> {
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' \
                  AND table_name <> '_sqlx_migrations' ORDER BY 1";
    sqlx::query_scalar(tables).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn migrations_go_forward_and_all_the_way_back_and_forward_again() {
    let pool = TestDatabase::empty().await.pool;
    database::migrate_up(&pool).await.unwrap();
    let there = tables(&pool).await;
    assert_eq!(there.len(), 12, "{there:?}");
    for target in [2, 1, 0] {
        database::migrate_down(&pool, target).await.unwrap();
    }
    assert_eq!(tables(&pool).await, Vec::<String>::new());
    let functions: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'public'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(functions, 0);
    database::migrate_up(&pool).await.unwrap();
    assert_eq!(tables(&pool).await, there);
}

#[tokio::test]
async fn two_instances_may_migrate_at_once() {
    let database = TestDatabase::empty().await;
    let other = database.another_pool();
    let (one, two) = tokio::join!(database::migrate_up(&database.pool), database::migrate_up(&other));
    one.unwrap();
    two.unwrap();
}

#[tokio::test]
async fn the_database_allows_the_transitions_that_the_code_knows_and_no_others() {
    let pool = TestDatabase::new().await.pool;
    let metric =
        "INSERT INTO metrics (id, code, expression_type, expression_json) VALUES ('m', 'm', 'composite', '{}')";
    sqlx::query(metric).execute(&pool).await.unwrap();
    for from in RunStatus::ALL {
        for to in RunStatus::ALL {
            let mut transaction = pool.begin().await.unwrap();
            let begin = "INSERT INTO metric_runs (id, metric_id, metric_code, status) VALUES ('r', 'm', 'm', $1)";
            let begun = sqlx::query(begin).bind(from.as_str()).execute(&mut *transaction).await;
            if !from.may_begin() {
                assert_eq!(code(begun.unwrap_err()), "ME001", "begin as {from:?}");
                transaction.rollback().await.unwrap();
                transaction = pool.begin().await.unwrap();
                // The trigger is off for this session alone, so that a run can be put where none begins.
                sqlx::query("SET LOCAL session_replication_role = replica").execute(&mut *transaction).await.unwrap();
                sqlx::query(begin).bind(from.as_str()).execute(&mut *transaction).await.unwrap();
                sqlx::query("SET LOCAL session_replication_role = DEFAULT").execute(&mut *transaction).await.unwrap();
            }
            let change = sqlx::query("UPDATE metric_runs SET status = $1 WHERE id = 'r'").bind(to.as_str());
            match change.execute(&mut *transaction).await {
                Ok(_) => assert!(from == to || from.may_become(to), "{from:?} → {to:?} went through"),
                Err(error) => {
                    assert!(from != to && !from.may_become(to), "{from:?} → {to:?} was refused");
                    assert_eq!(code(error), "ME001");
                }
            }
        }
    }
}

fn code(error: sqlx::Error) -> String {
    error.into_database_error().unwrap().code().unwrap().into_owned()
}

#[test]
fn the_documentation_has_the_same_transitions() {
    let page = include_str!("../../docs/control-plane.md");
    for from in RunStatus::ALL {
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("| `{}` |", from.as_str())));
        let to: Vec<&str> = line.unwrap().split('`').skip(1).step_by(2).collect();
        let legal: Vec<&str> = RunStatus::ALL.iter().filter(|to| from.may_become(**to)).map(|to| to.as_str()).collect();
        assert_eq!(to, legal, "{from:?}");
    }
}
