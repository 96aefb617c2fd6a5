//! The rules of a request.

use std::collections::HashSet;

use serde_json::Value;

use super::request;
use crate::errors::{Errors, Path};
use crate::names;
use crate::value::Look as _;

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// The signer of requests that named none, in the first version of this API.
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const SHORTEST_SECONDS: i64 = 600;
const LONGEST_DOMAIN: usize = 253;
const LONGEST_SIGNER: usize = 571;

pub(super) fn validate(csr: &Value, errors: &mut Errors) {
    let path = Path::root("spec");
    if let Some(why) = request::wrong(csr.text("spec.request")) {
        errors.invalid(&path.child("request"), csr.look("spec.request").clone(), &why);
    }
    let list = path.child("usages");
    let usages: Vec<_> = csr.items("spec.usages").iter().filter_map(Value::as_str).collect();
    if usages.is_empty() {
        errors.required(&list, "");
    }
    for (at, usage) in usages.iter().enumerate().filter(|(_, usage)| !USAGES.contains(usage)) {
        errors.not_supported(&list.index(at), *usage, USAGES);
    }
    let mut seen = HashSet::new();
    for (at, usage) in usages.iter().enumerate() {
        if !seen.insert(usage) {
            errors.duplicate(&list.index(at), *usage);
        }
    }
    let (signer, here) = (csr.text("spec.signerName"), path.child("signerName"));
    if signer == LEGACY_SIGNER {
        errors.invalid(&here, signer, "the legacy signerName is not allowed via this API version");
    } else {
        validate_signer(signer, &here, errors);
    }
    if let Some(seconds) = csr.int("spec.expirationSeconds").filter(|s| *s < SHORTEST_SECONDS) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&path.child("expirationSeconds"), seconds, why);
    }
    validate_conditions(csr.items("status.conditions"), errors);
    let certificate = csr.text("status.certificate");
    if !certificate.is_empty()
        && let Some(why) = request::wrong_certificates(certificate)
    {
        errors.invalid(&Path::root("status.certificate"), "<certificate data>", &why);
    }
}

/// A domain and a name in it: `example.com/signer`.
fn validate_signer(signer: &str, path: &Path<'_>, errors: &mut Errors) {
    if signer.is_empty() {
        errors.required(path, "");
        return;
    }
    let parts = signer.split_once('/').filter(|(_, name)| !name.contains('/'));
    let Some((domain, name)) = parts else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.invalid(path, signer, why);
        return;
    };
    if domain.len() > LONGEST_DOMAIN {
        errors.too_long(path, LONGEST_DOMAIN);
    }
    let labels: Vec<_> = domain.split('.').collect();
    let told = |label: &str, wrong: Vec<String>| -> Vec<String> {
        wrong.into_iter().map(|why| format!("validating label {label:?}: {why}")).collect()
    };
    for label in &labels {
        errors.all_invalid(path, domain, told(label, names::label(label)));
    }
    if labels.len() < 2 {
        errors.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    for label in name.split('.') {
        errors.all_invalid(path, name, told(label, names::subdomain(label)));
    }
    if signer.len() > LONGEST_SIGNER {
        errors.too_long(path, LONGEST_SIGNER);
    }
}

fn validate_conditions(conditions: &[Value], errors: &mut Errors) {
    let list = Path::root("status.conditions");
    let mut seen = HashSet::new();
    for (at, condition) in conditions.iter().enumerate() {
        let path = list.index(at);
        let (kind, status) = (condition.text("type"), condition.text("status"));
        if kind.is_empty() {
            errors.required(&path.child("type"), "");
        }
        let states: &[&str] =
            if ["Approved", "Denied", "Failed"].contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        if status.is_empty() {
            errors.required(&path.child("status"), "");
        } else if !states.contains(&status) {
            errors.not_supported(&path.child("status"), status, states);
        }
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && seen.contains(other) {
            errors.invalid(&list, kind, "Approved and Denied conditions are mutually exclusive");
        }
        if !seen.insert(kind) {
            errors.duplicate(&path.child("type"), kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn signers_have_a_domain_and_a_name() {
        for (signer, wrong) in [
            ("example.com/s", 0),
            ("kubernetes.io/kube-apiserver-client", 0),
            ("", 1),
            ("nodomain", 1),
            ("a.b/c/d", 1),
            ("a/b", 1),
            ("A_b/c", 2),
            ("a.b/C", 1),
        ] {
            let mut errors = Errors::default();
            validate_signer(signer, &Path::root("s"), &mut errors);
            assert_eq!(errors.len(), wrong, "{signer}");
        }
    }

    #[test]
    fn conditions_do_not_contradict_each_other() {
        for (conditions, wrong) in [
            (json!([{"type": "Approved", "status": "True"}, {"type": "Mine", "status": "False"}]), 0),
            (json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]), 1),
            (json!([{"type": "Approved", "status": "False"}]), 1),
            (json!([{"type": "", "status": "Maybe"}]), 2),
            (json!([{"type": "Mine", "status": "True"}, {"type": "Mine", "status": "True"}]), 1),
        ] {
            let mut errors = Errors::default();
            validate_conditions(conditions.as_array().unwrap(), &mut errors);
            assert_eq!(errors.len(), wrong, "{conditions}");
        }
    }
}
