//! An ingress that names no class gets the default one.

use kedge_api::{GroupResource, Status};
use serde_json::Value;

use super::{Attributes, storage};
use crate::strategy::Scope;
use crate::value::{Fill as _, Look as _};

const CLASSES: GroupResource = GroupResource::of("networking.k8s.io", "ingressclasses");
const IS_DEFAULT: &[&str] = &["ingressclass.kubernetes.io/is-default-class"];
/// How an ingress named its class before there was a field for it.
const NAMED: &str = "kubernetes.io/ingress.class";

pub(super) fn default(scope: &Scope<'_>, _: &Attributes<'_>, ingress: &mut Value) -> Result<(), Status> {
    let named = ingress.has("spec.ingressClassName") || ingress.look("metadata.annotations").get(NAMED).is_some();
    if !named && let Some(class) = storage::newest(scope, &CLASSES, IS_DEFAULT) {
        ingress.set("spec.ingressClassName", class);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;

    #[test]
    fn the_default_fills_what_is_unsaid() {
        let class = json!({"metadata": {"name": "web", "annotations": {IS_DEFAULT[0]: "true"}}});
        let world = World::new(&super::super::INGRESSES, &[(CLASSES, class)]);
        let named = |ingress: Value| world.admit(default, None, ingress).unwrap()["spec"]["ingressClassName"].clone();
        assert_eq!(named(json!({"spec": {}})), "web");
        assert_eq!(named(json!({"spec": {"ingressClassName": "other"}})), "other");
        assert_eq!(named(json!({"metadata": {"annotations": {NAMED: "old"}}, "spec": {}})), Value::Null);
        let none = World::new(&super::super::INGRESSES, &[]);
        assert_eq!(none.admit(default, None, json!({"spec": {}})), Ok(json!({"spec": {}})));
    }
}
