//! Wires the send function.

use mesh_pipeline::mesh::Mesh;
use mesh_pipeline::rows::DynamoRows;
use mesh_pipeline::secrets::{DeployedSource, ParameterStore};
use mesh_pipeline::settings::from_env;
use mesh_pipeline::store::Bucket;
use mesh_pipeline::{Error, RuntimeError, aws, runtime, telemetry};
use send::{Mappings, Send, Settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RuntimeError> {
    telemetry::init();
    runtime::serve(wire().await, async |function, invocation, request| {
        send::handle(function, invocation, request).await
    })
    .await
}

async fn wire() -> Result<Send<Mesh<DeployedSource>, DynamoRows, Bucket, ParameterStore>, Error> {
    let settings = from_env(Settings::read)?;
    let aws = aws::sdk_config().await;
    Ok(Send {
        outbox: Mesh::deployed(settings.mesh.clone(), &aws),
        rows: DynamoRows::new(aws_sdk_dynamodb::Client::new(&aws), &settings.rows),
        objects: Bucket::new(&aws, settings.bucket.clone()),
        // Mappings stay SSM parameters wherever the secrets are.
        mappings: Mappings::new(
            ParameterStore::new(aws_sdk_ssm::Client::new(&aws)),
            settings.mesh.secrets_prefix.clone(),
        ),
        settings,
    })
}
