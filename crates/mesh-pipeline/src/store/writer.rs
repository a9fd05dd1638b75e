//! Writing received messages.

use std::collections::BTreeMap;
use std::future::Future;

use aws_sdk_s3::Config;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use time::OffsetDateTime;

use super::{Attributes, Bucket};
use crate::aws::{aws_error, aws_error_unquoted};
use crate::error::{Error, Fault};
use crate::layout::RecordedKey;

/// What lies under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing, and nothing ever did.
    Absent,
    /// A delete marker: the object was there and has been taken away.
    Deleted,
    /// An object.
    Object(Stored),
}

/// An object that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its version.
    pub version_id: Option<String>,
    /// Its ETag.
    pub e_tag: Option<String>,
    /// When it was written, to the second; of a multipart upload, when that was begun.
    pub written_at: Option<OffsetDateTime>,
    /// Its bytes.
    pub size: u64,
    /// Its metadata as stored.
    pub metadata: BTreeMap<String, String>,
}

/// When an object may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    Always,
    /// Nothing is there.
    Free,
    /// What is there has this ETag.
    Replaces(String),
}

impl Condition {
    fn if_none_match(&self) -> Option<String> {
        matches!(self, Self::Free).then(|| "*".to_owned())
    }

    fn if_match(&self) -> Option<String> {
        match self {
            Self::Replaces(e_tag) => Some(e_tag.clone()),
            _ => None,
        }
    }
}

/// What a conditional write came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The object is complete, with this version.
    Stored(Option<String>),
    /// Nothing was written now: something else is there, or the upload was completed or given up before. What lies
    /// under the key tells which.
    Taken,
}

/// Writes objects, whole or in parts.
pub trait ObjectWriter: Sized + Send + Sync {
    /// Another bucket, and who has named it.
    #[must_use]
    fn other(&self, name: &str, named_by: &str) -> Self;

    /// The same bucket, whose keys appear in no error text.
    #[must_use]
    fn hiding_keys(&self) -> Self;

    /// What lies under the key.
    fn head(&self, key: &str) -> impl Future<Output = Result<Found, Error>> + Send;

    /// The object versions under the key that were written since, newest first, also those that were taken away.
    fn versions(
        &self,
        key: &str,
        since: OffsetDateTime,
    ) -> impl Future<Output = Result<Vec<Stored>, Error>> + Send;

    /// Writes a whole object if the condition holds.
    fn put(
        &self,
        key: &str,
        body: Bytes,
        attributes: &Attributes,
        condition: &Condition,
    ) -> impl Future<Output = Result<Written, Error>> + Send;

    /// Starts a multipart upload, with one call that is not repeated: each that arrives starts another. Its id.
    fn start(
        &self,
        key: &str,
        attributes: &Attributes,
    ) -> impl Future<Output = Result<String, Error>> + Send;

    /// The multipart uploads that are open under keys that begin so: keys and upload ids.
    fn uploads(
        &self,
        prefix: &str,
    ) -> impl Future<Output = Result<Vec<(String, String)>, Error>> + Send;

    /// Whether the multipart upload can be continued.
    fn is_open(
        &self,
        key: &str,
        upload_id: &str,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Writes one part; the same number again replaces it.
    fn part(
        &self,
        key: &str,
        upload_id: &str,
        number: i32,
        body: Bytes,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Completes the upload from parts 1 to `last`, whose ETags S3 itself lists, if the condition holds.
    fn complete(
        &self,
        key: &str,
        upload_id: &str,
        last: i32,
        condition: &Condition,
    ) -> impl Future<Output = Result<Written, Error>> + Send;

    /// Gives the upload up.
    fn abort(&self, key: &str, upload_id: &str) -> impl Future<Output = Result<(), Error>> + Send;
}

impl ObjectWriter for Bucket {
    fn other(&self, name: &str, named_by: &str) -> Self {
        Self {
            name: name.to_owned(),
            named_by: named_by.to_owned(),
            ..self.clone()
        }
    }

    fn hiding_keys(&self) -> Self {
        Self {
            hides_keys: true,
            ..self.clone()
        }
    }

    async fn head(&self, key: &str) -> Result<Found, Error> {
        self.look(key, None).await
    }

    async fn versions(&self, key: &str, since: OffsetDateTime) -> Result<Vec<Stored>, Error> {
        let mut found = Vec::new();
        for version in self.version_ids(key, since).await? {
            if let Found::Object(object) = self.look(key, Some(version)).await? {
                found.push(object);
            }
        }
        Ok(found)
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        attributes: &Attributes,
        condition: &Condition,
    ) -> Result<Written, Error> {
        let request = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .set_if_none_match(condition.if_none_match())
            .set_if_match(condition.if_match())
            .set_content_type(attributes.content_type.clone())
            .set_metadata(Some(attributes.metadata.clone().into_iter().collect()))
            .body(body.into())
            .customize()
            // TLS and S3's CRC32 in the header protect the body; its SHA-256 would cost more than all the rest.
            .disable_payload_signing();
        let request = match condition {
            Condition::Always => request,
            Condition::Free | Condition::Replaces(_) => {
                request.config_override(Config::builder().retry_config(RetryConfig::disabled()))
            }
        };
        match request.send().await {
            Ok(output) => Ok(Written::Stored(output.version_id)),
            Err(error) if is_precondition_failure(&error) => Ok(Written::Taken),
            Err(error) => Err(self.error("writing", key, error)),
        }
    }

    async fn start(&self, key: &str, attributes: &Attributes) -> Result<String, Error> {
        self.client
            .create_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .set_content_type(attributes.content_type.clone())
            .set_metadata(Some(attributes.metadata.clone().into_iter().collect()))
            // The one that the SDK sends with each part.
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .customize()
            .config_override(Config::builder().retry_config(RetryConfig::disabled()))
            .send()
            .await
            .map_err(|error| self.error("starting a multipart upload of", key, error))?
            .upload_id
            .ok_or_else(|| {
                Error::AwsUnavailable(Fault::new(format!(
                    "{}: S3 gave no upload id",
                    self.describe("starting a multipart upload of", key)
                )))
            })
    }

    async fn uploads(&self, prefix: &str) -> Result<Vec<(String, String)>, Error> {
        let mut pages = self
            .client
            .list_multipart_uploads()
            .bucket(&self.name)
            .prefix(prefix);
        let mut found = Vec::new();
        loop {
            let page =
                pages.clone().send().await.map_err(|error| {
                    self.error("listing the multipart uploads of", prefix, error)
                })?;
            for upload in page.uploads.unwrap_or_default() {
                found.extend(upload.key.zip(upload.upload_id));
            }
            if page.is_truncated != Some(true) {
                return Ok(found);
            }
            pages = pages
                .set_key_marker(page.next_key_marker)
                .set_upload_id_marker(page.next_upload_id_marker);
        }
    }

    async fn is_open(&self, key: &str, upload_id: &str) -> Result<bool, Error> {
        let result = self
            .client
            .list_parts()
            .bucket(&self.name)
            .key(key)
            .upload_id(upload_id)
            .max_parts(1)
            .send()
            .await;
        match result {
            Ok(_) => Ok(true),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(self.error("listing the parts of", key, error)),
        }
    }

    async fn part(
        &self,
        key: &str,
        upload_id: &str,
        number: i32,
        body: Bytes,
    ) -> Result<(), Error> {
        self.client
            .upload_part()
            .bucket(&self.name)
            .key(key)
            .upload_id(upload_id)
            .part_number(number)
            .body(body.into())
            .customize()
            .disable_payload_signing()
            .send()
            .await
            .map(drop)
            .map_err(|error| {
                let verb = format!("writing part {number} of");
                if is_gone(&error) {
                    return Error::AwsUnavailable(Fault::new(format!(
                        "{}: the multipart upload was given up meanwhile; the message is fetched from its beginning next time",
                        self.describe(&verb, key)
                    )));
                }
                self.error(&verb, key, error)
            })
    }

    async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        last: i32,
        condition: &Condition,
    ) -> Result<Written, Error> {
        let Some(parts) = self.parts(key, upload_id, last).await? else {
            return Ok(Written::Taken);
        };
        let result = self
            .client
            .complete_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .upload_id(upload_id)
            .set_if_none_match(condition.if_none_match())
            .set_if_match(condition.if_match())
            .multipart_upload(
                CompletedMultipartUpload::builder()
                    .set_parts(Some(parts))
                    .build(),
            )
            .send()
            .await;
        match result {
            Ok(output) => Ok(Written::Stored(output.version_id)),
            Err(error) if is_precondition_failure(&error) || is_gone(&error) => Ok(Written::Taken),
            Err(error) => Err(self.error("completing the multipart upload of", key, error)),
        }
    }

    async fn abort(&self, key: &str, upload_id: &str) -> Result<(), Error> {
        let result = self
            .client
            .abort_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .upload_id(upload_id)
            .send()
            .await;
        match result {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(self.error("aborting the multipart upload of", key, error)),
        }
    }
}

impl Bucket {
    async fn parts(
        &self,
        key: &str,
        upload_id: &str,
        last: i32,
    ) -> Result<Option<Vec<CompletedPart>>, Error> {
        let mut pages = self
            .client
            .list_parts()
            .bucket(&self.name)
            .key(key)
            .upload_id(upload_id)
            .into_paginator()
            .send();
        let mut parts = Vec::new();
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) if is_gone(&error) => return Ok(None),
                Err(error) => return Err(self.error("listing the parts of", key, error)),
            };
            for part in page.parts.unwrap_or_default() {
                // A part beyond the last is left of an attempt that was interrupted.
                if part.part_number.is_some_and(|number| number <= last) {
                    parts.push(
                        CompletedPart::builder()
                            .set_part_number(part.part_number)
                            .set_e_tag(part.e_tag)
                            // S3 wants them back where the upload was begun with a checksum algorithm.
                            .set_checksum_crc32(part.checksum_crc32)
                            .set_checksum_crc32_c(part.checksum_crc32_c)
                            .set_checksum_crc64_nvme(part.checksum_crc64_nvme)
                            .set_checksum_sha1(part.checksum_sha1)
                            .set_checksum_sha256(part.checksum_sha256)
                            .build(),
                    );
                }
            }
        }
        let complete = parts
            .iter()
            .map(CompletedPart::part_number)
            .eq((1..=last).map(Some));
        if complete {
            return Ok(Some(parts));
        }
        Err(Error::AwsUnavailable(Fault::new(format!(
            "{}: S3 lists {} of {last} parts",
            self.describe("completing the multipart upload of", key),
            parts.len()
        ))))
    }

    async fn look(&self, key: &str, version: Option<String>) -> Result<Found, Error> {
        let result = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(key)
            .set_version_id(version)
            .send()
            .await;
        match result {
            Ok(head) => Ok(Found::Object(Stored {
                version_id: head.version_id,
                e_tag: head.e_tag,
                written_at: head
                    .last_modified
                    .and_then(|time| OffsetDateTime::from_unix_timestamp(time.secs()).ok()),
                size: head
                    .content_length
                    .and_then(|size| size.try_into().ok())
                    .unwrap_or(0),
                metadata: head.metadata.unwrap_or_default().into_iter().collect(),
            })),
            Err(SdkError::ServiceError(service)) if service.raw().status().as_u16() == 404 => {
                Ok(match service.raw().headers().get("x-amz-delete-marker") {
                    Some("true") => Found::Deleted,
                    _ => Found::Absent,
                })
            }
            Err(error) => Err(self.error("looking at", key, error)),
        }
    }

    async fn version_ids(&self, key: &str, since: OffsetDateTime) -> Result<Vec<String>, Error> {
        let mut ids = Vec::new();
        let mut version_id_marker = None;
        loop {
            let page = self
                .client
                .list_object_versions()
                .bucket(&self.name)
                .prefix(key)
                .set_key_marker(version_id_marker.as_ref().map(|_| key.to_owned()))
                .set_version_id_marker(version_id_marker)
                .send()
                .await
                .map_err(|error| self.error("listing the versions of", key, error))?;
            // Keys come in order, and of a key the newest version first: longer keys that begin with this one follow it.
            for version in page.versions.unwrap_or_default() {
                let written_since = version
                    .last_modified
                    .is_some_and(|at| at.secs() >= since.unix_timestamp());
                if version.key.as_deref() != Some(key) {
                    return Ok(ids);
                }
                // A multipart upload's time is its beginning's: an older time does not say that all that follow are older.
                if written_since {
                    ids.extend(version.version_id);
                }
            }
            let more = page.is_truncated == Some(true);
            match page.next_version_id_marker {
                Some(next) if more && page.next_key_marker.as_deref() == Some(key) => {
                    version_id_marker = Some(next);
                }
                _ => return Ok(ids),
            }
        }
    }

    pub(super) fn describe(&self, verb: &str, key: &str) -> String {
        let key = RecordedKey::of(key, self.hides_keys);
        format!("{verb} s3://{}/{key}{}", self.name, self.named_by)
    }

    fn error<E>(&self, verb: &str, key: &str, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let what = self.describe(verb, key);
        if self.hides_keys {
            // S3's own text of a refusal quotes the object's ARN.
            aws_error_unquoted(what, error)
        } else {
            aws_error(what, error)
        }
    }
}

// 409 ConditionalRequestConflict: another writer was completing the same key; looking at the key tells what it wrote.
// NoSuchKey: what was to be replaced is no longer there.
fn is_precondition_failure<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error
        .raw_response()
        .is_some_and(|response| response.status().as_u16() == 412)
        || matches!(
            error.code(),
            Some("ConditionalRequestConflict" | "NoSuchKey")
        )
}

// Completed or aborted before.
fn is_gone<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.code() == Some("NoSuchUpload")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
    use http_body_util::Full;
    use hyper::body::{Bytes as Body, Incoming};
    use hyper::service::service_fn;
    use hyper::{Request, Response, server::conn::http1};
    use hyper_util::rt::TokioIo;
    use std::convert::Infallible;
    use std::sync::Mutex;
    use tokio::net::TcpListener;

    const VERSIONS: &str = "<ListVersionsResult><IsTruncated>false</IsTruncated>\
        <DeleteMarker><Key>in/a</Key><VersionId>m</VersionId><LastModified>2026-01-15T12:03:00.000Z</LastModified></DeleteMarker>\
        <Version><Key>in/a</Key><VersionId>v0</VersionId><LastModified>2026-01-15T12:00:00.000Z</LastModified></Version>\
        <Version><Key>in/a</Key><VersionId>v2</VersionId><LastModified>2026-01-15T12:02:00.000Z</LastModified></Version>\
        <Version><Key>in/a</Key><VersionId>v1</VersionId><LastModified>2026-01-15T12:01:00.000Z</LastModified></Version>\
        <Version><Key>in/a.csv</Key><VersionId>w</VersionId><LastModified>2026-01-15T12:02:00.000Z</LastModified></Version>\
        </ListVersionsResult>";

    static TRIES: Mutex<Vec<String>> = Mutex::new(Vec::new());

    // What S3 is told of the bodies: the signed and the checked digest.
    static SEEN: Mutex<Vec<[String; 2]>> = Mutex::new(Vec::new());

    fn uploads(found: &[(&str, &str)], more: bool) -> String {
        let one = |(key, id): &(&str, &str)| {
            format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId></Upload>")
        };
        format!(
            "<ListMultipartUploadsResult><IsTruncated>{more}</IsTruncated><NextKeyMarker>in/a.dat</NextKeyMarker>\
             <NextUploadIdMarker>u2</NextUploadIdMarker>{}</ListMultipartUploadsResult>",
            found.iter().map(one).collect::<String>()
        )
    }

    fn parts(numbers: &[i32], next: Option<i32>) -> String {
        let one = |number: &i32| {
            format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>\"{number}\"</ETag><Size>1</Size></Part>"
            )
        };
        format!(
            "<ListPartsResult><IsTruncated>{}</IsTruncated><NextPartNumberMarker>{}</NextPartNumberMarker>{}</ListPartsResult>",
            next.is_some(),
            next.unwrap_or_default(),
            numbers.iter().map(one).collect::<String>()
        )
    }

    // Answers as S3 does, which quotes the object that it refuses.
    async fn answer(request: Request<Incoming>) -> Result<Response<Full<Body>>, Infallible> {
        let target = request.uri().to_string();
        let header = |name: &str| request.headers().get(name)?.to_str().ok();
        let refusal = |status, code: &str| {
            let text = format!(
                "<Error><Code>{code}</Code><Message>not authorized on resource: arn:aws:s3:::live-mesh/in/secret.csv</Message></Error>"
            );
            (status, text)
        };
        let (status, body) = match (header("if-match"), header("if-none-match")) {
            _ if target.contains("versions") => (200, VERSIONS.to_owned()),
            _ if target.contains("uploads&") && target.contains("upload-id-marker") => {
                (200, uploads(&[("in/a.dat.more", "u3")], false))
            }
            _ if target.contains("uploads&") => (
                200,
                uploads(&[("in/a.dat", "u1"), ("in/a.dat", "u2")], true),
            ),
            _ if target.contains("many") && target.contains("part-number-marker=2") => {
                (200, parts(&[3, 4], None))
            }
            _ if target.contains("many") => (200, parts(&[1, 2], Some(2))),
            _ if target.contains("damaged") => refusal(400, "BadDigest"),
            _ if target.contains("late") && request.method() == "GET" => (200, parts(&[1], None)),
            _ if target.contains("late") => (200, refusal(200, "InternalError").1),
            _ if target.contains("given-up") => refusal(404, "NoSuchUpload"),
            _ if target.contains("seen") => {
                let told = |name| header(name).unwrap_or_default().to_owned();
                let seen = ["x-amz-content-sha256", "x-amz-checksum-crc32"].map(told);
                SEEN.lock().unwrap().push(seen);
                (200, String::new())
            }
            (_, condition) if target.contains("tried") => {
                TRIES
                    .lock()
                    .unwrap()
                    .push(condition.unwrap_or_default().to_owned());
                refusal(503, "SlowDown")
            }
            _ if target.contains("gone") => refusal(404, "NoSuchKey"),
            _ if target.contains("busy") => refusal(503, "SlowDown"),
            _ if target.contains("secret") => refusal(403, "AccessDenied"),
            (Some("\"old\""), None) | (None, Some("*")) => refusal(412, "PreconditionFailed"),
            _ => (200, String::new()),
        };
        let version = target.split("versionId=").nth(1).unwrap_or("new");
        let response = Response::builder()
            .status(status)
            .header("x-amz-version-id", version)
            .body(Full::from(body));
        Ok(response.unwrap())
    }

    async fn bucket() -> Bucket {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::spawn(connection);
            }
        });
        let config = aws_config::SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(endpoint)
            .region(Region::from_static("eu-west-2"))
            .credentials_provider(aws_sdk_s3::config::SharedCredentialsProvider::new(
                Credentials::new("id", "key", None, None, "test"),
            ))
            .build();
        Bucket::new(&config, "live-mesh")
    }

    async fn put(bucket: &Bucket, key: &str, condition: &Condition) -> Result<Written, Error> {
        let attributes = Attributes::default();
        bucket.put(key, Bytes::new(), &attributes, condition).await
    }

    #[tokio::test]
    async fn a_write_takes_place_on_its_condition_only() {
        let bucket = bucket().await;
        let replaces = |e_tag: &str| Condition::Replaces(e_tag.to_owned());
        let stored = Written::Stored(Some("new".to_owned()));
        for (key, condition, expected) in [
            ("in/a", Condition::Always, &stored),
            ("in/a", Condition::Free, &Written::Taken),
            ("in/a", replaces("\"old\""), &Written::Taken),
            ("in/a", replaces("\"current\""), &stored),
            ("in/gone", replaces("\"current\""), &Written::Taken),
        ] {
            let written = put(&bucket, key, &condition).await.unwrap();
            assert_eq!(&written, expected, "{key} {condition:?}");
        }
    }

    // Whoever repeats it must look first: what it wrote may have been taken away, so that its condition holds again.
    #[tokio::test]
    async fn a_write_on_a_condition_is_made_once() {
        let bucket = bucket().await;
        for condition in [Condition::Free, Condition::Always] {
            let error = put(&bucket, "in/tried", &condition).await.unwrap_err();
            assert_eq!(error.name(), "AwsUnavailable");
        }
        assert_eq!(*TRIES.lock().unwrap(), ["*", "", "", ""]);
    }

    #[tokio::test]
    async fn what_s3_says_after_a_200_is_temporary() {
        let bucket = bucket().await;
        let completed = bucket.complete("in/late", "u", 1, &Condition::Free).await;
        let error = completed.unwrap_err();
        assert_eq!(error.name(), "AwsUnavailable");
        assert!(error.chain().contains("InternalError"), "{}", error.chain());
    }

    #[tokio::test]
    async fn bodies_are_not_signed_and_s3_gets_a_checksum_to_check_them_with() {
        let bucket = bucket().await;
        let attributes = Attributes::default();
        let body = Bytes::from_static(b"123456789");
        let condition = Condition::Free;
        bucket
            .put("in/seen", body.clone(), &attributes, &condition)
            .await
            .unwrap();
        bucket.part("in/seen", "u", 1, body).await.unwrap();
        // The check value of CRC-32: 0xCBF43926.
        let expected = ["UNSIGNED-PAYLOAD", "y/Q5Jg=="].map(str::to_owned);
        assert_eq!(*SEEN.lock().unwrap(), [expected.clone(), expected]);
    }

    #[tokio::test]
    async fn a_body_that_arrives_damaged_is_written_again_later() {
        let bucket = bucket().await;
        let part = bucket.part("in/damaged", "u", 1, Bytes::new()).await;
        assert_eq!(part.unwrap_err().name(), "AwsUnavailable");
        let whole = put(&bucket, "in/damaged", &Condition::Free).await;
        assert_eq!(whole.unwrap_err().name(), "AwsUnavailable");
    }

    #[tokio::test]
    async fn open_uploads_are_listed_to_the_last_page() {
        let uploads = bucket().await.uploads("in/a.dat").await.unwrap();
        let uploads: Vec<_> = uploads
            .iter()
            .map(|(key, id)| (key.as_str(), id.as_str()))
            .collect();
        assert_eq!(
            uploads,
            [
                ("in/a.dat", "u1"),
                ("in/a.dat", "u2"),
                ("in/a.dat.more", "u3")
            ]
        );
    }

    // S3 lists a thousand at a time.
    #[tokio::test]
    async fn the_parts_of_an_upload_are_listed_to_the_last_page_and_no_further() {
        let bucket = bucket().await;
        let parts = bucket.parts("in/many", "u", 3).await.unwrap().unwrap();
        let numbers: Vec<_> = parts.iter().map(CompletedPart::part_number).collect();
        assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
        let error = bucket.parts("in/many", "u", 5).await.unwrap_err();
        assert_eq!(error.name(), "AwsUnavailable");
    }

    #[tokio::test]
    async fn an_upload_that_was_given_up_is_begun_anew_later() {
        let bucket = bucket().await;
        let error = bucket
            .part("in/given-up", "u", 1, Bytes::new())
            .await
            .unwrap_err();
        assert_eq!(error.name(), "AwsUnavailable");
        assert!(!bucket.is_open("in/given-up", "u").await.unwrap());
    }

    #[tokio::test]
    async fn the_versions_of_a_key_are_its_own_and_not_older_than_asked_for() {
        let since = crate::clock::parse_iso("2026-01-15T12:00:30Z").unwrap();
        let versions = bucket().await.versions("in/a", since).await.unwrap();
        let ids: Vec<_> = versions
            .into_iter()
            .filter_map(|version| version.version_id)
            .collect();
        assert_eq!(ids, ["v2", "v1"]);
    }

    #[tokio::test]
    async fn a_hidden_key_is_in_no_error_text_not_even_in_s3s_own_words() {
        let hiding = bucket().await.hiding_keys();
        for (key, name) in [
            ("in/secret.csv", "AwsRefused"),
            ("in/secret-busy.csv", "AwsUnavailable"),
        ] {
            let error = put(&hiding, key, &Condition::Always).await.unwrap_err();
            assert_eq!(error.name(), name);
            let text = error.chain();
            assert!(!text.contains(key.trim_start_matches("in/")), "{text}");
            let digest = RecordedKey::of(key, true);
            assert!(text.contains(digest.sha256().unwrap()), "{text}");
        }
    }

    #[tokio::test]
    async fn a_refusal_names_the_bucket_and_who_named_it() {
        let other = bucket()
            .await
            .other("theirs", ", a bucket named by a parameter");
        let error = put(&other, "in/secret.csv", &Condition::Always)
            .await
            .unwrap_err();
        assert_eq!(error.name(), "AwsRefused");
        let text = error.chain();
        for part in [
            "s3://theirs/in/secret.csv, a bucket named by a parameter",
            "AccessDenied",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
