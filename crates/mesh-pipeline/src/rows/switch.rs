//! The switch for sending: an item of the messages table that Terraform writes. It is read at run time, because an execution that
//! waits or tries again goes on with the function version, and so the settings, that it began with.

use std::future::Future;

use aws_sdk_dynamodb::types::AttributeValue;

use super::table::DynamoRows;
use crate::aws::aws_error;
use crate::error::{Error, Fault};

const ID: &str = "switch#send-messages";

/// Whether messages may be begun.
pub trait SendSwitch: Send + Sync {
    /// How the switch stands now.
    fn sending_is_on(&self) -> impl Future<Output = Result<bool, Error>> + Send;
}

impl SendSwitch for DynamoRows {
    async fn sending_is_on(&self) -> Result<bool, Error> {
        let output = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("id", AttributeValue::S(ID.to_owned()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| aws_error("reading whether sending is switched on", error))?;
        match output.item.as_ref().and_then(|item| item.get("enabled")) {
            Some(AttributeValue::Bool(enabled)) => Ok(*enabled),
            _ => Err(Error::InvalidConfiguration(Fault::new(format!(
                "item {ID} of table {} does not say whether sending is on; apply the Terraform module, which writes it",
                self.table
            )))),
        }
    }
}
