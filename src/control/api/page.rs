//! Pages of lists: a cursor says after which row the next page begins, whatever was inserted in the meantime.
//!
//! Metrics and datasets ascend by their code, runs descend by the time of their request. A cursor holds the key of the
//! last row that was shown; rows that are added before it move nothing.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::extract::number;
use super::problem::Problem;

/// Rows of a page where nothing is said.
const DEFAULT_LIMIT: i64 = 50;

/// Most rows of a page.
pub const MOST: i64 = 200;

/// Most characters of a cursor: two for each byte of the longest key and what is around it.
const LONGEST_CURSOR: usize = 1_024;

/// Which page is wanted.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct PageParameters {
    /// Rows of the page; 50 where nothing is said.
    #[schemars(with = "Option<u8>", range(min = 1, max = 200))]
    pub limit: Option<String>,
    /// `next_cursor` of the page before.
    #[schemars(extend("pattern" = "^([0-9a-f]{2})+$"))]
    pub cursor: Option<String>,
}

impl PageParameters {
    /// How many rows.
    ///
    /// # Errors
    /// When it is no number from 1 to 200.
    pub fn limit(&self) -> Result<i64, Problem> {
        number("limit", self.limit.as_deref(), DEFAULT_LIMIT, MOST)
    }

    /// The key of the last row before the page.
    ///
    /// # Errors
    /// When the cursor was not made here.
    pub fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, Problem> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let wrong = || Problem::parameter("cursor must be the next_cursor of the page before");
        if cursor.len() > LONGEST_CURSOR {
            return Err(wrong());
        }
        let json = hex::decode(cursor).map_err(|_| wrong())?;
        serde_json::from_slice(&json).map(Some).map_err(|_| wrong())
    }
}

/// One page of a list.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// `cursor` of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The page, from one row more than it has, if there are so many.
    pub fn of<K: Serialize>(mut rows: Vec<T>, limit: i64, key: impl Fn(&T) -> K) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| has_more);
        let cursor = last.and_then(|row| serde_json::to_vec(&key(row)).ok());
        Self { next_cursor: cursor.map(hex::encode), items: rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(cursor: &str) -> PageParameters {
        PageParameters { limit: None, cursor: Some(cursor.to_owned()) }
    }

    #[test]
    fn a_cursor_leads_behind_the_last_row() {
        let page = Page::of(vec!["a", "b", "c"], 2, |row| (*row).to_owned());
        assert_eq!(page.items, ["a", "b"]);
        assert_eq!(parameters(&page.next_cursor.unwrap()).after::<String>().unwrap().unwrap(), "b");
    }

    #[test]
    fn the_last_page_has_no_cursor() {
        assert_eq!(Page::of(vec!["a", "b"], 2, |row| (*row).to_owned()).next_cursor, None);
        assert_eq!(Page::of(Vec::<&str>::new(), 2, |row| (*row).to_owned()).next_cursor, None);
    }

    #[test]
    fn a_strange_cursor_is_a_problem() {
        for cursor in ["", "zz", "0", "00", &hex::encode("1"), &"22".repeat(600)] {
            assert_eq!(parameters(cursor).after::<String>().unwrap_err().status, 400, "{cursor}");
        }
    }
}
