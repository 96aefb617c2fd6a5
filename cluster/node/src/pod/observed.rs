//! What is known about one pod on this node. Serializable, so that the successor of this process can take over.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::plan::StopReason;
use super::probe::Probes;

/// Everything [`super::plan`] decides from, beside the pod itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// When the agent first saw the pod: `status.startTime`.
    pub since: Timestamp,
    pub sandbox: Sandbox,
    pub init: Vec<Slot>,
    pub main: Vec<Slot>,
    /// A container of the pod proper was started in this sandbox: the init containers are over.
    pub initialized: bool,
    /// When the first container was stopped because the pod ends.
    pub ending: Option<Timestamp>,
    /// Why the pod failed as a whole, once it has.
    pub verdict: Option<Verdict>,
    /// When mounted data (tokens) has to be written anew.
    pub refresh: Option<Timestamp>,
    /// Mounted data may be out of date: something it came from changed.
    pub stale: bool,
    #[serde(skip)]
    pub refreshing: bool,
    /// The API object was deleted by us.
    pub deleted: bool,
}

/// Namespaces, network and volumes: what containers stand in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sandbox {
    Absent { failures: u32, retry: Option<Timestamp> },
    Preparing { failures: u32 },
    Ready { addresses: Vec<IpAddr> },
    Releasing,
    Gone,
}

/// One container of the spec over all its attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    pub name: String,
    /// The attempt that `phase` speaks of; also the restart count.
    pub attempt: u32,
    pub phase: Phase,
    /// How the attempt before ended: `lastState`.
    pub last: Option<Termination>,
    pub restarts: Backoff,
    pub pulls: Backoff,
    /// Digest of the image that the last attempt used.
    pub image: String,
    /// The container's id in the runtime; empty until the first attempt.
    pub id: String,
    /// The startup probe passed, or there is none.
    pub started: bool,
    pub ready: bool,
    pub probes: Probes,
    /// A probe or hook said that the container must not go on.
    pub condemned: Option<StopReason>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// No container exists. With a `hold`, an attempt failed before one could.
    Waiting(Option<Hold>),
    Starting,
    Running {
        since: Timestamp,
    },
    Stopping {
        since: Timestamp,
        asked: Timestamp,
        grace: i64,
        killed: Option<Timestamp>,
        why: StopReason,
    },
    Exited(Termination),
}

/// Why nothing is started now, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub reason: String,
    pub message: String,
    pub since: Timestamp,
    pub until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Termination {
    pub code: i32,
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    pub message: String,
    pub started: Option<Timestamp>,
    pub finished: Timestamp,
    pub id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
}

/// Names a container of the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SlotId {
    Init(usize),
    Main(usize),
}

impl SlotId {
    /// The container in the spec that this names.
    pub fn container(self, spec: &PodSpec) -> Option<&Container> {
        match self {
            Self::Init(i) => spec.init_containers.as_deref().unwrap_or_default().get(i),
            Self::Main(i) => spec.containers.get(i),
        }
    }

    /// The path that upstream's events name it by.
    pub fn field_path(self, name: &str) -> String {
        match self {
            Self::Init(_) => format!("spec.initContainers{{{name}}}"),
            Self::Main(_) => format!("spec.containers{{{name}}}"),
        }
    }
}

impl Phase {
    /// A container exists that has not ended.
    pub fn is_alive(&self) -> bool {
        match self {
            Self::Starting | Self::Running { .. } | Self::Stopping { .. } => true,
            Self::Waiting(_) | Self::Exited(_) => false,
        }
    }

    pub fn running_since(&self) -> Option<Timestamp> {
        match self {
            Self::Running { since } | Self::Stopping { since, .. } => Some(*since),
            Self::Waiting(_) | Self::Starting | Self::Exited(_) => None,
        }
    }
}

impl Slot {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            attempt: 0,
            phase: Phase::Waiting(None),
            last: None,
            restarts: Backoff::default(),
            pulls: Backoff::default(),
            image: String::new(),
            id: String::new(),
            started: false,
            ready: false,
            probes: Probes::default(),
            condemned: None,
        }
    }

    pub fn exit(&self) -> Option<&Termination> {
        match &self.phase {
            Phase::Exited(end) => Some(end),
            Phase::Waiting(_) | Phase::Starting | Phase::Running { .. } | Phase::Stopping { .. } => None,
        }
    }
}

impl Observed {
    /// A pod nobody has touched yet.
    pub fn new(pod: &Pod, now: Timestamp) -> Self {
        let slots = |containers: &[Container]| containers.iter().map(|c| Slot::new(&c.name)).collect();
        let spec = pod.spec.as_ref();
        Self {
            since: now,
            sandbox: Sandbox::Absent { failures: 0, retry: None },
            init: slots(spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default()),
            main: slots(spec.map(|s| s.containers.as_slice()).unwrap_or_default()),
            initialized: false,
            ending: None,
            verdict: None,
            refresh: None,
            stale: false,
            refreshing: false,
            deleted: false,
        }
    }

    pub fn slot(&self, id: SlotId) -> Option<&Slot> {
        match id {
            SlotId::Init(i) => self.init.get(i),
            SlotId::Main(i) => self.main.get(i),
        }
    }

    pub fn slot_mut(&mut self, id: SlotId) -> Option<&mut Slot> {
        match id {
            SlotId::Init(i) => self.init.get_mut(i),
            SlotId::Main(i) => self.main.get_mut(i),
        }
    }

    /// All containers, init containers first.
    pub fn slots(&self) -> impl DoubleEndedIterator<Item = (SlotId, &Slot)> {
        let init = self.init.iter().enumerate().map(|(i, s)| (SlotId::Init(i), s));
        init.chain(self.main.iter().enumerate().map(|(i, s)| (SlotId::Main(i), s)))
    }

    pub fn addresses(&self) -> &[IpAddr] {
        match &self.sandbox {
            Sandbox::Ready { addresses } => addresses,
            Sandbox::Absent { .. } | Sandbox::Preparing { .. } | Sandbox::Releasing | Sandbox::Gone => &[],
        }
    }
}
