//! The table itself, and a builder for conditional changes.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use time::Duration;

use super::{Hold, Row, Status};
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

// BatchGetItem answers what it could read; the rest is asked for again at growing distance.
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
                            "reading message rows: DynamoDB keeps leaving some out",
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
    let id = item.get("id").and_then(|id| id.as_s().ok()).cloned();
    parse(item).unwrap_or_else(|failure| {
        let id = id.unwrap_or_default();
        error!(row = id, error = failure.chain(), "left out");
        Row {
            id,
            ..Row::default()
        }
    })
}

pub(super) fn parse(item: HashMap<String, AttributeValue>) -> Result<Row, Error> {
    serde_dynamo::from_item(item).map_err(|error| {
        Error::InvalidInput(
            Fault::new("a row of the messages table is not one of ours; remove or correct it")
                .because(error),
        )
    })
}

/// A conditional update of one row.
pub(super) struct Change {
    id: String,
    set: Vec<String>,
    remove: Vec<String>,
    add: Vec<String>,
    condition: String,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Change {
    /// A change of the row with the given id; it always notes when it was made.
    pub(super) fn of(id: &str) -> Self {
        let change = Self {
            id: id.to_owned(),
            set: Vec::new(),
            remove: Vec::new(),
            add: Vec::new(),
            condition: String::new(),
            names: HashMap::new(),
            values: HashMap::new(),
        };
        change.text("updated_at", clock::iso(clock::now()))
    }

    // Several attribute names (status, timestamp, …) are reserved words of DynamoDB: every name goes through a placeholder.
    fn name(&mut self, name: &str) -> String {
        let placeholder = format!("#{name}");
        self.names.insert(placeholder.clone(), name.to_owned());
        placeholder
    }

    fn set(mut self, name: &str, value: AttributeValue) -> Self {
        let placeholder = self.name(name);
        self.values.insert(format!(":{name}"), value);
        self.set.push(format!("{placeholder} = :{name}"));
        self
    }

    pub(super) fn text(self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, AttributeValue::S(value.into()))
    }

    pub(super) fn text_if(self, name: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    pub(super) fn flag(self, name: &str) -> Self {
        self.set(name, AttributeValue::Bool(true))
    }

    pub(super) fn number(self, name: &str, value: impl Into<i128>) -> Self {
        self.set(name, AttributeValue::N(value.into().to_string()))
    }

    pub(super) fn status(self, status: Status) -> Self {
        self.text("status", status.as_str())
    }

    pub(super) fn text_once(mut self, name: &str, value: impl Into<String>) -> Self {
        let placeholder = self.name(name);
        self.values
            .insert(format!(":{name}"), AttributeValue::S(value.into()));
        self.set.push(format!(
            "{placeholder} = if_not_exists({placeholder}, :{name})"
        ));
        self
    }

    pub(super) fn add(mut self, name: &str, value: i64) -> Self {
        let placeholder = self.name(name);
        self.values
            .insert(format!(":{name}"), AttributeValue::N(value.to_string()));
        self.add.push(format!("{placeholder} :{name}"));
        self
    }

    pub(super) fn remove(mut self, names: &[&str]) -> Self {
        for name in names {
            let placeholder = self.name(name);
            self.remove.push(placeholder);
        }
        self
    }

    /// The row must have one of these states; `or_new`: or not exist.
    pub(super) fn when_status(mut self, states: &[Status], or_new: bool) -> Self {
        let placeholder = self.name("status");
        let mut alternatives = Vec::new();
        for state in states {
            let value = format!(":was_{}", state.as_str());
            self.values
                .insert(value.clone(), AttributeValue::S(state.as_str().to_owned()));
            alternatives.push(value);
        }
        let mut condition = format!("{placeholder} IN ({})", alternatives.join(", "));
        if or_new {
            condition = format!("(attribute_not_exists(id) OR {condition})");
        }
        self.and(&condition)
    }

    /// The row must be as this invocation took it: no other has taken it since.
    pub(super) fn when_held(mut self, hold: &Hold) -> Self {
        let owner = self.name("execution");
        let attempts = self.name("attempts");
        self.values
            .insert(":me".to_owned(), AttributeValue::S(hold.execution.clone()));
        self.values.insert(
            ":fence".to_owned(),
            AttributeValue::N(hold.attempts.to_string()),
        );
        self.and(&format!("{owner} = :me AND {attempts} = :fence"))
    }

    /// The row must not be this execution's.
    pub(super) fn when_not_execution(mut self, execution: &str) -> Self {
        let placeholder = self.name("execution");
        self.values
            .insert(":me".to_owned(), AttributeValue::S(execution.to_owned()));
        self.and(&format!(
            "(attribute_not_exists({placeholder}) OR {placeholder} <> :me)"
        ))
    }

    /// The row's number must be at least this.
    pub(super) fn when_at_least(mut self, name: &str, value: i64) -> Self {
        let placeholder = self.name(name);
        self.values.insert(
            format!(":least_{name}"),
            AttributeValue::N(value.to_string()),
        );
        self.and(&format!("{placeholder} >= :least_{name}"))
    }

    /// The row must be this execution's, or its time must have passed.
    pub(super) fn when_execution_or_due(mut self, execution: &str) -> Self {
        let owner = self.name("execution");
        let due = self.name("next_attempt_at");
        self.values
            .insert(":me".to_owned(), AttributeValue::S(execution.to_owned()));
        self.values.insert(
            ":now".to_owned(),
            AttributeValue::S(clock::iso(clock::now())),
        );
        self.and(&format!("({owner} = :me OR {due} < :now)"))
    }

    fn and(mut self, condition: &str) -> Self {
        if !self.condition.is_empty() {
            self.condition.push_str(" AND ");
        }
        self.condition.push_str(condition);
        self
    }
}
