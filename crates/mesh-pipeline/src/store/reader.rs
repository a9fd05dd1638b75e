//! Reading objects that are to be sent.

use std::future::Future;
use std::ops::Range;

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use time::OffsetDateTime;

use super::{Attributes, Bucket};
use crate::aws::aws_error;
use crate::error::{BoxError, Error, Fault};

/// An object version that is to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceObject {
    /// Its version: `null` in a bucket without versions.
    pub version_id: String,
    /// Its ETag and when it was put: what tells one object from the next where there are no versions.
    pub fingerprint: String,
    /// When it was put, to the second; of a multipart upload, when that was begun.
    pub put_at: Option<OffsetDateTime>,
    /// Its bytes.
    pub size: u64,
    /// Its Content-Encoding: set when it is compressed already.
    pub content_encoding: Option<String>,
    /// Its Content-Type and metadata.
    pub attributes: Attributes,
}

/// Reads object versions.
pub trait ObjectReader: Send + Sync {
    /// The object version, or the current one; `None`: it is not there.
    fn find(
        &self,
        key: &str,
        version_id: Option<&str>,
    ) -> impl Future<Output = Result<Option<SourceObject>, Error>> + Send;

    /// A range of the object version's bytes; `None`: it is no longer there.
    fn read(
        &self,
        key: &str,
        version_id: &str,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Option<BoxStream<'static, Result<Bytes, BoxError>>>, Error>> + Send;
}

impl SourceObject {
    /// What is unlike for any two objects put under one key.
    pub fn identity(&self) -> &str {
        match self.version_id.as_str() {
            "null" => &self.fingerprint,
            version => version,
        }
    }
}

impl ObjectReader for Bucket {
    async fn find(
        &self,
        key: &str,
        version_id: Option<&str>,
    ) -> Result<Option<SourceObject>, Error> {
        let result = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(key)
            .set_version_id(version_id.map(str::to_owned))
            .send()
            .await;
        match result {
            Ok(head) => described(head, version_id)
                .map(Some)
                .ok_or_else(|| self.cut_short("looking at", key)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(aws_error(self.describe("looking at", key), error)),
        }
    }

    async fn read(
        &self,
        key: &str,
        version_id: &str,
        range: Range<u64>,
    ) -> Result<Option<BoxStream<'static, Result<Bytes, BoxError>>>, Error> {
        let result = self
            .client
            .get_object()
            .bucket(&self.name)
            .key(key)
            .version_id(version_id)
            .range(format!("bytes={}-{}", range.start, range.end - 1))
            .send()
            .await;
        match result {
            Ok(output) if output.content_length != i64::try_from(range.end - range.start).ok() => {
                Err(self.cut_short("reading", key))
            }
            Ok(output) => {
                let chunks = stream::unfold(output.body, |mut body| async move {
                    let next = body.next().await?;
                    Some((next.map_err(BoxError::from), body))
                });
                Ok(Some(chunks.boxed()))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(aws_error(self.describe("reading", key), error)),
        }
    }
}

impl Bucket {
    fn cut_short(&self, verb: &str, key: &str) -> Error {
        let what = self.describe(verb, key);
        Error::AwsUnavailable(Fault::new(format!(
            "{what}: the answer does not have the size that it must have"
        )))
    }
}

// Without its size nothing can be said of an object: it is not the same as an empty one.
fn described(head: HeadObjectOutput, version_id: Option<&str>) -> Option<SourceObject> {
    let size = head.content_length?.try_into().ok()?;
    Some(SourceObject {
        version_id: head
            .version_id
            .or_else(|| version_id.map(str::to_owned))
            .unwrap_or_else(|| "null".to_owned()),
        fingerprint: format!(
            "{} {}",
            head.e_tag.unwrap_or_default(),
            head.last_modified.map_or(0, |time| time.secs())
        ),
        put_at: head
            .last_modified
            .and_then(|time| OffsetDateTime::from_unix_timestamp(time.secs()).ok()),
        size,
        content_encoding: head
            .content_encoding
            .filter(|encoding| !encoding.is_empty()),
        attributes: Attributes {
            content_type: head.content_type,
            // S3 writes them in lower case; a store that stands in for it may not.
            metadata: head
                .metadata
                .unwrap_or_default()
                .into_iter()
                .map(|(key, value)| (key.to_lowercase(), value))
                .collect(),
        },
    })
}

// 405: the version is a delete marker.
fn is_missing<E>(error: &SdkError<E>) -> bool {
    error
        .raw_response()
        .is_some_and(|response| matches!(response.status().as_u16(), 404 | 405))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_s3::primitives::DateTime;

    #[test]
    fn metadata_keys_are_read_in_any_case_and_values_as_they_are() {
        let head = HeadObjectOutput::builder()
            .content_length(5)
            .metadata("Mex-From", "X26ABC1")
            .metadata("MEX-SUBJECT", "As+It+Is")
            .build();
        let object = described(head, Some("v1")).unwrap();
        assert_eq!(object.size, 5);
        assert_eq!(object.version_id, "v1");
        assert_eq!(object.attributes.metadata["mex-from"], "X26ABC1");
        assert_eq!(object.attributes.metadata["mex-subject"], "As+It+Is");
    }

    #[test]
    fn an_object_whose_size_is_not_told_is_not_taken_for_an_empty_one() {
        let head = HeadObjectOutput::builder().version_id("v1").build();
        assert!(described(head, Some("v1")).is_none());
    }

    #[test]
    fn an_empty_content_encoding_is_none() {
        for (given, expected) in [("gzip", Some("gzip")), ("", None)] {
            let head = HeadObjectOutput::builder()
                .content_length(5)
                .content_encoding(given)
                .build();
            let object = described(head, Some("v1")).unwrap();
            assert_eq!(object.content_encoding.as_deref(), expected);
        }
    }

    #[test]
    fn without_versions_an_object_is_known_by_etag_and_time() {
        let identity = |etag: &str, seconds: i64| {
            let head = HeadObjectOutput::builder()
                .content_length(5)
                .e_tag(etag)
                .last_modified(DateTime::from_secs(seconds))
                .build();
            described(head, None).unwrap().identity().to_owned()
        };
        assert_eq!(identity("a", 1), identity("a", 1));
        assert_ne!(identity("a", 1), identity("b", 1));
        assert_ne!(identity("a", 1), identity("a", 2));
    }
}
