//! A dataset that ten thousand metrics depend on.

use std::time::{Duration, Instant};

use crate::world::World;

/// What a message may take before its queue gives it to somebody else, on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_update_that_ten_thousand_metrics_depend_on_takes_seconds_and_all_are_published() {
    let world = World::with_datasets(&["a", "b"]).await;
    sqlx::raw_sql(
        r#"INSERT INTO metrics (id, code, expression_type, expression_json)
               SELECT 'm' || n, 'm' || n, 'composite',
                      '{"op":"sum","operands":[{"series_code":"A"},{"series_code":"B"}]}'
               FROM generate_series(1, 10000) n;
           INSERT INTO metric_dependencies SELECT 'm' || n, 'A', 1 FROM generate_series(1, 10000) n;
           INSERT INTO metric_dependencies SELECT 'm' || n, 'B', 2 FROM generate_series(1, 10000) n;"#,
    )
    .execute(&world.pool)
    .await
    .unwrap();
    let mut took = Vec::new();
    for number in 0..3 {
        let start = Instant::now();
        let dataset = ["a", "b"][number % 2];
        let released = world.update(dataset, &format!("v{number}")).await;
        took.push(start.elapsed());
        let expected = if number == 0 { (0, 10_000) } else { (10_000, 0) };
        assert_eq!((released.released, released.waiting), expected, "update {number}");
        if number == 1 {
            let start = Instant::now();
            assert_eq!(world.relay().await.published, 10_000);
            println!("relayed in {:.1?}", start.elapsed());
        }
    }
    println!("updates took {took:.1?}");
    assert!(took.iter().all(|one| *one < LIMIT), "{took:?}");
}
