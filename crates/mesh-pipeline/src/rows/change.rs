//! A builder for conditional changes of one row.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::{Hold, Status};
use crate::clock;

/// A conditional update of one row.
pub(super) struct Change {
    pub(super) id: String,
    pub(super) set: Vec<String>,
    pub(super) remove: Vec<String>,
    pub(super) add: Vec<String>,
    pub(super) condition: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

impl Change {
    /// A change of the row with the given id; it notes when it was made.
    pub(super) fn of(id: &str) -> Self {
        Self::unnoted(id).text("updated_at", clock::iso(clock::now()))
    }

    /// A change that does not count as one.
    pub(super) fn unnoted(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            set: Vec::new(),
            remove: Vec::new(),
            add: Vec::new(),
            condition: String::new(),
            names: HashMap::new(),
            values: HashMap::new(),
        }
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

    /// The row's text must be this.
    pub(super) fn when(mut self, name: &str, value: &str) -> Self {
        let condition = self.compared(name, "=", value);
        self.and(&condition)
    }

    /// The row's text must be another or missing.
    pub(super) fn when_not(mut self, name: &str, value: &str) -> Self {
        let placeholder = self.name(name);
        let condition = self.compared(name, "<>", value);
        self.and(&format!(
            "(attribute_not_exists({placeholder}) OR {condition})"
        ))
    }

    fn compared(&mut self, name: &str, operator: &str, value: &str) -> String {
        let placeholder = self.name(name);
        self.values
            .insert(format!(":was_{name}"), AttributeValue::S(value.to_owned()));
        format!("{placeholder} {operator} :was_{name}")
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

    /// The row must be this execution's, or released, or its time must have passed.
    pub(super) fn when_execution_or_due(mut self, execution: &str) -> Self {
        let owner = self.name("execution");
        let due = self.name("next_attempt_at");
        self.values
            .insert(":me".to_owned(), AttributeValue::S(execution.to_owned()));
        self.values.insert(
            ":now".to_owned(),
            AttributeValue::S(clock::iso(clock::now())),
        );
        let released = self.name("released");
        self.and(&format!(
            "({owner} = :me OR attribute_exists({released}) OR {due} < :now)"
        ))
    }

    fn and(mut self, condition: &str) -> Self {
        if !self.condition.is_empty() {
            self.condition.push_str(" AND ");
        }
        self.condition.push_str(condition);
        self
    }
}
