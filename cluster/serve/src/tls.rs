//! TLS as both our servers and our clients use it: ring, TLS 1.2 and 1.3.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ResolvesServerCert, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

use crate::pki::Identity;

/// Where Debian and most others keep whom a host trusts.
const HOSTS_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the authority's certificate is not accepted: {0}")]
    Authority(String),
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(authority: &CertificateDer<'_>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned()).map_err(|e| TlsError::Authority(e.to_string()))?;
    Ok(roots)
}

/// Checks client certificates against `authority`.
pub fn client_verifier(authority: &CertificateDer<'_>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(roots(authority)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    builder.build().map_err(|e| TlsError::Authority(e.to_string()))
}

/// A server that asks for a client certificate but accepts any, or none: who it belongs to is for authentication to say,
/// which answers 401 where a failed handshake would only puzzle. The client is told the authorities of `verifiers`.
pub fn server_config(
    resolver: Arc<dyn ResolvesServerCert>,
    verifiers: &[&dyn ClientCertVerifier],
) -> Result<ServerConfig, TlsError> {
    let hints = verifiers.iter().flat_map(|verifier| verifier.root_hint_subjects()).cloned().collect();
    let verifier = Arc::new(AnyClient { hints, provider: provider() });
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A client that shows `identity` and trusts servers of `authority` only.
pub fn client_config(identity: &Identity, authority: &CertificateDer<'_>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder
        .with_root_certificates(roots(authority)?)
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Which servers a client trusts.
#[derive(Clone, Copy, Debug)]
pub enum Servers<'a> {
    /// Those of authorities in PEM; of whom this host trusts, if there are none.
    Of(&'a [u8]),
    /// Any: for those whose certificates are known to no one, as pods' are.
    Any,
}

/// What a client shows: its certificate, with those between it and the authority, and its key.
pub type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A client towards servers outside.
pub fn outside(trusted: Servers<'_>, shown: Option<Shown>) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match trusted {
        Servers::Of(bundle) => {
            let own = if bundle.is_empty() { std::fs::read(HOSTS_AUTHORITIES).unwrap_or_default() } else { Vec::new() };
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(if bundle.is_empty() { &own } else { bundle }) {
                let certificate = certificate.map_err(|e| TlsError::Authority(e.to_string()))?;
                roots.add(certificate).map_err(|e| TlsError::Authority(e.to_string()))?;
            }
            builder.with_root_certificates(roots)
        }
        Servers::Any => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer { provider })),
    };
    let mut config = match shown {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The part of both verifiers that proves: whoever shows a certificate has its key.
macro_rules! has_its_key {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

/// Why a handshake failed, as clients of Go's servers know it.
pub fn in_words(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let why = match inner {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "certificate signed by unknown authority"
        }
        Some(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            "certificate has expired or is not yet valid"
        }
        _ => return error.to_string(),
    };
    format!("failed to verify certificate: x509: {why}")
}

/// `connection refused`, without Rust's "(os error 111)", as clients know it.
pub fn plain(error: std::io::Error) -> std::io::Error {
    let text = error.to_string().to_lowercase();
    let text = text.split(" (os error").next().unwrap_or(&text).to_owned();
    std::io::Error::new(error.kind(), text)
}

/// Takes every server that has the key of the certificate it shows.
#[derive(Debug)]
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    has_its_key!();
}

/// Lets every client certificate through whose key the client has.
#[derive(Debug)]
struct AnyClient {
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    has_its_key!();
}
