//! Claims and volumes: the default class, the finalizer that keeps what is in use, and who may grow.

use kedge_api::quantity::Quantity;
use kedge_api::resource::known;
use kedge_api::{GroupResource, Key, Status};
use serde_json::Value;

use super::Attributes;
use crate::strategy::Scope;
use crate::value::{Fill as _, Look as _};

const CLASSES: GroupResource = known::STORAGE_CLASSES;
const IS_DEFAULT: &[&str] =
    &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const FINALIZERS: &[(GroupResource, &str)] = &[
    (known::PERSISTENT_VOLUMES, "kubernetes.io/pv-protection"),
    (known::PERSISTENT_VOLUME_CLAIMS, "kubernetes.io/pvc-protection"),
    (known::VOLUME_ATTRIBUTES_CLASSES, "kubernetes.io/vac-protection"),
];
/// How a claim named its class before there was a field for it.
const NAMED: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn default_class(scope: &Scope<'_>, _: &Attributes<'_>, claim: &mut Value) -> Result<(), Status> {
    let named = claim.has("spec.storageClassName") || claim.look("metadata.annotations").get(NAMED).is_some();
    if !named && let Some(class) = newest(scope, &CLASSES, IS_DEFAULT) {
        claim.set("spec.storageClassName", class);
    }
    Ok(())
}

/// The name of the class that one of `annotations` calls the default; of several, the newest.
pub(super) fn newest(scope: &Scope<'_>, classes: &GroupResource, annotations: &[&str]) -> Option<String> {
    let is_default = |object: &&std::sync::Arc<kedge_api::Object>| {
        let marks = object.meta.annotations.iter().flatten();
        marks.into_iter().any(|(key, value)| annotations.contains(&key.as_str()) && value == "true")
    };
    // By name within one second, the first.
    let rank = |object: &&std::sync::Arc<kedge_api::Object>| {
        let made = object.meta.creation_timestamp.as_ref().map(|time| time.0);
        (made, std::cmp::Reverse(object.key.name.clone()))
    };
    scope.snapshot.list(classes, "").filter(is_default).max_by_key(rank).map(|object| object.key.name.to_string())
}

/// Keeps what is in use from going before its users.
pub(super) fn protect(_: &Scope<'_>, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    let Some((_, finalizer)) = FINALIZERS.iter().find(|(id, _)| *id == attributes.resource.id) else { return Ok(()) };
    let mut finalizers = object.items("metadata.finalizers").to_vec();
    if !finalizers.iter().any(|f| f == *finalizer) {
        finalizers.push((*finalizer).into());
        object.set("metadata.finalizers", finalizers);
    }
    Ok(())
}

/// Only a bound claim whose class allows it may ask for more.
pub(super) fn resize(
    scope: &Scope<'_>,
    attributes: &Attributes<'_>,
    claim: &Value,
    _: &mut Vec<String>,
) -> Result<(), Status> {
    let Some(old) = attributes.old else { return Ok(()) };
    let size = |claim: &Value| claim.text("spec.resources.requests.storage").parse::<Quantity>().unwrap_or_default();
    if size(claim) <= size(old) {
        return Ok(());
    }
    if old.text("status.phase") != "Bound" {
        return Err(attributes.forbidden(claim, "Only bound persistent volume claims can be expanded"));
    }
    let class = class_of(claim);
    let found =
        scope.snapshot.get(&Key::new(CLASSES, "", class)).filter(|_| !class.is_empty() && class == class_of(old));
    let allows =
        found.map(|found| found.decode::<Value>()).transpose()?.is_some_and(|c| c.flag("allowVolumeExpansion"));
    if allows {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(attributes.forbidden(claim, why))
}

fn class_of(claim: &Value) -> &str {
    let beta = claim.look("metadata.annotations").get(NAMED).and_then(Value::as_str);
    beta.unwrap_or_else(|| claim.text("spec.storageClassName"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;

    fn class(name: &str, made: &str, grows: bool) -> (GroupResource, Value) {
        let meta = json!({"name": name, "creationTimestamp": made, "annotations": {IS_DEFAULT[0]: "true"}});
        (CLASSES, json!({"metadata": meta, "allowVolumeExpansion": grows}))
    }

    #[test]
    fn the_newest_default_fills_what_is_unsaid() {
        let early = "2026-01-01T00:00:00Z";
        let late = "2026-01-02T00:00:00Z";
        let classes = [class("a", early, true), class("c", late, true), class("b", late, true)];
        let world = World::new(&known::PERSISTENT_VOLUME_CLAIMS, &classes);
        let named = |claim: Value| world.admit(default_class, None, claim).unwrap()["spec"]["storageClassName"].clone();
        assert_eq!(named(json!({"spec": {}})), "b");
        assert_eq!(named(json!({"spec": {"storageClassName": ""}})), "");
        assert_eq!(named(json!({"metadata": {"annotations": {NAMED: "x"}}, "spec": {}})), Value::Null);
    }

    #[test]
    fn a_claim_is_protected_once() {
        let world = World::new(&known::PERSISTENT_VOLUME_CLAIMS, &[]);
        let once = world.admit(protect, None, json!({"metadata": {"finalizers": ["e.com/f"]}})).unwrap();
        assert_eq!(once["metadata"]["finalizers"], json!(["e.com/f", "kubernetes.io/pvc-protection"]));
        assert_eq!(world.admit(protect, None, once.clone()), Ok(once));
        let volumes = World::new(&known::PERSISTENT_VOLUMES, &[]).admit(protect, None, json!({})).unwrap();
        assert_eq!(volumes["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
    }

    #[test]
    fn growth_is_the_class_s_to_allow() {
        let early = "2026-01-01T00:00:00Z";
        let world =
            World::new(&known::PERSISTENT_VOLUME_CLAIMS, &[class("grows", early, true), class("fixed", early, false)]);
        let claim = |class: &str, phase: &str, size: &str| {
            json!({"metadata": {"name": "c"}, "status": {"phase": phase},
                "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}})
        };
        for (class, phase, size, why) in [
            ("grows", "Bound", "2Gi", None),
            ("fixed", "Bound", "1Gi", None),
            ("fixed", "Bound", "2Gi", Some("only dynamically provisioned pvc can be resized")),
            ("", "Bound", "2Gi", Some("only dynamically provisioned pvc can be resized")),
            ("grows", "Pending", "2Gi", Some("Only bound persistent volume claims can be expanded")),
        ] {
            let old = claim(class, phase, "1Gi");
            let said = world.validate(resize, Some(&old), &claim(class, phase, size));
            match why {
                None => assert_eq!(said, Ok(vec![]), "{class} {phase} {size}"),
                Some(why) => assert!(said.unwrap_err().contains(why), "{class} {phase} {size}"),
            }
        }
    }
}
