#![doc = include_str!("../README.md")]

pub mod aws;
pub mod clock;
pub mod error;
pub mod events;
pub mod layout;
pub mod lease;
pub mod mesh;
pub mod metadata;
pub mod rows;
pub mod runtime;
pub mod secrets;
pub mod settings;
pub mod state;
#[cfg(feature = "s3")]
pub mod store;
pub mod telemetry;

pub use error::{BoxError, Error, Fault};
pub use lambda_runtime::Error as RuntimeError;
