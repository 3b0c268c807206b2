//! The calls of the API: for each its method, its path, what it takes, what it answers and who does it. The router and
//! the `OpenAPI` document are made from this table and from nothing else.

use axum::http::Method;
use axum::routing::{MethodRouter, get, post, put};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::catalogue::{DatasetView, MetricView, SeriesView};
use super::health::{self, Health};
use super::page::{Page, PageParameters};
use super::runs::{Requested, RunDetails, RunParameters, RunView};
use super::values::{Summary, SummaryParameters, ValueParameters, Values};
use super::{Api, catalogue, runs, values};
use crate::control::catalogue::{DatasetSpec, MetricSpec, SeriesSpec};
use crate::ids::{DatasetId, MetricCode, RunId, SeriesCode};

/// How a type is described.
pub type Described = fn(&mut SchemaGenerator) -> Schema;

/// One call.
pub struct Operation {
    /// How it is called.
    pub method: Method,
    /// Where; at most one segment is a parameter.
    pub path: &'static str,
    /// Its name for generated clients.
    pub id: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// What the parameter of the path is.
    pub path_parameter: Option<Described>,
    /// The parameters of the query, as the properties of an object.
    pub query: Option<Described>,
    /// The body that it takes.
    pub body: Option<Described>,
    /// What it answers, where nothing goes wrong.
    pub answers: Vec<(u16, &'static str, Described)>,
    /// With what else it answers: a problem each.
    pub problems: Vec<u16>,
    /// Where its answers lead.
    pub links: Vec<Link>,
    /// Who does it.
    pub handler: MethodRouter<Api>,
}

/// A call for which an answer has the parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The call.
    pub to: &'static str,
    /// Its parameter.
    pub parameter: &'static str,
    /// Where that is, as a runtime expression of `OpenAPI`.
    pub value: &'static str,
}

fn described<T: JsonSchema>() -> Described {
    |generator| generator.subschema_for::<T>()
}

/// The object itself, not a reference to it: its properties become parameters.
fn properties<T: JsonSchema>() -> Described {
    |generator| T::json_schema(generator)
}

impl Operation {
    fn new(method: Method, path: &'static str, id: &'static str, handler: MethodRouter<Api>) -> Self {
        let (path_parameter, query, body, answers) = (None, None, None, Vec::new());
        let (summary, problems, links) = ("", Vec::new(), Vec::new());
        Self { method, path, id, summary, path_parameter, query, body, answers, problems, links, handler }
    }

    fn get(path: &'static str, id: &'static str, handler: MethodRouter<Api>) -> Self {
        Self::new(Method::GET, path, id, handler)
    }

    fn put(path: &'static str, id: &'static str, handler: MethodRouter<Api>) -> Self {
        Self::new(Method::PUT, path, id, handler)
    }

    fn post(path: &'static str, id: &'static str, handler: MethodRouter<Api>) -> Self {
        Self::new(Method::POST, path, id, handler)
    }

    fn does(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    fn of<T: JsonSchema>(mut self) -> Self {
        self.path_parameter = Some(described::<T>());
        self.problems.push(400);
        self
    }

    fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(properties::<T>());
        self.problems.push(400);
        self
    }

    fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Some(described::<T>());
        self.problems.extend([400, 408, 413, 415, 422]);
        self
    }

    fn answers<T: JsonSchema>(mut self, status: u16, meaning: &'static str) -> Self {
        self.answers.push((status, meaning, described::<T>()));
        self
    }

    fn leads_to(mut self, calls: &[&'static str], parameter: &'static str, value: &'static str) -> Self {
        self.links.extend(calls.iter().map(|&to| Link { to, parameter, value }));
        self
    }

    fn or(mut self, problems: &[u16]) -> Self {
        self.problems.extend_from_slice(problems);
        self
    }

    /// Whether it changes anything: then a key is asked for.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.method != Method::GET
    }
}

/// Every call.
#[must_use]
pub fn operations() -> Vec<Operation> {
    let mut all = reading();
    all.extend(writing());
    all
}

/// What can be asked of a metric, by its code.
const OF_METRIC: [&str; 4] = ["getMetric", "listRunsOfMetric", "runMetric", "getValues"];

/// What can be asked of a run, by its id.
const OF_RUN: [&str; 2] = ["getRun", "cancelRun"];

fn reading() -> Vec<Operation> {
    vec![
        Operation::get("/health", "health", get(health::health))
            .does("Whether the control plane can do its work")
            .answers::<Health>(200, "It can"),
        Operation::get("/metrics", "listMetrics", get(catalogue::list_metrics))
            .does("Metrics, ascending by code, each with its newest version and its newest run")
            .query::<PageParameters>()
            .answers::<Page<MetricView>>(200, "A page of metrics")
            .leads_to(&OF_METRIC, "code", "$response.body#/items/0/code"),
        Operation::get("/metrics/{code}", "getMetric", get(catalogue::metric))
            .does("One metric")
            .of::<MetricCode>()
            .answers::<MetricView>(200, "The metric")
            .or(&[404]),
        Operation::get("/metrics/{code}/runs", "listRunsOfMetric", get(runs::of_metric))
            .does("Runs of a metric, newest request first")
            .of::<MetricCode>()
            .query::<PageParameters>()
            .answers::<Page<RunView>>(200, "A page of runs")
            .or(&[404]),
        Operation::get("/runs", "listRuns", get(runs::list))
            .does("Runs, newest request first")
            .query::<RunParameters>()
            .answers::<Page<RunView>>(200, "A page of runs")
            .leads_to(&OF_RUN, "id", "$response.body#/items/0/run_id"),
        Operation::get("/runs/{id}", "getRun", get(runs::one))
            .does("One run, with the updates that it was released with, or the datasets that it waits for")
            .of::<RunId>()
            .answers::<RunDetails>(200, "The run")
            .or(&[404]),
        Operation::get("/datasets", "listDatasets", get(catalogue::list_datasets))
            .does("Datasets, ascending by id, each with its newest version")
            .query::<PageParameters>()
            .answers::<Page<DatasetView>>(200, "A page of datasets")
            .leads_to(&["getDataset"], "id", "$response.body#/items/0/id"),
        Operation::get("/datasets/{id}", "getDataset", get(catalogue::dataset))
            .does("One dataset")
            .of::<DatasetId>()
            .answers::<DatasetView>(200, "The dataset")
            .or(&[404]),
        Operation::get("/api/v1/metrics/summary", "getSummary", get(values::summary))
            .does("The newest value of each of these metrics")
            .query::<SummaryParameters>()
            .answers::<Summary>(200, "The newest values"),
        Operation::get("/api/v1/metrics/{code}", "getValues", get(values::values))
            .does("The values of a metric's current version")
            .of::<MetricCode>()
            .query::<ValueParameters>()
            .answers::<Values>(200, "The values")
            .or(&[404]),
    ]
}

fn writing() -> Vec<Operation> {
    vec![
        Operation::put("/metrics/{code}", "putMetric", put(catalogue::put_metric))
            .does("Creates a metric, or replaces it")
            .of::<MetricCode>()
            .takes::<MetricSpec>()
            .answers::<MetricView>(200, "It was replaced")
            .answers::<MetricView>(201, "It was created")
            .leads_to(&OF_METRIC, "code", "$request.path.code"),
        Operation::put("/series/{code}", "putSeries", put(catalogue::put_series))
            .does("Creates a series, or replaces it")
            .of::<SeriesCode>()
            .takes::<SeriesSpec>()
            .answers::<SeriesView>(200, "It was replaced")
            .answers::<SeriesView>(201, "It was created"),
        Operation::put("/datasets/{id}", "putDataset", put(catalogue::put_dataset))
            .does("Creates a dataset with its series, or replaces it")
            .of::<DatasetId>()
            .takes::<DatasetSpec>()
            .answers::<DatasetView>(200, "It was replaced")
            .answers::<DatasetView>(201, "It was created")
            .leads_to(&["getDataset"], "id", "$request.path.id")
            .or(&[409]),
        Operation::post("/metrics/{code}/runs", "runMetric", post(runs::run_now))
            .does("Asks for a run now, on the newest updates of the metric's datasets, however old they are")
            .of::<MetricCode>()
            .answers::<Requested>(202, "The run is released")
            .leads_to(&OF_RUN, "id", "$response.body#/run_id")
            .or(&[404, 409]),
        Operation::post("/runs/{id}/cancel", "cancelRun", post(runs::cancel))
            .does("Cancels a run that is not over")
            .of::<RunId>()
            .answers::<RunDetails>(200, "It is canceled")
            .or(&[404, 409]),
    ]
}
