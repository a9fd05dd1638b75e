//! Where a mailbox's messages go: its folder below `inbound/`, or where SSM parameters say.

use std::collections::HashMap;
use std::time::Duration;

use mesh_client::{ExposeSecret, MailboxId};
use mesh_pipeline::layout::Location;
use mesh_pipeline::secrets::SecretSource;
use mesh_pipeline::{Error, Fault};
use tokio::sync::Mutex;
use tokio::time::Instant;

// As long as a secret is kept.
const MAX_AGE: Duration = Duration::from_mins(5);

// With an id of 150 bytes that needs no escapes, twice, a key still has S3's 1,024 bytes at most.
const LONGEST_FOLDER: usize = 400;

/// Locations by mailbox.
pub struct Locations<S> {
    bucket: String,
    legacy: Option<Legacy<S>>,
}

struct Legacy<S> {
    parameters: S,
    prefix: String,
    cache: Mutex<HashMap<MailboxId, (Instant, Found)>>,
}

/// Where a mailbox's messages go, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) location: Location,
    // For error texts: empty, or the parameter that names the bucket.
    pub(crate) named_by: String,
}

impl<S> Locations<S> {
    /// `inbound/<mailbox>` of the module's bucket.
    pub fn inbound(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            legacy: None,
        }
    }

    /// What the parameters `mailboxes/<mailbox>/INBOUND_BUCKET` and `INBOUND_FOLDER` below the prefix say.
    pub fn legacy(bucket: impl Into<String>, parameters: S, prefix: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            legacy: Some(Legacy {
                parameters,
                prefix: prefix.into(),
                cache: Mutex::default(),
            }),
        }
    }
}

impl<S: SecretSource> Locations<S> {
    /// The mailbox's location.
    pub(crate) async fn of(&self, mailbox: &MailboxId) -> Result<Found, Error> {
        let Some(legacy) = &self.legacy else {
            return Ok(Found {
                location: Location::inbound(&self.bucket, mailbox),
                named_by: String::new(),
            });
        };
        let mut cache = legacy.cache.lock().await;
        if let Some((read_at, found)) = cache.get(mailbox)
            && read_at.elapsed() < MAX_AGE
        {
            return Ok(found.clone());
        }
        let found = self.read(legacy, mailbox).await?;
        cache.insert(mailbox.clone(), (Instant::now(), found.clone()));
        Ok(found)
    }

    async fn read(&self, legacy: &Legacy<S>, mailbox: &MailboxId) -> Result<Found, Error> {
        let names = ["INBOUND_BUCKET", "INBOUND_FOLDER"]
            .map(|name| format!("{}/mailboxes/{mailbox}/{name}", legacy.prefix));
        let values = legacy.parameters.read(&names).await?;
        let value = |name: &String| {
            let value = values.get(name)?.expose_secret().trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        let refusal = |name: &String, why: &str| {
            let name = legacy.parameters.describe(std::slice::from_ref(name));
            Error::InvalidConfiguration(Fault::new(format!("{name}: {why}")))
        };
        let [bucket_name, folder_name] = &names;
        let (bucket, named_by) = match value(bucket_name) {
            Some(bucket) if !can_be_a_bucket(&bucket) => {
                return Err(refusal(bucket_name, "its value is no bucket's name or ARN"));
            }
            Some(bucket) => {
                let parameter = legacy
                    .parameters
                    .describe(std::slice::from_ref(bucket_name));
                (bucket, format!(", a bucket named by {parameter}"))
            }
            None => (self.bucket.clone(), String::new()),
        };
        let folder = value(folder_name).unwrap_or_default();
        let folder = folder.trim_end_matches('/');
        if folder.len() > LONGEST_FOLDER || folder.chars().any(char::is_control) {
            let why = format!(
                "its value must be at most {LONGEST_FOLDER} bytes without control characters"
            );
            return Err(refusal(folder_name, &why));
        }
        if bucket == self.bucket && folder.starts_with("outbound") {
            return Err(refusal(
                folder_name,
                "its value must not begin with outbound: what is stored there would be sent",
            ));
        }
        Ok(Found {
            location: Location {
                bucket,
                folder: folder.to_owned(),
            },
            named_by,
        })
    }
}

fn can_be_a_bucket(name: &str) -> bool {
    name.len() >= 3
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_client::SecretString;
    use std::sync::Mutex as StdMutex;

    struct Parameters {
        values: HashMap<&'static str, &'static str>,
        reads: StdMutex<Vec<String>>,
    }

    impl SecretSource for Parameters {
        async fn read(&self, names: &[String]) -> Result<HashMap<String, SecretString>, Error> {
            self.reads.lock().unwrap().extend(names.iter().cloned());
            Ok(names
                .iter()
                .filter_map(|name| {
                    let value = self.values.get(name.rsplit('/').next()?)?;
                    Some((name.clone(), SecretString::from((*value).to_owned())))
                })
                .collect())
        }

        fn describe(&self, names: &[String]) -> String {
            format!("SSM parameters {}", names.join(", "))
        }
    }

    fn locations(values: &[(&'static str, &'static str)]) -> Locations<Parameters> {
        let parameters = Parameters {
            values: values.iter().copied().collect(),
            reads: StdMutex::default(),
        };
        Locations::legacy("live-mesh", parameters, "/live-mesh/mesh")
    }

    fn mailbox() -> MailboxId {
        "X26ABC1".parse().unwrap()
    }

    async fn found(values: &[(&'static str, &'static str)]) -> Result<Found, Error> {
        locations(values).of(&mailbox()).await
    }

    #[tokio::test]
    async fn parameters_name_bucket_and_folder() {
        let found = found(&[("INBOUND_BUCKET", "theirs"), ("INBOUND_FOLDER", "in/data/")])
            .await
            .unwrap();
        assert_eq!(
            found.location,
            Location {
                bucket: "theirs".to_owned(),
                folder: "in/data".to_owned()
            }
        );
        let parameter = "SSM parameters /live-mesh/mesh/mailboxes/X26ABC1/INBOUND_BUCKET";
        assert!(found.named_by.contains(parameter), "{}", found.named_by);
    }

    #[tokio::test]
    async fn what_is_missing_is_the_modules_bucket_and_its_root() {
        for values in [
            &[][..],
            &[("INBOUND_FOLDER", " ")],
            &[("INBOUND_FOLDER", "/")],
        ] {
            let found = found(values).await.unwrap();
            assert_eq!(
                found.location,
                Location {
                    bucket: "live-mesh".to_owned(),
                    folder: String::new()
                }
            );
            assert_eq!(found.named_by, "");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_a_location_is_refused_by_name() {
        for (name, value) in [
            ("INBOUND_BUCKET", "a bucket"),
            ("INBOUND_FOLDER", "a\nb"),
            ("INBOUND_FOLDER", "outbound/x"),
        ] {
            let error = found(&[(name, value)]).await.unwrap_err();
            assert_eq!(error.name(), "InvalidConfiguration", "{value}");
            let parameter = format!("/live-mesh/mesh/mailboxes/X26ABC1/{name}");
            assert!(error.chain().contains(&parameter), "{}", error.chain());
        }
        // What is put there sends nothing.
        let elsewhere = [("INBOUND_BUCKET", "theirs"), ("INBOUND_FOLDER", "outbound")];
        assert_eq!(found(&elsewhere).await.unwrap().location.folder, "outbound");
    }

    #[tokio::test(start_paused = true)]
    async fn parameters_are_read_again_when_they_are_old() {
        let locations = locations(&[("INBOUND_FOLDER", "in")]);
        let reads = || {
            locations
                .legacy
                .as_ref()
                .unwrap()
                .parameters
                .reads
                .lock()
                .unwrap()
                .len()
        };
        for _ in 0..3 {
            locations.of(&mailbox()).await.unwrap();
        }
        assert_eq!(reads(), 2);
        tokio::time::advance(MAX_AGE).await;
        locations.of(&mailbox()).await.unwrap();
        assert_eq!(reads(), 4);
    }
}
