//! The request and the certificate inside: PEM around DER.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::prelude::FromDer as _;

const NO_REQUEST: &str = "PEM block type must be CERTIFICATE REQUEST";

fn pem(base64: &str) -> Option<Pem> {
    let bytes = STANDARD.decode(base64).ok()?;
    let (_, pem) = parse_x509_pem(&bytes).ok()?;
    (pem.label == "CERTIFICATE REQUEST").then_some(pem)
}

/// What is wrong with a request, as base64 of PEM.
pub(super) fn wrong(base64: &str) -> Option<String> {
    let Some(pem) = pem(base64) else { return Some(NO_REQUEST.to_owned()) };
    match X509CertificationRequest::from_der(&pem.contents) {
        Err(error) => Some(format!("x509: malformed certificate request: {error}")),
        Ok((rest, _)) if !rest.is_empty() => Some("asn1: syntax error: trailing data".to_owned()),
        Ok((_, request)) => request.verify_signature().err().map(|_| "x509: invalid signature".to_owned()),
    }
}

/// The organizations of the request's subject: the groups that its certificate would make someone a member of.
pub(crate) fn organizations(base64: &str) -> Vec<String> {
    let Some(pem) = pem(base64) else { return Vec::new() };
    let Ok((_, request)) = X509CertificationRequest::from_der(&pem.contents) else { return Vec::new() };
    let subject = &request.certification_request_info.subject;
    subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect()
}

/// What is wrong with issued certificates: blocks of PEM and nothing else of it.
pub(super) fn wrong_certificates(base64: &str) -> Option<String> {
    let bytes = STANDARD.decode(base64).unwrap_or_default();
    let mut found = false;
    for pem in Pem::iter_from_buffer(&bytes) {
        let Ok(pem) = pem else { break };
        found = true;
        if pem.label != "CERTIFICATE" {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", pem.label));
        }
        match pem.parse_x509() {
            Ok(_) => {}
            Err(error) => return Some(format!("x509: malformed certificate: {error}")),
        }
    }
    (!found).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `CN=joe, O=team`, signed with its own key.
    pub(in super::super) const REQUEST: &str = concat!(
        "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIWU1IOENBUUF3SFRFTU1Bb0dBMVVFQXd3RGFtOWxNUTB3Q3dZRFZRUUtEQVIw",
        "WldGdE1Ga3dFd1lIS29aSQp6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUV1N29lU3JaaUF1SElsVm9oeDJKdmpLdi9uM2F1M2pwcDFwR3VMMkVNCnRw",
        "WHkzQ0RoUmRRYTlRSGNKU01Nc0MzeHlueTNsdkJpZ0Y0TUJ0dEdHU1M2aWFBQU1Bb0dDQ3FHU000OUJBTUMKQTBrQU1FWUNJUUQxZU9MMkYrOTI1",
        "cVVZYXg1UVB5T2RMUE16emhCUGhlcDZnWE4vc2JWYlJ3SWhBSTVrUXAyVgp4YUIycHQvSnB0TStEZUhyMUgzWSs3K2Rua3B2K1d1TXJjMFQKLS0t",
        "LS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg=="
    );

    #[test]
    fn a_request_is_signed_by_its_own_key() {
        assert_eq!(wrong(REQUEST), None);
        assert_eq!(organizations(REQUEST), ["team"]);
        assert_eq!(wrong("Zm9v").as_deref(), Some(NO_REQUEST));
        let mut text = String::from_utf8(STANDARD.decode(REQUEST).unwrap()).unwrap();
        // Another organization, the same signature.
        text = text.replace("DAR0ZWFt", "DAR0ZWF0");
        assert_eq!(wrong(&STANDARD.encode(text)).as_deref(), Some("x509: invalid signature"));
    }

    #[test]
    fn certificates_are_blocks_of_one_kind() {
        assert!(wrong_certificates(REQUEST).unwrap().starts_with("only CERTIFICATE PEM blocks are allowed"));
        assert!(wrong_certificates("Zm9v").unwrap().starts_with("must contain"));
    }
}
