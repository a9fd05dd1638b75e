//! Wires the fetch function.

use std::sync::Arc;

use fetch_chunk::{Fetch, Settings};
use mesh_pipeline::lease::DynamoLeases;
use mesh_pipeline::mesh::Mesh;
use mesh_pipeline::rows::DynamoRows;
use mesh_pipeline::secrets::DeployedSource;
use mesh_pipeline::settings::from_env;
use mesh_pipeline::store::Bucket;
use mesh_pipeline::{Error, RuntimeError, aws, runtime, telemetry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RuntimeError> {
    telemetry::init();
    runtime::serve(wire().await, async |function, invocation, request| {
        fetch_chunk::handle(function, invocation, request).await
    })
    .await
}

async fn wire() -> Result<Fetch<Arc<Mesh<DeployedSource>>, DynamoLeases, DynamoRows, Bucket>, Error>
{
    let settings = from_env(Settings::read)?;
    let aws = aws::sdk_config().await;
    let dynamo = aws_sdk_dynamodb::Client::new(&aws);
    Ok(Fetch {
        messages: Arc::new(Mesh::deployed(settings.mesh.clone(), &aws)),
        leases: DynamoLeases::new(dynamo.clone(), settings.leases_table.clone()),
        rows: DynamoRows::new(dynamo, &settings.rows),
        bucket: Bucket::new(&aws, settings.bucket.clone()),
        settings,
    })
}
