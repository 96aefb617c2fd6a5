//! Where upstream has an object in etcd: what errors call it, and what its ciphertext may be bound to.

use kedge_api::groups::GROUPS;
use kedge_api::{GroupResource, Key};

/// Those that lie elsewhere than below their plural.
const SPECIAL: &[(GroupResource, &str)] = &[
    (GroupResource::of("", "endpoints"), "services/endpoints"),
    (GroupResource::of("", "nodes"), "minions"),
    (GroupResource::of("", "replicationcontrollers"), "controllers"),
    (GroupResource::of("", "services"), "services/specs"),
    (GroupResource::of("networking.k8s.io", "ingresses"), "ingress"),
    (
        GroupResource::of("apiextensions.k8s.io", "customresourcedefinitions"),
        "apiextensions.k8s.io/customresourcedefinitions",
    ),
];

pub fn place(key: &Key) -> String {
    let (resource, group) = (key.resource.resource.as_str(), key.resource.group.as_str());
    let below = match SPECIAL.iter().find(|(special, _)| *special == key.resource) {
        Some((_, below)) => (*below).to_owned(),
        // A group that its servers bring along stands before its resources.
        None if GROUPS.iter().any(|own| own.name == group) => resource.to_owned(),
        None => format!("{group}/{resource}"),
    };
    let namespace = if key.namespace.is_empty() { String::new() } else { format!("{}/", key.namespace) };
    format!("/registry/{below}/{namespace}{}", key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_upstreams() {
        for (group, resource, namespace, expected) in [
            ("", "secrets", "n", "/registry/secrets/n/a"),
            ("", "nodes", "", "/registry/minions/a"),
            ("", "services", "n", "/registry/services/specs/n/a"),
            ("apps", "deployments", "n", "/registry/deployments/n/a"),
            ("rbac.authorization.k8s.io", "clusterroles", "", "/registry/clusterroles/a"),
            ("networking.k8s.io", "ingresses", "n", "/registry/ingress/n/a"),
            ("apiregistration.k8s.io", "apiservices", "", "/registry/apiregistration.k8s.io/apiservices/a"),
            (
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                "",
                "/registry/apiextensions.k8s.io/customresourcedefinitions/a",
            ),
            ("gateway.networking.k8s.io", "gateways", "n", "/registry/gateway.networking.k8s.io/gateways/n/a"),
        ] {
            assert_eq!(place(&Key::new(GroupResource::of(group, resource), namespace, "a")), expected);
        }
    }
}
