//! The rules of containers.

use std::collections::HashSet;

use serde_json::Value;

use super::volumes::Known;
use super::{resources, security};
use crate::errors::{Errors, Late, Path};
use crate::kinds::endpoints::PROTOCOLS;
use crate::names;
use crate::value::Look as _;

mod env;
mod mounts;
mod probes;
mod restart;

pub(crate) const PULLS: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGES: &[&str] = &["File", "FallbackToLogsOnError"];

pub(crate) fn validate(spec: &Value, known: &Known<'_>, path: &Path<'_>, errors: &mut Errors) {
    let (main, init, ephemeral) =
        (path.child("containers"), path.child("initContainers"), path.child("ephemeralContainers"));
    if spec.items("containers").is_empty() {
        errors.required(&main, "");
    }
    let mut names = HashSet::new();
    for (at, container) in spec.items("containers").iter().enumerate() {
        let here = main.index(at);
        common(container, spec, known, &here, errors);
        unique(container, &here, &mut names, errors);
        probes::lifecycle(container, spec, &here, errors);
        probes::probes(container, spec, &here, errors);
        restart::policy(container, &here, errors);
    }
    host_port_conflicts(spec.items("containers"), &main, errors);
    for (at, container) in spec.items("initContainers").iter().enumerate() {
        init_container(container, spec, known, &init.index(at), &mut names, errors);
        // Of those that run one after the other each stands alone, and upstream names it the first.
        host_port_conflicts(std::slice::from_ref(container), &init, errors);
        init_hooks(container, spec, &init.index(at), errors);
    }
    names.extend(spec.items("initContainers").iter().map(|container| container.text("name")));
    for (at, container) in spec.items("ephemeralContainers").iter().enumerate() {
        ephemeral_container(container, spec, known, &ephemeral.index(at), &mut names, errors);
    }
}

/// No two have the same name, nor have two none.
fn unique<'a>(container: &'a Value, path: &Path<'_>, seen: &mut HashSet<&'a str>, errors: &mut Errors) {
    let name = container.text("name");
    if !seen.insert(name) {
        errors.duplicate(&path.child("name"), name);
    }
}

fn common(container: &Value, spec: &Value, known: &Known<'_>, path: &Path<'_>, errors: &mut Errors) {
    let name = container.text("name");
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        errors.all_invalid(&path.child("name"), name, names::label(name));
    }
    let image = container.text("image");
    if image.is_empty() {
        errors.required(&path.child("image"), "");
    }
    let message = container.text("terminationMessagePolicy");
    if !MESSAGES.contains(&message) {
        errors.not_supported(&path.child("terminationMessagePolicy"), message, MESSAGES);
    }
    ports(container, &path.child("ports"), errors);
    env::env(container.items("env"), &path.child("env"), errors);
    env::from(container.items("envFrom"), &path.child("envFrom"), errors);
    mounts::mounts(container, known, path, errors);
    mounts::devices(container, known, path, errors);
    let pull = container.text("imagePullPolicy");
    if !PULLS.contains(&pull) {
        errors.not_supported(&path.child("imagePullPolicy"), pull, PULLS);
    }
    resources::requirements(
        container.look("resources"),
        spec.items("resourceClaims"),
        &path.child("resources"),
        errors,
    );
    resizing(container.items("resizePolicy"), spec, &path.child("resizePolicy"), errors);
    security::container(container, spec, &path.child("securityContext"), errors);
}

/// What a change of an amount needs.
fn resizing(policies: &[Value], spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    const RESOURCES: &[&str] = &["cpu", "memory"];
    const POLICIES: &[&str] = &["NotRequired", "RestartContainer"];
    let mut seen = HashSet::new();
    for (at, entry) in policies.iter().enumerate() {
        let item = path.index(at);
        let (resource, policy) = (entry.text("resourceName"), entry.text("restartPolicy"));
        if !seen.insert(resource) {
            errors.duplicate(&item, resource);
        }
        match resource {
            "" => errors.required(path, ""),
            known if RESOURCES.contains(&known) => {}
            other => errors.not_supported(path, other, RESOURCES),
        }
        match policy {
            "" => errors.required(path, ""),
            known if POLICIES.contains(&known) => {}
            other => errors.not_supported(path, other, POLICIES),
        }
        if spec.text("restartPolicy") == "Never" && policy != "NotRequired" {
            errors.invalid(path, policy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

fn ports(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (at, port) in container.items("ports").iter().enumerate() {
        let item = path.index(at);
        let name = port.text("name");
        if !name.is_empty() {
            let wrong = names::port(name);
            if wrong.is_empty() {
                if !seen.insert(name) {
                    errors.duplicate(&item.child("name"), name);
                }
            } else {
                errors.all_invalid(&item.child("name"), name, wrong);
            }
        }
        let number = port.int("containerPort").unwrap_or(0);
        if number == 0 {
            errors.required(&item.child("containerPort"), "");
        } else {
            for why in names::port_number(number) {
                errors.invalid(&item.child("containerPort"), number, &why);
            }
        }
        if let Some(host) = port.int("hostPort").filter(|h| *h != 0) {
            for why in names::port_number(host) {
                errors.invalid(&item.child("hostPort"), host, &why);
            }
        }
        let protocol = port.text("protocol");
        if !PROTOCOLS.contains(&protocol) {
            errors.not_supported(&item.child("protocol"), protocol, PROTOCOLS);
        }
    }
}

/// Containers that run together cannot have the same port of the machine.
fn host_port_conflicts(containers: &[Value], list: &Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (at, container) in containers.iter().enumerate() {
        for (place, port) in container.items("ports").iter().enumerate() {
            let Some(host) = port.int("hostPort").filter(|h| *h != 0) else { continue };
            let key = format!("{}/{}/{host}", port.text("protocol"), port.text("hostIP"));
            if !seen.insert(key.clone()) {
                let item = list.index(at);
                let ports = item.child("ports");
                let port = ports.index(place);
                errors.duplicate(&port.child("hostPort"), key);
            }
        }
    }
}

fn init_container<'a>(
    container: &'a Value,
    spec: &Value,
    known: &Known<'_>,
    path: &Path<'_>,
    seen: &mut HashSet<&'a str>,
    errors: &mut Errors,
) {
    common(container, spec, known, path, errors);
    restart::of_init(container, path, errors);
    // Of those, several without a name are told of that alone.
    let name = container.text("name");
    if seen.contains(name) {
        errors.duplicate(&path.child("name"), name);
    } else if !name.is_empty() {
        seen.insert(name);
    }
}

/// What only those may have that go on beside the others.
fn init_hooks(container: &Value, spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    if container.text("restartPolicy") == "Always" {
        probes::lifecycle(container, spec, path, errors);
        probes::probes(container, spec, path, errors);
        return;
    }
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if container.has(field) {
            errors.forbidden(&path.child(field), "may not be set for init containers without restartPolicy=Always");
        }
    }
    let list = path.child("resizePolicy");
    for (at, policy) in container.items("resizePolicy").iter().enumerate() {
        if policy.text("restartPolicy") == "RestartContainer" {
            let item = list.index(at);
            let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.late(Late::InitRestart, |errors| {
                errors.invalid(&item.child("restartPolicy"), "RestartContainer", why);
            });
        }
    }
}

/// A pod's images, unlike a template's, stand without blanks around them.
pub(crate) fn images(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    for list in ["containers", "initContainers"] {
        images_of(spec.items(list), &path.child(list), errors);
    }
}

pub(crate) fn images_of(containers: &[Value], list: &Path<'_>, errors: &mut Errors) {
    for (at, container) in containers.iter().enumerate() {
        image(container, &list.index(at), errors);
    }
}

fn image(container: &Value, path: &Path<'_>, errors: &mut Errors) {
    let image = container.text("image");
    if image.trim() != image {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
}

fn ephemeral_container<'a>(
    container: &'a Value,
    spec: &Value,
    known: &Known<'_>,
    path: &Path<'_>,
    seen: &mut HashSet<&'a str>,
    errors: &mut Errors,
) {
    common(container, spec, known, path, errors);
    image(container, path, errors);
    unique(container, path, seen, errors);
    let target = container.text("targetContainerName");
    let lists = spec.items("containers").iter().chain(spec.items("initContainers"));
    if !target.is_empty() && !lists.into_iter().any(|c| c.text("name") == target) {
        errors.not_found(&path.child("targetContainerName"), target);
    }
    const WHY: &str = "cannot be set for an Ephemeral Container";
    const NOT: &[&str] = &[
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ];
    for field in NOT {
        let value = container.look(field);
        // Of these only the amounts are there where nothing is said of them.
        if !value.is_null() && (*field != "resources" || value.as_object().is_none_or(|o| !o.is_empty())) {
            errors.forbidden(&path.child(field), WHY);
        }
    }
    let list = path.child("volumeMounts");
    for (at, mount) in container.items("volumeMounts").iter().enumerate() {
        let item = list.index(at);
        for field in ["subPath", "subPathExpr"].iter().filter(|field| !mount.text(field).is_empty()) {
            errors.forbidden(&item.child(field), WHY);
        }
    }
}

/// As a variable takes it from the pod, but into a file.
pub(crate) fn downward_field(reference: &Value, fields: &[&str], path: &Path<'_>, errors: &mut Errors) {
    env::field(reference, fields, path, errors);
}

pub(crate) fn downward_amount(reference: &Value, path: &Path<'_>, errors: &mut Errors) {
    env::amount(reference, true, path, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_one_containers_also_those_that_are_missing() {
        let container = |name: &str| json!({"name": name, "image": "i", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"});
        let mut init = container("a");
        init["restartPolicy"] = json!("x");
        let spec = json!({
            "containers": [container("a"), container(""), container("")], "initContainers": [init, container("b")],
            "ephemeralContainers": [{"name": "b", "image": " i", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}],
        });
        let mut errors = Errors::default();
        validate(&spec, &Known::new(), &Path::root("s"), &mut errors);
        assert_eq!(
            errors.told(),
            [
                "s.containers[1].name: Required value",
                "s.containers[2].name: Required value",
                "s.containers[2].name: Duplicate value: \"\"",
                "s.initContainers[0].restartPolicy: Unsupported value: \"x\": supported values: \"Always\", \"Never\", \"OnFailure\"",
                "s.initContainers[0].name: Duplicate value: \"a\"",
                "s.ephemeralContainers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace",
                "s.ephemeralContainers[0].name: Duplicate value: \"b\"",
            ]
        );
    }
}
