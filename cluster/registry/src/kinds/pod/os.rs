//! Fields that make no sense on one or the other operating system.

use serde_json::Value;

use crate::errors::{Errors, Path};
use crate::value::Look as _;

const SYSTEMS: &[&str] = &["linux", "windows"];
const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";
/// In upstream's order; those with `true` stand in the specification itself.
const OF_PODS: &[(&str, bool)] = &[
    ("appArmorProfile", false),
    ("seLinuxOptions", false),
    ("hostUsers", true),
    ("hostPID", true),
    ("hostIPC", true),
    ("seccompProfile", false),
    ("fsGroup", false),
    ("fsGroupChangePolicy", false),
    ("sysctls", false),
    ("shareProcessNamespace", true),
    ("runAsUser", false),
    ("runAsGroup", false),
    ("supplementalGroups", false),
    ("supplementalGroupsPolicy", false),
    ("seLinuxChangePolicy", false),
];
const OF_CONTAINERS: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

pub(crate) fn validate(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let name = spec.text("os.name");
    match name {
        _ if !spec.has("os") => {}
        "" => errors.required(&path.child("os.name"), ""),
        "linux" => linux(spec, path, errors),
        "windows" => windows(spec, path, errors),
        _ => errors.not_supported(&path.child("os"), name, SYSTEMS),
    }
}

/// Every container, in upstream's order: those that come first, the others, those that came later.
pub(crate) fn each_container(spec: &Value, path: &Path<'_>, mut visit: impl FnMut(&Value, &Path<'_>)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let here = path.child(list);
        for (at, container) in spec.items(list).iter().enumerate() {
            visit(container, &here.index(at));
        }
    }
}

fn linux(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    const WHY: &str = "windows options cannot be set for a linux pod";
    if spec.has("securityContext.windowsOptions") {
        errors.forbidden(&path.child("securityContext.windowsOptions"), WHY);
    }
    each_container(spec, path, |container, here| {
        if container.has("securityContext.windowsOptions") {
            errors.forbidden(&here.child("securityContext.windowsOptions"), WHY);
        }
    });
}

fn windows(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let context = path.child("securityContext");
    for (field, outside) in OF_PODS {
        let (value, here) = match outside {
            true => (spec.look(field), path),
            false => (spec.look("securityContext").look(field), &context),
        };
        // A flag that is off is as good as none.
        let is_off = value == &Value::Bool(false) && ["hostPID", "hostIPC"].contains(field);
        if !value.is_null() && !is_off && value.as_array().is_none_or(|a| !a.is_empty()) {
            errors.forbidden(&here.child(field), NOT_ON_WINDOWS);
        }
    }
    each_container(spec, path, |container, here| {
        let context = here.child("securityContext");
        for field in OF_CONTAINERS.iter().filter(|f| container.look("securityContext").has(f)) {
            errors.forbidden(&context.child(field), NOT_ON_WINDOWS);
        }
    });
}
