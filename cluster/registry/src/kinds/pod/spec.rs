//! The rules of a pod's or template's specification as a whole.

use std::collections::HashSet;

use kedge_api::selector;
use serde_json::Value;

use super::{affinity, annotations, containers, os, resources, security, volumes};
use crate::errors::{Errors, Late, Path};
use crate::kinds::address;
use crate::names;
use crate::value::Look as _;

/// Where a specification stands: in a pod of this metadata, or in a template.
#[derive(Clone, Copy, Debug)]
pub(crate) enum In<'a> {
    Pod(&'a Value),
    Template,
}

const RESTARTS: &[&str] = &["Always", "OnFailure", "Never"];
const DNS: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

pub(crate) fn validate(spec: &Value, path: &Path<'_>, place: In<'_>, errors: &mut Errors) {
    let known = volumes::validate(spec.items("volumes"), place, &path.child("volumes"), errors);
    claims(spec, place, path, errors);
    containers::validate(spec, &known, path, errors);
    whole(spec, path, errors);
    host_ports(spec, path, place, errors);
    policies(spec, path, errors);
    crate::metadata::labels(spec.look("nodeSelector"), &path.child("nodeSelector"), errors);
    security::pod(spec, path, errors);
    affinity::validate(spec.look("affinity"), &path.child("affinity"), errors);
    dns_config(spec, path, errors);
    gates(spec, path, errors);
    topology(spec.items("topologySpreadConstraints"), &path.child("topologySpreadConstraints"), errors);
    security::host_process(spec, path, errors);
    own_users(spec, path, errors);
    host_name(spec, path, errors);
    named(spec, &[("serviceAccountName", names::subdomain), ("nodeName", names::subdomain)], path, errors);
    if let Some(seconds) = spec.int("activeDeadlineSeconds").filter(|s| !(1..=i64::from(i32::MAX)).contains(s)) {
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, "must be between 1 and 2147483647, inclusive");
    }
    named(spec, &[("hostname", names::label), ("subdomain", names::label)], path, errors);
    tolerations(spec.items("tolerations"), &path.child("tolerations"), errors);
    host_aliases(spec, path, errors);
    named(spec, &[("priorityClassName", names::subdomain)], path, errors);
    if let Some(class) = spec.look("runtimeClassName").as_str() {
        errors.all_invalid(&path.child("runtimeClassName"), class, names::subdomain(class));
    }
    if let Some(policy) = spec.look("preemptionPolicy").as_str() {
        const POLICIES: &[&str] = &["PreemptLowerPriority", "Never"];
        let here = path.child("preemptionPolicy");
        match policy {
            "" => errors.required(&here, ""),
            known if POLICIES.contains(&known) => {}
            other => errors.not_supported(&here, other, POLICIES),
        }
    }
    let overhead = serde_json::json!({"limits": spec.look("overhead")});
    resources::requirements(&overhead, &[], &path.child("overhead"), errors);
    os::validate(spec, path, errors);
    files_of_variables(spec, path, errors);
}

fn policies(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let restart = spec.text("restartPolicy");
    if !RESTARTS.contains(&restart) {
        errors.not_supported(&path.child("restartPolicy"), restart, RESTARTS);
    }
    let dns = spec.text("dnsPolicy");
    if !DNS.contains(&dns) {
        errors.not_supported(&path.child("dnsPolicy"), dns, DNS);
    }
}

/// Users of its own do not go with what is the machine's.
fn own_users(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    const WHY: &str = "when `hostUsers` is false";
    if spec.look("hostUsers") != &Value::Bool(false) {
        return;
    }
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.flag(field) {
            errors.forbidden(&path.child(shown), WHY);
        }
    }
    os::each_container(spec, path, |container, here| {
        if !container.items("volumeDevices").is_empty() {
            errors.late(Late::OwnUsersDevices, |errors| errors.forbidden(&here.child("volumeDevices"), WHY));
        }
    });
}

fn host_name(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(name) = spec.look("hostnameOverride").as_str() else { return };
    let here = path.child("hostnameOverride");
    for field in ["setHostnameAsFQDN", "hostNetwork"].iter().filter(|field| spec.flag(field)) {
        errors.forbidden(&here, &format!("may not be specified when {field} is true"));
    }
    if name.len() > 64 {
        errors.too_long(&here, 64);
    }
    errors.all_invalid(&here, name, names::subdomain(name));
}

/// On the machine's network a container's port is the machine's; a template may leave that to be filled in.
fn host_ports(spec: &Value, path: &Path<'_>, place: In<'_>, errors: &mut Errors) {
    if !spec.flag("hostNetwork") {
        return;
    }
    let list = path.child("containers");
    for (at, container) in spec.items("containers").iter().enumerate() {
        let item = list.index(at);
        let ports = item.child("ports");
        for (at, port) in container.items("ports").iter().enumerate() {
            let (host, own) = (port.int("hostPort").unwrap_or(0), port.int("containerPort").unwrap_or(0));
            if host != own && (matches!(place, In::Pod(_)) || host != 0) {
                let port = ports.index(at);
                errors.invalid(&port.child("hostPort"), host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

/// What variables are read from are files that the pod's own containers wrote.
fn files_of_variables(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    os::each_container(spec, path, |container, here| {
        let list = here.child("env");
        for (at, variable) in container.items("env").iter().enumerate() {
            let file = variable.look("valueFrom.fileKeyRef");
            if file.is_null() {
                continue;
            }
            let item = list.index(at);
            let place = item.child("valueFrom.fileKeyRef.volumeName");
            let name = file.text("volumeName");
            match spec.items("volumes").iter().find(|volume| volume.text("name") == name) {
                None => errors.not_found(&place, name),
                Some(volume) if !volume.has("emptyDir") => {
                    errors.invalid(&place, name, "referenced volume must be of type emptyDir");
                }
                Some(_) => {}
            }
        }
    });
}

fn dns_config(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let config = spec.look("dnsConfig");
    let here = path.child("dnsConfig");
    let servers = config.items("nameservers");
    if spec.text("dnsPolicy") == "None" {
        if config.is_null() {
            errors.required(&here, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            errors.required(
                &here.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
            return;
        }
    }
    let list = here.child("nameservers");
    if servers.len() > 3 {
        errors.invalid(&list, config.look("nameservers").clone(), "must not have more than 3 nameservers");
    }
    for (at, server) in servers.iter().enumerate() {
        address::ip(server.as_str().unwrap_or_default(), &list.index(at), errors);
    }
    let searches = config.items("searches");
    let list = here.child("searches");
    if searches.len() > 32 {
        errors.invalid(&list, config.look("searches").clone(), "must not have more than 32 search paths");
    }
    let characters: usize = searches.iter().map(|s| s.as_str().map_or(0, str::len) + 1).sum();
    if characters > 2048 + 1 {
        let why = "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(&list, config.look("searches").clone(), why);
    }
    for (at, search) in searches.iter().enumerate().map(|(at, s)| (at, s.as_str().unwrap_or_default())) {
        let plain = search.strip_suffix('.').unwrap_or(search);
        if search != "." {
            errors.all_invalid(&list.index(at), plain, names::search_domain(plain));
        }
    }
    let list = here.child("options");
    for (at, option) in config.items("options").iter().enumerate() {
        if option.text("name").is_empty() {
            errors.required(&list.index(at), "must not be empty");
        }
    }
}

fn gates(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("readinessGates");
    for (at, gate) in spec.items("readinessGates").iter().enumerate() {
        let name = gate.text("conditionType");
        let item = list.index(at);
        errors.all_invalid(&item.child("conditionType"), name, names::qualified(name));
    }
    let list = path.child("schedulingGates");
    let mut seen = HashSet::new();
    for (at, gate) in spec.items("schedulingGates").iter().enumerate() {
        let name = gate.text("name");
        let item = list.index(at);
        errors.all_invalid(&item, name, names::qualified(name));
        if !seen.insert(name) {
            errors.duplicate(&item, name);
        }
    }
}

fn topology(constraints: &[Value], path: &Path<'_>, errors: &mut Errors) {
    const ACTIONS: &[&str] = &["DoNotSchedule", "ScheduleAnyway"];
    for (at, constraint) in constraints.iter().enumerate() {
        let item = path.index(at);
        let skew = constraint.int("maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&item.child("maxSkew"), skew, "must be greater than zero");
        }
        let key = constraint.text("topologyKey");
        if key.is_empty() {
            errors.required(&item.child("topologyKey"), "can not be empty");
        }
        let action = constraint.text("whenUnsatisfiable");
        if !ACTIONS.contains(&action) {
            errors.not_supported(&item.child("whenUnsatisfiable"), action, ACTIONS);
        }
        let again = |c: &Value| c.text("topologyKey") == key && c.text("whenUnsatisfiable") == action;
        if constraints.iter().skip(at + 1).any(again) {
            errors.duplicate(&item.child("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = constraint.int("minDomains") {
            if domains <= 0 {
                errors.invalid(&item.child("minDomains"), domains, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&item.child("minDomains"), domains, &why);
            }
        }
        const HONOR: &[&str] = &["Honor", "Ignore"];
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = constraint.look(field).as_str().filter(|p| !HONOR.contains(p)) {
                errors.not_supported(&item.child(field), policy, HONOR);
            }
        }
        affinity::label_keys(constraint, &item, errors);
        errors.late(Late::SpreadSelector, |errors| {
            affinity::label_selector(constraint.look("labelSelector"), &item.child("labelSelector"), errors);
        });
    }
}

fn named(spec: &Value, fields: &[(&str, names::Check)], path: &Path<'_>, errors: &mut Errors) {
    for (field, check) in fields {
        let text = spec.text(field);
        if !text.is_empty() {
            errors.all_invalid(&path.child(field), text, check(text));
        }
    }
}

fn claims(spec: &Value, place: In<'_>, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("resourceClaims");
    let is_static = matches!(place, In::Pod(metadata) if annotations::is_of_mirror(metadata));
    let mut seen = HashSet::new();
    for (at, claim) in spec.items("resourceClaims").iter().enumerate() {
        if is_static {
            errors.forbidden(&Path::NOWHERE, "static pods do not support resource claims");
            continue;
        }
        let item = list.index(at);
        let name = claim.text("name");
        let (one, template) = (claim.look("resourceClaimName"), claim.look("resourceClaimTemplateName"));
        let shown = serde_json::json!({"Name": name, "ResourceClaimName": one, "ResourceClaimTemplateName": template});
        if name.is_empty() {
            errors.required(&item.child("name"), "");
        } else if !seen.insert(name) {
            errors.duplicate(&item.child("name"), name);
        } else {
            errors.all_invalid(&item.child("name"), name, names::label(name));
        }
        match (one.is_null(), template.is_null()) {
            (true, true) => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(&item, shown, why);
            }
            (false, false) => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid(&item, shown, why);
            }
            _ => {}
        }
        for (field, name) in [("resourceClaimName", one), ("resourceClaimTemplateName", template)] {
            if let Some(name) = name.as_str() {
                errors.all_invalid(&item.child(field), name, names::subdomain(name));
            }
        }
    }
}

pub(crate) fn tolerations(tolerations: &[Value], path: &Path<'_>, errors: &mut Errors) {
    const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
    for (at, toleration) in tolerations.iter().enumerate() {
        let item = path.index(at);
        let (key, operator, value) = (toleration.text("key"), toleration.text("operator"), toleration.text("value"));
        if !key.is_empty() {
            errors.all_invalid(&item.child("key"), key, names::qualified(key));
        }
        if key.is_empty() && operator != "Exists" {
            errors.invalid(
                &item.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.has("tolerationSeconds") && toleration.text("effect") != "NoExecute" {
            let effect = toleration.text("effect");
            errors.invalid(&item.child("effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator {
            "Equal" | "" => errors.all_invalid(&item.child("operator"), value, selector::label_value_error(value)),
            "Exists" if !value.is_empty() => {
                errors.invalid(&item.child("operator"), value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            // Comparisons of numbers are known, but switched off.
            "Lt" | "Gt" => errors.not_supported(&item.child("operator"), operator, &["Equal", "Exists", "Lt", "Gt"]),
            other => errors.not_supported(&item.child("operator"), other, &["Equal", "Exists"]),
        }
        let effect = toleration.text("effect");
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.not_supported(&item.child("effect"), effect, EFFECTS);
        }
    }
}

fn host_aliases(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path.child("hostAliases");
    for (at, alias) in spec.items("hostAliases").iter().enumerate() {
        let item = list.index(at);
        address::ip(alias.text("ip"), &item.child("ip"), errors);
        let hosts = item.child("hostnames");
        for (at, name) in alias.items("hostnames").iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            errors.all_invalid(&hosts.index(at), name, names::subdomain(name));
        }
    }
}

/// Resources of the pod as a whole.
fn whole(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let here = path.child("resources");
    let resources = spec.look("resources");
    if resources.is_null() {
        return;
    }
    if spec.text("os.name") == "windows" {
        errors.forbidden(&here, "may not be set for a windows pod");
        return;
    }
    if resources.has("claims") {
        errors.forbidden(&here.child("claims"), "claims may not be set for Resources at pod-level");
    }
    resources::of_pod(resources, spec.items("resourceClaims"), &here, errors);
    let within = |list: &str, name: &str, amount: &Value, errors: &mut Errors| {
        let sum = resources::together(spec, list, name);
        if sum > resources::parse(amount) {
            let why = format!("must be greater than or equal to aggregate container {list} of {sum}");
            errors.invalid(&here.child(list).key(name), amount.clone(), &why);
        }
    };
    let containers = || spec.items("initContainers").iter().chain(spec.items("containers"));
    let asked = |name: &str| containers().any(|container| container.look("resources.requests").get(name).is_some());
    for (name, amount) in resources.entries("requests").filter(|(name, _)| asked(name)) {
        within("requests", name, amount, errors);
    }
    for (name, amount) in resources.entries("limits").filter(|(name, _)| name.starts_with("hugepages-")) {
        within("limits", name, amount, errors);
    }
    let list = here.child("containers");
    for (at, container) in spec.items("containers").iter().enumerate() {
        for (name, limit) in container.entries("resources.limits") {
            let Some(most) = resources.look("limits").get(name) else { continue };
            if resources::parse(limit) > resources::parse(most) {
                let why = format!("must be less than or equal to pod limits of {}", most.as_str().unwrap_or_default());
                let item = list.index(at);
                let amount = item.key(name);
                errors.invalid(&amount.child("limits"), limit.clone(), &why);
            }
        }
    }
}
