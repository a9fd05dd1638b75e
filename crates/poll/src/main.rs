//! Wires the poll function.

use mesh_pipeline::lease::DynamoLeases;
use mesh_pipeline::mesh::{Mesh, SHORT_CALL};
use mesh_pipeline::rows::DynamoRows;
use mesh_pipeline::secrets::DeployedSource;
use mesh_pipeline::settings::from_env;
use mesh_pipeline::{Error, RuntimeError, aws, runtime, telemetry};
use poll::{Poll, Settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RuntimeError> {
    telemetry::init();
    runtime::serve(wire().await, async |function, invocation, request| {
        poll::handle(function, invocation, request).await
    })
    .await
}

async fn wire() -> Result<Poll<Mesh<DeployedSource>, DynamoLeases, DynamoRows>, Error> {
    let settings = from_env(Settings::read)?;
    let aws = aws::sdk_config().await;
    let dynamo = aws_sdk_dynamodb::Client::new(&aws);
    Ok(Poll {
        inbox: Mesh::deployed(settings.mesh.clone(), &aws).call_limit(SHORT_CALL),
        leases: DynamoLeases::new(dynamo.clone(), settings.leases_table.clone()),
        rows: DynamoRows::new(dynamo, &settings.rows),
        settings,
    })
}
