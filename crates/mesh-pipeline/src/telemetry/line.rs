//! A log line: one flat JSON object, with the names that the logs' readers search for.

use std::fmt;

use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};
use tracing::{Event, Subscriber};
use tracing_serde::SerdeMapVisitor;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

use crate::clock;

// What is logged outside of any invocation belongs to no execution.
const NO_ID: &str = "none";

/// Fields of the event, then those of the spans around it, all at the top.
pub(super) struct Line;

impl<S> FormatEvent<S, JsonFields> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        line.insert("internal_id".to_owned(), NO_ID.into());
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<JsonFields>>();
            if let Some(fields) = fields
                && let Ok(fields) = serde_json::from_str::<Map<String, Value>>(fields)
            {
                line.extend(fields);
            }
        }
        line.extend(fields(event).map_err(|_| fmt::Error)?);
        let metadata = event.metadata();
        for (name, value) in [
            ("timestamp", clock::iso(clock::now()).into()),
            ("Log_Level", metadata.level().as_str().into()),
            ("target", metadata.target().into()),
        ] {
            line.insert(name.to_owned(), value);
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

fn fields(event: &Event<'_>) -> Result<Map<String, Value>, serde_json::Error> {
    let mut visitor = SerdeMapVisitor::new(serde_json::value::Serializer.serialize_map(None)?);
    event.record(&mut visitor);
    match visitor.take_serializer()?.end()? {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}
