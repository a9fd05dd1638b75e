//! Wires the fetch function.

use std::sync::Arc;

use fetch_chunk::{AcceptEncoding, Buffers, Fetch, Locations, Parts, Settings};
use mesh_pipeline::lease::DynamoLeases;
use mesh_pipeline::mesh::Mesh;
use mesh_pipeline::rows::DynamoRows;
use mesh_pipeline::secrets::{DeployedSource, ParameterStore};
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

type Deployed = Fetch<Arc<Mesh<DeployedSource>>, DynamoLeases, DynamoRows, Bucket, ParameterStore>;

async fn wire() -> Result<Deployed, Error> {
    let settings = from_env(Settings::read)?;
    let aws = aws::sdk_config().await;
    let dynamo = aws_sdk_dynamodb::Client::new(&aws);
    let bucket = settings.bucket.clone();
    let locations = if settings.use_legacy_inbound_location {
        let parameters = ParameterStore::new(aws_sdk_ssm::Client::new(&aws));
        Locations::legacy(&bucket, parameters, &settings.mesh.secrets_prefix)
    } else {
        Locations::inbound(&bucket)
    };
    let mesh = Mesh::deployed(settings.mesh.clone(), &aws);
    let accepts_gzip = settings.accept_encoding == AcceptEncoding::Gzip;
    Ok(Fetch {
        messages: Arc::new(mesh.accepts_gzip(accepts_gzip)),
        leases: DynamoLeases::new(dynamo.clone(), settings.leases_table.clone()),
        rows: DynamoRows::new(dynamo, &settings.rows),
        bucket: Bucket::new(&aws, bucket),
        buffers: Buffers::default(),
        parts: Parts::S3,
        locations,
        settings,
    })
}
