//! The schemas of the texts that their types check: identifiers and versions.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::ids::{DatasetId, MetricCode, RunId, SeriesCode};
use crate::keys::VersionTs;

/// 1 to 128 characters, and neither `.` nor `..`.
const IDENTIFIER: &str = r"^(?!\.{1,2}$)[A-Za-z0-9._:-]{1,128}$";

/// A second in UTC.
const VERSION: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}$";

macro_rules! text {
    ($type:ident, $pattern:ident, $description:literal) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "description": $description, "type": "string", "pattern": $pattern })
            }
        }
    };
}

text!(RunId, IDENTIFIER, "One run of one metric, chosen by the control plane; the unit of idempotency.");
text!(MetricCode, IDENTIFIER, "The code of a metric.");
text!(DatasetId, IDENTIFIER, "A dataset.");
text!(SeriesCode, IDENTIFIER, "A series of a dataset.");
text!(VersionTs, VERSION, "The version of a metric: a second in UTC; greater is newer.");
