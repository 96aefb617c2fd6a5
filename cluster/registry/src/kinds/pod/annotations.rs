//! Annotations of a pod or template that mean something to the server: some are fields of old.

use serde_json::{Value, json};

use super::volumes::relative;
use super::{os, security, spec};
use crate::errors::{Errors, Late, Path, quote};
use crate::value::{Fill as _, Look as _};

const MIRROR: &str = "kubernetes.io/config.mirror";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub(crate) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const LOCAL: &str = "localhost/";

/// A pod that stands for one that its node runs of its own accord.
pub(crate) fn is_mirror(pod: &Value) -> bool {
    is_of_mirror(pod.look("metadata"))
}

pub(crate) fn is_of_mirror(metadata: &Value) -> bool {
    metadata.look("annotations").get(MIRROR).is_some_and(Value::is_string)
}

fn value<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.look("metadata.annotations").get(key)?.as_str()
}

/// `object` is what has `metadata` and a pod's `spec`; `path` that of its annotations.
pub(crate) fn validate(object: &Value, path: &Path<'_>, errors: &mut Errors) {
    if let Some(mirror) = value(object, MIRROR).filter(|_| object.text("spec.nodeName").is_empty()) {
        errors.invalid(&path.key(MIRROR), mirror, "must set spec.nodeName if mirror pod annotation is set");
    }
    if let Some(text) = value(object, TOLERATIONS).filter(|text| !text.is_empty()) {
        match (crate::gojson::error(text.as_bytes()), serde_json::from_str::<Vec<Value>>(text)) {
            (Some(why), _) => errors.invalid(path, TOLERATIONS, &why),
            (None, list) => spec::tolerations(&list.unwrap_or_default(), &path.child(TOLERATIONS), errors),
        }
    }
    if let Some(cost) = value(object, DELETION_COST).filter(|cost| !is_cost(cost)) {
        let path = path.key(DELETION_COST);
        errors.late(Late::DeletionCost, |errors| errors.invalid(&path, cost, "must be a 32bit integer"));
    }
    for (key, value) in object.entries("metadata.annotations") {
        let value = value.as_str().unwrap_or_default();
        if key == SECCOMP_POD || key.starts_with(SECCOMP) {
            seccomp(value, &path.child(key), errors);
        }
        let Some(name) = key.strip_prefix(APP_ARMOR) else { continue };
        let mut found = false;
        os::each_container(object.look("spec"), path, |container, _| found |= container.text("name") == name);
        if !found {
            errors.invalid(&path.key(key), name, "container not found");
        }
        if !["", "runtime/default", "unconfined"].contains(&value) && !value.starts_with(LOCAL) {
            errors.invalid(&path.key(key), value, &format!("invalid AppArmor profile name: {}", quote(value)));
        }
    }
}

fn is_cost(text: &str) -> bool {
    let padded = text.starts_with('+') || (text.starts_with('0') && text != "0");
    !padded && text.parse::<i32>().is_ok()
}

fn seccomp(profile: &str, path: &Path<'_>, errors: &mut Errors) {
    match profile.strip_prefix(LOCAL) {
        Some(local) => relative(local, path, errors),
        None if ["runtime/default", "docker/default", "unconfined"].contains(&profile) => {}
        None => errors.invalid(path, profile, "must be a valid seccomp profile"),
    }
}

/// What a profile's field and its annotation say must be the same, where both are there. `path` is that of the specification.
pub(crate) fn agree(object: &Value, path: &Path<'_>, errors: &mut Errors) {
    let spec = object.look("spec");
    let whole = spec.look("securityContext");
    let context = path.child("securityContext");
    same("seccomp", value(object, SECCOMP_POD), whole.look("seccompProfile"), &context.child("seccompProfile"), errors);
    os::each_container(spec, path, |container, here| {
        let annotation = value(object, &format!("{SECCOMP}{}", container.text("name")));
        let profile = container.look("securityContext.seccompProfile");
        same("seccomp", annotation, profile, &here.child("securityContext.seccompProfile"), errors);
    });
    if spec.text("os.name") == "windows" {
        return;
    }
    os::each_container(spec, path, |container, here| {
        let annotation = value(object, &format!("{APP_ARMOR}{}", container.text("name")));
        let own = container.look("securityContext.appArmorProfile");
        let profile = if own.is_null() { whole.look("appArmorProfile") } else { own };
        same("apparmor", annotation, profile, &here.child("securityContext.appArmorProfile"), errors);
    });
}

fn same(what: &str, annotation: Option<&str>, profile: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(annotation) = annotation else { return };
    let part = match (profile.text("type"), annotation.strip_prefix(LOCAL)) {
        ("Unconfined", _) if annotation != "unconfined" => "type",
        ("RuntimeDefault", _)
            if annotation != "runtime/default" && (what, annotation) != ("seccomp", "docker/default") =>
        {
            "type"
        }
        ("Localhost", None) => "type",
        ("Localhost", Some(local)) if profile.look("localhostProfile") != local => "localhostProfile",
        _ => return,
    };
    let kind = if part == "type" { "type" } else { "profile" };
    errors.forbidden(&path.child(part), &format!("{what} {kind} in annotation and field must match"));
}

/// A new pod's annotations of AppArmor become the fields that took their place.
pub(crate) fn to_fields(pod: &mut Value) {
    if pod.text("spec.os.name") == "windows" {
        return;
    }
    let whole = pod.look("spec.securityContext.appArmorProfile").clone();
    let annotations = pod.look("metadata.annotations").clone();
    for list in ["spec.initContainers", "spec.containers"] {
        for container in pod.items_mut(list) {
            let key = format!("{APP_ARMOR}{}", container.text("name"));
            let Some(annotation) = annotations.get(&key).and_then(Value::as_str) else { continue };
            let profile = match (annotation, annotation.strip_prefix(LOCAL)) {
                ("runtime/default", _) => json!({"type": "RuntimeDefault"}),
                ("unconfined", _) => json!({"type": "Unconfined"}),
                (_, Some(local)) => json!({"type": "Localhost", "localhostProfile": local}),
                _ => continue,
            };
            let mut errors = Errors::default();
            security::app_armor(&profile, &Path::root(""), &mut errors);
            if errors.is_empty() && profile != whole {
                container.fill("securityContext.appArmorProfile", profile);
            }
        }
    }
}

/// Some are not changed once a pod is there.
pub(crate) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::root("metadata.annotations");
    let guarded = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        key => key.starts_with(APP_ARMOR).then_some("AppArmor annotations"),
    };
    for (key, had) in old.entries("metadata.annotations") {
        if let Some(what) = guarded(key).filter(|_| value(new, key) != had.as_str()) {
            errors.forbidden(&path.key(key), &format!("may not remove or update {what}"));
        }
    }
    for (key, _) in new.entries("metadata.annotations").filter(|(key, _)| value(old, key).is_none()) {
        if let Some(what) = guarded(key) {
            errors.forbidden(&path.key(key), &format!("may not add {what}"));
        }
    }
    validate(new, &path, errors);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(annotations: Value) -> Value {
        json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "c"}]}})
    }

    fn told(check: impl FnOnce(&mut Errors)) -> Vec<String> {
        let mut errors = Errors::default();
        check(&mut errors);
        errors.told()
    }

    #[test]
    fn known_annotations_have_their_forms() {
        let told = |annotations| told(|errors| validate(&annotated(annotations), &Path::root("a"), errors));
        assert_eq!(
            told(json!({MIRROR: "x", DELETION_COST: "01"})),
            [
                "a[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set",
                "a[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"01\": must be a 32bit integer",
            ]
        );
        for cost in ["0", "-5", "2147483647"] {
            assert_eq!(told(json!({DELETION_COST: cost})), [""; 0], "{cost}");
        }
        for cost in ["", "+1", "x", "2147483648"] {
            assert_eq!(told(json!({DELETION_COST: cost})).len(), 1, "{cost}");
        }
        assert_eq!(
            told(json!({SECCOMP_POD: "x"})),
            ["a.seccomp.security.alpha.kubernetes.io/pod: Invalid value: \"x\": must be a valid seccomp profile"]
        );
        assert_eq!(
            told(json!({"container.seccomp.security.alpha.kubernetes.io/c": "localhost/../x"})),
            ["a.container.seccomp.security.alpha.kubernetes.io/c: Invalid value: \"../x\": must not contain '..'"]
        );
        assert_eq!(
            told(json!({"container.apparmor.security.beta.kubernetes.io/d": "x"})),
            [
                "a[container.apparmor.security.beta.kubernetes.io/d]: Invalid value: \"d\": container not found",
                "a[container.apparmor.security.beta.kubernetes.io/d]: Invalid value: \"x\": invalid AppArmor profile name: \"x\"",
            ]
        );
    }

    #[test]
    fn a_field_and_its_annotation_agree() {
        let of = |annotation: &str, field: &str, profile: Value| {
            let mut pod = annotated(json!({annotation: "localhost/a"}));
            pod["spec"]["containers"][0].set(&format!("securityContext.{field}"), profile);
            told(|errors| agree(&pod, &Path::root("spec"), errors))
        };
        let armor = "container.apparmor.security.beta.kubernetes.io/c";
        let seccomp = "container.seccomp.security.alpha.kubernetes.io/c";
        assert_eq!(of(armor, "appArmorProfile", json!({"type": "Localhost", "localhostProfile": "a"})), [""; 0]);
        assert_eq!(
            of(armor, "appArmorProfile", json!({"type": "Unconfined"})),
            [
                "spec.containers[0].securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field must match"
            ]
        );
        assert_eq!(
            of(seccomp, "seccompProfile", json!({"type": "Localhost", "localhostProfile": "b"})),
            [
                "spec.containers[0].securityContext.seccompProfile.localhostProfile: Forbidden: seccomp profile in annotation and field must match"
            ]
        );
    }

    #[test]
    fn an_annotation_of_old_becomes_the_field() {
        let key = "container.apparmor.security.beta.kubernetes.io/c";
        let mut pod = annotated(json!({key: "localhost/a"}));
        to_fields(&mut pod);
        assert_eq!(
            pod["spec"]["containers"][0]["securityContext"]["appArmorProfile"],
            json!({"type": "Localhost", "localhostProfile": "a"})
        );
        let mut odd = annotated(json!({key: "localhost/ a"}));
        to_fields(&mut odd);
        assert_eq!(odd["spec"]["containers"][0], json!({"name": "c"}));
    }

    #[test]
    fn what_a_node_and_a_profile_hang_on_is_not_changed() {
        let key = "container.apparmor.security.beta.kubernetes.io/c";
        let mut pods = [annotated(json!({key: "unconfined", "x": "1"})), annotated(json!({MIRROR: "m", "x": "2"}))];
        pods.iter_mut().for_each(|pod| pod.set("spec.nodeName", "n"));
        let [old, new] = pods;
        assert_eq!(
            told(|errors| update(&new, &old, errors)),
            [
                "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: Forbidden: may not remove or update AppArmor annotations",
                "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation",
            ]
        );
    }
}
