//! Certificates made for one test.

use std::sync::Arc;

use mesh_client::SecretString;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    GeneralSubtree, IsCa, KeyPair, NameConstraints,
};
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
        let mut params = Self::params(name);
        params.not_after = end;
        Self::of(params)
    }

    /// May certify names below this domain only.
    pub(crate) fn constrained(name: &str, domain: &str) -> Self {
        let mut params = Self::params(name);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        Self::of(params)
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn of(params: CertificateParams) -> Self {
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
        self.sign(&params)
    }

    /// With this common name and these subjectAltNames, if any.
    pub(crate) fn leaf_named(
        &self,
        common_name: &str,
        others: &[&str],
        end: OffsetDateTime,
    ) -> Leaf {
        let others: Vec<_> = others.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(others).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.not_after = end;
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Leaf {
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
