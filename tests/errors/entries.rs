//! The entries of the catalogue: one for each variant of each enum that can end a run or reject a record.

use metrics_engine::event::ErrorCode;
use metrics_engine::ids::{self, DatasetId, SeriesCode};
use metrics_engine::keys::{self, Key};
use metrics_engine::request::{Invalid, Unreadable};
use metrics_engine::worker::read::{self, Malformed, Place};
use metrics_engine::worker::{Error, evaluate, plan, publish, resolve, write};
use metrics_engine::{expression, manifest, series, storage};
use parquet::errors::ParquetError;

/// One cause.
pub(crate) struct Entry {
    /// Module, enum where it has more than one, and variant.
    pub(crate) name: String,
    /// A sample.
    pub(crate) error: Error,
    /// What happened.
    pub(crate) what: &'static str,
    /// What an operator does.
    pub(crate) action: &'static str,
}

/// Every cause.
pub(crate) fn entries() -> Vec<Entry> {
    let all = [
        unreadable(),
        invalid(),
        identifiers(),
        paths(),
        expressions(),
        resolving(),
        planning(),
        reading(),
        files(),
        stores_reading(),
        evaluating(),
        writing(),
        stores_writing(),
        publishing(),
        running(),
    ];
    all.into_iter().flatten().collect()
}

/// The entries of an enum. The match is exhaustive, so a new variant does not compile without an arm, and every arm
/// has a sample, which is held against it.
macro_rules! entries {
    ($function:ident, $prefix:literal, $type:ty, $into:expr;
     $($name:ident $pattern:tt = $sample:expr, $what:literal, $action:literal;)*) => {
        fn $function() -> Vec<Entry> {
            use $type as E;
            fn name(error: &$type) -> &'static str {
                match error {
                    $(entries!(@pattern $name $pattern) => stringify!($name),)*
                }
            }
            vec![$({
                let sample: $type = $sample;
                assert_eq!(name(&sample), stringify!($name));
                let into: fn($type) -> Error = $into;
                let name = format!("{}::{}", $prefix, stringify!($name));
                Entry { name, error: into(sample), what: $what, action: $action }
            }),*]
        }
    };
    (@pattern $name:ident { .. }) => { E::$name { .. } };
    (@pattern $name:ident ( _ )) => { E::$name(_) };
    (@pattern $name:ident ()) => { E::$name };
}

fn key(path: &str) -> Key {
    Key::parse(path).unwrap()
}

fn series_code() -> SeriesCode {
    SeriesCode::parse("C").unwrap()
}

fn dataset_id() -> DatasetId {
    DatasetId::parse("d").unwrap()
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn file() -> String {
    text("datasets/d/projections/A/year=2024/month=01/data.parquet")
}

fn place() -> Place {
    Place { column: text("value"), row_group: 0 }
}

fn claim() -> String {
    text("metrics/m/runs/r1.claim")
}

fn config_id(source: ids::Error) -> Error {
    Invalid::Id { field: text("inputs[0].datasetId"), source }.into()
}

fn config_path(source: keys::Error) -> Error {
    Invalid::Path { field: text("catalog.datasets.d.manifestPath"), source }.into()
}

fn expression_error(problem: expression::Problem) -> Error {
    Invalid::Expression(expression::Error { path: text("$.left"), problem }).into()
}

fn file_error(problem: read::Problem) -> Error {
    read::Error::Unreadable { key: file(), problem: Box::new(problem) }.into()
}

fn read_storage(source: storage::Error) -> Error {
    read::Error::Storage { key: file(), source }.into()
}

fn write_storage(source: storage::Error) -> Error {
    write::Error::Storage(source).into()
}

fn malformed_json() -> String {
    text("expected `,` or `}` at line 1 column 9")
}

entries! { unreadable, "request::Unreadable", Unreadable, Error::from;
    TooLarge { .. } = E::TooLarge { length_bytes: 2_000_000, limit_bytes: 1_048_576 },
        "The body is larger than `LIMIT_BODY_BYTES`.", "Find the sender by the message's attributes; raise the limit only for requests that are meant.";
    NotAnEvent { .. } = E::NotAnEvent { what: "the body", reason: text("expected an object") },
        "The body, or the message in its SNS envelope, is not a JSON object.", "Repair the sender; delete the dead letter.";
    OtherType { .. } = E::OtherType { found: text("\"metric_run\"") },
        "The event has another type: the subscription's filter is missing, or somebody sends to the queue directly.", "Check the subscription's filter policy and who may send to the queue.";
    Missing { .. } = E::Missing { field: "runId" },
        "`type`, `runId` or `metricCode` is missing.", "Repair the sender; the run is unknown, so its request has to be sent again.";
    NotText { .. } = E::NotText { field: "runId" },
        "`type`, `runId` or `metricCode` is no string.", "Repair the sender and send the request again.";
    Id(_) = E::Id(ids::Error::Empty { kind: "metricCode" }),
        "`runId` or `metricCode` is not an identifier.", "Repair the sender: letters, digits and `. _ : -`, at most 128.";
    NoPlace(_) = E::NoPlace(keys::Error::TooLong { length_bytes: 1_100 }),
        "The metric's code and `OUTPUT_PREFIXES` together leave no valid key.", "Shorten the prefix or the code.";
}

entries! { invalid, "request::Invalid", Invalid, Error::from;
    Missing { .. } = E::Missing { field: text("output.basePath") },
        "A required field is missing.", "Repair the sender; `schemas/metric_run_requested.schema.json` has the shape.";
    WrongType { .. } = E::WrongType { field: text("inputs"), expected: "an array" },
        "A field has the wrong JSON type.", "Repair the sender.";
    NotJson { .. } = E::NotJson { field: "catalog", reason: text("recursion limit exceeded at line 1 column 128") },
        "A field cannot be parsed: nested too deep, or a number without end.", "Repair the sender.";
    Id { .. } = E::Id { field: text("inputs[1].seriesCode"), source: ids::Error::Empty { kind: "seriesCode" } },
        "An identifier of the inputs is not valid; the causes stand below under `ids`.", "Repair the sender.";
    Path { .. } = E::Path { field: text("output.basePath"), source: keys::Error::Empty },
        "A path is not valid or not allowed; the causes stand below under `keys`.", "Repair the sender.";
    DatasetNotInCatalog { .. } = E::DatasetNotInCatalog { dataset_id: dataset_id() },
        "An input names a dataset that `catalog.datasets` lacks.", "Repair the control plane's catalogue of the metric.";
    SeriesOfTwoDatasets { .. } = E::SeriesOfTwoDatasets { series_code: series_code(), first: dataset_id(), second: DatasetId::parse("e").unwrap() },
        "One series is claimed by two datasets of the request.", "Decide for one; rename the series in the other.";
    UnknownExpressionType { .. } = E::UnknownExpressionType { found: text("formula") },
        "`expressionType` is none of the three.", "Repair the metric's definition.";
    Expression(_) = E::Expression(expression::Error { path: text("$"), problem: expression::Problem::NotAnObject { found: "a string" } }),
        "The expression is malformed; the causes stand below under `expression`.", "Repair the metric's definition; `docs/expressions.md` has the language.";
    ExpressionNotJson { .. } = E::ExpressionNotJson { reason: malformed_json() },
        "The expression cannot be parsed: nested far too deep, or a number without end.", "Repair the metric's definition.";
    SeriesNotInInputs { .. } = E::SeriesNotInInputs { series_code: series_code() },
        "The expression refers to a series that no input provides.", "Add the series to the metric's inputs.";
}

entries! { identifiers, "ids", ids::Error, config_id;
    Empty { .. } = E::Empty { kind: "datasetId" }, "An identifier is empty.", "Repair the sender.";
    TooLong { .. } = E::TooLong { kind: "datasetId", length_bytes: 129 }, "An identifier has more than 128 bytes.", "Shorten it.";
    Forbidden { .. } = E::Forbidden { kind: "datasetId", text: text("a/b") },
        "An identifier has a character that could leave its folder.", "Rename it; where nobody meant it, ask who sent it.";
}

entries! { paths, "keys", keys::Error, config_path;
    Empty() = E::Empty, "A path is empty.", "Repair the sender.";
    TooLong { .. } = E::TooLong { length_bytes: 1_100 }, "A path is longer than a key may be.", "Shorten it.";
    Segment { .. } = E::Segment { path: text("datasets/../secrets/manifest.json") },
        "A path has an empty segment, `.` or `..`.", "Repair the sender; where nobody meant it, ask who sent it.";
    Character { .. } = E::Character { path: text("datasets/d\u{e4}/manifest.json") },
        "A path has a control or non-ASCII character.", "Rename the dataset or repair the sender.";
    ForeignBucket { .. } = E::ForeignBucket { bucket: text("foreign"), own: text("own") },
        "A path names another bucket than `AWS_S3_BUCKET`.", "Send the request to the worker of that bucket, or repair the path.";
    NotAllowed { .. } = E::NotAllowed { key: text("secrets/manifest.json"), allowed: text("datasets/") },
        "A path lies outside `INPUT_PREFIXES` or `OUTPUT_PREFIXES`.", "Move the data, or add the prefix to the setting and to the role.";
    NoDatasetRoot { .. } = E::NoDatasetRoot { path: text("datasets/d/manifest.json") },
        "There is no `projectionsPath`, and the manifest's path does not tell it.", "Send `projectionsPath`.";
}

entries! { expressions, "expression", expression::Problem, expression_error;
    NotAnObject { .. } = E::NotAnObject { found: "a string" }, "A node is no object.", "Repair the metric's definition.";
    UnknownShape() = E::UnknownShape, "A node has the fields of no kind.", "Repair the metric's definition.";
    AmbiguousShape { .. } = E::AmbiguousShape { first: "series_math", second: "composite" },
        "A node has the fields of two kinds.", "Remove those of the kind that is not meant.";
    Missing { .. } = E::Missing { field: "op" }, "A field of a node is missing.", "Repair the metric's definition.";
    UnknownOp { .. } = E::UnknownOp { op: text("pow"), kind: "series_math", expected: "add, subtract, multiply, ratio" },
        "The operator does not exist in this kind.", "Use one of those that the message lists.";
    WrongType { .. } = E::WrongType { field: "scale", expected: "a number", found: "a string" },
        "A field of a node has the wrong JSON type.", "Repair the metric's definition.";
    SeriesCode(_) = E::SeriesCode(ids::Error::Empty { kind: "seriesCode" }), "A series code is not an identifier.", "Repair the metric's definition.";
    TwoSeriesCodes() = E::TwoSeriesCodes, "A reference names two series in its two spellings.", "Keep one.";
    ScaleNotFinite() = E::ScaleNotFinite, "`scale` is not finite.", "Repair the metric's definition.";
    Window { .. } = E::Window { found: text("2.0") }, "The window is no integer of at least 1.", "Write it as an integer: `2`, not `2.0` or `\"2\"`.";
    TooMuch { .. } = E::TooMuch { what: "nesting depth", limit: 32 },
        "The expression is over a limit (`LIMIT_EXPRESSION_…`, `LIMIT_WINDOW`).", "Split the metric, or raise the limit.";
    TooFewOperands { .. } = E::TooFewOperands { found: 1 }, "A composite has fewer than two operands.", "Repair the metric's definition.";
    NullPolicy() = E::NullPolicy, "`nulls` is neither `skip` nor `propagate`.", "Repair the metric's definition.";
    ContradictsType { .. } = E::ContradictsType { declared: "composite", found: "series_math" },
        "`expressionType` says another kind than the expression is.", "Repair the metric's definition.";
}

entries! { resolving, "resolve", resolve::Error, Error::from;
    Storage { .. } = E::Storage { dataset_id: dataset_id(), source: storage::Error::NotFound { key: text("datasets/d/versions/v9/manifest.json") } },
        "A dataset's manifest or listing could not be had; what passes (time-outs, 5xx, throttling) is retried instead.", "See [a bad dataset version](runbook.md#a-bad-dataset-version).";
    TooLarge { .. } = E::TooLarge { dataset_id: dataset_id(), key: key("datasets/d/versions/v1/manifest.json"), size_bytes: 100_000_000 },
        "The dataset's manifest is larger than any manifest.", "See [a bad dataset version](runbook.md#a-bad-dataset-version).";
    Malformed { .. } = E::Malformed { dataset_id: dataset_id(), key: key("datasets/d/versions/v1/manifest.json"), reason: malformed_json() },
        "The dataset's manifest is not the JSON of one.", "See [a bad dataset version](runbook.md#a-bad-dataset-version).";
    Path { .. } = E::Path { dataset_id: dataset_id(), source: keys::Error::TooLong { length_bytes: 1_100 } },
        "The folder of a series would be no valid key.", "Shorten the projections path or the series code.";
}

entries! { planning, "plan", plan::Error, Error::from;
    File { .. } = E::File { manifest: key("datasets/d/versions/v1/manifest.json"), source: keys::Error::Segment { path: text("../x.parquet") } },
        "A file that the manifest lists has no valid path, or one outside `INPUT_PREFIXES`.", "See [a bad dataset version](runbook.md#a-bad-dataset-version).";
    NoSeries { .. } = E::NoSeries { series_code: series_code(), dataset_id: dataset_id() },
        "The dataset has no file of the series.", "Check the code's spelling and that the dataset was loaded; then request the run again.";
}

entries! { reading, "read", read::Error, Error::from;
    Storage { .. } = E::Storage { key: file(), source: storage::Error::NotFound { key: file() } },
        "An object could not be had; the causes stand below under `storage`.", "Find who deleted it; see [a bad dataset version](runbook.md#a-bad-dataset-version).";
    Changed { .. } = E::Changed { key: file() },
        "An object was replaced while it was read.", "Nothing, the next attempt reads the new one; where it lasts, find who keeps writing.";
    Unreadable { .. } = E::Unreadable { key: file(), problem: Box::new(read::Problem::NullTime { row: 0 }) },
        "An object is not a Parquet file that can be read; the causes stand below under `read::Problem`.", "See [a bad dataset version](runbook.md#a-bad-dataset-version).";
    NoObservations { .. } = E::NoObservations { series_code: SeriesCode::parse("D").unwrap(), dataset_id: dataset_id() },
        "The files of the dataset hold no row of the series.", "Check the code's spelling and that the dataset was loaded.";
    Plan { .. } = E::Plan { key: file(), index: 3, series_count: 2 },
        "The plan contradicts itself: a bug.", "Report it with the request.";
}

entries! { files, "read::Problem", read::Problem, file_error;
    TooShort { .. } = E::TooShort { size_bytes: 7 }, "The object is too short for a Parquet file.", "Load it again.";
    Magic() = E::Magic, "The object is no Parquet file, or was cut off.", "Load it again; look for an upload that was interrupted.";
    Encrypted { .. } = E::Encrypted { what: text("the footer") }, "The file is encrypted with Parquet's own encryption.", "Write it without; the bucket encrypts.";
    FooterLength { .. } = E::FooterLength { claimed_bytes: 4_000_000_000, allowed_bytes: 1_000 }, "The footer claims more bytes than there are or may be.", "Load it again.";
    Footer { .. } = E::Footer { source: Malformed::End }, "The footer's bytes are malformed.", "Load it again.";
    FooterContent { .. } = E::FooterContent { reason: text("row group 0 has 2 columns, the schema has 3") }, "The footer contradicts itself.", "Load it again, with another writer where it lasts.";
    NoColumn { .. } = E::NoColumn { column: "value" }, "A column that a run needs is missing.", "Write `obs_time`, `value` and the series code.";
    ColumnType { .. } = E::ColumnType { column: text("value"), found: text("a string"), expected: "a number" }, "A column has a type that does not fit.", "Write times as timestamps or dates, values as numbers.";
    Chunk { .. } = E::Chunk { place: place(), reason: text("claims 10 values, the row group has 9 rows") }, "The metadata of a column cannot be true.", "Load it again, with another writer where it lasts.";
    PageHeader { .. } = E::PageHeader { place: place(), source: Malformed::Length }, "A page header is malformed.", "Load it again.";
    Page { .. } = E::Page { place: place(), reason: text("claims 100000000 bytes, at most 67108864 are allowed") }, "A page claims what cannot be, or more than `LIMIT_PAGE_BYTES`.", "Write smaller pages; raise the limit only for files that are meant.";
    Decode { .. } = E::Decode { place: place(), source: ParquetError::EOF(text("unexpected end of a page")) }, "The values of a page cannot be decoded.", "Load it again.";
    DecoderPanicked() = E::DecoderPanicked, "The decoder gave up in an unforeseen way.", "Load it again, and report the file.";
    NullTime { .. } = E::NullTime { row: 12 }, "An observation has no time.", "Repair the load: every row needs `obs_time`.";
    TimeRange { .. } = E::TimeRange { row: 12 }, "A time lies outside the nanosecond range.", "Repair the load; often the unit is wrong.";
    TooLarge { .. } = E::TooLarge { what: text("the footer"), size_bytes: 100_000_000, limit_bytes: 16_777_216 }, "A part of the file that has to be in memory at once is too large.", "Write smaller row groups.";
    TooManyObservations { .. } = E::TooManyObservations { limit: 27_000_000 }, "The run holds more observations at a time than `LIMIT_OBSERVATIONS`. Files in order of time are read in slices and need not fit; files whose times overlap, and long files of many series, do.", "Write files that do not overlap in time, give the function more memory (the limit follows), or read less history.";
    TooManyRows { .. } = E::TooManyRows { limit: 270_000_000 }, "The run decodes too many rows, most of them of other series.", "Partition the dataset by series.";
    MissingBytes { .. } = E::MissingBytes { start: 0, end: 8 }, "The store gave fewer bytes than the object has.", "Request the run again; where it lasts, load the object again.";
    Abandoned() = E::Abandoned, "Another part of the run had failed, and this one was given up.", "Look at the run's other lines.";
}

entries! { stores_reading, "storage (reading)", storage::Error, read_storage;
    NotFound { .. } = E::NotFound { key: text("datasets/d/projections/B/data.parquet") }, "The object is gone, or was never there.", "Load it; see [a bad dataset version](runbook.md#a-bad-dataset-version).";
    Precondition { .. } = E::Precondition { key: file() }, "The object changed between two requests.", "Request the run again.";
    Conflict { .. } = E::Conflict { key: file() }, "A concurrent request was under way.", "Nothing: it passes.";
    Refused { .. } = E::Refused { operation: "get", key: file(), reason: text("AccessDenied") }, "The store refused: the role, the bucket's policy or its key.", "Check the role's rights on `INPUT_PREFIXES` and on the bucket's KMS key.";
    Transient { .. } = E::Transient { operation: "get", key: file(), reason: text("SlowDown") }, "A time-out, a 5xx, throttling or a lost connection.", "Nothing at first; where it lasts, lower `MaximumConcurrency` or `READ_CONCURRENCY`.";
}

entries! { evaluating, "evaluate", evaluate::Error, Error::from;
    MissingSeries { .. } = E::MissingSeries { series_code: series_code() }, "A series that the expression needs was not read: a bug.", "Report it with the request.";
    UnknownTimeZone { .. } = E::UnknownTimeZone { name: text("Mars/Olympus"), source: jiff::Error::from_args(format_args!("no such zone")) }, "The time zone does not exist.", "Correct `CALENDAR_TIMEZONE`.";
    NotASeries(_) = E::NotASeries(series::Error::Order { index: 3 }), "An operator made something that is no series: a bug.", "Report it with the request.";
}

entries! { writing, "write", write::Error, Error::from;
    Storage(_) = E::Storage(storage::Error::NotFound { key: text("metrics/m/current/manifest.json") }), "The store failed or refused; the causes stand below under `storage`.", "Check the bucket and the role.";
    OtherRequest { .. } = E::OtherRequest { run_id: text("r1"), key: text("metrics/m/runs/r1.ok"), found: "0".repeat(64), expected: "1".repeat(64) },
        "The run is known with another request; a FAILURE would overturn what was published.", "Send the new request under a new `runId`; delete the dead letter.";
    FailedBefore { .. } = E::FailedBefore { error_code: ErrorCode::InputReadError, error_message: text("no series X in dataset d") },
        "An earlier delivery of this message failed the run, and its event or acknowledgement was lost; the same FAILURE is published again. The code is the one of then.", "What that cause asks for.";
    Unreadable { .. } = E::Unreadable { key: claim(), reason: malformed_json() }, "A claim or manifest of the run is not what a worker writes.", "Find who wrote it; restore the object's previous version.";
    Manifest(_) = E::Manifest(manifest::Invalid { key: text("metrics/m/2025-01-15T10-30-00/manifest.json"), field: "row_count", found: text("1"), expected: text("2") }),
        "The manifest as stored is not the one that was written.", "Find who else writes under `OUTPUT_PREFIXES`; restore the object's previous version.";
    Contended { .. } = E::Contended { key: claim() }, "Concurrent attempts kept getting in between.", "Nothing: it passes. Where it lasts, look for two mappings on one queue.";
    Json { .. } = E::Json { key: claim(), reason: text("key must be a string") }, "A value could not be written as JSON: a bug.", "Report it.";
}

entries! { stores_writing, "storage (writing)", storage::Error, write_storage;
    NotFound { .. } = E::NotFound { key: claim() }, "An object of the run vanished while it was worked on.", "Find the lifecycle rule or person that deletes under `OUTPUT_PREFIXES`.";
    Precondition { .. } = E::Precondition { key: claim() }, "A condition failed where it could not: somebody else writes there.", "Find who else writes under `OUTPUT_PREFIXES`.";
    Conflict { .. } = E::Conflict { key: claim() }, "A concurrent conditional request was under way.", "Nothing: it passes.";
    Refused { .. } = E::Refused { operation: "put", key: claim(), reason: text("AccessDenied") }, "The store refused for good: the role, the bucket's policy or its key.", "See [WriteErrorsAlarm](runbook.md#writeerrorsalarm).";
    Transient { .. } = E::Transient { operation: "put", key: claim(), reason: text("SlowDown") }, "A time-out, a 5xx, throttling or a lost connection.", "Nothing at first; where it lasts, look at the region's health and at S3 throttling.";
}

entries! { publishing, "publish", publish::Error, Error::from;
    Transient { .. } = E::Transient { event: "metric_run_completed", run_id: text("r1"), topic: text("arn:aws:sns:us-east-1:000000000000:events.fifo"), reason: text("Throttled") },
        "An event could not be published for now. Nothing is lost: the run's result is kept.", "Nothing at first; where it lasts, look at SNS quotas.";
    Refused { .. } = E::Refused { event: "metric_run_completed", run_id: text("r1"), topic: text("arn:aws:sns:us-east-1:000000000000:events.fifo"), reason: text("AuthorizationError") },
        "The topic refused an event: the role, the topic's policy or its key.", "Check the role's `sns:Publish` and the topic's KMS key; then [redrive](runbook.md#redrive).";
}

entries! { running, "worker", Error, std::convert::identity;
    Unreadable(_) = Unreadable::Missing { field: "type" }.into(), "The record is no request; the causes stand under `request::Unreadable`.", "Repair the sender.";
    Invalid(_) = Invalid::Missing { field: text("catalog.datasets") }.into(), "The request is wrong; the causes stand under `request::Invalid`.", "Repair the sender.";
    Resolve(_) = resolve::Error::Storage { dataset_id: dataset_id(), source: storage::Error::Transient { operation: "list", key: text("datasets/d/projections/A/"), reason: text("time-out") } }.into(),
        "A dataset could not be told for now.", "Nothing at first; where it lasts, look at S3 throttling.";
    Plan(_) = plan::Error::NoSeries { series_code: SeriesCode::parse("E").unwrap(), dataset_id: dataset_id() }.into(), "Nothing can be planned; the causes stand under `plan`.", "Load the dataset.";
    Read(_) = read::Error::Changed { key: text("datasets/d/projections/B/data.parquet") }.into(), "The input could not be read; the causes stand under `read`.", "See there.";
    Evaluate(_) = evaluate::Error::MissingSeries { series_code: SeriesCode::parse("E").unwrap() }.into(), "The expression could not be evaluated; the causes stand under `evaluate`.", "Report it with the request.";
    Encode(_) = ParquetError::General(text("column count")).into(), "The result could not be encoded as Parquet: a bug.", "Report it with the request.";
    Write(_) = write::Error::Contended { key: text("metrics/m/current/manifest.json") }.into(), "The result could not be committed; the causes stand under `write`.", "See there.";
    Publish(_) = publish::Error::Transient { event: "metric_run_started", run_id: text("r1"), topic: text("arn:aws:sns:us-east-1:000000000000:events.fifo"), reason: text("time-out") }.into(),
        "An event could not be published; the causes stand under `publish`.", "See there.";
    Panicked { .. } = E::Panicked { message: text("index out of bounds") }, "The code panicked: a bug. Only this record is touched.", "Report it with the request, which is in the dead-letter queue after the last receive.";
    Deadline() = E::Deadline, "The function's time was up; everything unfinished went back.", "See [a run that takes too long](runbook.md#workerdurationalarm): raise `FunctionTimeoutSeconds` or `MemorySizeMb`, or lower `BatchSize`.";
    NoVersion() = E::NoVersion, "Other attempts kept taking the run's versions.", "Nothing: it passes. Where it lasts, look for two mappings on one queue.";
}
