//! The built-in groups: which versions they have, and what comes first. Discovery lists them so, and an APIService stands for each version.

/// One group. Of two groups the one of higher priority comes first, of two versions likewise.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Empty for the core group.
    pub name: &'static str,
    pub priority: i64,
    /// Each with its priority, the preferred first.
    pub versions: &'static [(&'static str, i64)],
}

const fn group(name: &'static str, priority: i64, versions: &'static [(&'static str, i64)]) -> Group {
    Group { name, priority, versions }
}

const V1: &[(&str, i64)] = &[("v1", 15)];

/// The aggregator's own group, which no APIService stands for: it is always the first after the core group.
pub const REGISTRATION: &str = "apiregistration.k8s.io";

/// Priorities as upstream has them. Where two are equal, the name decides.
pub const GROUPS: &[Group] = &[
    group("", 18_000, &[("v1", 1)]),
    group("apps", 17_800, V1),
    group("events.k8s.io", 17_750, V1),
    group("authentication.k8s.io", 17_700, V1),
    group("authorization.k8s.io", 17_600, V1),
    group("autoscaling", 17_500, &[("v2", 30), ("v1", 15)]),
    group("batch", 17_400, V1),
    group("certificates.k8s.io", 17_300, V1),
    group("networking.k8s.io", 17_200, V1),
    group("policy", 17_100, V1),
    group("rbac.authorization.k8s.io", 17_000, V1),
    group("storage.k8s.io", 16_800, V1),
    group("admissionregistration.k8s.io", 16_700, V1),
    group("apiextensions.k8s.io", 16_700, V1),
    group("scheduling.k8s.io", 16_600, V1),
    group("coordination.k8s.io", 16_500, V1),
    group("node.k8s.io", 16_300, V1),
    group("discovery.k8s.io", 16_200, V1),
    group("resource.k8s.io", 16_200, &[("v1", 20)]),
    group("flowcontrol.apiserver.k8s.io", 16_100, &[("v1", 21)]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_priorities() {
        for pair in GROUPS.windows(2) {
            let key = |g: &Group| (std::cmp::Reverse(g.priority), g.name);
            assert!(key(&pair[0]) < key(&pair[1]), "{} {}", pair[0].name, pair[1].name);
        }
        for group in GROUPS {
            assert!(group.versions.windows(2).all(|pair| pair[0].1 > pair[1].1), "{}", group.name);
        }
    }
}
