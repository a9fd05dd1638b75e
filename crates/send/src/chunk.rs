//! A chunk's bytes, from S3 to MESH.

use std::ops::Range;

use mesh_client::{Body, BodySource, BoxError};
use mesh_pipeline::store::ObjectReader;
use mesh_pipeline::{Error, Fault};

/// A range of an object version, read anew for each attempt.
pub(crate) struct ChunkSource<'a, O> {
    pub(crate) objects: &'a O,
    pub(crate) key: &'a str,
    pub(crate) version_id: &'a str,
    pub(crate) range: Range<u64>,
    /// The level, if it is compressed.
    pub(crate) compress: Option<u8>,
}

impl<O: ObjectReader> BodySource for ChunkSource<'_, O> {
    async fn open(&self) -> Result<Body, BoxError> {
        let stream = self
            .objects
            .read(self.key, self.version_id, self.range.clone())
            .await?
            .ok_or_else(|| gone(self.key, self.version_id))?;
        Ok(match self.compress {
            Some(level) => Body::gzip(stream, level),
            None => Body::from_stream(stream, Some(self.range.end - self.range.start)),
        })
    }
}

/// There is no object, and the event does not say which version it told of.
pub(crate) fn missing(key: &str) -> Error {
    Error::ObjectGone(Fault::new(format!(
        "there is no {key}, and its event names no version: it may have been sent before it was deleted; look for another row of this key, and put the object again only if none was sent"
    )))
}

/// The object version is no longer in the bucket.
pub(crate) fn gone(key: &str, version_id: &str) -> Error {
    Error::ObjectGone(Fault::new(format!(
        "version {version_id} of {key} was deleted before it was sent; put the object again"
    )))
}
