//! The node's pods and their workers: which there are, and what each is told.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kedge_api::resource::known::PODS;
use kedge_api::{GroupResource, Key, Object, Snapshot};
use kedge_runtime::{ContainerEvent, ContainerState, Status};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinSet};

use crate::actions::release;
use crate::pod::seed::{self, Found, FoundState};
use crate::pod::{Observed, Termination};
use crate::site::Site;
use crate::translate::container::{label, parse_id};
use crate::translate::qos::Class;
use crate::volumes::payload::references;
use crate::worker::{self, Desired, Message, Worker};

/// Messages waiting for one pod: its containers' ends and hints, each handled within microseconds.
const QUEUE: usize = 16;

/// How long after a worker's bad end its successor begins.
const AGAIN: Duration = Duration::from_secs(5);

/// How the agent reaches one worker.
struct Handle {
    uid: String,
    key: Key,
    desired: watch::Sender<Desired>,
    messages: mpsc::Sender<Message>,
    references: Vec<(GroupResource, String)>,
}

pub struct Pods {
    site: Arc<Site>,
    /// By uid without its dashes, as container ids begin.
    handles: HashMap<String, Handle>,
    tasks: JoinSet<()>,
    /// Whose task it is.
    owners: HashMap<Id, String>,
}

/// As little of a pod as tells whose it is.
#[derive(Deserialize)]
struct Bound {
    #[serde(default)]
    spec: BoundSpec,
}

#[derive(Default, Deserialize)]
struct BoundSpec {
    #[serde(default, rename = "nodeName")]
    node_name: String,
}

fn compact(uid: &str) -> String {
    uid.replace('-', "")
}

impl Pods {
    pub fn new(site: Arc<Site>) -> Self {
        Self { site, handles: HashMap::new(), tasks: JoinSet::new(), owners: HashMap::new() }
    }

    /// Makes the workers those of the snapshot's pods. What no pod owns any more is removed.
    pub async fn reconcile(&mut self, snapshot: &Snapshot) {
        let containers = self.site.runtime.list();
        let mut seen = BTreeSet::new();
        for object in snapshot.list(&PODS, "") {
            if self.upsert(object, Some(&containers)) {
                seen.insert(compact(object.uid()));
            }
        }
        for (uid, handle) in &self.handles {
            if !seen.contains(uid) {
                handle.desired.send_modify(|d| d.gone = true);
            }
        }
        self.sweep(&containers).await;
    }

    /// A pod is there, or changed. Says whether it is this node's.
    pub fn upsert(&mut self, object: &Arc<Object>, containers: Option<&[ContainerState]>) -> bool {
        let bound = serde_json::from_slice::<Bound>(&object.json);
        if !bound.is_ok_and(|b| b.spec.node_name == self.site.node) {
            return false;
        }
        let pod: Arc<Pod> = match object.decode() {
            Ok(pod) => Arc::new(pod),
            Err(error) => {
                tracing::error!(%error, "pod cannot be read");
                return false;
            }
        };
        let uid = compact(object.uid());
        // A new pod under an old one's name: the old one is gone, whether anyone said so or not.
        for (_, old) in self.handles.iter().filter(|(u, h)| **u != uid && h.key == object.key) {
            old.desired.send_modify(|d| d.gone = true);
        }
        match self.handles.get(&uid) {
            Some(handle) => {
                handle.desired.send_replace(Desired { pod, gone: false });
            }
            None => self.spawn(Desired { pod, gone: false }, object.key.clone(), containers, Duration::ZERO),
        }
        true
    }

    pub fn deleted(&self, object: &Object) {
        if let Some(handle) = self.handles.get(&compact(object.uid())) {
            handle.desired.send_modify(|d| d.gone = true);
        }
    }

    /// Starts a worker; after `pause`, where the one before ended badly and may do so again.
    fn spawn(&mut self, desired: Desired, key: Key, containers: Option<&[ContainerState]>, pause: Duration) {
        let pod = desired.pod.clone();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let (observed, useless) = self.seed(&pod, containers);
        let references = references(&pod);
        let (desired, desired_here) = watch::channel(desired);
        let (messages, messages_here) = mpsc::channel(QUEUE);
        let worker = Worker::new(self.site.clone(), desired_here, messages_here, observed, useless);
        let task = self.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            worker.run().await;
        });
        self.owners.insert(task.id(), compact(&uid));
        self.handles.insert(compact(&uid), Handle { uid, key, desired, messages, references });
    }

    /// What is known of a pod that this process has not met before, and containers of it that are of no use.
    fn seed(&self, pod: &Pod, containers: Option<&[ContainerState]>) -> (Observed, Vec<String>) {
        let now = self.site.now();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let saved = std::fs::read(worker::checkpoint(&self.site, uid)).ok();
        let saved = saved.and_then(|json| serde_json::from_slice(&json).ok());
        let mut observed = saved.unwrap_or_else(|| seed::from_api(pod, now));
        let listed;
        let containers = match containers {
            Some(containers) => containers,
            None => {
                listed = self.site.runtime.list();
                &listed
            }
        };
        let prefix = compact(uid);
        let found: Vec<Found> = containers.iter().filter_map(|state| found(&prefix, state)).collect();
        let useless = seed::adopt(&mut observed, &found, now);
        (observed, useless)
    }

    pub async fn heard(&self, event: ContainerEvent) {
        match event {
            ContainerEvent::Started { .. } => {}
            ContainerEvent::Exited { id, exit } => {
                let Some((uid, slot, attempt)) = parse_id(&id) else { return };
                if let Some(handle) = self.handles.get(uid) {
                    // A worker that has ended needs no news.
                    let _ = handle.messages.send(Message::Exited { slot, attempt, exit }).await;
                }
            }
        }
    }

    /// Events were lost: tells every end again that the runtime knows.
    pub async fn relisten(&self) {
        for state in self.site.runtime.list() {
            if let Status::Exited(exit) = state.status {
                self.heard(ContainerEvent::Exited { id: state.id, exit }).await;
            }
        }
    }

    /// A ConfigMap or Secret changed.
    pub async fn changed(&self, key: &Key) {
        for handle in self.handles.values().filter(|h| h.key.namespace == key.namespace) {
            let named = |(resource, name): &(GroupResource, String)| *resource == key.resource && *name == *key.name;
            if handle.references.iter().any(named) {
                let _ = handle.messages.send(Message::Changed).await;
            }
        }
    }

    /// Waits for the end of a worker. One that ended before its pod did is started again from what is known.
    pub async fn ended(&mut self, snapshot: impl FnOnce() -> Snapshot) {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => {
                tracing::error!(%error, "worker of a pod ended badly");
                error.id()
            }
            None => return std::future::pending().await,
        };
        let Some(uid) = self.owners.remove(&id) else { return };
        let Some(handle) = self.handles.remove(&uid) else { return };
        if !handle.desired.borrow().gone
            && let Some(object) = snapshot().get(&handle.key)
            && object.uid() == handle.uid
        {
            let desired = handle.desired.borrow().clone();
            self.spawn(desired, object.key.clone(), None, AGAIN);
        }
    }

    /// Removes what was left by pods that went while nobody looked.
    async fn sweep(&self, containers: &[ContainerState]) {
        let site = &self.site;
        let mut strays: BTreeSet<String> =
            containers.iter().filter_map(|c| c.labels.get(label::UID).cloned()).collect();
        strays.extend(site.ground.sandboxes());
        strays.extend(names(&site.run_dir.join("pods")));
        strays.extend(names(&site.state_dir.join("pods")));
        strays.retain(|uid| !self.handles.contains_key(&compact(uid)));
        for uid in strays {
            let below = |class: Class| format!("{}/pod{uid}", class.cgroup());
            let cgroups = [Class::Guaranteed, Class::Burstable, Class::BestEffort].map(below);
            tracing::info!(uid, "removing what is left of a pod that is gone");
            if let Err(error) = release::remove(site, &uid, &cgroups).await {
                tracing::warn!(uid, %error, "remains of a pod are not removed");
                continue;
            }
            let room = crate::volumes::Room { run: site.run_of(&uid), state: site.state_of(&uid) };
            if let Err(error) = crate::volumes::remove(&room, &*site.ground) {
                tracing::warn!(uid, %error, "volumes of a pod are not removed");
            }
            release::remove_dir(&room.run);
        }
        let logs = site.state_dir.join("logs");
        for name in names(&logs) {
            let uid = name.rsplit('_').next().unwrap_or_default();
            if !self.handles.contains_key(&compact(uid)) {
                release::remove_dir(&logs.join(&name));
            }
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).collect()
}

fn found(uid: &str, state: &ContainerState) -> Option<Found> {
    let (prefix, slot, attempt) = parse_id(&state.id)?;
    if prefix != uid {
        return None;
    }
    let started = state.started_at;
    let known = match &state.status {
        Status::Created => None,
        Status::Running => Some(FoundState::Running { since: started.unwrap_or(state.created_at) }),
        Status::Exited(exit) => {
            let reason = match exit {
                kedge_runtime::Exit { oom_killed: true, .. } => "OOMKilled",
                kedge_runtime::Exit { code: 0, .. } => "Completed",
                kedge_runtime::Exit { .. } => "Error",
            };
            Some(FoundState::Exited(Termination {
                code: exit.code,
                signal: exit.signal,
                reason: reason.to_owned(),
                message: String::new(),
                started,
                finished: exit.at,
                id: state.id.clone(),
            }))
        }
    };
    Some(Found { slot, attempt, id: state.id.clone(), state: known })
}
