//! The table itself, and a builder for conditional changes.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use time::Duration;

use super::Row;
use super::change::Change;
use crate::aws::aws_error;
use crate::clock;
use crate::error::{Error, Fault};
use crate::settings::RowSettings;
use tracing::error;

/// Rows in DynamoDB.
#[derive(Debug, Clone)]
pub struct DynamoRows {
    pub(super) client: Client,
    pub(super) table: String,
    retention: Duration,
}

// BatchGetItem answers what it could read; the rest is asked for again at increasing intervals.
const FIRST_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
const LAST_PAUSE: std::time::Duration = std::time::Duration::from_secs(2);

/// What a conditional change came to.
pub(super) enum Changed {
    Done(Row),
    /// The condition failed; the row as it is, if there is one.
    Refused(Option<Row>),
}

impl DynamoRows {
    /// Rows in the settings' table.
    pub fn new(client: Client, settings: &RowSettings) -> Self {
        Self {
            client,
            table: settings.table.clone(),
            retention: Duration::days(settings.retention_days.into()),
        }
    }

    /// When a row that is closed now may be deleted, in epoch seconds.
    pub(super) fn expiry(&self) -> i64 {
        (clock::now() + self.retention).unix_timestamp()
    }

    /// Those of the rows that exist, at most 100 asked for at once.
    ///
    /// # Errors
    /// Those of DynamoDB.
    pub async fn load_many(&self, ids: &[String]) -> Result<HashMap<String, Row>, Error> {
        let mut rows = HashMap::new();
        // BatchGetItem takes 100 keys.
        for ids in ids.chunks(100) {
            let mut keys = KeysAndAttributes::builder().consistent_read(true);
            for id in ids {
                keys = keys.keys(HashMap::from([(
                    "id".to_owned(),
                    AttributeValue::S(id.clone()),
                )]));
            }
            let keys = keys.build().map_err(|error| {
                Error::InvalidInput(Fault::new("no row keys to read").because(error))
            })?;
            let mut pending = Some(HashMap::from([(self.table.clone(), keys)]));
            let mut pause = FIRST_PAUSE;
            while let Some(request) = pending.take() {
                let output = self
                    .client
                    .batch_get_item()
                    .set_request_items(Some(request))
                    .send()
                    .await
                    .map_err(|error| aws_error("reading message rows", error))?;
                for item in output
                    .responses
                    .unwrap_or_default()
                    .remove(&self.table)
                    .unwrap_or_default()
                {
                    let row = parse_or_name(item);
                    rows.insert(row.id.clone(), row);
                }
                pending = output.unprocessed_keys.filter(|keys| !keys.is_empty());
                if pending.is_some() {
                    if pause > LAST_PAUSE {
                        return Err(Error::AwsUnavailable(Fault::new(
                            "reading message rows: DynamoDB keeps leaving some out; it is tried again, and if it lasts look at the table's throttling",
                        )));
                    }
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        Ok(rows)
    }

    pub(super) async fn change(&self, change: Change) -> Result<Changed, Error> {
        let id = change.id;
        let mut clauses = Vec::new();
        if !change.set.is_empty() {
            clauses.push(format!("SET {}", change.set.join(", ")));
        }
        if !change.remove.is_empty() {
            clauses.push(format!("REMOVE {}", change.remove.join(", ")));
        }
        if !change.add.is_empty() {
            clauses.push(format!("ADD {}", change.add.join(", ")));
        }
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("id", AttributeValue::S(id.clone()))
            .update_expression(clauses.join(" "))
            .condition_expression(change.condition)
            .set_expression_attribute_names(Some(change.names))
            .set_expression_attribute_values(Some(change.values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match result {
            Ok(output) => Ok(Changed::Done(parse(output.attributes.unwrap_or_default())?)),
            Err(SdkError::ServiceError(service)) => match service.err() {
                UpdateItemError::ConditionalCheckFailedException(failed) => Ok(Changed::Refused(
                    failed.item().cloned().map(parse).transpose()?,
                )),
                _ => Err(aws_error(
                    format!("changing row {id}"),
                    SdkError::ServiceError(service),
                )),
            },
            Err(error) => Err(aws_error(format!("changing row {id}"), error)),
        }
    }
}

/// A row that can't be read is known by its id alone, so that it is in the way of no other.
fn parse_or_name(item: HashMap<String, AttributeValue>) -> Row {
    let id = id_of(&item);
    parse(item).unwrap_or_else(|failure| {
        error!(row = id, error = failure.chain(), "left out");
        Row {
            id,
            ..Row::default()
        }
    })
}

pub(super) fn parse(item: HashMap<String, AttributeValue>) -> Result<Row, Error> {
    let id = id_of(&item);
    serde_dynamo::from_item(item).map_err(|error| {
        let remedy = if id.starts_with("out#") {
            "correct it, and don't delete it: without it its object would be sent again"
        } else {
            "docs/runbook.md#messages-gone says how to mend it"
        };
        // What begins with "row out#…" is taken for an error of an open row, which the sweep sends: this one it can't read either.
        Error::InvalidInput(
            Fault::new(format!(
                "the row {id} can't be read: somebody has changed it; {remedy}"
            ))
            .because(error),
        )
    })
}

fn id_of(item: &HashMap<String, AttributeValue>) -> String {
    let id = item.get("id").and_then(|id| id.as_s().ok());
    id.cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::config::{BehaviorVersion, Config};

    #[test]
    fn a_row_that_somebody_has_changed_is_named_with_what_to_do() {
        for (id, remedy) in [
            ("out#1", "don't delete it"),
            ("in#1", "docs/runbook.md#messages-gone"),
        ] {
            let texts = [("id", id), ("status", "unheard of")];
            let item =
                texts.map(|(name, text)| (name.to_owned(), AttributeValue::S(text.to_owned())));
            let Err(Error::InvalidInput(fault)) = parse(HashMap::from(item)) else {
                panic!("{id} was read");
            };
            let text = fault.to_string();
            assert!(
                text.starts_with(&format!("the row {id} ")) && text.contains(remedy),
                "{text}"
            );
        }
    }

    #[test]
    fn a_closed_row_is_kept_for_as_many_days_as_the_settings_say() {
        for days in [7, 400] {
            let config = Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .build();
            let settings = RowSettings {
                retention_days: days,
                ..RowSettings::default()
            };
            let rows = DynamoRows::new(Client::from_conf(config), &settings);
            let kept = rows.expiry() - clock::now().unix_timestamp();
            assert_eq!((kept + 60) / 86_400, i64::from(days));
        }
    }
}
