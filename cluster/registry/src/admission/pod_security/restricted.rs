//! The checks of the restricted level: what a hardened pod does, beside keeping to the baseline.

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline::{self, adding};
use super::check::{Failure, Pod, contexts, failure, named, plural, quoted};
use crate::value::Look as _;

const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub(super) fn escalation(pod: &Pod<'_>) -> Option<Failure> {
    if pod.is_windows() {
        return None;
    }
    let bad = pod.bad(|c| c.look("securityContext.allowPrivilegeEscalation").as_bool() != Some(false));
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&bad));
    (!bad.is_empty()).then(|| failure("allowPrivilegeEscalation != false", detail))
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Failure> {
    if pod.is_windows() {
        return None;
    }
    let keeping = pod.bad(|c| !c.items("securityContext.capabilities.drop").iter().any(|name| name == "ALL"));
    let (bad, added) = adding(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keeping)));
    }
    if !bad.is_empty() {
        let (who, what) = (named(&bad), quoted(added));
        details.push(format!("{who} must not include {what} in securityContext.capabilities.add"));
    }
    (!details.is_empty()).then(|| failure("unrestricted capabilities", details.join("; ")))
}

pub(super) fn volumes(pod: &Pod<'_>) -> Option<Failure> {
    let source = |volume: &Value| volume.as_object()?.keys().find(|key| *key != "name").cloned();
    let volumes = pod.spec.items("volumes").iter().filter_map(|volume| Some((volume.text("name"), source(volume)?)));
    let bad: Vec<_> = volumes.filter(|(_, source)| !VOLUMES.contains(&source.as_str())).collect();
    let kinds: BTreeSet<&str> = bad.iter().map(|(_, source)| source.as_str()).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural(bad.len(), "volume", "volumes"),
        quoted(bad.iter().map(|(name, _)| name)),
        plural(bad.len(), "uses", "use"),
        plural(kinds.len(), "restricted volume type", "restricted volume types"),
        quoted(&kinds)
    );
    (!bad.is_empty()).then(|| failure("restricted volume types", detail))
}

/// Containers that say nothing about `path` where the pod does not say what is `right` for all.
fn silent<'a>(pod: &Pod<'a>, path: &str, right: fn(&Value) -> bool) -> Vec<&'a str> {
    if right(pod.spec.look("securityContext").look(path)) {
        return Vec::new();
    }
    pod.bad(|container| !container.look("securityContext").has(path))
}

pub(super) fn non_root(pod: &Pod<'_>) -> Option<Failure> {
    const REASON: &str = "runAsNonRoot != true";
    if pod.has_own_users() && pod.bound.since(35) {
        return None;
    }
    let (who, _) = contexts(pod, "runAsNonRoot", |value| *value == Value::Bool(false));
    if let Some(who) = who {
        return Some(failure(REASON, format!("{who} must not set securityContext.runAsNonRoot=false")));
    }
    let silent = silent(pod, "runAsNonRoot", |value| *value == Value::Bool(true));
    let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", named(&silent));
    (!silent.is_empty()).then(|| failure(REASON, detail))
}

pub(super) fn user(pod: &Pod<'_>) -> Option<Failure> {
    if pod.has_own_users() && pod.bound.since(35) {
        return None;
    }
    let (who, _) = contexts(pod, "runAsUser", |value| value.as_i64() == Some(0));
    who.map(|who| failure("runAsUser=0", format!("{who} must not set runAsUser=0")))
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Failure> {
    if pod.is_windows() {
        return None;
    }
    if let Some(explicit) = baseline::seccomp(pod) {
        return Some(explicit);
    }
    let silent = silent(pod, "seccompProfile.type", |kind| ["RuntimeDefault", "Localhost"].iter().any(|k| kind == k));
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        named(&silent)
    );
    (!silent.is_empty()).then(|| failure("seccompProfile", detail))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::check::failures;
    use super::super::policy::{Bound, Level};
    use super::*;

    fn said(minor: Option<u32>, spec: Value) -> Vec<String> {
        let found = failures(Bound::new(Level::Restricted, minor), &json!({}), &spec);
        found.into_iter().map(|f| format!("{}: {}", f.reason, f.detail)).collect()
    }

    /// A pod that keeps to the level, but for what is set on top.
    fn spec(container: Value, pod: Value) -> Value {
        let mut context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        context.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        let mut spec = json!({"containers": [{"name": "c", "securityContext": context}],
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}});
        spec.as_object_mut().unwrap().extend(pod.as_object().unwrap().clone());
        spec
    }

    #[test]
    fn each_check_says_what_is_wrong() {
        for (spec, message) in [
            (
                spec(json!({"allowPrivilegeEscalation": true}), json!({})),
                "allowPrivilegeEscalation != false: container \"c\" must set securityContext.allowPrivilegeEscalation=false",
            ),
            (
                spec(json!({"capabilities": {"add": ["CHOWN", "NET_BIND_SERVICE"]}}), json!({})),
                "unrestricted capabilities: container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"c\" must \
                 not include \"CHOWN\" in securityContext.capabilities.add",
            ),
            (
                spec(
                    json!({}),
                    json!({"volumes": [{"name": "v", "nfs": {}}, {"name": "w", "hostPath": {}}, {"name": "x", "secret": {}}]}),
                ),
                "restricted volume types: volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\"",
            ),
            (
                spec(json!({"runAsNonRoot": false}), json!({})),
                "runAsNonRoot != true: container \"c\" must not set securityContext.runAsNonRoot=false",
            ),
            (
                spec(json!({}), json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}})),
                "runAsNonRoot != true: pod or container \"c\" must set securityContext.runAsNonRoot=true",
            ),
            (spec(json!({"runAsUser": 0}), json!({})), "runAsUser=0: container \"c\" must not set runAsUser=0"),
            (
                spec(json!({"seccompProfile": {"type": "Unconfined"}}), json!({})),
                "seccompProfile: container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\"",
            ),
            (
                spec(json!({}), json!({"securityContext": {"runAsNonRoot": true}})),
                "seccompProfile: pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
                 \"Localhost\"",
            ),
        ] {
            assert_eq!(said(None, spec), [message]);
        }
        assert_eq!(said(None, spec(json!({}), json!({}))), [""; 0]);
    }

    #[test]
    fn old_versions_windows_and_own_users_are_asked_less() {
        let bare = json!({"containers": [{"name": "c"}], "securityContext": {"runAsNonRoot": true}});
        assert_eq!(said(Some(7), bare.clone()), [""; 0]);
        assert_eq!(said(Some(24), bare.clone()).len(), 3);
        let mut windows = bare;
        windows["os"] = json!({"name": "windows"});
        assert_eq!(said(Some(24), windows.clone()).len(), 3);
        assert_eq!(said(None, windows), [""; 0]);
        let mut own = spec(json!({"runAsUser": 0, "runAsNonRoot": false}), json!({}));
        own["hostUsers"] = json!(false);
        assert_eq!(said(None, own), [""; 0]);
    }
}
