//! Who approves a certificate request, or signs it, must be let to for the signer that it names: a permission on `signers`, which no
//! request's path tells.

use kedge_api::{Reason, Status, Target, User};
use serde_json::Value;

use super::{Attributes, Authorizer};

const GROUP: &str = "certificates.k8s.io";

impl Authorizer {
    /// The signer is the old request's: it never changes.
    pub(super) fn may_certify(&self, who: &User, target: &Target, new: &Value, old: &Value) -> Result<(), Status> {
        let verb = match target.subresource.as_str() {
            "approval" => "approve",
            "status" if signs(new, old) => "sign",
            _ => return Ok(()),
        };
        let signer = old.pointer("/spec/signerName").and_then(Value::as_str).unwrap_or_default();
        let all = format!("{}/*", signer.split('/').next().unwrap_or_default());
        let asked = |name| Attributes { name, ..Attributes::resource(who, verb, GROUP, "signers") };
        if self.decide_here(&asked(signer)).is_ok() || self.decide_here(&asked(&all)).is_ok() {
            return Ok(());
        }
        let (resource, name) = (&target.resource, &target.name);
        let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
        Err(Status::about(Reason::Forbidden, resource, name, format!("{resource} {name:?} is forbidden: {why}")))
    }
}

/// Whether a certificate or a word about it is new.
fn signs(new: &Value, old: &Value) -> bool {
    ["/status/certificate", "/status/conditions"].iter().any(|part| new.pointer(part) != old.pointer(part))
}

#[cfg(test)]
mod tests {
    use kedge_api::resource::known;
    use kedge_registry::Guard as _;
    use serde_json::json;
    use std::sync::Arc;

    use super::*;
    use crate::fixture::Objects;

    #[test]
    fn a_signer_is_for_those_who_may() {
        let objects = Objects::default();
        for (name, verb, signer) in
            [("a", "approve", "example.com/one"), ("b", "approve", "example.com/*"), ("c", "sign", "example.com/one")]
        {
            let rule = json!({"verbs": [verb], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": [signer]});
            objects.put(known::CLUSTER_ROLES, json!({"metadata": {"name": name}, "rules": [rule]}));
            let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
            let subject = json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name});
            objects.put(
                known::CLUSTER_ROLE_BINDINGS,
                json!({"metadata": {"name": name}, "roleRef": role, "subjects": [subject]}),
            );
        }
        let authorizer = Authorizer::new(Arc::new(objects));
        let old = json!({"metadata": {"name": "r"}, "spec": {"signerName": "example.com/one"}});
        let mut new = old.clone();
        new["status"] = json!({"certificate": "x"});
        for (who, subresource, may) in [
            ("a", "approval", true),
            ("b", "approval", true),
            ("c", "approval", false),
            ("a", "status", false),
            ("c", "status", true),
        ] {
            let target = Target {
                resource: known::CERTIFICATE_SIGNING_REQUESTS,
                version: String::new(),
                namespace: String::new(),
                name: "r".into(),
                subresource: subresource.into(),
            };
            let ask = |new: &Value| authorizer.may_write(&User::new(who, &[]), &target, new, Some(&old));
            assert_eq!(ask(&new).is_ok(), may, "{who} {subresource}");
            if subresource == "status" {
                assert!(ask(&old).is_ok(), "{who} changes nothing");
            } else if !may {
                let said = ask(&new).unwrap_err().message;
                assert_eq!(
                    said,
                    "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to approve requests with \
                     signerName \"example.com/one\""
                );
            }
        }
    }
}
