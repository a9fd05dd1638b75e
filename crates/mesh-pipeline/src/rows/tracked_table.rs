//! Rows that are due, and rows of sent messages, in DynamoDB.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, Select};
use time::OffsetDateTime;

use super::change::Change;
use super::due::{Cursor, Due, DueRows, Page};
use super::table::{Changed, DynamoRows};
use super::tracked::{Outcome, TrackedRows};
use super::{Row, Status};
use crate::aws::aws_error;
use crate::clock;
use crate::error::Error;

impl DueRows for DynamoRows {
    async fn due(
        &self,
        due: Due,
        by: OffsetDateTime,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page, Error> {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let by = clock::iso(by);
        let start = after.map(|after| {
            HashMap::from([
                ("id".to_owned(), text(&after.row)),
                ("due".to_owned(), text(due.as_str())),
                ("next_attempt_at".to_owned(), text(&after.next_attempt_at)),
            ])
        });
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("due")
            .key_condition_expression("due = :due AND next_attempt_at <= :by")
            .expression_attribute_values(":due", text(due.as_str()))
            .expression_attribute_values(":by", text(&by))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|error| aws_error("looking for rows that are due", error))?;
        let of = |item: &HashMap<String, AttributeValue>, name: &str| match item.get(name) {
            Some(AttributeValue::S(text)) => Some(text.clone()),
            _ => None,
        };
        let ids: Vec<_> = output
            .items
            .unwrap_or_default()
            .iter()
            .filter_map(|item| of(item, "id"))
            .collect();
        let mut found = self.load_many(&ids).await?;
        Ok(Page {
            rows: ids
                .iter()
                .filter_map(|id| found.remove(id))
                // The index follows the table with a delay.
                .filter(|row| row.due.as_deref() == Some(due.as_str()))
                .filter(|row| row.next_attempt_at.as_ref().is_some_and(|at| *at <= by))
                .collect(),
            next: output.last_evaluated_key.as_ref().and_then(|key| {
                Some(Cursor {
                    row: of(key, "id")?,
                    next_attempt_at: of(key, "next_attempt_at")?,
                })
            }),
        })
    }

    async fn count(&self, due: Due, by: Option<OffsetDateTime>) -> Result<u64, Error> {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("due")
            .select(Select::Count)
            .expression_attribute_values(":due", text(due.as_str()));
        let query = match by {
            Some(by) => query
                .key_condition_expression("due = :due AND next_attempt_at <= :by")
                .expression_attribute_values(":by", text(&clock::iso(by))),
            None => query.key_condition_expression("due = :due"),
        };
        let mut pages = query.into_paginator().send();
        let mut count = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| aws_error("counting the rows that are due", error))?;
            count += u64::try_from(page.count).unwrap_or_default();
        }
        Ok(count)
    }
}

const TRACKED: [Status; 3] = [Status::Sent, Status::Undelivered, Status::Delivered];

impl TrackedRows for DynamoRows {
    async fn look(&self, row: &Row, again_at: OffsetDateTime) -> Result<bool, Error> {
        let seen = row.next_attempt_at.as_deref().unwrap_or_default();
        let change = tracked(&row.id)
            .text("next_attempt_at", clock::iso(again_at))
            .remove(&["error"])
            .when("next_attempt_at", seen)
            .when_status(&TRACKED, false);
        Ok(matches!(self.change(change).await?, Changed::Done(_)))
    }

    async fn concluded(
        &self,
        row: &str,
        outcome: &Outcome,
        again_at: OffsetDateTime,
    ) -> Result<Option<Row>, Error> {
        // The service desk can put an undelivered message back; a delivered one is done with.
        let from: &[Status] = match outcome.status {
            Status::Delivered => &[Status::Sent, Status::Undelivered],
            _ => &[Status::Sent],
        };
        let change = tracked(row)
            .status(outcome.status)
            .text_if("status_code", outcome.status_code.as_deref())
            .text_if("linked_message_id", outcome.linked_message_id.as_deref())
            .text("next_attempt_at", clock::iso(again_at))
            .remove(&["announced"])
            .when_status(from, false);
        match self.change(change).await? {
            Changed::Done(row) => Ok(Some(row)),
            Changed::Refused(_) => Ok(None),
        }
    }

    async fn announced(
        &self,
        row: &str,
        status: Status,
        again_at: Option<OffsetDateTime>,
    ) -> Result<(), Error> {
        if status == Status::Received {
            let change = Change::of(row).flag("announced");
            let change = change.when_status(&[status], false);
            return self.change(change).await.map(drop);
        }
        let change = tracked(row).flag("announced").when_status(&[status], false);
        let change = match again_at {
            Some(again_at) => change.text("next_attempt_at", clock::iso(again_at)),
            None => self.closed(change),
        };
        self.change(change).await.map(drop)
    }

    async fn not_tracked(&self, row: &str, error: &Error) -> Result<(), Error> {
        let change = tracked(row)
            .text("error", error.row_text())
            .when_status(&TRACKED, false);
        self.change(change).await.map(drop)
    }

    async fn untracked(&self, row: &str) -> Result<(), Error> {
        let change = self.closed(tracked(row)).when_status(&TRACKED, false);
        self.change(change).await.map(drop)
    }
}

fn tracked(row: &str) -> Change {
    Change::of(row).when("due", Due::Track.as_str())
}

impl DynamoRows {
    fn closed(&self, change: Change) -> Change {
        change
            .number("expires_at", self.expiry())
            .remove(&["due", "next_attempt_at"])
    }
}
