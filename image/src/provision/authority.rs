//! The fleet's certificate authority: made once in the folder, or given. It signs device certificates and the revocation list.
//!
//! A device's certificate makes its holder a member of `system:bootstrappers`: a cluster that trusts the authority for clients lets it ask for
//! a node's certificate (Kubernetes, "TLS bootstrapping"), and nothing more.

use super::ledger::Ledger;
use crate::digest;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevocationReason,
    RevokedCertParams, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

pub const CERTIFICATE: &str = "fleet-ca.crt";
pub const KEY: &str = "fleet-ca.key";
pub const REVOCATION_LIST: &str = "revoked.crl";

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path} is no certificate or key of an authority: {source}")]
    Unusable { path: String, source: rcgen::Error },
    #[error("{certificate} and {key} do not belong together")]
    Apart { certificate: String, key: String },
    #[error("{folder} was begun with another authority than {given}: go on with that one, or use another folder")]
    Another { folder: String, given: String },
    #[error("the certificate of {name}: {source}")]
    Certificate { name: String, source: rcgen::Error },
    #[error("the system gives no random numbers")]
    Random,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    Ed25519,
    EcdsaP256,
}

impl KeyKind {
    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        KeyPair::generate_for(match self {
            Self::Ed25519 => &rcgen::PKCS_ED25519,
            Self::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        })
    }
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: String,
}

/// What a device proves itself with, in PEM.
pub struct Identity {
    pub key: String,
    pub certificate: String,
    pub authority: String,
    /// Lower-case hexadecimal, as `openssl x509 -serial` has it.
    pub serial: String,
    /// Of the certificate's DER form, as `openssl x509 -fingerprint -sha256` has it.
    pub certificate_sha256: String,
    /// Of the key's SubjectPublicKeyInfo.
    pub public_key_sha256: String,
    pub not_after: OffsetDateTime,
}

/// Devices' clocks may be behind those of who checks.
const LEEWAY: Duration = Duration::days(1);
/// Longer than any certificate that it signs.
const AUTHORITY_LIFE: Duration = Duration::days(365 * 40);
/// By then a fleet's server asks for a new list.
const LIST_LIFE: Duration = Duration::days(365);

impl Authority {
    /// The folder's authority: the one it has, the one given, or a new one.
    pub fn get(folder: &Path, given: Option<&(PathBuf, PathBuf)>, kind: KeyKind) -> Result<Self, AuthorityError> {
        let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
        match given {
            Some((given, given_key)) => {
                let authority = Self::read(given, given_key)?;
                if certificate.exists() && read(&certificate)? != authority.certificate {
                    let (folder, given) = (folder.display().to_string(), given.display().to_string());
                    return Err(AuthorityError::Another { folder, given });
                }
                write(&certificate, &authority.certificate, 0o644)?;
                // `revoke` finds the key by this; the key itself stays where it is kept.
                let link = std::path::absolute(given_key).map_err(|source| io_error(given_key, source))?;
                match std::os::unix::fs::symlink(link, &key) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io_error(&key, error)),
                    _ => Ok(authority),
                }
            }
            None if certificate.exists() => Self::read(&certificate, &key),
            None => Self::create(&certificate, &key, kind),
        }
    }

    /// The authority that earlier runs left, if one did.
    pub fn of_folder(folder: &Path) -> Result<Option<Self>, AuthorityError> {
        let certificate = folder.join(CERTIFICATE);
        if certificate.exists() { Self::read(&certificate, &folder.join(KEY)).map(Some) } else { Ok(None) }
    }

    fn read(certificate: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let unusable = |path: &Path| {
            let path = path.display().to_string();
            move |source| AuthorityError::Unusable { path, source }
        };
        let text = read(certificate)?;
        let pair = KeyPair::from_pem(&read(key)?).map_err(unusable(key))?;
        let public = pair.subject_public_key_info();
        let (_, parsed) = x509_parser::pem::parse_x509_pem(text.as_bytes())
            .map_err(|_| unusable(certificate)(rcgen::Error::CouldNotParseCertificate))?;
        let parsed = parsed.parse_x509().map_err(|_| unusable(certificate)(rcgen::Error::CouldNotParseCertificate))?;
        if parsed.public_key().raw != public {
            let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
            return Err(AuthorityError::Apart { certificate, key });
        }
        if !parsed.is_ca() {
            return Err(unusable(certificate)(rcgen::Error::IssuerNotCrlSigner));
        }
        let issuer = Issuer::from_ca_cert_pem(&text, pair).map_err(unusable(certificate))?;
        Ok(Self { issuer, certificate: text })
    }

    fn create(certificate: &Path, key: &Path, kind: KeyKind) -> Result<Self, AuthorityError> {
        let fail = |source| AuthorityError::Certificate { name: "the authority".into(), source };
        let pair = kind.generate().map_err(fail)?;
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, "Kedge fleet authority");
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - LEEWAY;
        params.not_after = now + AUTHORITY_LIFE;
        let own = params.self_signed(&pair).map_err(fail)?;
        // The key first: a certificate without its key would stop every later run.
        write(key, &pair.serialize_pem(), 0o600)?;
        write(certificate, &own.pem(), 0o644)?;
        Ok(Self { issuer: Issuer::new(params, pair), certificate: own.pem() })
    }

    /// A new key for the device `name`, and a certificate of it.
    pub fn issue(&self, name: &str, kind: KeyKind, days: u32) -> Result<Identity, AuthorityError> {
        let fail = |source| AuthorityError::Certificate { name: name.to_owned(), source };
        let pair = kind.generate().map_err(fail)?;
        let serial = serial()?;
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, format!("kedge:device:{name}"));
        subject.push(DnType::OrganizationName, "system:bootstrappers");
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.distinguished_name = subject;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - LEEWAY;
        params.not_after = now + Duration::days(i64::from(days));
        let signed = params.signed_by(&pair, &self.issuer).map_err(fail)?;
        Ok(Identity {
            key: pair.serialize_pem(),
            certificate: signed.pem(),
            authority: self.certificate.clone(),
            serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
            certificate_sha256: digest::of_bytes(signed.der()),
            public_key_sha256: digest::of_bytes(&pair.subject_public_key_info()),
            not_after: params.not_after,
        })
    }

    /// X.509's list of what is no longer to be trusted, in PEM. Its number grows with the journal.
    pub fn revocation_list(&self, ledger: &Ledger) -> Result<String, AuthorityError> {
        let fail = |source| AuthorityError::Certificate { name: "the revocation list".into(), source };
        let revoked = ledger.revoked().filter_map(|(issued, revocation)| {
            Some(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&bytes(issued.serial.as_deref()?)?),
                revocation_time: OffsetDateTime::from_unix_timestamp(revocation.at).ok()?,
                reason_code: Some(RevocationReason::Unspecified),
                invalidity_date: None,
            })
        });
        let now = OffsetDateTime::now_utc();
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: now + LIST_LIFE,
            crl_number: SerialNumber::from(ledger.lines()),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(fail)
    }
}

/// Sixteen random bytes whose first makes the number positive and never shorter (RFC 5280, 4.1.2.2).
fn serial() -> Result<[u8; 16], AuthorityError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthorityError::Random)?;
    let [first, ..] = &mut bytes;
    *first = (*first & 0x3f) | 0x40;
    Ok(bytes)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

fn io_error(path: &Path, source: io::Error) -> AuthorityError {
    AuthorityError::Io { path: path.display().to_string(), source }
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    std::fs::read_to_string(path).map_err(|source| io_error(path, source))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    let options = || File::options().write(true).create(true).truncate(true).mode(mode).open(path);
    options()
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|source| io_error(path, source))
}
