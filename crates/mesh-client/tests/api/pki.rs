//! Certificates made for one test.

use std::sync::Arc;

use mesh_client::SecretString;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio_rustls::TlsAcceptor;

pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

pub(crate) struct Leaf {
    pub(crate) certificate: String,
    pub(crate) key: SecretString,
    key_pem: String,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        Self::until(name, datetime!(2100-01-01 0:00 UTC))
    }

    pub(crate) fn until(name: &str, end: OffsetDateTime) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = end;
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Valid now.
    pub(crate) fn leaf(&self, host: &str) -> Leaf {
        self.leaf_between(
            host,
            datetime!(2020-01-01 0:00 UTC),
            datetime!(2100-01-01 0:00 UTC),
        )
    }

    pub(crate) fn leaf_between(
        &self,
        host: &str,
        start: OffsetDateTime,
        end: OffsetDateTime,
    ) -> Leaf {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = start;
        params.not_after = end;
        let key = KeyPair::generate().unwrap();
        Leaf {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem().into(),
            key_pem: key.serialize_pem(),
        }
    }
}

/// A server with this certificate that asks for client certificates of `clients`.
pub(crate) fn server(leaf: &Leaf, clients: &Ca) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(clients.0.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .unwrap();
    let chain = rustls::pki_types::CertificateDer::pem_slice_iter(leaf.certificate.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
