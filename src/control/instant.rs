//! Times between the database and the program: `timestamptz` on one side, [`jiff::Timestamp`] on the other.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueFormat, PgValueRef, Postgres};
use sqlx::{Decode, Encode, Type, TypeInfo};

/// 2000-01-01T00:00:00Z, from where Postgres counts microseconds, in microseconds from 1970.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// A `timestamptz`: a point in time, in microseconds. RFC 3339 in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String", extend("format" = "date-time"))]
pub struct Instant(pub Timestamp);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

impl Type<Postgres> for Instant {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }

    fn compatible(info: &PgTypeInfo) -> bool {
        info.name().eq_ignore_ascii_case("timestamptz")
    }
}

impl Encode<'_, Postgres> for Instant {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let microseconds = self.0.as_microsecond() - POSTGRES_EPOCH_US;
        <i64 as Encode<Postgres>>::encode_by_ref(&microseconds, buffer)
    }
}

impl Decode<'_, Postgres> for Instant {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => {
                let microseconds = <i64 as Decode<Postgres>>::decode(value)?;
                let from_1970 = microseconds.checked_add(POSTGRES_EPOCH_US).ok_or("a time beyond all calendars")?;
                Ok(Self(Timestamp::from_microsecond(from_1970)?))
            }
            PgValueFormat::Text => Err("times are exchanged in binary".into()),
        }
    }
}
