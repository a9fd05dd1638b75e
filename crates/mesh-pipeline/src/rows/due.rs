//! The sparse index of rows that somebody has to look at again.

use std::future::Future;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Row;
use crate::error::Error;

/// Who looks at the row next: the index's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Due {
    /// The sweep, once sending is switched on again.
    Switch,
    /// The sweep, which starts the send again.
    Send,
    /// Tracking, which asks MESH what became of the message.
    Track,
    /// Tracking, if the message was begun long ago and has not come to its end since.
    Receive,
    /// As `Receive`; the message has failed too often.
    Poison,
    /// An operator.
    Held,
}

impl Due {
    /// The attribute's text.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A place in the index, from which a later page goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The row's id.
    pub row: String,
    /// Its time.
    pub next_attempt_at: String,
}

/// Rows whose time has come, the longest due first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// Where the next page begins, if there may be one.
    pub next: Option<Cursor>,
}

/// The rows whose time has come.
pub trait DueRows: Send + Sync {
    /// A page of at most `limit` rows that were due by the given time.
    fn due(
        &self,
        due: Due,
        by: OffsetDateTime,
        after: Option<&Cursor>,
        limit: u32,
    ) -> impl Future<Output = Result<Page, Error>> + Send;

    /// How many rows were due by the given time, or are due at any time.
    fn count(
        &self,
        due: Due,
        by: Option<OffsetDateTime>,
    ) -> impl Future<Output = Result<u64, Error>> + Send;
}
