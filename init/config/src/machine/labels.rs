//! Labels that a node may give itself. The API refuses others (upstream's NodeRestriction admission), so that a node which was taken over
//! cannot draw pods to itself; better told before the device is flashed.

/// Of the domains of Kubernetes, these.
const OWN: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// And all of these domains.
const OWN_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESERVED: &str = "node-restriction.kubernetes.io";

pub(super) fn is_own(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    let within = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    let reserved = within("kubernetes.io") || within("k8s.io");
    !within(RESERVED) && (!reserved || OWN.contains(&key) || OWN_DOMAINS.iter().any(|own| within(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_does_not_say_what_role_it_has() {
        for (key, own) in [
            ("rack", true),
            ("acme.io/rack", true),
            ("topology.kubernetes.io/zone", true),
            ("node.kubernetes.io/anything", true),
            ("x.kubelet.kubernetes.io/a", true),
            ("node-role.kubernetes.io/worker", false),
            ("node-restriction.kubernetes.io/pci", false),
            ("x.k8s.io/a", false),
        ] {
            assert_eq!(is_own(key), own, "{key}");
        }
    }
}
