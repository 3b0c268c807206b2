//! The identifiers a request carries. Each becomes part of an object key, a log field or a message attribute,
//! so each is checked once, here, and cannot be wrong afterwards.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest identifier, in bytes: SNS and SQS attributes and object keys stay far from their own limits.
const MAX_LENGTH_BYTES: usize = 128;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is empty.
    #[error("{kind} is empty")]
    Empty {
        /// Which identifier it should have been.
        kind: &'static str,
    },
    /// The text has more than 128 bytes.
    #[error("{kind} has {length_bytes} bytes, at most {MAX_LENGTH_BYTES} are allowed")]
    TooLong {
        /// Which identifier it should have been.
        kind: &'static str,
        /// Its length.
        length_bytes: usize,
    },
    /// The text has a character outside `[A-Za-z0-9._:-]`, or is `.` or `..`.
    #[error("{kind} {text:?} may hold only letters, digits and . _ : - and may not be . or ..")]
    Forbidden {
        /// Which identifier it should have been.
        kind: &'static str,
        /// The text, cut to the allowed length.
        text: String,
    },
}

fn check(kind: &'static str, text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::Empty { kind });
    }
    if text.len() > MAX_LENGTH_BYTES {
        return Err(Error::TooLong { kind, length_bytes: text.len() });
    }
    let allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte));
    if !allowed || text == "." || text == ".." {
        return Err(Error::Forbidden { kind, text: text.to_owned() });
    }
    Ok(())
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        ///
        /// Invariant: 1 to 128 bytes of `[A-Za-z0-9._:-]`, neither `.` nor `..`.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// When the text is not an identifier; the error names the kind and the text.
            pub fn parse(text: &str) -> Result<Self, Error> {
                check($kind, text)?;
                Ok(Self(text.to_owned()))
            }

            /// The text as it came.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                check($kind, &text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

identifier!(
    /// One run of one metric, chosen by the control plane; the unit of idempotency.
    RunId,
    "runId"
);
identifier!(
    /// The code of a metric, such as `ratio.reserves_to_base`.
    MetricCode,
    "metricCode"
);
identifier!(
    /// A dataset, such as `ecb_fx`.
    DatasetId,
    "datasetId"
);
identifier!(
    /// A series of a dataset, such as `ECB_EUR_USD_D`.
    SeriesCode,
    "seriesCode"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_codes_are_accepted() {
        for text in
            ["a", "ratio.reserves_to_base", "550e8400-e29b-41d4-a716-446655440000", "A:B_c-1", "...", &"x".repeat(128)]
        {
            assert!(MetricCode::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn anything_that_could_leave_its_folder_is_rejected() {
        for text in ["", ".", "..", "a/b", "a b", "a\nb", "ä", "a\0", "%2e", "a\\b", &"x".repeat(129)] {
            assert!(RunId::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_error_names_the_kind_and_the_text() {
        assert_eq!(
            SeriesCode::parse("a/b").unwrap_err().to_string(),
            "seriesCode \"a/b\" may hold only letters, digits and . _ : - and may not be . or .."
        );
    }
}
