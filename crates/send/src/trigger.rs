//! What the function was called for.

use aws_lambda_events::eventbridge::EventBridgeEvent;
use mesh_pipeline::store::SourceObject;
use mesh_pipeline::{Error, Fault, clock};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// An object that was put.
    Put(Put),
    /// An open row.
    Row(String),
    /// An event that sends nothing.
    Other(&'static str),
}

/// An object that was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) version_id: Option<String>,
    pub(crate) time: Option<OffsetDateTime>,
}

// S3's clocks, and its times by the second.
const CLOCKS: Duration = Duration::minutes(1);

impl Put {
    /// Whether the object is a later one than the event tells of. An event that names a version can't be mistaken;
    /// one that names none, as CloudTrail's may, stands for the object that was put at its time, not for a copy or
    /// another object that has taken its place.
    pub(crate) fn is_older_than(&self, object: &SourceObject) -> bool {
        match (&self.version_id, self.time, object.put_at) {
            (None, Some(time), Some(put_at)) => put_at > time.saturating_add(CLOCKS),
            _ => false,
        }
    }

    /// What tells an object that is gone from another one under its key.
    pub(crate) fn missing_identity(&self) -> String {
        match self.version_id.as_deref() {
            Some(version) if version != "null" => version.to_owned(),
            _ => format!("null {}", self.time.map(clock::iso).unwrap_or_default()),
        }
    }
}

#[derive(Debug, Deserialize, Serialize)]
struct ObjectCreated {
    reason: Option<String>,
    bucket: Bucket,
    object: Object,
}

#[derive(Debug, Deserialize, Serialize)]
struct Bucket {
    name: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Object {
    key: String,
    version_id: Option<String>,
}

// CloudTrail's record of an S3 call; its field names are CloudTrail's.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiCall {
    event_name: String,
    error_code: Option<String>,
    request_parameters: RequestParameters,
    response_elements: Option<ResponseElements>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestParameters {
    bucket_name: String,
    key: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct ResponseElements {
    #[serde(rename = "x-amz-version-id")]
    version_id: Option<String>,
}

const SENDING: [&str; 2] = ["PutObject", "CompleteMultipartUpload"];
const COPYING: &str = "CopyObject";

/// Reads the request in any of its shapes; `copies`: a copied object is sent as well.
pub(crate) fn parse(request: &Value, copies: bool) -> Result<Trigger, Error> {
    let sends = |call: &str| SENDING.contains(&call) || (copies && call == COPYING);
    if let Some(row) = request.get("row") {
        return match row.as_str() {
            Some(row) if row.starts_with("out#") => Ok(Trigger::Row(row.to_owned())),
            _ => Err(unknown(
                "its row is not the id of a sent object's row, out#…",
            )),
        };
    }
    match request.get("detail-type").and_then(Value::as_str) {
        Some("Object Created") => {
            let event: EventBridgeEvent<ObjectCreated> = event(request)?;
            let detail = event.detail;
            if detail.reason.is_some_and(|reason| !sends(&reason)) {
                return Ok(Trigger::Other(
                    "only a put object is sent, not a copied one",
                ));
            }
            Ok(Trigger::Put(Put {
                bucket: detail.bucket.name,
                key: detail.object.key,
                version_id: detail.object.version_id.filter(|id| !id.is_empty()),
                time: time_of(request),
            }))
        }
        Some("AWS API Call via CloudTrail") => {
            let event: EventBridgeEvent<ApiCall> = event(request)?;
            let detail = event.detail;
            if !sends(&detail.event_name) || detail.error_code.is_some_and(|code| !code.is_empty())
            {
                return Ok(Trigger::Other("the recorded call put no object"));
            }
            Ok(Trigger::Put(Put {
                bucket: detail.request_parameters.bucket_name,
                key: detail.request_parameters.key,
                version_id: detail
                    .response_elements
                    .and_then(|elements| elements.version_id)
                    .filter(|id| !id.is_empty()),
                time: time_of(request),
            }))
        }
        _ => Err(unknown(
            "it has neither a row nor a detail-type that is known",
        )),
    }
}

fn event<T>(request: &Value) -> Result<EventBridgeEvent<T>, Error>
where
    T: serde::de::DeserializeOwned + Serialize,
{
    serde_json::from_value(request.clone())
        .map_err(|_| unknown("a field that every such event has is missing or of another type"))
}

fn time_of(request: &Value) -> Option<OffsetDateTime> {
    request
        .get("time")
        .and_then(Value::as_str)
        .and_then(clock::parse_iso)
}

fn unknown(why: &str) -> Error {
    Error::InvalidInput(Fault::new(format!(
        "the request is no S3 event, row or earlier answer: {why}; start the execution with {{\"row\": \"out#…\"}} or put the object again"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn created(reason: &str) -> Value {
        json!({
            "detail-type": "Object Created", "source": "aws.s3", "time": "2026-01-15T12:34:00Z",
            "detail": {"reason": reason, "bucket": {"name": "live-mesh"},
                       "object": {"key": "outbound/a b+c%20.csv", "size": 3, "etag": "e", "version-id": "v1"}}
        })
    }

    fn recorded() -> Value {
        json!({
            "detail-type": "AWS API Call via CloudTrail", "source": "aws.s3", "time": "2026-01-15T12:34:00Z",
            "detail": {"eventSource": "s3.amazonaws.com", "eventName": "CompleteMultipartUpload", "errorCode": "",
                       "requestParameters": {"bucketName": "live-mesh", "key": "outbound/a"},
                       "responseElements": {"x-amz-version-id": "v1"}}
        })
    }

    #[test]
    fn a_put_object_is_sent_under_its_key_as_it_comes() {
        let Trigger::Put(put) = parse(&created("PutObject"), false).unwrap() else {
            panic!("not a put");
        };
        assert_eq!(put.bucket, "live-mesh");
        assert_eq!(put.key, "outbound/a b+c%20.csv");
        assert_eq!(put.version_id.as_deref(), Some("v1"));
        assert_eq!(put.time.unwrap().unix_timestamp(), 1_768_480_440);
    }

    #[test]
    fn a_copied_object_is_only_if_the_setting_says_so() {
        let copied = created("CopyObject");
        assert!(matches!(parse(&copied, false).unwrap(), Trigger::Other(_)));
        assert!(matches!(parse(&copied, true).unwrap(), Trigger::Put(_)));
        let record = json!({
            "detail-type": "AWS API Call via CloudTrail", "source": "aws.s3",
            "detail": {"eventName": "CopyObject", "requestParameters": {"bucketName": "live-mesh", "key": "outbound/a"}}
        });
        assert!(matches!(parse(&record, false).unwrap(), Trigger::Other(_)));
        assert!(matches!(parse(&record, true).unwrap(), Trigger::Put(_)));
    }

    #[test]
    fn cloudtrails_record_of_a_put_is_the_same_put() {
        let Trigger::Put(put) = parse(&recorded(), false).unwrap() else {
            panic!("not a put");
        };
        assert_eq!(
            (put.key.as_str(), put.version_id.as_deref()),
            ("outbound/a", Some("v1"))
        );
    }

    #[test]
    fn a_record_without_answer_is_a_put_of_no_known_version() {
        for elements in [json!(null), json!({}), json!({"x-amz-version-id": ""})] {
            let record = json!({
                "detail-type": "AWS API Call via CloudTrail", "source": "aws.s3",
                "detail": {"eventName": "PutObject", "requestParameters": {"bucketName": "live-mesh", "key": "outbound/a"},
                           "responseElements": elements}
            });
            let Trigger::Put(put) = parse(&record, false).unwrap() else {
                panic!("not a put");
            };
            assert_eq!(put.version_id, None);
        }
    }

    #[test]
    fn a_call_that_s3_refused_is_not() {
        let record = json!({
            "detail-type": "AWS API Call via CloudTrail", "source": "aws.s3",
            "detail": {"eventName": "PutObject", "errorCode": "AccessDenied",
                       "requestParameters": {"bucketName": "live-mesh", "key": "outbound/a"}, "responseElements": null}
        });
        assert!(matches!(parse(&record, false).unwrap(), Trigger::Other(_)));
    }

    #[test]
    fn an_earlier_answer_goes_on_by_its_row() {
        let answer = json!({"statusCode": 200, "complete": false, "row": "out#ab", "next_chunk": 3, "events": []});
        assert_eq!(
            parse(&answer, false).unwrap(),
            Trigger::Row("out#ab".to_owned())
        );
    }

    #[test]
    fn the_last_time_there_is_can_be_reckoned_with() {
        let mut event = created("PutObject");
        event["time"] = json!("9999-12-31T23:59:59Z");
        event["detail"]["object"]["version-id"] = Value::Null;
        let Trigger::Put(put) = parse(&event, false).unwrap() else {
            panic!("not a put");
        };
        assert!(!put.is_older_than(&object_of_now()));
        assert_eq!(put.missing_identity(), "null 9999-12-31T23:59:59.000Z");
    }

    fn object_of_now() -> SourceObject {
        SourceObject {
            put_at: Some(clock::now()),
            ..SourceObject::default()
        }
    }

    const FIELDS: [&str; 20] = [
        "",
        "/row",
        "/detail-type",
        "/source",
        "/time",
        "/detail",
        "/detail/reason",
        "/detail/bucket",
        "/detail/bucket/name",
        "/detail/object",
        "/detail/object/key",
        "/detail/object/version-id",
        "/detail/eventName",
        "/detail/errorCode",
        "/detail/requestParameters",
        "/detail/requestParameters/bucketName",
        "/detail/requestParameters/key",
        "/detail/responseElements",
        "/detail/responseElements/x-amz-version-id",
        "/detail/eventSource",
    ];

    // All of its numbers and texts can be told from any that are ours.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            Just(json!(9_434_765_919_u64)),
            Just(json!(-9_434_765_919.5)),
            "(?s).{0,20}".prop_map(|text| Value::from(format!("{text}PATIENT"))),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            let field = ("row|time|detail|key|[a-zA-Z-]{0,9}", inner.clone());
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                prop::collection::vec(field, 0..4).prop_map(Value::from_iter),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_event_of_any_shape_is_read_or_refused_without_its_content(
            field in prop::sample::select(&FIELDS), value in any_json(), copies: bool,
        ) {
            for mut event in [created("PutObject"), recorded(), json!({"row": "out#ab", "next_chunk": 3})] {
                let Some(place) = event.pointer_mut(field) else {
                    continue;
                };
                *place = value.clone();
                match parse(&event, copies) {
                    Ok(Trigger::Put(put)) => {
                        let _ = (put.is_older_than(&object_of_now()), put.missing_identity());
                    }
                    Ok(Trigger::Row(_) | Trigger::Other(_)) => {}
                    Err(error) => {
                        prop_assert_eq!(error.name(), "InvalidInput");
                        let text = error.chain();
                        prop_assert!(!text.contains("PATIENT") && !text.contains("9434765919"), "{}", text);
                    }
                }
            }
        }
    }

    #[test]
    fn anything_else_is_refused_without_its_content() {
        for request in [
            json!({"row": "in#1"}),
            json!({"secret": "value"}),
            json!({"detail-type": "Object Created", "source": "aws.s3", "detail": {"secret": "value"}}),
            json!(null),
        ] {
            let error = parse(&request, false).unwrap_err();
            assert_eq!(error.name(), "InvalidInput");
            assert!(!error.chain().contains("value"), "{}", error.chain());
        }
    }
}
