//! From what was asked ([`ContainerSpec`]) to what libcontainer is told (the OCI `config.json`). Pure.
//!
//! The document is written as JSON and then read into `oci-spec`'s types: what they do not know (a capability, a limit) is an
//! error here and not in the container's first process.

mod check;
mod defaults;
mod process;

use std::collections::BTreeMap;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::{ContainerSpec, Error, Mount, Namespace};

pub use check::{check, check_id};
pub use defaults::{DEFAULT_CAPABILITIES, DEFAULT_PATH, MASKED_PATHS, READONLY_PATHS};
pub use process::for_exec;

/// What the decision needs to know of the machine.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// `/sys/fs/cgroup` is the unified hierarchy.
    pub cgroup_v2: bool,
    /// The memory controller is there (a Raspberry Pi's kernel switches it off unless told otherwise).
    pub memory: bool,
}

/// The whole `config.json`. `root` is the root file system's directory, relative to the bundle or absolute.
pub fn config(spec: &ContainerSpec, root: &str, host: &Host) -> Result<Spec, Error> {
    check(spec)?;
    serde_json::from_value(document(spec, root, host)).map_err(|error| Error::Invalid {
        id: spec.id.clone(),
        field: "capabilities or rlimits",
        reason: error.to_string(),
    })
}

fn document(spec: &ContainerSpec, root: &str, host: &Host) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": root, "readonly": spec.readonly_rootfs },
        "process": process::first(spec),
        "mounts": mounts(spec),
        "linux": {
            "namespaces": namespaces(spec, host),
            "cgroupsPath": spec.cgroup,
            "resources": resources(spec, host),
            "sysctl": spec.sysctls,
            "rootfsPropagation": "slave",
            "maskedPaths": paths(spec, spec.masked_paths.as_deref(), MASKED_PATHS),
            "readonlyPaths": paths(spec, spec.readonly_paths.as_deref(), READONLY_PATHS),
        },
    })
}

fn paths(spec: &ContainerSpec, asked: Option<&[String]>, default: &[&str]) -> Vec<String> {
    match asked {
        Some(asked) => asked.to_vec(),
        None if spec.privileged => Vec::new(),
        None => default.iter().map(|&path| path.to_owned()).collect(),
    }
}

/// The default mounts, each replaced by what the caller mounts in its place, then the caller's in their order.
fn mounts(spec: &ContainerSpec) -> Vec<Value> {
    let taken = |target: &str| spec.mounts.iter().any(|mount| mount.target.trim_end_matches('/') == target);
    let defaults = defaults::MOUNTS.iter().filter(|mount| !taken(mount.target)).map(|mount| {
        // A privileged container may write where others may only read: /sys and its cgroups.
        let options = mount.options.iter().map(|&option| match option {
            "ro" if spec.privileged => "rw",
            other => other,
        });
        json!({
            "destination": mount.target,
            "type": mount.fstype,
            "source": mount.source,
            "options": options.collect::<Vec<_>>(),
        })
    });
    defaults.chain(spec.mounts.iter().map(mount)).collect()
}

fn mount(mount: &Mount) -> Value {
    json!({ "destination": mount.target, "type": mount.fstype, "source": mount.source, "options": mount.options })
}

/// Sharing the host's namespace is told by leaving it out.
fn namespaces(spec: &ContainerSpec, host: &Host) -> Vec<Value> {
    // Before v2 a cgroup namespace hides nothing that the read-only mount does not.
    let cgroup = if host.cgroup_v2 { &Namespace::Own } else { &Namespace::Host };
    let asked = [
        ("mount", &Namespace::Own),
        ("pid", &spec.namespaces.pid),
        ("network", &spec.namespaces.net),
        ("ipc", &spec.namespaces.ipc),
        ("uts", &spec.namespaces.uts),
        ("cgroup", cgroup),
    ];
    asked
        .into_iter()
        .filter_map(|(kind, asked)| match asked {
            Namespace::Own => Some(json!({ "type": kind })),
            Namespace::Path(path) => Some(json!({ "type": kind, "path": path })),
            Namespace::Host => None,
        })
        .collect()
}

fn resources(spec: &ContainerSpec, host: &Host) -> Value {
    let asked = &spec.resources;
    let mut unified = BTreeMap::new();
    if host.cgroup_v2 && host.memory {
        // Out of memory ends the whole container, not one process of it, as the kubelet has it since 1.28.
        unified.insert("memory.oom.group", "1");
    }
    json!({
        "devices": [{ "allow": spec.privileged, "access": "rwm" }],
        "cpu": { "shares": asked.cpu_shares, "quota": asked.cpu_quota, "period": asked.cpu_period },
        "memory": asked.memory.filter(|_| host.memory).map(|limit| json!({ "limit": limit })),
        "pids": asked.pids.map(|limit| json!({ "limit": limit })),
        "unified": unified,
    })
}

#[cfg(test)]
mod tests;
