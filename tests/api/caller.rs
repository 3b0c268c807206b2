//! The API with a database and a store of its own, and calls to it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use lambda_http::tower::ServiceExt;
use metrics_engine::control::api::{Api, access::Writers, router};
use metrics_engine::expression::Limits;
use metrics_engine::keys::Prefixes;
use metrics_engine::request::Rules;
use metrics_engine::storage::memory::MemoryStorage;
use serde_json::{Value, json};

use crate::postgres::TestDatabase;

pub const KEY: &str = "the-key-of-these-tests";

/// The API, as it is served.
pub struct Caller {
    pub database: TestDatabase,
    pub storage: Arc<MemoryStorage>,
    pub router: Router,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{} is no JSON: {:?}", self.status, self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The last part of the problem's type; every field of RFC 9457 is there and agrees with the answer.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert!(["title", "detail"].iter().all(|name| problem[*name].as_str().is_some_and(|text| !text.is_empty())));
        problem["type"].as_str().unwrap().strip_prefix("urn:metrics-engine:problem:").unwrap().to_owned()
    }
}

impl Caller {
    pub async fn new() -> Self {
        Self::with(Writers::with_key(KEY)).await
    }

    pub async fn with(writers: Writers) -> Self {
        let database = TestDatabase::new().await;
        let storage = Arc::new(MemoryStorage::new());
        let rules = Rules {
            bucket: "own".to_owned(),
            input_prefixes: Prefixes::parse("datasets/").unwrap(),
            output_prefixes: Prefixes::parse("metrics/").unwrap(),
            body_bytes: 64 << 10,
            expression: Limits::default(),
        };
        let pool = database.pool.clone();
        let router = router(Api { pool, storage: storage.clone(), rules: Arc::new(rules), writers });
        Self { database, storage, router }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 16 << 20).await.unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text: String::from_utf8(bytes.into()).unwrap() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(with_key(Request::put(path)).body(Body::from(body.to_string())).unwrap()).await
    }

    pub async fn post(&self, path: &str) -> Answer {
        self.send(with_key(Request::post(path)).body(Body::empty()).unwrap()).await
    }

    /// Registers two series, their dataset and a metric over each of these codes.
    pub async fn register(&self, metrics: &[&str]) {
        for series in ["A", "B"] {
            assert_eq!(self.put(&format!("/series/{series}"), &json!({})).await.status, 201);
        }
        assert_eq!(self.put("/datasets/rates", &json!({ "name": "Rates", "series": ["A", "B"] })).await.status, 201);
        for metric in metrics {
            let answer = self.put(&format!("/metrics/{metric}"), &ratio()).await;
            assert_eq!(answer.status, 201, "{answer:?}");
        }
    }

    /// Records an update of the dataset, as its message would.
    pub async fn update(&self) {
        let sql = "INSERT INTO dataset_updates (dataset_id, version_manifest_path, projections_path, event_key) \
                   VALUES ('rates', 'datasets/rates/versions/v1/manifest.json', 'datasets/rates/projections/', 'rates:v1')";
        sqlx::query(sql).execute(&self.database.pool).await.unwrap();
    }
}

pub fn with_key(request: axum::http::request::Builder) -> axum::http::request::Builder {
    request.header("authorization", format!("Bearer {KEY}")).header("content-type", "application/json")
}

pub fn ratio() -> Value {
    json!({ "expression_type": "series_math",
            "expression_json": { "op": "ratio", "left": { "series_code": "A" }, "right": { "seriesCode": "B" } } })
}
