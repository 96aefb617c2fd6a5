//! TLS as both our servers and our clients use it: ring, TLS 1.2 and 1.3.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

use crate::pki::{Identity, Seen};

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
            let authorities: Result<Vec<_>, _> =
                CertificateDer::pem_slice_iter(if bundle.is_empty() { &own } else { bundle }).collect();
            let authorities = authorities.map_err(|e| TlsError::Authority(e.to_string()))?;
            let mut roots = RootCertStore::empty();
            for certificate in &authorities {
                roots.add(certificate.clone()).map_err(|e| TlsError::Authority(e.to_string()))?;
            }
            let named = if bundle.is_empty() { Vec::new() } else { authorities };
            match WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build() {
                Ok(others) => builder.dangerous().with_custom_certificate_verifier(Arc::new(Named { named, others })),
                // Nobody is trusted.
                Err(_) => builder.with_root_certificates(RootCertStore::empty()),
            }
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

/// Takes servers that an authority vouches for, and, as Go does, one that shows the very certificate which is trusted: self-signed ones
/// are often made as if they were authorities.
#[derive(Debug)]
struct Named {
    named: Vec<CertificateDer<'static>>,
    others: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let vouched = self.others.verify_server_cert(own, rest, name, ocsp, now);
        if vouched.is_ok() || !self.named.iter().any(|named| **named == **own) {
            return vouched;
        }
        verify_server_name(&ParsedCertificate::try_from(own)?, name)?;
        let seen = Seen::of(own).map_err(|_| CertificateError::BadEncoding)?;
        match now.as_secs() {
            early if early < seen.not_before => Err(CertificateError::NotValidYet.into()),
            late if late > seen.not_after => Err(CertificateError::Expired.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.others.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.others.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.others.supported_verify_schemes()
    }
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;
    use crate::pki::kubeconfig::pem;

    #[test]
    fn a_certificate_that_is_trusted_itself_is_as_good_as_one_of_an_authority() {
        let made = |name: &str| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
        };
        let (own, other) = (made("issuer.example.com"), made("issuer.example.com"));
        let mut roots = RootCertStore::empty();
        roots.add(own.clone()).unwrap();
        let others = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
        assert!(outside(Servers::Of(pem("CERTIFICATE", &own).as_bytes()), None).is_ok());
        let verifier = Named { named: vec![own.clone()], others };
        let ask = |shown: &CertificateDer<'_>, name: &str, at: u64| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at));
            verifier.verify_server_cert(shown, &[], &name, &[], now).map(drop)
        };
        const NOW: u64 = 1_790_000_000;
        assert_eq!(ask(&own, "issuer.example.com", NOW), Ok(()));
        assert!(ask(&other, "issuer.example.com", NOW).is_err());
        assert!(ask(&own, "other.example.com", NOW).is_err());
        assert_eq!(ask(&own, "issuer.example.com", 1), Err(CertificateError::NotValidYet.into()));
        assert_eq!(ask(&own, "issuer.example.com", 99_000_000_000), Err(CertificateError::Expired.into()));
    }
}
