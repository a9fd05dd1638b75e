//! How an object is cut into chunks, and whether these are compressed.

use std::ops::Range;

use mesh_pipeline::{Error, Fault};

use crate::parameters::Parameters;
use crate::settings::{MAX_CHUNK_SIZE, Settings};

/// The number of chunks that MESH takes.
const MAX_CHUNKS: u64 = 10_000;

/// Bytes of a message that MESH takes. Of one that is compressed nobody knows the bytes before they are sent.
const MAX_BYTES: u64 = 100_000_000_000;

/// What is decided once for an object version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) size: u64,
    pub(crate) chunk_size: u64,
    pub(crate) chunks: u32,
    pub(crate) compress: bool,
}

impl Plan {
    /// The plan for an object of that size.
    pub(crate) fn of(
        size: u64,
        parameters: &Parameters,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let compress = compress(size, parameters, settings);
        if size > MAX_BYTES && !compress {
            return Err(Error::InvalidParameters(Fault::new(format!(
                "the object has {size} bytes and MESH takes {MAX_BYTES} a message; split it, or let it be compressed"
            ))));
        }
        let chunks = size.div_ceil(settings.chunk_size);
        if chunks > MAX_CHUNKS {
            let needed = size.div_ceil(MAX_CHUNKS);
            let remedy = if needed > MAX_CHUNK_SIZE {
                "split the object".to_owned()
            } else {
                format!("set chunk_size to at least {needed}")
            };
            return Err(Error::InvalidParameters(Fault::new(format!(
                "{size} bytes make {chunks} chunks of {} bytes and MESH takes {MAX_CHUNKS}; {remedy}",
                settings.chunk_size,
            ))));
        }
        Ok(Self {
            size,
            chunk_size: settings.chunk_size,
            // At most 10,000.
            chunks: u32::try_from(chunks).unwrap_or(u32::MAX),
            compress,
        })
    }

    /// The bytes of a chunk, counted from 1.
    pub(crate) fn range(&self, chunk: u32) -> Range<u64> {
        let start = u64::from(chunk - 1) * self.chunk_size;
        start..(start + self.chunk_size).min(self.size)
    }
}

fn compress(size: u64, parameters: &Parameters, settings: &Settings) -> bool {
    if settings.never_compress {
        return false;
    }
    match parameters.compress {
        Some(instruction) => instruction,
        None => !parameters.compressed && size >= settings.compress_threshold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::OnUncertain;
    use mesh_client::OutgoingMessage;
    use mesh_pipeline::events::EventLabels;
    use mesh_pipeline::settings::{MeshSettings, RowSettings};

    pub(crate) fn settings() -> Settings {
        Settings {
            mesh: MeshSettings::default(),
            rows: RowSettings::default(),
            bucket: String::new(),
            labels: EventLabels::default(),
            chunk_size: 10,
            compress_threshold: 100,
            compression_level: 6,
            never_compress: false,
            set_local_id: true,
            uncertain_send_wait: time::Duration::seconds(300),
            on_uncertain_send: OnUncertain::Hold,
            use_s3_key_for_mex_filename: false,
            send_copied_objects: false,
        }
    }

    fn parameters(compress: Option<bool>, compressed: bool) -> Parameters {
        Parameters {
            mailbox: "X26ABC1".parse().unwrap(),
            message: OutgoingMessage::default(),
            compress,
            compressed,
        }
    }

    #[test]
    fn chunks_cover_the_object_at_every_boundary() {
        for (size, chunks) in [(1, 1), (9, 1), (10, 1), (11, 2), (20, 2), (21, 3)] {
            let plan = Plan::of(size, &parameters(None, false), &settings()).unwrap();
            assert_eq!(plan.chunks, chunks, "{size}");
            let covered: Vec<_> = (1..=chunks).map(|chunk| plan.range(chunk)).collect();
            assert_eq!(covered[0].start, 0);
            assert_eq!(covered.last().unwrap().end, size);
            assert!(covered.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(covered.iter().all(|range| !range.is_empty()));
        }
    }

    #[test]
    fn too_many_chunks_are_refused_with_what_to_do() {
        for (size, remedy) in [
            (100_001, "set chunk_size to at least 11"),
            (
                MAX_CHUNKS * MAX_CHUNK_SIZE,
                "set chunk_size to at least 99614720",
            ),
            (MAX_CHUNKS * MAX_CHUNK_SIZE + 1, "split the object"),
        ] {
            let plan = Plan::of(size, &parameters(Some(true), false), &settings());
            let error = plan.unwrap_err();
            assert_eq!(error.name(), "InvalidParameters");
            assert!(error.chain().ends_with(remedy), "{}", error.chain());
        }
    }

    #[test]
    fn more_than_mesh_takes_is_refused_unless_it_is_compressed() {
        let settings = Settings {
            chunk_size: 99_614_720,
            ..settings()
        };
        for (size, compress, taken) in [
            (MAX_BYTES, false, true),
            (MAX_BYTES + 1, false, false),
            (MAX_BYTES + 1, true, true),
        ] {
            let plan = Plan::of(size, &parameters(Some(compress), false), &settings);
            assert_eq!(plan.is_ok(), taken, "{size} {compress}");
        }
    }

    #[test]
    fn compression_follows_the_interfaces_rules() {
        let never = Settings {
            never_compress: true,
            ..settings()
        };
        let cases = [
            ("below the threshold", 99, None, false, settings(), false),
            ("at the threshold", 100, None, false, settings(), true),
            ("compressed already", 100, None, true, settings(), false),
            ("asked for", 1, Some(true), true, settings(), true),
            ("declined", 100, Some(false), false, settings(), false),
            ("never", 100, Some(true), false, never, false),
        ];
        for (name, size, asked, compressed, settings, expected) in cases {
            let plan = Plan::of(size, &parameters(asked, compressed), &settings).unwrap();
            assert_eq!(plan.compress, expected, "{name}");
        }
    }
}
