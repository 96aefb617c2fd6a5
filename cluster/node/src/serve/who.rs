//! Who may ask a node: the API server's kubelet client, and administrators.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

const API_SERVER: &str = "kube-apiserver-kubelet-client";
const MASTERS: &str = "system:masters";

/// The chain was verified by TLS; this looks at the name only.
pub fn may_ask(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let subject = certificate.subject();
    let user = subject.iter_common_name().filter_map(|n| n.as_str().ok()).last();
    let master = subject.iter_organization().any(|o| o.as_str() == Ok(MASTERS));
    user == Some(API_SERVER) || master
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    #[test]
    fn names_decide() {
        for (user, group, allowed) in [
            ("kube-apiserver-kubelet-client", "", true),
            ("admin", "system:masters", true),
            ("admin", "system:authenticated", false),
            ("system:node:n1", "system:nodes", false),
            ("", "", false),
        ] {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, user);
            if !group.is_empty() {
                params.distinguished_name.push(DnType::OrganizationName, group);
            }
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(may_ask(certificate.der()), allowed, "{user} {group}");
        }
        assert!(!may_ask(&CertificateDer::from(vec![1, 2, 3])));
    }
}
