//! Locations that SSM parameters name.

use super::*;

fn legacy(messages: &[(&str, Vec<Bytes>)], values: &[(&str, &str)]) -> Fake {
    let mut fetch = fetch(messages);
    let parameters = values.iter().map(|(name, value)| {
        let name = format!("/live-mesh/mesh/mailboxes/X26ABC2/{name}");
        (name, (*value).to_owned())
    });
    let parameters = Parameters(parameters.collect());
    fetch.locations = Locations::legacy("live-mesh", parameters, "/live-mesh/mesh");
    fetch
}

#[tokio::test]
async fn messages_go_to_the_bucket_and_folder_that_the_parameters_name() {
    let fetch = legacy(
        &[
            ("small", vec![bytes(10, 0)]),
            ("large", vec![bytes(20 * MIB, 1)]),
        ],
        &[("INBOUND_BUCKET", "theirs"), ("INBOUND_FOLDER", "in/data")],
    );
    let response = handle(&fetch, invocation(900), batch(&["small", "large"]))
        .await
        .unwrap();
    assert_eq!(response.stored_count, 2);
    assert_eq!(
        fetch.bucket.keys(),
        [
            "s3://theirs/in/data/large.dat",
            "s3://theirs/in/data/small.dat"
        ]
    );
    for event in &response.events {
        assert_eq!(event.detail["bucket"], "theirs");
        assert_eq!(event.resources, ["arn:aws:s3:::theirs"]);
    }
    let row = fetch.rows.of("small");
    assert_eq!(row.s3_bucket.as_deref(), Some("theirs"));
    assert_eq!(row.s3_key.as_deref(), Some("in/data/small.dat"));
}

#[tokio::test]
async fn without_parameters_they_go_to_the_root_of_the_modules_bucket() {
    let mut fetch = legacy(&[("m", vec![bytes(10, 0)]), ("report", vec![])], &[]);
    handle(&fetch, invocation(900), batch(&["m", "report"]))
        .await
        .unwrap();
    assert_eq!(fetch.bucket.keys(), ["m.dat", "report.ctl"]);
    // With the sender's names: what begins with outbound would be sent.
    fetch.settings.use_sender_filename = true;
    for (id, name) in [("a", "a.csv"), ("b", "outbound.csv")] {
        fetch
            .messages
            .messages
            .insert(id.to_owned(), vec![bytes(10, 0)]);
        fetch.messages.names.insert(id.to_owned(), name.to_owned());
    }
    handle(&fetch, invocation(900), batch(&["a", "b"]))
        .await
        .unwrap();
    assert_eq!(
        fetch.bucket.keys(),
        ["a.csv", "b.dat", "m.dat", "report.ctl"]
    );
}

#[tokio::test]
async fn a_bucket_that_aws_refuses_stops_the_batch_and_loses_nothing() {
    let mut fetch = legacy(
        &[("m", vec![bytes(10, 0)])],
        &[("INBOUND_BUCKET", "forbidden")],
    );
    fetch.settings.use_sender_filename = true;
    let message: MessageId = "m".parse().unwrap();
    fetch.rows.change(&message, |row| row.attempts = Some(1));
    let error = handle(&fetch, invocation(900), batch(&["m"]))
        .await
        .unwrap_err();
    assert_eq!(error.name(), "AwsRefused");
    assert_eq!(fetch.rows.of("m").status, Some(Status::Receiving));
    assert!(fetch.bucket.keys().is_empty());
}
