//! Where objects go whose metadata don't say: the mappings of the module that we replace, SSM parameters by folder.

use std::collections::HashMap;

use mesh_client::ExposeSecret;
use mesh_pipeline::rows::Row;
use mesh_pipeline::secrets::{FRESH, SecretSource};
use mesh_pipeline::{Error, Fault};
use tokio::sync::Mutex;
use tokio::time::Instant;

// SSM's limit for a parameter's whole ARN is 1,011 characters, and the rest of it is short.
const LONGEST_NAME: usize = 900;

const PARAMETERS: [&str; 3] = ["src_mailbox", "dest_mailbox", "workflow_id"];

/// From whom to whom, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) workflow_id: String,
}

impl Route {
    /// The route that was pinned when the object was claimed; `None`: the row keeps no patient's recipient.
    pub(crate) fn of_row(row: &Row) -> Option<Self> {
        Some(Self {
            from: row.mailbox.clone()?,
            to: row.recipient.clone().filter(|to| to != "GPPROVIDER")?,
            workflow_id: row.workflow_id.clone()?,
        })
    }
}

/// Mappings by folder, cached.
pub struct Mappings<S> {
    source: S,
    prefix: String,
    cache: Mutex<HashMap<String, (Instant, Route)>>,
}

impl<S: SecretSource> Mappings<S> {
    /// Mappings below the given prefix, for example `/live-mesh/mesh`.
    pub fn new(source: S, prefix: impl Into<String>) -> Self {
        Self {
            source,
            prefix: prefix.into(),
            cache: Mutex::default(),
        }
    }

    /// The route of the key's folder.
    pub(crate) async fn route(&self, bucket: &str, key: &str) -> Result<Route, Error> {
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = format!("{}/mapping/{bucket}/{folder}", self.prefix);
        if !can_be_a_name(folder) || path.len() > LONGEST_NAME {
            return Err(Error::InvalidParameters(Fault::new(
                "metadata mex-from is missing, and no SSM parameter can have the name of the object's folder; put the object again with metadata mex-from, mex-to and mex-workflowid",
            )));
        }
        let mut cache = self.cache.lock().await;
        if let Some((read_at, route)) = cache.get(&path)
            // SSM takes 40 GetParameters calls a second, and many objects are put into one folder.
            && read_at.elapsed() < FRESH
        {
            return Ok(route.clone());
        }
        let names = PARAMETERS.map(|parameter| format!("{path}/{parameter}"));
        let values = self.source.read(&names).await?;
        let value = |name: &String| {
            let value = values.get(name)?.expose_secret().trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        let [from, to, workflow_id] = names.each_ref().map(value);
        let (Some(from), Some(to), Some(workflow_id)) = (from, to, workflow_id) else {
            let missing: Vec<_> = names
                .into_iter()
                .filter(|name| value(name).is_none())
                .collect();
            return Err(Error::InvalidParameters(Fault::new(format!(
                "metadata mex-from is missing, and so are the {}; put the object again with metadata mex-from, mex-to and mex-workflowid, or create the parameters and then put it again",
                self.source.describe(&missing)
            ))));
        };
        let route = Route {
            from,
            to,
            workflow_id,
        };
        cache.insert(path, (Instant::now(), route.clone()));
        Ok(route)
    }
}

// Of a parameter's name SSM takes these characters only, and no empty level.
fn can_be_a_name(folder: &str) -> bool {
    folder.split('/').all(|level| {
        !level.is_empty()
            && level
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    })
}
