//! The checks as a table, and what they share: going through containers, and upstream's way to count and list.

use std::collections::BTreeSet;

use serde_json::Value;

use super::policy::{Bound, Level};
use super::{baseline, restricted};
use crate::errors::quote;
use crate::value::Look as _;

pub(super) const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
/// Annotations that chose AppArmor profiles before there was a field for it.
pub(super) const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: String,
    pub(super) detail: String,
}

/// What a check looks at.
pub(super) struct Pod<'a> {
    pub(super) bound: Bound,
    pub(super) meta: &'a Value,
    pub(super) spec: &'a Value,
}

/// One check of a level.
struct Check {
    level: Level,
    /// The minor version of Kubernetes that it came with.
    since: u32,
    /// A restricted check that says all of it and more takes its place.
    replaced: bool,
    run: fn(&Pod<'_>) -> Option<Failure>,
}

const fn baseline(run: fn(&Pod<'_>) -> Option<Failure>) -> Check {
    Check { level: Level::Baseline, since: 0, replaced: false, run }
}

const fn restricted(since: u32, run: fn(&Pod<'_>) -> Option<Failure>) -> Check {
    Check { level: Level::Restricted, since, replaced: false, run }
}

/// In the order in which upstream names what fails.
const CHECKS: &[Check] = &[
    baseline(baseline::apparmor),
    Check { replaced: true, ..baseline(baseline::capabilities) },
    baseline(baseline::host_namespaces),
    Check { replaced: true, ..baseline(baseline::host_paths) },
    baseline(baseline::host_ports),
    Check { since: 34, ..baseline(baseline::probe_hosts) },
    baseline(baseline::privileged),
    baseline(baseline::proc_mount),
    baseline(baseline::selinux),
    Check { replaced: true, ..baseline(baseline::seccomp) },
    baseline(baseline::sysctls),
    baseline(baseline::host_process),
    restricted(8, restricted::escalation),
    restricted(22, restricted::capabilities),
    restricted(0, restricted::volumes),
    restricted(0, restricted::non_root),
    restricted(23, restricted::user),
    restricted(19, restricted::seccomp),
];

/// All that a pod does which its bound does not let it do.
pub(super) fn failures(bound: Bound, meta: &Value, spec: &Value) -> Vec<Failure> {
    let pod = Pod { bound, meta, spec };
    let strict = bound.level == Level::Restricted;
    let asked = CHECKS.iter().filter(|c| c.level <= bound.level && bound.since(c.since) && !(strict && c.replaced));
    asked.filter_map(|check| (check.run)(&pod)).collect()
}

impl<'a> Pod<'a> {
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec;
        CONTAINERS.iter().flat_map(move |list| spec.items(list))
    }

    /// The names of the containers that `is_bad` holds of.
    pub(super) fn bad(&self, is_bad: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| is_bad(container)).map(|container| container.text("name")).collect()
    }

    /// A pod whose root is nobody outside may do more as root.
    pub(super) fn has_own_users(&self) -> bool {
        self.spec.look("hostUsers").as_bool() == Some(false)
    }

    /// What is asked of Linux pods only, since this could be told apart.
    pub(super) fn is_windows(&self) -> bool {
        self.bound.since(25) && self.spec.text("os.name") == "windows"
    }
}

/// `one` or `many`, by how many there are.
pub(super) fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

pub(super) fn quoted<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    items.into_iter().map(|item| quote(item.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`.
pub(super) fn named(containers: &[&str]) -> String {
    format!("{} {}", plural(containers.len(), "container", "containers"), quoted(containers))
}

pub(super) fn failure(reason: &str, detail: impl Into<String>) -> Failure {
    Failure { reason: reason.to_owned(), detail: detail.into() }
}

/// Who sets a field to what it must not be: `pod and containers "a", "b"`.
pub(super) fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    match (pod, containers) {
        (false, []) => None,
        (true, []) => Some("pod".to_owned()),
        (false, some) => Some(named(some)),
        (true, some) => Some(format!("pod and {}", named(some))),
    }
}

/// The values at `path` of the pod's and the containers' security contexts that `is_bad` holds of, with those who set them.
pub(super) fn contexts(pod: &Pod<'_>, path: &str, is_bad: fn(&Value) -> bool) -> (Option<String>, BTreeSet<String>) {
    let of = |holder: &Value| holder.look("securityContext").look(path).clone();
    let bad = |holder: &Value| Some(of(holder)).filter(|value| !value.is_null() && is_bad(value));
    let shown = |value: Value| value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
    let values = [pod.spec].into_iter().chain(pod.containers()).filter_map(bad).map(shown).collect();
    (setters(bad(pod.spec).is_some(), &pod.bad(|container| bad(container).is_some())), values)
}
