//! Wires the track function.

use mesh_pipeline::mesh::{Mesh, SHORT_CALL};
use mesh_pipeline::rows::DynamoRows;
use mesh_pipeline::secrets::DeployedSource;
use mesh_pipeline::settings::from_env;
use mesh_pipeline::{Error, RuntimeError, aws, runtime, telemetry};
use track::{SendMachine, Settings, Track};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), RuntimeError> {
    telemetry::init();
    runtime::serve(wire().await, async |function, invocation, request| {
        track::handle(function, invocation, request).await
    })
    .await
}

async fn wire() -> Result<Track<Mesh<DeployedSource>, DynamoRows, SendMachine>, Error> {
    let settings = from_env(Settings::read)?;
    let aws = aws::sdk_config().await;
    Ok(Track {
        mesh: Mesh::deployed(settings.mesh.clone(), &aws).call_limit(SHORT_CALL),
        rows: DynamoRows::new(aws_sdk_dynamodb::Client::new(&aws), &settings.rows),
        sends: SendMachine::new(
            aws_sdk_sfn::Client::new(&aws),
            settings.send_message_arn.clone(),
        ),
        settings,
    })
}
