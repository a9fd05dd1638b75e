//! Rows of sent objects in DynamoDB.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use mesh_client::MessageId;
use time::OffsetDateTime;

use super::change::Change;
use super::due::Due;
use super::outbound::{Claim, Claimed, FIRST_LOOK, Hold, OutboundRows, Posting};
use super::table::{Changed, DynamoRows, parse};
use super::{Row, Status, recordable_recipient};
use crate::aws::aws_error;
use crate::clock;
use crate::error::{Error, Fault};

const OPEN: [Status; 3] = [Status::Claimed, Status::Posting, Status::Sending];

impl OutboundRows for DynamoRows {
    async fn claim(
        &self,
        claim: &Claim,
        execution: &str,
        until: OffsetDateTime,
    ) -> Result<Claimed, Error> {
        let now = clock::iso(clock::now());
        let row = Row {
            id: claim.row.clone(),
            direction: Some("out".to_owned()),
            mailbox: Some(claim.mailbox.clone()),
            sender: Some(claim.mailbox.clone()),
            recipient: Some(recordable_recipient(&claim.recipient).to_owned()),
            workflow_id: Some(claim.workflow_id.clone()),
            local_id: claim.local_id.clone(),
            message_type: Some("DATA".to_owned()),
            status: Some(Status::Claimed),
            s3_bucket: Some(claim.bucket.clone()),
            s3_key: Some(claim.key.clone()),
            version_id: Some(claim.version_id.clone()),
            size: Some(claim.size),
            chunk_size: Some(claim.chunk_size),
            chunks: Some(claim.chunks),
            compress: Some(claim.compress),
            attempts: Some(1),
            next_chunk: Some(1),
            next_attempt_at: Some(clock::iso(until)),
            due: Some(Due::Send.as_str().to_owned()),
            execution: Some(execution.to_owned()),
            timestamp: Some(now.clone()),
            updated_at: Some(now),
            ..Row::default()
        };
        match self.insert(&row).await? {
            None => Ok(Claimed::Mine(row)),
            Some(_) => self.resume(&claim.row, execution, until).await,
        }
    }

    async fn resume(
        &self,
        row: &str,
        execution: &str,
        until: OffsetDateTime,
    ) -> Result<Claimed, Error> {
        let change = Change::of(row)
            .when_execution_or_due(execution)
            .text("execution", execution)
            .text("next_attempt_at", clock::iso(until))
            .text("due", Due::Send.as_str())
            .add("attempts", 1)
            .remove(&["released"])
            .when_status(&OPEN, false);
        match self.change(change).await? {
            Changed::Done(row) => Ok(Claimed::Mine(row)),
            Changed::Refused(Some(row)) => Ok(Claimed::Taken(row)),
            Changed::Refused(None) => Err(Error::InvalidInput(Fault::new(format!(
                "there is no row {row}; an object is sent again by putting it again"
            )))),
        }
    }

    async fn refuse(
        &self,
        row: &str,
        bucket: &str,
        key: &str,
        version_id: &str,
        execution: &str,
        error: &Error,
    ) -> Result<bool, Error> {
        let now = clock::iso(clock::now());
        let row = Row {
            id: row.to_owned(),
            direction: Some("out".to_owned()),
            status: Some(Status::Failed),
            s3_bucket: Some(bucket.to_owned()),
            s3_key: Some(key.to_owned()),
            version_id: Some(version_id.to_owned()),
            error: Some(error.row_text()),
            attempts: Some(1),
            execution: Some(execution.to_owned()),
            timestamp: Some(now.clone()),
            updated_at: Some(now),
            expires_at: Some(self.expiry()),
            ..Row::default()
        };
        Ok(self.insert(&row).await?.is_some())
    }

    async fn posting(&self, hold: &Hold, deadline: OffsetDateTime) -> Result<(), Error> {
        let change = Change::of(&hold.row)
            .status(Status::Posting)
            .text("posted_at", clock::iso(clock::now()))
            .text("answer_due_at", clock::iso(deadline))
            .number("next_chunk", 1)
            .remove(&["message_id"])
            .when_held(hold)
            .when_status(&[Status::Claimed, Status::Posting], false);
        self.mine(&hold.row, change).await.map(drop)
    }

    async fn unanswered(&self, hold: &Hold, error: &Error) -> Result<(), Error> {
        let change = Change::of(&hold.row)
            .text("answer_due_at", clock::iso(clock::now()))
            .text("error", error.row_text())
            .when_held(hold)
            .when_status(&[Status::Posting], false);
        self.mine(&hold.row, change).await.map(drop)
    }

    async fn posted(&self, hold: &Hold, outcome: &Posting) -> Result<(), Error> {
        // A message that MESH has dropped half-way is begun anew as well.
        let mut from = vec![Status::Posting, Status::Sending];
        let change = Change::of(&hold.row).when_held(hold);
        let change = match outcome {
            Posting::Accepted(message) => change
                .status(Status::Sending)
                .text("message_id", message.as_ref())
                .number("next_chunk", 2)
                .remove(&["error"]),
            Posting::NotSent => {
                from.push(Status::Claimed);
                change
                    .status(Status::Claimed)
                    .number("next_chunk", 1)
                    .remove(&["message_id"])
            }
        };
        let change = change.when_status(&from, false);
        self.mine(&hold.row, change).await.map(drop)
    }

    async fn progress(&self, hold: &Hold, next_chunk: u32) -> Result<(), Error> {
        let change = Change::of(&hold.row)
            .number("next_chunk", next_chunk)
            .when_held(hold)
            .when_status(&[Status::Sending], false);
        self.mine(&hold.row, change).await.map(drop)
    }

    async fn wait_for_switch(&self, hold: &Hold) -> Result<(), Error> {
        let change = Change::of(&hold.row)
            .text("due", Due::Switch.as_str())
            .text("next_attempt_at", clock::iso(clock::now()))
            .flag("released")
            .when_held(hold)
            .when_status(&[Status::Claimed], false);
        self.mine(&hold.row, change).await.map(drop)
    }

    async fn postpone(&self, hold: &Hold, until: OffsetDateTime) -> Result<(), Error> {
        let change = Change::of(&hold.row)
            .text("next_attempt_at", clock::iso(until))
            .when_held(hold)
            .when_status(&OPEN, false);
        self.mine(&hold.row, change).await.map(drop)
    }

    async fn sent(&self, hold: &Hold) -> Result<Row, Error> {
        let now = clock::now();
        let change = Change::of(&hold.row)
            .status(Status::Sent)
            .text_once("sent_at", clock::iso(now))
            .text("due", Due::Track.as_str())
            .text("next_attempt_at", clock::iso(now + FIRST_LOOK))
            .remove(&["next_chunk", "error"])
            .when_held(hold)
            .when_status(&[Status::Sending, Status::Sent], false);
        self.mine(&hold.row, change).await
    }

    async fn attempt_failed(
        &self,
        hold: &Hold,
        error: &Error,
        until: OffsetDateTime,
    ) -> Result<(), Error> {
        let change = Change::of(&hold.row)
            .text("error", error.row_text())
            .text("next_attempt_at", clock::iso(until))
            .when_held(hold)
            .when_status(&OPEN, false);
        let change = if error.is_temporary() {
            change
        } else {
            change.flag("released")
        };
        self.mine(&hold.row, change).await.map(drop)
    }

    async fn close(&self, hold: &Hold, status: Status, error: &Error) -> Result<(), Error> {
        let change = Change::of(&hold.row)
            .status(status)
            .text("error", error.row_text())
            .when_held(hold)
            .when_status(
                &[Status::Claimed, Status::Posting, Status::Sending, status],
                false,
            );
        // A held row waits for an operator: it is open, and an open row must not expire.
        let change = if status == Status::Held {
            change.text("due", Due::Held.as_str())
        } else {
            change
                .number("expires_at", self.expiry())
                .remove(&["due", "next_attempt_at"])
        };
        self.mine(&hold.row, change).await.map(drop)
    }

    async fn has_rival(&self, row: &str, local_id: &str) -> Result<bool, Error> {
        for due in [Due::Send, Due::Held] {
            let mut pages = self
                .client
                .query()
                .table_name(&self.table)
                .index_name("due")
                .key_condition_expression("due = :due")
                .expression_attribute_values(":due", AttributeValue::S(due.as_str().to_owned()))
                .into_paginator()
                .send();
            while let Some(page) = pages.next().await {
                let page = page
                    .map_err(|error| aws_error("looking for open sends among the rows", error))?;
                let open: Vec<_> = page
                    .items
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|mut item| match item.remove("id") {
                        Some(AttributeValue::S(id)) if id != row => Some(id),
                        _ => None,
                    })
                    .collect();
                let rivals = self.load_many(&open).await?;
                if rivals.values().any(|rival| {
                    matches!(rival.status, Some(Status::Posting | Status::Held))
                        && rival.local_id.as_deref() == Some(local_id)
                }) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn knows_message(&self, message: &MessageId) -> Result<bool, Error> {
        let output = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("message_id")
            .key_condition_expression("message_id = :id")
            .filter_expression("direction = :out")
            .expression_attribute_values(":id", AttributeValue::S(message.to_string()))
            .expression_attribute_values(":out", AttributeValue::S("out".to_owned()))
            .send()
            .await
            .map_err(|error| aws_error("looking for a message id among the rows", error))?;
        Ok(output.count > 0)
    }
}

impl DynamoRows {
    /// Makes the row; the existing one, if there is one.
    async fn insert(&self, row: &Row) -> Result<Option<Row>, Error> {
        let item: std::collections::HashMap<String, AttributeValue> = serde_dynamo::to_item(row)
            .map_err(|error| {
                Error::InvalidInput(Fault::new("the row can't be written").because(error))
            })?;
        let present = item
            .into_iter()
            .filter(|(_, value)| !matches!(value, AttributeValue::Null(_)))
            .collect();
        let result = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(present))
            .condition_expression("attribute_not_exists(id)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match result {
            Ok(_) => Ok(None),
            Err(SdkError::ServiceError(service)) => match service.err() {
                PutItemError::ConditionalCheckFailedException(failed) => {
                    parse(failed.item().cloned().unwrap_or_default()).map(Some)
                }
                _ => Err(aws_error(
                    format!("making row {}", row.id),
                    SdkError::ServiceError(service),
                )),
            },
            Err(error) => Err(aws_error(format!("making row {}", row.id), error)),
        }
    }

    async fn mine(&self, row: &str, change: Change) -> Result<Row, Error> {
        match self.change(change).await? {
            Changed::Done(row) => Ok(row),
            Changed::Refused(_) => Err(Error::AwsUnavailable(Fault::new(format!(
                "row {row} is no longer this execution's: another one has taken the object over"
            )))),
        }
    }
}
