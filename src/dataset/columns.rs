//! Which column of a table is what: headers in; the columns of time, series and value out.

/// What the columns are called, where it is not what they are usually called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The column of times.
    pub time: Option<String>,
    /// The column of series codes.
    pub series: Option<String>,
    /// The column of values.
    pub value: Option<String>,
}

/// A column's role, and the names that tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// When.
    Time,
    /// Of which series.
    Series,
    /// What.
    Value,
}

/// A table has no column for a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no column {wanted}; there is {}", .found.join(", "))]
pub struct NoColumn {
    /// What it was looked for as.
    pub wanted: String,
    /// The columns that there are.
    pub found: Vec<String>,
}

impl Role {
    /// The usual names; the first that a table has is taken.
    #[must_use]
    pub fn usual_names(self) -> &'static [&'static str] {
        match self {
            Self::Time => &["obs_time", "time", "timestamp", "datetime", "date", "day"],
            Self::Series => &["internal_series_code", "series_code", "seriescode", "series", "code"],
            Self::Value => &["value"],
        }
    }
}

impl Names {
    fn given(&self, role: Role) -> Option<&str> {
        match role {
            Role::Time => self.time.as_deref(),
            Role::Series => self.series.as_deref(),
            Role::Value => self.value.as_deref(),
        }
    }

    /// The column of that role: the one that was named, or the first with a usual name, in any case.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, role: Role, headers: &[String]) -> Result<usize, NoColumn> {
        let position = |name: &str| headers.iter().position(|header| header.eq_ignore_ascii_case(name));
        let (found, wanted) = match self.given(role) {
            Some(name) => (headers.iter().position(|header| header == name), format!("{name:?}")),
            None => {
                let names = role.usual_names();
                (names.iter().find_map(|name| position(name)), names.join(", nor "))
            }
        };
        found.ok_or_else(|| NoColumn { wanted, found: headers.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_their_usual_names_or_the_given_one() {
        let headers = ["Value", "Date", "obs_time", "code"].map(str::to_owned);
        let names = Names::default();
        assert_eq!(names.find(Role::Time, &headers), Ok(2));
        assert_eq!(names.find(Role::Value, &headers), Ok(0));
        assert_eq!(names.find(Role::Series, &headers), Ok(3));
        let names = Names { time: Some("Date".to_owned()), value: Some("price".to_owned()), ..Names::default() };
        assert_eq!(names.find(Role::Time, &headers), Ok(1));
        let error = names.find(Role::Value, &headers).unwrap_err().to_string();
        assert_eq!(error, "no column \"price\"; there is Value, Date, obs_time, code");
        let error = Names::default().find(Role::Value, &headers[1..2]).unwrap_err().to_string();
        assert_eq!(error, "no column value; there is Date");
    }
}
