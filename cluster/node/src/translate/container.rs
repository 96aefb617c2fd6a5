//! A container of the spec, with everything looked up, as the runtime's `ContainerSpec`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kedge_runtime::sandbox::{Request, Sandbox};
use kedge_runtime::{ContainerSpec, Mount, Namespace, Namespaces, Rootfs, User};

use super::env::{self, Objects};
use super::expand::expand;
use super::fields::Facts;
use super::mounts::{self, Places, SubPath};
use super::{Error, is_host_network, qos, resources, security};
use crate::pod::SlotId;

/// Labels that carry what adoption needs.
pub mod label {
    pub const UID: &str = "uid";
    pub const NAMESPACE: &str = "namespace";
    pub const POD: &str = "pod";
    pub const CONTAINER: &str = "container";
}

/// An image as it concerns a container: what it is made of, and what it says of itself.
#[derive(Clone, Debug, Default)]
pub struct ImageFacts {
    pub digest: String,
    pub layers: Vec<PathBuf>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: String,
    pub user: String,
    pub stop_signal: Option<String>,
}

/// Everything a container is made from.
#[derive(Clone, Copy)]
pub struct Ingredients<'a> {
    pub pod: &'a Pod,
    pub slot: SlotId,
    pub attempt: u32,
    pub image: &'a ImageFacts,
    pub objects: Objects<'a>,
    pub facts: &'a Facts,
    pub places: &'a Places,
    pub shared: &'a Sandbox,
    /// As the image resolves [`security::asked_user`].
    pub user: &'a User,
    pub hostname: &'a str,
    pub log: &'a std::path::Path,
}

/// `UID-i0-3`: pod, init container or container by its index, attempt. The pod's uid is written without its dashes.
pub fn id(uid: &str, slot: SlotId, attempt: u32) -> String {
    let (kind, index) = match slot {
        SlotId::Init(i) => ('i', i),
        SlotId::Main(i) => ('c', i),
    };
    format!("{}-{kind}{index}-{attempt}", uid.replace('-', ""))
}

/// The parts of an [`id`]: what stands for the uid, the slot, the attempt.
pub fn parse_id(id: &str) -> Option<(&str, SlotId, u32)> {
    let mut parts = id.rsplitn(3, '-');
    let attempt = parts.next()?.parse().ok()?;
    let slot = parts.next()?;
    let uid = parts.next()?;
    let slot = match (slot.strip_prefix('i'), slot.strip_prefix('c')) {
        (Some(index), _) => SlotId::Init(index.parse().ok()?),
        (None, Some(index)) => SlotId::Main(index.parse().ok()?),
        (None, None) => return None,
    };
    Some((uid, slot, attempt))
}

/// The pod's own cgroup.
pub fn pod_cgroup(pod: &Pod, spec: &PodSpec) -> String {
    format!("{}/pod{}", qos::class(spec).cgroup(), pod.metadata.uid.as_deref().unwrap_or_default())
}

/// The container, and the paths below volumes that must exist before it is created.
pub fn of(from: Ingredients<'_>) -> Result<(ContainerSpec, Vec<SubPath>), Error> {
    let Ingredients { pod, slot, image, .. } = from;
    let no_container = || Error::Object(format!("{slot:?} is not a container of the pod"));
    let spec = pod.spec.as_ref().ok_or_else(no_container)?;
    let container = slot.container(spec).ok_or_else(no_container)?;
    if spec.share_process_namespace == Some(true) && spec.host_pid != Some(true) {
        return Err(Error::Unsupported("shareProcessNamespace"));
    }
    let context = container.security_context.as_ref();
    let own = env::of(pod, container, from.objects, from.facts)?;
    let (mut mounts, sub_paths) = mounts::of(container, &own, from.places)?;
    if let Some(shm) = from.shared.shm.as_ref().filter(|_| !mounts.iter().any(|m| m.target == "/dev/shm")) {
        mounts.push(Mount::bind(shm.to_string_lossy(), "/dev/shm", false));
    }
    let user = security::user(spec, container, from.user)?;
    let value = |text: &String| expand(text, &|name| own.get(name).cloned());
    let given = |list: &Option<Vec<String>>| list.as_deref().unwrap_or_default().iter().map(value).collect::<Vec<_>>();
    let (command, args) = (given(&container.command), given(&container.args));
    let mut line = if command.is_empty() { image.entrypoint.clone() } else { command.clone() };
    line.extend(if args.is_empty() && command.is_empty() { image.cmd.clone() } else { args });
    if line.is_empty() {
        return Err(Error::NoCommand);
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    let labels = [
        (label::UID, uid.to_owned()),
        (label::NAMESPACE, text(pod.metadata.namespace.as_ref())),
        (label::POD, text(pod.metadata.name.as_ref())),
        (label::CONTAINER, container.name.clone()),
    ];
    let id = id(uid, slot, from.attempt);
    let privileged = security::is_privileged(container);
    let unmasked = privileged || context.and_then(|c| c.proc_mount.as_deref()) == Some("Unmasked");
    Ok((
        ContainerSpec {
            cgroup: format!("{}/{id}", pod_cgroup(pod, spec)),
            id,
            labels: labels.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            rootfs: Rootfs { layers: image.layers.clone() },
            args: line,
            env: environment(image, &own, from.hostname, container.tty == Some(true)),
            cwd: container.working_dir.clone().filter(|d| !d.is_empty()).unwrap_or_else(|| image.working_dir.clone()),
            user,
            mounts,
            namespaces: namespaces(spec, from.shared),
            resources: resources::of_container(container),
            capabilities: if privileged {
                None
            } else {
                security::capabilities(context.and_then(|c| c.capabilities.as_ref()))
            },
            privileged,
            readonly_rootfs: context.and_then(|c| c.read_only_root_filesystem) == Some(true),
            no_new_privileges: context.and_then(|c| c.allow_privilege_escalation) == Some(false) && !privileged,
            masked_paths: unmasked.then(Vec::new),
            readonly_paths: unmasked.then(Vec::new),
            rlimits: Vec::new(),
            oom_score_adj: Some(qos::oom_score(spec, container, from.facts.memory)),
            tty: container.tty == Some(true),
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
            log: Some(from.log.to_owned()),
            ..ContainerSpec::default()
        },
        sub_paths,
    ))
}

/// The image's own, then what every container has, then the pod's; each outranks those before it.
fn environment(image: &ImageFacts, own: &env::Env, hostname: &str, tty: bool) -> Vec<(String, String)> {
    let mut all = BTreeMap::from([("HOSTNAME", hostname)]);
    if tty {
        all.insert("TERM", "xterm");
    }
    all.extend(image.env.iter().filter_map(|line| line.split_once('=')));
    all.extend(own.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    all.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn namespaces(spec: &PodSpec, shared: &Sandbox) -> Namespaces {
    let or_host = |path: &Option<PathBuf>| path.clone().map_or(Namespace::Host, Namespace::Path);
    Namespaces {
        net: or_host(&shared.net),
        uts: or_host(&shared.uts),
        ipc: or_host(&shared.ipc),
        pid: if spec.host_pid == Some(true) { Namespace::Host } else { Namespace::Own },
    }
}

/// The namespaces that the pod's containers share.
pub fn sandbox(pod: &Pod, hostname: &str) -> Request {
    let spec = pod.spec.as_ref();
    let own_network = !spec.is_some_and(is_host_network);
    Request {
        id: pod.metadata.uid.clone().unwrap_or_default(),
        hostname: hostname.to_owned(),
        net: own_network,
        uts: own_network,
        ipc: spec.and_then(|s| s.host_ipc) != Some(true),
        sysctls: spec.map(sysctls).unwrap_or_default(),
    }
}

fn sysctls(spec: &PodSpec) -> BTreeMap<String, String> {
    let list = spec.security_context.as_ref().and_then(|c| c.sysctls.as_deref()).unwrap_or_default();
    list.iter().map(|s| (s.name.clone(), s.value.clone())).collect()
}

#[cfg(test)]
#[path = "container_tests.rs"]
pub mod tests;
