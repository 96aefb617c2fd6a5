//! Making and reading certificates: pure but for randomness.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::profile::{Facts, Signer};

const DAY: u64 = 86_400;
/// The authorities cannot be replaced without touching every client, and boards lie on shelves for years.
const AUTHORITY_SECONDS: u64 = 25 * 365 * DAY;
const LEAF_SECONDS: u64 = 365 * DAY;
/// How far back validity reaches, for clients whose clock is behind ours.
const SLACK_SECONDS: u64 = DAY;

#[derive(Debug, thiserror::Error)]
pub enum MintError {
    #[error("{0}")]
    Make(#[from] rcgen::Error),
    #[error("no certificate in it: {0}")]
    Certificate(rustls::pki_types::pem::Error),
    #[error("no private key in it: {0}")]
    Key(rustls::pki_types::pem::Error),
    #[error("its certificate cannot be parsed: {0}")]
    Parse(String),
    #[error("its key does not belong to its certificate")]
    Mismatch,
    #[error("its certificate is not one of an authority")]
    NotAuthority,
}

/// A certificate and its key, as they stand in one file.
pub struct Identity {
    /// Certificate first, then key.
    pub pem: String,
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
    pub(super) seen: Seen,
}

/// What a certificate was found to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
    pub not_before: u64,
    pub not_after: u64,
    pub authority: bool,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.seen.common_name)
    }
}

impl Identity {
    /// Reads what [`authority`] or [`leaf`] wrote, and checks that key and certificate belong together.
    pub fn parse(pem: &str) -> Result<Self, MintError> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(MintError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(MintError::Key)?;
        let seen = Seen::of(&certificate)?;
        let pair = KeyPair::try_from(&key)?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|e| MintError::Parse(e.to_string()))?;
        if parsed.public_key().subject_public_key.data != pair.public_key_raw() {
            return Err(MintError::Mismatch);
        }
        Ok(Self { pem: pem.to_owned(), certificate, key, seen })
    }

    /// The certificate's part of the file.
    pub fn certificate_pem(&self) -> &str {
        const END: &str = "-----END CERTIFICATE-----\n";
        self.pem.find(END).and_then(|at| self.pem.get(..at + END.len())).unwrap_or(&self.pem)
    }

    /// The key's part of the file.
    pub fn key_pem(&self) -> &str {
        self.pem.get(self.certificate_pem().len()..).unwrap_or_default()
    }

    pub fn not_after(&self) -> u64 {
        self.seen.not_after
    }

    /// Whether less than a third of its life is left, or it is not valid yet.
    pub fn is_due(&self, now: u64) -> bool {
        let life = self.seen.not_after.saturating_sub(self.seen.not_before);
        now < self.seen.not_before || self.seen.not_after.saturating_sub(now) < life / 3
    }

    /// Whether it says what `facts` say.
    pub fn is_for(&self, facts: &Facts) -> bool {
        let seen = &self.seen;
        seen.common_name == facts.common_name
            && seen.organizations == facts.organizations
            && seen.dns == facts.dns
            && seen.ips == facts.ips
    }
}

impl Seen {
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, MintError> {
        let (_, x509) = X509Certificate::from_der(certificate).map_err(|e| MintError::Parse(e.to_string()))?;
        let seconds = |at: x509_parser::time::ASN1Time| u64::try_from(at.timestamp()).unwrap_or_default();
        let subject = x509.subject();
        let texts = |attributes: &mut dyn Iterator<Item = &x509_parser::x509::AttributeTypeAndValue<'_>>| {
            attributes.filter_map(|a| a.as_str().ok()).map(str::to_owned).collect::<Vec<_>>()
        };
        let (mut dns, mut ips) = (Vec::new(), Vec::new());
        for name in x509.subject_alternative_name().ok().flatten().map_or(&[][..], |e| &e.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns.push((*name).to_owned()),
                GeneralName::IPAddress(octets) => ips.extend(address(octets)),
                _ => {}
            }
        }
        dns.sort_unstable();
        ips.sort_unstable();
        Ok(Self {
            common_name: texts(&mut subject.iter_common_name()).into_iter().next().unwrap_or_default(),
            organizations: texts(&mut subject.iter_organization()),
            dns,
            ips,
            not_before: seconds(x509.validity().not_before),
            not_after: seconds(x509.validity().not_after),
            authority: x509.is_ca(),
        })
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// Makes a self-signed authority that is valid from about `now` (seconds since 1970).
pub fn authority(signer: Signer, now: u64) -> Result<Identity, MintError> {
    let mut params = params(signer.common_name(), now, AUTHORITY_SECONDS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Identity::parse(&format!("{}{}", certificate.pem(), key.serialize_pem()))
}

/// Makes a certificate of `facts`, signed by `by`.
pub fn leaf(facts: &Facts, by: &Identity, now: u64) -> Result<Identity, MintError> {
    if !by.seen.authority {
        return Err(MintError::NotAuthority);
    }
    let mut params = params(&facts.common_name, now, LEAF_SECONDS);
    for organization in &facts.organizations {
        params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
    }
    for name in &facts.dns {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.subject_alt_names.extend(facts.ips.iter().map(|ip| SanType::IpAddress(*ip)));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match facts.signer {
        Signer::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Signer::Client | Signer::FrontProxy => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_der(&by.certificate, KeyPair::try_from(&by.key)?)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.signed_by(&key, &issuer)?;
    Identity::parse(&format!("{}{}", certificate.pem(), key.serialize_pem()))
}

fn params(common_name: &str, now: u64, life: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(SLACK_SECONDS));
    params.not_after = epoch + Duration::from_secs(now.saturating_add(life));
    params
}
