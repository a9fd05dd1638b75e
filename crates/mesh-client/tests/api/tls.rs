use mesh_client::{Error, MeshClient, MeshClientBuilder, RetryPolicy};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::pki::{self, Ca, Leaf};
use crate::server::{Server, answer, mailbox};

struct Environment {
    ca: Ca,
    client: Leaf,
    server: Server,
}

/// A server that asks for client certificates.
async fn environment() -> Environment {
    let ca = Ca::new("Test CA");
    let acceptor = pki::server(&ca.leaf("localhost"), &ca);
    Environment {
        client: ca.leaf("client"),
        server: Server::start_with([answer(200).into()], Some(acceptor)).await,
        ca,
    }
}

async fn handshake(client: MeshClientBuilder) -> Result<(), Error> {
    let client = client.retry(RetryPolicy::none()).build()?;
    mailbox(&client).handshake().await
}

/// The error and all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn refused(result: Result<(), Error>, text: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Tls(_)), "{error:?}");
    assert!(error.to_string().contains(text), "{}", chain(&error));
    assert!(error.was_not_accepted() && !error.is_retryable());
}

fn misconfigured(client: MeshClientBuilder, text: &str) {
    let error = client.build().unwrap_err();
    assert!(matches!(error, Error::Configuration(_)), "{error:?}");
    assert!(chain(&error).contains(text), "{}", chain(&error));
}

#[tokio::test]
async fn both_sides_show_their_certificate() {
    let Environment { ca, client, server } = environment().await;
    let client = server
        .client()
        .ca_certificates(&ca.pem())
        .client_identity(&client.certificate, &client.key);
    handshake(client).await.unwrap();
}

#[tokio::test]
async fn a_server_that_needs_a_client_certificate_says_so() {
    let Environment { ca, server, .. } = environment().await;
    let client = server.client().ca_certificates(&ca.pem());
    refused(handshake(client).await, "asks for a client certificate");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_client_certificate_of_another_ca_is_refused() {
    let Environment { ca, server, .. } = environment().await;
    let stranger = Ca::new("Other CA").leaf("client");
    let client = server
        .client()
        .ca_certificates(&ca.pem())
        .client_identity(&stranger.certificate, &stranger.key);
    refused(handshake(client).await, "refused the client certificate");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_client_certificate_that_ends_while_the_client_lives_is_named_by_the_server() {
    let Environment { ca, server, .. } = environment().await;
    let (start, end) = (
        datetime!(2020-01-01 0:00 UTC),
        datetime!(2021-01-01 0:00 UTC),
    );
    let expired = ca.leaf_between("client", start, end);
    let client = server
        .client()
        .clock(move || start)
        .ca_certificates(&ca.pem())
        .client_identity(&expired.certificate, &expired.key);
    refused(
        handshake(client).await,
        "the client certificate has expired",
    );
}

#[tokio::test]
async fn the_client_says_until_when_its_certificate_is_valid() {
    let Environment { ca, server, .. } = environment().await;
    let (start, end) = (
        datetime!(2020-01-01 0:00 UTC),
        datetime!(2021-01-01 0:00 UTC),
    );
    let leaf = ca.leaf_between("client", start, end);
    let client = || {
        let client = server.client().clock(move || start);
        client.ca_certificates(&ca.pem())
    };
    let without = client().build().unwrap();
    assert_eq!(without.certificate_expires_at(), None);
    let with = client().client_identity(&leaf.certificate, &leaf.key);
    assert_eq!(with.build().unwrap().certificate_expires_at(), Some(end));
}

#[tokio::test]
async fn only_the_given_ca_is_trusted() {
    let Environment { ca, client, server } = environment().await;
    let other = Ca::new("Other CA");
    let identified = || {
        server
            .client()
            .client_identity(&client.certificate, &client.key)
    };
    let wrong = identified().ca_certificates(&other.pem());
    refused(
        handshake(wrong).await,
        "CA certificates belong to the same MESH environment",
    );

    let both = identified().ca_certificates(&format!("{}{}", other.pem(), ca.pem()));
    handshake(both).await.unwrap();
    let unverified = identified()
        .ca_certificates(&other.pem())
        .verify_server(false);
    handshake(unverified).await.unwrap();
}

#[tokio::test]
async fn a_server_with_another_name_or_an_old_certificate_is_refused() {
    let ca = Ca::new("Test CA");
    let client = ca.leaf("client");
    let (start, end) = (
        datetime!(2020-01-01 0:00 UTC),
        datetime!(2021-01-01 0:00 UTC),
    );
    for (leaf, text) in [
        (ca.leaf("elsewhere.example"), "for another host name"),
        (
            ca.leaf_between("localhost", start, end),
            "server's certificate has expired",
        ),
    ] {
        let acceptor = pki::server(&leaf, &ca);
        let server = Server::start_with([answer(200).into()], Some(acceptor)).await;
        let client = server
            .client()
            .ca_certificates(&ca.pem())
            .client_identity(&client.certificate, &client.key);
        refused(handshake(client).await, text);
    }
}

const LATER: OffsetDateTime = datetime!(2100-01-01 0:00 UTC);

/// A handshake with a server of this certificate, where only `trusted` is trusted.
async fn meet(leaf: &Leaf, trusted: &Ca, checks_common_name: bool) -> Result<(), Error> {
    let client = trusted.leaf("client");
    let acceptor = pki::server(leaf, trusted);
    let server = Server::start_with([answer(200).into()], Some(acceptor)).await;
    let client = server
        .client()
        .ca_certificates(&trusted.pem())
        .client_identity(&client.certificate, &client.key)
        .verify_checks_common_name(checks_common_name);
    handshake(client).await
}

#[tokio::test]
async fn a_common_name_counts_where_there_is_no_dns_name() {
    let ca = Ca::new("Test CA");
    for (name, others) in [
        ("localhost", &[] as &[&str]),
        ("LOCALHOST", &[]),
        ("localhost", &["192.0.2.1"]),
    ] {
        let leaf = ca.leaf_named(name, others, LATER);
        meet(&leaf, &ca, true).await.unwrap();
        refused(
            meet(&leaf, &ca, false).await,
            "set verify_checks_common_name to true",
        );
    }
    let leaf = ca.leaf_named("elsewhere.example", &["localhost"], LATER);
    meet(&leaf, &ca, false).await.unwrap();
}

#[tokio::test]
async fn a_common_name_is_no_way_around_the_other_checks() {
    let ca = Ca::new("Test CA");
    let constrained = Ca::constrained("Narrow CA", "example.org");
    for (leaf, trusted, text) in [
        (
            ca.leaf_named("elsewhere.example", &[], LATER),
            &ca,
            "for another host name",
        ),
        (
            ca.leaf_named("localhost", &["elsewhere.example"], LATER),
            &ca,
            "for another host name",
        ),
        (
            Ca::new("Other CA").leaf_named("localhost", &[], LATER),
            &ca,
            "CA certificates belong to the same MESH environment",
        ),
        (
            ca.leaf_named("localhost", &[], datetime!(2021-01-01 0:00 UTC)),
            &ca,
            "server's certificate has expired",
        ),
        (
            constrained.leaf_named("localhost", &[], LATER),
            &constrained,
            "for another host name",
        ),
    ] {
        for checks_common_name in [true, false] {
            refused(meet(&leaf, trusted, checks_common_name).await, text);
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused() {
    let server = Server::start([answer(200).into()]).await;
    let url = server.url().replace("http:", "https:");
    let client = MeshClient::builder(&url).ca_certificates(&Ca::new("Test CA").pem());
    refused(
        handshake(client).await,
        "handshake with the MESH server failed",
    );
}

#[test]
fn certificates_are_checked_before_any_connection() {
    let ca = Ca::new("Test CA");
    let client = || MeshClient::builder("https://localhost").ca_certificates(&ca.pem());
    let leaf = ca.leaf("client");
    let other = ca.leaf("other");

    misconfigured(
        client().ca_certificates("nothing"),
        "CA certificate holds no PEM certificate",
    );
    misconfigured(
        client().ca_certificates("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
        "no X.509 certificate",
    );
    misconfigured(
        client().client_identity("nothing", &leaf.key),
        "client certificate holds no PEM",
    );
    misconfigured(
        client().client_identity(&leaf.certificate, &"nothing".into()),
        "give the text of an unencrypted",
    );
    misconfigured(
        client().client_identity(
            &leaf.certificate,
            &"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----"
                .into(),
        ),
        "it is encrypted",
    );
    misconfigured(
        client().client_identity(&leaf.certificate, &other.key),
        "isn't the key of the client certificate",
    );
}

#[test]
fn a_client_certificate_outside_its_time_names_the_date() {
    let ca = Ca::new("Test CA");
    let (start, end) = (
        datetime!(2026-03-01 12:00 UTC),
        datetime!(2029-03-01 12:30 UTC),
    );
    let leaf = ca.leaf_between("client", start, end);
    let at = |now: OffsetDateTime| {
        MeshClient::builder("https://localhost")
            .clock(move || now)
            .ca_certificates(&ca.pem())
            .client_identity(&leaf.certificate, &leaf.key)
    };
    misconfigured(
        at(datetime!(2029-03-01 12:31 UTC)),
        "expired on 2029-03-01 12:30 UTC; get a new one",
    );
    misconfigured(
        at(datetime!(2026-03-01 11:59 UTC)),
        "valid from 2026-03-01 12:00 UTC only",
    );
    assert!(at(datetime!(2027-01-01 0:00 UTC)).build().is_ok());
}

#[test]
fn ended_cas_are_left_out_until_none_is_left() {
    let ended = Ca::until("Old CA", datetime!(2024-06-04 10:00 UTC));
    let client = |pem: &str| MeshClient::builder("https://localhost").ca_certificates(pem);
    misconfigured(
        client(&ended.pem()),
        "every CA certificate has expired (2024-06-04 10:00 UTC)",
    );
    let current = Ca::new("Test CA");
    assert!(
        client(&format!("{}{}", ended.pem(), current.pem()))
            .build()
            .is_ok()
    );
}
