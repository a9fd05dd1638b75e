//! Writing received messages.

use std::collections::BTreeMap;
use std::future::Future;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::{Attributes, Bucket};
use crate::aws::aws_error;
use crate::error::{Error, Fault};

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
    /// Its bytes.
    pub size: u64,
    /// Its metadata as stored.
    pub metadata: BTreeMap<String, String>,
}

/// What a write that must not overwrite came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The object is complete, with this version.
    Stored(Option<String>),
    /// Nothing was written now: the key is taken, or the upload was completed or given up before. What lies under the
    /// key tells which.
    Taken,
}

/// Writes objects, whole or in parts.
pub trait ObjectWriter: Send + Sync {
    /// What lies under the key.
    fn head(&self, key: &str) -> impl Future<Output = Result<Found, Error>> + Send;

    /// Writes a whole object; without `overwrite` only if the key is free.
    fn put(
        &self,
        key: &str,
        body: Bytes,
        attributes: &Attributes,
        overwrite: bool,
    ) -> impl Future<Output = Result<Written, Error>> + Send;

    /// Starts a multipart upload; its id.
    fn start(
        &self,
        key: &str,
        attributes: &Attributes,
    ) -> impl Future<Output = Result<String, Error>> + Send;

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

    /// Completes the upload from parts 1 to `last`, whose ETags S3 itself lists.
    fn complete(
        &self,
        key: &str,
        upload_id: &str,
        last: i32,
        overwrite: bool,
    ) -> impl Future<Output = Result<Written, Error>> + Send;

    /// Gives the upload up.
    fn abort(&self, key: &str, upload_id: &str) -> impl Future<Output = Result<(), Error>> + Send;
}

impl ObjectWriter for Bucket {
    async fn head(&self, key: &str) -> Result<Found, Error> {
        let result = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(key)
            .send()
            .await;
        match result {
            Ok(head) => Ok(Found::Object(Stored {
                version_id: head.version_id,
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
            Err(error) => Err(aws_error(self.describe("looking at", key), error)),
        }
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        attributes: &Attributes,
        overwrite: bool,
    ) -> Result<Written, Error> {
        let result = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .set_if_none_match((!overwrite).then(|| "*".to_owned()))
            .set_content_type(attributes.content_type.clone())
            .set_metadata(Some(attributes.metadata.clone().into_iter().collect()))
            .body(body.into())
            .send()
            .await;
        match result {
            Ok(output) => Ok(Written::Stored(output.version_id)),
            Err(error) if is_precondition_failure(&error) => Ok(Written::Taken),
            Err(error) => Err(aws_error(self.describe("writing", key), error)),
        }
    }

    async fn start(&self, key: &str, attributes: &Attributes) -> Result<String, Error> {
        let what = self.describe("starting a multipart upload of", key);
        self.client
            .create_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .set_content_type(attributes.content_type.clone())
            .set_metadata(Some(attributes.metadata.clone().into_iter().collect()))
            .send()
            .await
            .map_err(|error| aws_error(what.clone(), error))?
            .upload_id
            .ok_or_else(|| {
                Error::AwsUnavailable(Fault::new(format!("{what}: S3 gave no upload id")))
            })
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
            Err(error) => Err(aws_error(self.describe("listing the parts of", key), error)),
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
            .send()
            .await
            .map(drop)
            .map_err(|error| {
                aws_error(
                    self.describe(&format!("writing part {number} of"), key),
                    error,
                )
            })
    }

    async fn complete(
        &self,
        key: &str,
        upload_id: &str,
        last: i32,
        overwrite: bool,
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
            .set_if_none_match((!overwrite).then(|| "*".to_owned()))
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
            Err(error) => Err(aws_error(
                self.describe("completing the multipart upload of", key),
                error,
            )),
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
            Err(error) => Err(aws_error(
                self.describe("aborting the multipart upload of", key),
                error,
            )),
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
                Err(error) => {
                    return Err(aws_error(self.describe("listing the parts of", key), error));
                }
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

    pub(super) fn describe(&self, verb: &str, key: &str) -> String {
        format!("{verb} s3://{}/{key}", self.name)
    }
}

// 409 ConditionalRequestConflict: another writer was completing the same key; looking at the key tells what it wrote.
fn is_precondition_failure<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error
        .raw_response()
        .is_some_and(|response| response.status().as_u16() == 412)
        || error.code() == Some("ConditionalRequestConflict")
}

// Completed or aborted before.
fn is_gone<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.code() == Some("NoSuchUpload")
}
