//! Certificates that somebody asks for: what each of Kubernetes' signers signs, and for how long.
//! Source: "Kubernetes signers" of Kubernetes' documentation; the words of refusals are upstream's.

use std::collections::BTreeSet;
use std::time::Duration;

use rcgen::{
    CertificateSigningRequestParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, SerialNumber,
};

use super::mint::MintError;
use super::{Pki, Signer};

const DAY: u64 = 86_400;
const LONGEST: u64 = 365 * DAY;
/// How far back validity reaches, for clocks behind ours.
const SLACK: u64 = 300;
const NODES: &str = "system:nodes";
const NODE: &str = "system:node:";

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// In PEM.
    pub request: &'a str,
    /// `kubernetes.io/kube-apiserver-client`
    pub signer: &'a str,
    pub usages: &'a [String],
    pub seconds: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// The signer does not sign such a thing.
    #[error("{0}")]
    Refused(String),
    #[error("unable to sign: {0}")]
    Failed(#[from] MintError),
}

/// Usages that a signer demands and that it allows beside.
struct Usages {
    needs: &'static [&'static str],
    allows: &'static [&'static str],
}

struct Rule {
    signer: &'static str,
    by: Signer,
    usages: Option<Usages>,
    check: fn(&CertificateSigningRequestParams) -> Result<(), &'static str>,
}

const BOTH: &[&str] = &["digital signature", "key encipherment"];

const RULES: &[Rule] = &[
    Rule {
        signer: "kubernetes.io/kube-apiserver-client",
        by: Signer::Client,
        usages: Some(Usages { needs: &["client auth"], allows: BOTH }),
        check: |_| Ok(()),
    },
    Rule {
        signer: "kubernetes.io/kube-apiserver-client-kubelet",
        by: Signer::Client,
        usages: Some(Usages { needs: &["client auth", "digital signature"], allows: &["key encipherment"] }),
        check: kubelet_client,
    },
    Rule {
        signer: "kubernetes.io/kubelet-serving",
        by: Signer::Server,
        usages: Some(Usages { needs: &["server auth", "digital signature"], allows: &["key encipherment"] }),
        check: kubelet_serving,
    },
    Rule { signer: "kubernetes.io/legacy-unknown", by: Signer::Server, usages: None, check: |_| Ok(()) },
];

/// Usages as the API names them, of the key and of what is done with it.
const KEY_USAGES: &[(&str, KeyUsagePurpose)] = &[
    ("signing", KeyUsagePurpose::DigitalSignature),
    ("digital signature", KeyUsagePurpose::DigitalSignature),
    ("content commitment", KeyUsagePurpose::ContentCommitment),
    ("key encipherment", KeyUsagePurpose::KeyEncipherment),
    ("data encipherment", KeyUsagePurpose::DataEncipherment),
    ("key agreement", KeyUsagePurpose::KeyAgreement),
    ("encipher only", KeyUsagePurpose::EncipherOnly),
    ("decipher only", KeyUsagePurpose::DecipherOnly),
];
const EXTENDED: &[(&str, ExtendedKeyUsagePurpose)] = &[
    ("any", ExtendedKeyUsagePurpose::Any),
    ("server auth", ExtendedKeyUsagePurpose::ServerAuth),
    ("client auth", ExtendedKeyUsagePurpose::ClientAuth),
    ("code signing", ExtendedKeyUsagePurpose::CodeSigning),
    ("email protection", ExtendedKeyUsagePurpose::EmailProtection),
    ("s/mime", ExtendedKeyUsagePurpose::EmailProtection),
    ("timestamping", ExtendedKeyUsagePurpose::TimeStamping),
    ("ocsp signing", ExtendedKeyUsagePurpose::OcspSigning),
];

fn texts(request: &CertificateSigningRequestParams, wanted: &DnType) -> Vec<String> {
    let entries = request.params.distinguished_name.iter().filter(|(kind, _)| *kind == wanted);
    let text = |value: &DnValue| match value {
        DnValue::Utf8String(text) => Some(text.clone()),
        DnValue::PrintableString(text) => Some(text.as_str().to_owned()),
        DnValue::Ia5String(text) => Some(text.as_str().to_owned()),
        DnValue::TeletexString(text) => Some(text.as_str().to_owned()),
        _ => None,
    };
    entries.filter_map(|(_, value)| text(value)).collect()
}

fn is_node(request: &CertificateSigningRequestParams) -> Result<(), &'static str> {
    if texts(request, &DnType::OrganizationName) != [NODES] {
        return Err("subject organization is not system:nodes");
    }
    let named = texts(request, &DnType::CommonName).iter().any(|name| name.starts_with(NODE));
    if named { Ok(()) } else { Err("subject common name does not begin with system:node: ") }
}

fn kubelet_client(request: &CertificateSigningRequestParams) -> Result<(), &'static str> {
    is_node(request)?;
    match request.params.subject_alt_names.first() {
        None => Ok(()),
        Some(SanType::DnsName(_)) => Err("DNS subjectAltNames are not allowed"),
        Some(SanType::Rfc822Name(_)) => Err("Email subjectAltNames are not allowed"),
        Some(SanType::IpAddress(_)) => Err("IP subjectAltNames are not allowed"),
        Some(_) => Err("URI subjectAltNames are not allowed"),
    }
}

fn kubelet_serving(request: &CertificateSigningRequestParams) -> Result<(), &'static str> {
    is_node(request)?;
    let names = &request.params.subject_alt_names;
    if !names.iter().any(|name| matches!(name, SanType::DnsName(_) | SanType::IpAddress(_))) {
        return Err("DNS or IP subjectAltName is required");
    }
    match names.iter().find(|name| !matches!(name, SanType::DnsName(_) | SanType::IpAddress(_))) {
        None => Ok(()),
        Some(SanType::Rfc822Name(_)) => Err("Email subjectAltNames are not allowed"),
        Some(_) => Err("URI subjectAltNames are not allowed"),
    }
}

impl Usages {
    fn check(&self, asked: &[String]) -> Result<(), String> {
        let known = |usage: &&str| self.needs.contains(usage) || self.allows.contains(usage);
        let asked: BTreeSet<&str> = asked.iter().map(String::as_str).collect();
        if let Some(odd) = asked.iter().find(|usage| !known(usage)) {
            return Err(format!("invalid usage for the signer: {odd}"));
        }
        match self.needs.iter().find(|usage| !asked.contains(**usage)) {
            Some(missing) => Err(format!("missing required usage for the signer: {missing}")),
            None => Ok(()),
        }
    }
}

impl Pki {
    /// The certificate, in PEM; none if the signer is not one of ours.
    pub fn certify(&self, wanted: Wanted<'_>) -> Result<Option<String>, CertifyError> {
        let Some(rule) = RULES.iter().find(|rule| rule.signer == wanted.signer) else { return Ok(None) };
        let refused = |why: String| CertifyError::Refused(why);
        let mut request = CertificateSigningRequestParams::from_pem(wanted.request)
            .map_err(|error| refused(format!("unable to parse csr: {error}")))?;
        (rule.check)(&request).map_err(|why| refused(why.to_owned()))?;
        if let Some(usages) = &rule.usages {
            usages.check(wanted.usages).map_err(refused)?;
        }
        let authority = self.signer(rule.by);
        let params = &mut request.params;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = pick(KEY_USAGES, wanted.usages);
        params.extended_key_usages = pick(EXTENDED, wanted.usages);
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(uuid::Uuid::new_v4().as_bytes()));
        let now = self.clock.unix();
        let end = now.saturating_add(wanted.seconds.unwrap_or(LONGEST).min(LONGEST)).min(authority.not_after());
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(now.saturating_sub(SLACK));
        params.not_after = epoch + Duration::from_secs(end);
        let sign = || {
            let issuer = Issuer::from_ca_cert_der(&authority.certificate, KeyPair::try_from(&authority.key)?)?;
            request.signed_by(&issuer)
        };
        let certificate = sign().map_err(|error| CertifyError::Failed(error.into()))?;
        Ok(Some(certificate.pem()))
    }
}

fn pick<T: Clone + PartialEq>(table: &[(&str, T)], asked: &[String]) -> Vec<T> {
    let mut picked = Vec::new();
    for (_, usage) in table.iter().filter(|(name, _)| asked.iter().any(|asked| asked == name)) {
        if !picked.contains(usage) {
            picked.push(usage.clone());
        }
    }
    picked
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateParams;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, UnixTime};

    use super::*;
    use crate::clock::Clock;
    use crate::pki::{Names, Seen};

    fn request(common_name: &str, organization: &str, names: Vec<String>) -> String {
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    #[test]
    fn each_signer_signs_what_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), Names::new("n1", vec![]), Clock::system()).unwrap();
        let ask = |signer: &str, usages: &[&str], request: &str| {
            let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
            let signer = format!("kubernetes.io/{signer}");
            pki.certify(Wanted { request, signer: &signer, usages: &usages, seconds: Some(600) })
        };
        let (client, serving) = ("kube-apiserver-client", "kubelet-serving");
        let jane = request("jane", "devs", vec![]);
        let pem = ask(client, &["client auth", "digital signature"], &jane).unwrap().unwrap();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let seen = Seen::of(&certificate).unwrap();
        assert_eq!((seen.common_name.as_str(), seen.organizations.as_slice()), ("jane", &["devs".to_owned()][..]));
        assert_eq!((seen.not_after - seen.not_before, seen.authority), (900, false));
        let verifier = crate::tls::client_verifier(pki.authority(Signer::Client)).unwrap();
        assert!(verifier.verify_client_cert(&certificate, &[], UnixTime::now()).is_ok());

        let node = |names: Vec<String>| request("system:node:n", NODES, names);
        assert!(
            ask("kube-apiserver-client-kubelet", &["client auth", "digital signature"], &node(vec![]))
                .unwrap()
                .is_some()
        );
        assert!(ask(serving, &["server auth", "digital signature"], &node(vec!["n".into()])).unwrap().is_some());
        assert!(ask("others", &[], &jane).unwrap().is_none());
        for (signer, usages, request, why) in [
            (client, &["digital signature"][..], &jane, "missing required usage for the signer: client auth"),
            (client, &["client auth", "server auth"], &jane, "invalid usage for the signer: server auth"),
            (client, &["client auth"], &"x".to_owned(), "unable to parse csr"),
            (serving, &["server auth", "digital signature"], &jane, "subject organization is not system:nodes"),
            (serving, &["server auth", "digital signature"], &node(vec![]), "DNS or IP subjectAltName is required"),
            (
                "kube-apiserver-client-kubelet",
                &["client auth"],
                &node(vec!["n".into()]),
                "DNS subjectAltNames are not allowed",
            ),
        ] {
            let told = ask(signer, usages, request).unwrap_err().to_string();
            assert!(told.starts_with(why), "{signer}: {told}");
        }
    }
}
