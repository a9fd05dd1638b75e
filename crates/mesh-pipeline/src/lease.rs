//! Leases: one execution at a time works on a mailbox.

use std::future::Future;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use mesh_client::MailboxId;
use time::{Duration, OffsetDateTime};

use crate::aws::aws_error;
use crate::clock;
use crate::error::Error;

/// How long a lease outlives the deadline of the invocation that took it: Lambda may take a moment to end it.
pub const GRACE: Duration = Duration::seconds(60);

// No execution's ARN.
const PAUSE: &str = "pause";

// A longer one is cut short: MESH may have meant it for others, and a mailbox must not be forgotten for days.
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_hours(1);

/// What a call waits for by itself: no reason to give up the mailbox until the lease's end.
pub const SHORT_PAUSE: std::time::Duration = std::time::Duration::from_mins(1);

/// The pause that MESH asks for, as far as it is kept.
pub fn kept_pause(error: &Error) -> Option<std::time::Duration> {
    error.retry_after().map(|asked| asked.min(LONGEST_PAUSE))
}

/// Whether an execution may take a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It may.
    Free,
    /// Another execution works on the mailbox.
    Anothers,
    /// MESH asked to be left alone.
    Paused,
}

/// Who works on a mailbox.
pub trait HeldLeases: Send + Sync {
    /// Who holds the mailbox's lease now, as the owner sees it.
    fn held(
        &self,
        mailbox: &MailboxId,
        owner: &str,
    ) -> impl Future<Output = Result<Held, Error>> + Send;
}

/// Who may work on a mailbox.
pub trait Leases: Send + Sync {
    /// Takes or renews the mailbox's lease until the deadline and a grace; false: another execution holds it.
    fn take(
        &self,
        mailbox: &MailboxId,
        owner: &str,
        deadline: OffsetDateTime,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Turns the owner's lease into nobody's, until then and until its own end: no execution works on the mailbox, this one neither.
    fn pause(
        &self,
        mailbox: &MailboxId,
        owner: &str,
        until: OffsetDateTime,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Gives the lease back, if it is still the owner's.
    fn release(
        &self,
        mailbox: &MailboxId,
        owner: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Leases in the DynamoDB table `${name}-leases`: `{lease_id, owner, until}`.
#[derive(Debug, Clone)]
pub struct DynamoLeases {
    client: Client,
    table: String,
}

impl DynamoLeases {
    /// Leases in the given table.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self {
            client,
            table: table.into(),
        }
    }
}

impl HeldLeases for DynamoLeases {
    async fn held(&self, mailbox: &MailboxId, owner: &str) -> Result<Held, Error> {
        let output = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("lease_id", AttributeValue::S(mailbox.to_string()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| aws_error(format!("reading the lease of mailbox {mailbox}"), error))?;
        let Some(lease) = output.item() else {
            return Ok(Held::Free);
        };
        let until = lease
            .get("until")
            .and_then(|until| until.as_n().ok())
            .and_then(|until| until.parse::<i64>().ok());
        let is_past = until.is_some_and(|until| until < clock::now().unix_timestamp());
        let holder = lease.get("owner").and_then(|holder| holder.as_s().ok());
        Ok(match holder.map(String::as_str) {
            _ if is_past => Held::Free,
            Some(holder) if holder == owner => Held::Free,
            Some(PAUSE) => Held::Paused,
            _ => Held::Anothers,
        })
    }
}

impl Leases for DynamoLeases {
    async fn take(
        &self,
        mailbox: &MailboxId,
        owner: &str,
        deadline: OffsetDateTime,
    ) -> Result<bool, Error> {
        let until = (deadline + GRACE).unix_timestamp();
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("lease_id", AttributeValue::S(mailbox.to_string()))
            .update_expression("SET #owner = :owner, #until = :until")
            // An own lease is only ever prolonged: invocations of one execution overlap.
            .condition_expression(
                "attribute_not_exists(lease_id) OR #until < :now OR (#owner = :owner AND #until < :until)",
            )
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":owner", AttributeValue::S(owner.to_owned()))
            .expression_attribute_values(":until", AttributeValue::N(until.to_string()))
            .expression_attribute_values(
                ":now",
                AttributeValue::N(clock::now().unix_timestamp().to_string()),
            )
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match result {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    let holder = failed
                        .item()
                        .and_then(|item| item.get("owner"))
                        .and_then(|holder| holder.as_s().ok());
                    Ok(holder.is_some_and(|holder| holder == owner))
                }
                _ => Err(aws_error(
                    format!("taking the lease of mailbox {mailbox}"),
                    error,
                )),
            },
        }
    }

    async fn pause(
        &self,
        mailbox: &MailboxId,
        owner: &str,
        until: OffsetDateTime,
    ) -> Result<(), Error> {
        let until = until.unix_timestamp();
        let change = || {
            self.client
                .update_item()
                .table_name(&self.table)
                .key("lease_id", AttributeValue::S(mailbox.to_string()))
                .expression_attribute_names("#owner", "owner")
                .expression_attribute_values(":owner", AttributeValue::S(owner.to_owned()))
                .expression_attribute_values(":pause", AttributeValue::S(PAUSE.to_owned()))
        };
        let longer = change()
            .update_expression("SET #owner = :pause, #until = :until")
            .condition_expression("#owner IN (:owner, :pause) AND #until < :until")
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":until", AttributeValue::N(until.to_string()));
        // Another invocation of this execution may be at work until its lease ends.
        let as_long = change()
            .update_expression("SET #owner = :pause")
            .condition_expression("#owner = :owner");
        for attempt in [longer, as_long] {
            match attempt.send().await {
                Ok(_) => return Ok(()),
                Err(SdkError::ServiceError(service))
                    if matches!(
                        service.err(),
                        UpdateItemError::ConditionalCheckFailedException(_)
                    ) => {}
                Err(error) => {
                    return Err(aws_error(format!("pausing mailbox {mailbox}"), error));
                }
            }
        }
        Ok(())
    }

    async fn release(&self, mailbox: &MailboxId, owner: &str) -> Result<(), Error> {
        let result = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("lease_id", AttributeValue::S(mailbox.to_string()))
            .condition_expression("#owner = :owner")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":owner", AttributeValue::S(owner.to_owned()))
            .send()
            .await;
        match result {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(service))
                if matches!(
                    service.err(),
                    DeleteItemError::ConditionalCheckFailedException(_)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(aws_error(
                format!("releasing the lease of mailbox {mailbox}"),
                error,
            )),
        }
    }
}
