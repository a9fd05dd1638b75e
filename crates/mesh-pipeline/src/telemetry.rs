//! Log lines: JSON on standard output, one object a line.

mod line;

use std::panic;

use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use line::Line;

/// Starts logging at the level of `LOG_LEVEL` (`INFO` if it is not set).
pub fn init() {
    let level = std::env::var("LOG_LEVEL")
        .ok()
        .and_then(|level| level.parse().ok())
        .unwrap_or(LevelFilter::INFO);
    subscriber(level, std::io::stdout).init();
    // A panic's own text may quote what was at work.
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        error!(
            logReference = "LAMBDA9999",
            error_name = "Panic",
            error = place,
            "failed"
        );
    }));
}

// Only our own crates follow the level: those of the AWS SDK and the HTTP stack would log requests.
fn subscriber<W>(level: LevelFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let ours = [
        "mesh_client",
        "mesh_pipeline",
        "poll",
        "fetch_chunk",
        "ack",
        "send",
        "track",
    ];
    let targets = Targets::new()
        .with_default(LevelFilter::ERROR)
        // The runtime would log each failure a second time.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF)
        .with_targets(ours.map(|target| (target, level)));
    let layer = tracing_subscriber::fmt::layer()
        .fmt_fields(JsonFields::new())
        .event_format(Line)
        .with_writer(writer);
    tracing_subscriber::registry().with(targets).with(layer)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing::{debug, info, info_span};

    /// Keeps what is written.
    #[derive(Clone, Default)]
    pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        /// What is logged from now on, until the guard is dropped.
        pub(crate) fn capture(level: LevelFilter) -> (Self, tracing::subscriber::DefaultGuard) {
            let lines = Self::default();
            let writer = lines.clone();
            let subscriber = subscriber(level, move || writer.clone());
            (lines, tracing::subscriber::set_default(subscriber))
        }

        /// The lines, each parsed, without the time and what names the code.
        pub(crate) fn take(&self) -> Vec<Value> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            let text = String::from_utf8(bytes).unwrap();
            let parse = |line| {
                let mut value: Value = serde_json::from_str(line).unwrap();
                let line = value.as_object_mut().unwrap();
                let time = line.remove("timestamp").unwrap();
                assert!(crate::clock::parse_iso(time.as_str().unwrap()).is_some());
                let target = line.remove("target").unwrap();
                assert!(target.as_str().unwrap().starts_with("mesh_pipeline::"));
                value
            };
            text.lines().map(parse).collect()
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_flat_object_of_the_fields_around_and_its_own() {
        let (lines, _guard) = Lines::capture(LevelFilter::INFO);
        let outer = info_span!("invocation", internal_id = "job-1", execution = "arn");
        outer.in_scope(|| {
            info_span!("message", chunk = 1).in_scope(|| {
                let mailbox = "X26\"ABC\n1";
                info!(
                    logReference = "MESHPOLL0001",
                    mailbox,
                    message_count = 2_u64,
                    more = false,
                    chunk = 2,
                    "polled"
                );
            });
        });
        assert_eq!(
            lines.take(),
            [json!({
                "Log_Level": "INFO",
                "internal_id": "job-1",
                "execution": "arn",
                "logReference": "MESHPOLL0001",
                "mailbox": "X26\"ABC\n1",
                "message_count": 2,
                "more": false,
                "chunk": 2,
                "message": "polled",
            })]
        );
    }

    #[test]
    fn a_line_outside_of_any_invocation_has_level_and_id_as_well() {
        let (lines, _guard) = Lines::capture(LevelFilter::INFO);
        error!("early");
        assert_eq!(
            lines.take(),
            [json!({"Log_Level": "ERROR", "internal_id": "none", "message": "early"})]
        );
    }

    #[test]
    fn others_crates_and_lower_levels_are_left_out() {
        let (lines, _guard) = Lines::capture(LevelFilter::INFO);
        debug!("detail");
        info!(target: "aws_smithy_runtime", "request");
        info!(target: "hyper", "request");
        assert_eq!(lines.take(), Vec::<Value>::new());
    }
}
