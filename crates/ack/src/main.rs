//! Wires the acknowledge function.

use ack::{Ack, Settings};
use mesh_pipeline::lease::DynamoLeases;
use mesh_pipeline::mesh::{Mesh, SHORT_CALL};
use mesh_pipeline::rows::DynamoRows;
use mesh_pipeline::secrets::DeployedSource;
use mesh_pipeline::settings::from_env;
use mesh_pipeline::{Error, RuntimeError, aws, runtime, telemetry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RuntimeError> {
    telemetry::init();
    runtime::serve(wire().await, async |function, invocation, request| {
        ack::handle(function, invocation, request).await
    })
    .await
}

async fn wire() -> Result<Ack<Mesh<DeployedSource>, DynamoLeases, DynamoRows>, Error> {
    let settings = from_env(Settings::read)?;
    let aws = aws::sdk_config().await;
    let dynamo = aws_sdk_dynamodb::Client::new(&aws);
    Ok(Ack {
        inbox: Mesh::deployed(settings.mesh, &aws).call_limit(SHORT_CALL),
        leases: DynamoLeases::new(dynamo.clone(), settings.leases_table),
        rows: DynamoRows::new(dynamo, &settings.rows),
    })
}
