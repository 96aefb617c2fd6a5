//! Certificate requests: what is approved is signed, and what is done with goes after a while.
//!
//! Never knows a key: whoever has the authorities' is asked. Approving is for people, or for whoever knows the machine.
//! Source: "Certificates and Certificate Signing Requests" of Kubernetes' documentation.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kedge_api::resource::known::CERTIFICATE_SIGNING_REQUESTS;
use kedge_api::{Change, GroupResource, Key, Snapshot, Status};
use serde_json::{Value, json};

use crate::controller::{Controller, Now, Plan, Step, Victim, read};

const WATCHES: &[GroupResource] = &[CERTIFICATE_SIGNING_REQUESTS];
/// How long a request is kept once it is decided, and before.
const DECIDED: Duration = Duration::from_secs(3600);
const PENDING: Duration = Duration::from_secs(24 * 3600);

/// What a signer makes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// In PEM.
    Certificate(String),
    Refused(String),
    /// It is not one of ours.
    Unknown,
}

/// A request as its signer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// In PEM.
    pub request: &'a str,
    pub signer: &'a str,
    pub usages: &'a [String],
    pub seconds: Option<u64>,
}

pub type Certify = Arc<dyn Fn(Asked<'_>) -> Result<Signed, Status> + Send + Sync>;

pub struct Certificates {
    pub certify: Certify,
}

impl Controller for Certificates {
    fn name(&self) -> &'static str {
        "certificate-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, _: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        keys.extend(change.after.is_some().then(|| change.key.clone()));
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, now: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(csr)) = (snapshot.get(key), read::<CertificateSigningRequest>(snapshot, key)?) else {
            return Ok(plan);
        };
        if object.is_deleting() {
            return Ok(plan);
        }
        let status = csr.status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let since = |kind: &str| {
            let found = conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")?;
            Some(found.last_update_time.as_ref().map_or(now, |time| time.0))
        };
        let issued = status.certificate.is_some_and(|certificate| !certificate.0.is_empty());
        let (approved, failed) = (since("Approved"), since("Denied").or(since("Failed")));
        let created = object.meta.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let (from, life) = match (approved, failed) {
            (_, Some(failed)) => (failed, DECIDED),
            (Some(approved), None) => (approved, DECIDED),
            (None, None) => (created, PENDING),
        };
        let end = from.checked_add(life).unwrap_or(Timestamp::MAX);
        // What is approved and nobody has signed waits for its signer.
        if end <= now && (issued || approved.is_none() || failed.is_some()) {
            plan.push(Step::Delete {
                resource: CERTIFICATE_SIGNING_REQUESTS,
                targets: vec![Victim::of(object)],
                told: None,
            });
            return Ok(plan);
        }
        plan.again_at(end.max(now), now);
        if approved.is_none() || failed.is_some() || issued {
            return Ok(plan);
        }
        let usages = csr.spec.usages.unwrap_or_default();
        let asked = Asked {
            request: &String::from_utf8_lossy(&csr.spec.request.0),
            signer: &csr.spec.signer_name,
            usages: &usages,
            seconds: csr.spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok()),
        };
        let mut whole: Value = object.decode()?;
        match (self.certify)(asked)? {
            Signed::Unknown => {
                plan.again = None;
                return Ok(plan);
            }
            Signed::Certificate(pem) => {
                if let Some(Value::Object(status)) = whole.get_mut("status") {
                    status.insert("certificate".to_owned(), STANDARD.encode(pem).into());
                }
            }
            Signed::Refused(why) => {
                let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                let failed = json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why,
                    "lastUpdateTime": at, "lastTransitionTime": at});
                if let Some(Value::Array(conditions)) = whole.pointer_mut("/status/conditions") {
                    conditions.push(failed);
                }
            }
        }
        plan.push(Step::Update { resource: CERTIFICATE_SIGNING_REQUESTS, subresource: "status", object: whole });
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Facts, at};

    fn plan(conditions: &[&str], certificate: &str, signer: &str, seconds: i64) -> Plan {
        let mut facts = Facts::default();
        let told = |kind: &&str| json!({"type": kind, "status": "True", "lastUpdateTime": at(0).to_string()});
        let conditions: Vec<Value> = conditions.iter().map(told).collect();
        let spec = json!({"request": STANDARD.encode("CSR"), "signerName": signer, "usages": ["client auth"], "expirationSeconds": 600});
        let mut csr = json!({"metadata": {"name": "c", "creationTimestamp": at(0).to_string()}, "spec": spec, "status": {"conditions": conditions}});
        if !certificate.is_empty() {
            csr["status"]["certificate"] = json!(STANDARD.encode(certificate));
        }
        let object = facts.add(CERTIFICATE_SIGNING_REQUESTS, csr);
        let certify: Certify = Arc::new(|asked| {
            assert_eq!(
                (asked.request, asked.usages, asked.seconds),
                ("CSR", &["client auth".to_owned()][..], Some(600))
            );
            Ok(match asked.signer {
                "ours" => Signed::Certificate("CERT".into()),
                "strict" => Signed::Refused("no".into()),
                _ => Signed::Unknown,
            })
        });
        Certificates { certify }.plan(&facts.snapshot, &object.key, at(seconds)).unwrap()
    }

    #[test]
    fn what_is_approved_is_signed_once() {
        let steps = |conditions: &[&str], certificate, signer| plan(conditions, certificate, signer, 1).steps;
        let signed = steps(&["Approved"], "", "ours");
        let [Step::Update { object, subresource: "status", .. }] = signed.as_slice() else { panic!("{signed:?}") };
        assert_eq!(object["status"]["certificate"], json!(STANDARD.encode("CERT")));
        let refused = steps(&["Approved"], "", "strict");
        let [Step::Update { object, .. }] = refused.as_slice() else { panic!("{refused:?}") };
        assert_eq!(object["status"]["conditions"][1]["reason"], "SignerValidationFailure");
        for (conditions, certificate, signer) in [
            (&[][..], "", "ours"),
            (&["Denied"], "", "ours"),
            (&["Approved", "Denied"], "", "ours"),
            (&["Approved", "Failed"], "", "ours"),
            (&["Approved"], "CERT", "ours"),
            (&["Approved"], "", "others"),
        ] {
            assert_eq!(steps(conditions, certificate, signer), [], "{conditions:?} {certificate} {signer}");
        }
    }

    #[test]
    fn what_is_done_with_goes() {
        for (conditions, certificate, seconds, goes) in [
            (&["Approved"][..], "CERT", 3599, false),
            (&["Approved"], "CERT", 3600, true),
            (&["Denied"], "", 3600, true),
            (&[], "", 3600, false),
            (&[], "", 24 * 3600, true),
        ] {
            let plan = plan(conditions, certificate, "others", seconds);
            assert_eq!(matches!(plan.steps.as_slice(), [Step::Delete { .. }]), goes, "{conditions:?} {seconds}");
            assert_eq!(plan.again.is_some(), !goes);
        }
    }
}
