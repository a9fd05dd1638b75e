//! Settings from environment variables: read once, every problem reported at once by name.

use std::fmt::Display;
use std::str::FromStr;

use crate::error::{Error, Fault};
use crate::secrets::Service;

/// Reads environment variables and collects what is wrong with them.
pub struct Reader<'a> {
    source: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A reader of the given source; [`from_env`] uses the process environment.
    pub fn new(source: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            source,
            problems: Vec::new(),
        }
    }

    /// A text that must be there and must not be empty.
    pub fn text(&mut self, name: &str) -> String {
        match (self.source)(name) {
            Some(value) if !value.is_empty() => value,
            Some(_) => self.problem(format!("{name} is empty")),
            None => self.problem(format!("{name} is not set")),
        }
    }

    /// A value that must be there and must parse.
    pub fn value<T>(&mut self, name: &str) -> T
    where
        T: FromStr + Default,
        T::Err: Display,
    {
        let text = self.text(name);
        if text.is_empty() {
            return T::default();
        }
        match text.parse() {
            Ok(value) => value,
            Err(error) => self.problem(format!("{name} is {text:?}: {error}")),
        }
    }

    /// A number that must be there and within the bounds.
    pub fn bounded<T>(&mut self, name: &str, bounds: std::ops::RangeInclusive<T>) -> T
    where
        T: FromStr + Default + Display + PartialOrd,
        T::Err: Display,
    {
        let before = self.problems.len();
        let value = self.value::<T>(name);
        if self.problems.len() == before && !bounds.contains(&value) {
            return self.problem(format!(
                "{name} is {value}: it must be from {} to {}",
                bounds.start(),
                bounds.end()
            ));
        }
        value
    }

    fn problem<T: Default>(&mut self, problem: String) -> T {
        self.problems.push(problem);
        T::default()
    }

    /// The error that names every problem, if there was one.
    ///
    /// # Errors
    /// `InvalidConfiguration` when any variable was missing or wrong.
    pub fn finish(self) -> Result<(), Error> {
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(Error::InvalidConfiguration(Fault::new(format!(
            "the function's environment variables are wrong: {}; apply the Terraform module again",
            self.problems.join("; ")
        ))))
    }
}

/// Reads settings from the process environment.
///
/// # Errors
/// `InvalidConfiguration` that names every variable that is missing or wrong.
pub fn from_env<T>(read: impl FnOnce(&mut Reader<'_>) -> T) -> Result<T, Error> {
    let source = |name: &str| std::env::var(name).ok();
    let mut reader = Reader::new(&source);
    let settings = read(&mut reader);
    reader.finish()?;
    Ok(settings)
}

/// Where MESH is and where its secrets are: what every function reads.
#[derive(Debug, Clone, Default)]
pub struct MeshSettings {
    /// `MESH_URL`, for example `https://msg.intspineservices.nhs.uk`.
    pub url: String,
    /// `SECRETS_PREFIX`, for example `/live-mesh/mesh`.
    pub secrets_prefix: String,
    /// `SECRETS_SOURCE`.
    pub secrets_source: Service,
    /// `VERIFY_SSL`: false only against a sandbox.
    pub verify_ssl: bool,
    /// `VERIFY_CHECKS_COMMON_NAME`: whether a certificate without a DNS name in its subjectAltName may name the host
    /// in its common name.
    pub verify_checks_common_name: bool,
}

impl MeshSettings {
    /// Reads the variables of the fields.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            url: reader.text("MESH_URL"),
            secrets_prefix: reader.text("SECRETS_PREFIX"),
            secrets_source: reader.value("SECRETS_SOURCE"),
            verify_ssl: reader.value("VERIFY_SSL"),
            verify_checks_common_name: reader.value("VERIFY_CHECKS_COMMON_NAME"),
        }
    }
}

/// Where rows are, and for how long.
#[derive(Debug, Clone, Default)]
pub struct RowSettings {
    /// `MESSAGES_TABLE`.
    pub table: String,
    /// `ROW_RETENTION_DAYS`: how long closed rows are kept.
    pub retention_days: u32,
}

impl RowSettings {
    /// Reads `MESSAGES_TABLE` and `ROW_RETENTION_DAYS`.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            table: reader.text("MESSAGES_TABLE"),
            retention_days: reader.bounded("ROW_RETENTION_DAYS", 1..=36_500),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_named_at_once() {
        let source = |name: &str| match name {
            "VERIFY_SSL" => Some("maybe".to_owned()),
            "MESH_URL" => Some("https://mesh".to_owned()),
            "SECRETS_SOURCE" => Some("vault".to_owned()),
            "PAGE_LIMIT" => Some("9".to_owned()),
            _ => None,
        };
        let mut reader = Reader::new(&source);
        MeshSettings::read(&mut reader);
        reader.bounded::<u32>("PAGE_LIMIT", 10..=5_000);
        let text = reader.finish().unwrap_err().to_string();
        for part in [
            "SECRETS_PREFIX is not set",
            "VERIFY_SSL is \"maybe\"",
            "SECRETS_SOURCE is \"vault\": it must be parameter-store or secrets-manager",
            "PAGE_LIMIT is 9: it must be from 10 to 5000",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("MESH_URL"), "{text}");
    }
}
