//! What all pods of the node share: its name, its places, and the doors to API, runtime and network.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kedge_api::event::{self, Note, Recorder, Severity};
use kedge_api::{Client, Informer};
use kedge_net::Network;
use kedge_runtime::Runtime;
use tokio::sync::watch;

use crate::ground::Ground;
use crate::host::Host;
use crate::pod::SlotId;
use crate::translate::fields::Facts;
use crate::translate::files::Dns;
use crate::translate::mounts::Places;
use crate::volumes::Room;

pub struct Site {
    pub node: String,
    /// `/var/lib/kedge`
    pub state_dir: PathBuf,
    /// `/run/kedge`
    pub run_dir: PathBuf,
    pub cluster_dns: Vec<IpAddr>,
    pub domain: String,
    pub cpus: u32,
    pub memory: u64,
    pub addresses: watch::Receiver<Vec<IpAddr>>,
    pub client: Arc<dyn Client>,
    pub informer: Arc<dyn Informer>,
    pub runtime: Arc<dyn Runtime>,
    pub network: Arc<dyn Network>,
    pub ground: Arc<dyn Ground>,
    pub host: Arc<dyn Host>,
    pub recorder: Recorder,
}

/// A label of the pod that is fit for a path; uids come from the API server, but are not trusted with a path.
fn path_part(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    if text.is_empty() || text.starts_with('.') {
        format!("_{}", text.replace('/', "_"))
    } else {
        text.replace('/', "_")
    }
}

impl Site {
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    pub fn host_addresses(&self) -> Vec<IpAddr> {
        self.addresses.borrow().clone()
    }

    pub fn facts(&self, pod_addresses: &[IpAddr]) -> Facts {
        let pod_addresses = pod_addresses.to_vec();
        Facts { host_addresses: self.host_addresses(), pod_addresses, cpus: self.cpus, memory: self.memory }
    }

    /// The node's own resolver configuration is read each time: DHCP may change it.
    pub fn dns(&self) -> Dns {
        let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Dns { cluster: self.cluster_dns.clone(), domain: self.domain.clone(), host }
    }

    pub fn run_of(&self, uid: &str) -> PathBuf {
        self.run_dir.join("pods").join(path_part(Some(uid)))
    }

    pub fn state_of(&self, uid: &str) -> PathBuf {
        self.state_dir.join("pods").join(path_part(Some(uid)))
    }

    pub fn room(&self, pod: &Pod) -> Room {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        Room { run: self.run_of(uid), state: self.state_of(uid) }
    }

    pub fn places(&self, pod: &Pod, slot: SlotId, attempt: u32) -> Places {
        let room = self.room(pod);
        let (kind, index) = match slot {
            SlotId::Init(i) => ('i', i),
            SlotId::Main(i) => ('c', i),
        };
        Places {
            volumes: room.paths(pod),
            hosts: room.run.join("hosts"),
            resolv_conf: room.run.join("resolv.conf"),
            hostname: room.run.join("hostname"),
            termination: room.run.join("words").join(format!("{kind}{index}-{attempt}")),
        }
    }

    pub fn log(&self, pod: &Pod, container: &str, attempt: u32) -> PathBuf {
        self.logs(pod).join(path_part(Some(container))).join(format!("{attempt}.log"))
    }

    /// All logs of a pod, as upstream names the directory.
    pub fn logs(&self, pod: &Pod) -> PathBuf {
        let meta = &pod.metadata;
        log_dir(&self.state_dir, meta.namespace.as_deref(), meta.name.as_deref(), meta.uid.as_deref())
    }

    /// Tells people about a pod, or one of its containers.
    pub async fn note(
        &self,
        pod: &Pod,
        slot: Option<SlotId>,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        let mut about = event::reference(pod);
        about.resource_version = None;
        about.field_path = slot.and_then(|id| Some(id.field_path(&id.container(pod.spec.as_ref()?)?.name)));
        let note = Note { about, severity, reason: reason.to_owned(), message: message.into() };
        if let Err(status) = self.recorder.record(&note, self.now()).await {
            tracing::debug!(reason, error = %status, "event was not recorded");
        }
    }
}

pub fn log_dir(state: &Path, namespace: Option<&str>, name: Option<&str>, uid: Option<&str>) -> PathBuf {
    let name = format!("{}_{}_{}", path_part(namespace), path_part(name), path_part(uid));
    state.join("logs").join(name)
}
