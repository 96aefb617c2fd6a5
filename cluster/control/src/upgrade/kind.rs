//! What an Upgrade says, and what of nodes and machines it is about.
//!
//! Owns the typed half of the contract with `machine/NAME`: `spec.upgrade` is a wish, `status.upgrade` what became of it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kedge_api::GroupResource;
use kedge_api::event::whole_seconds;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub const GROUP: &str = "kedge.dev";
pub const API_VERSION: &str = "kedge.dev/v1alpha1";
pub const UPGRADES: GroupResource = GroupResource::of(GROUP, "upgrades");
pub const MACHINES: GroupResource = GroupResource::of(GROUP, "machines");
pub const DEFINITIONS: GroupResource = GroupResource::of("apiextensions.k8s.io", "customresourcedefinitions");
/// Holds an Upgrade until no node is cordoned and no machine waits because of it.
pub const FINALIZER: &str = "kedge.dev/upgrade";
/// On a machine: the Upgrade whose wish it has.
pub const CLAIM: &str = "kedge.dev/upgrade";
/// On a node: the Upgrade that cordoned it. A node that was cordoned before does not bear it.
pub const CORDONED_BY: &str = "kedge.dev/cordoned-by";

/// What makes a rollout this one: source, digest and attempt.
pub type Identity<'a> = (&'a str, Option<&'a str>, u32);

#[derive(Clone, Debug, Deserialize)]
pub struct Upgrade {
    pub spec: Spec,
    #[serde(default)]
    pub status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub source: String,
    pub certificate_authorities: Option<String>,
    pub digest: Option<String>,
    pub attempt: Option<u32>,
    pub bytes_per_second: Option<u64>,
    pub window: Option<Window>,
    pub gate: Option<Value>,
    pub node_selector: Option<LabelSelector>,
    pub concurrency: Option<IntOrString>,
    pub prefetch: Option<bool>,
    pub drain: Drain,
    pub min_ready_seconds: u32,
    pub paused: bool,
    pub abort: bool,
    pub max_failures: usize,
}

impl Spec {
    pub fn identity(&self) -> Identity<'_> {
        (&self.source, self.digest.as_deref(), self.attempt.unwrap_or(0))
    }
}

/// From one `HH:MM` to another, in UTC; over midnight where the end is the earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Window {
    pub start: String,
    pub end: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Drain {
    pub disabled: bool,
    pub timeout_seconds: Option<u32>,
    pub force: bool,
    pub delete_empty_dir_data: bool,
}

/// How a rollout stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Phase {
    /// Nothing has begun.
    #[default]
    Pending,
    /// Machines fetch and install beside what they run.
    Fetching,
    Progressing,
    Paused,
    /// By failures.
    Stopped,
    /// Machines that were already told to start the new system come to an end.
    Aborting,
    Aborted,
    Completed,
}

impl Phase {
    /// Stays as it is until the spec changes.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Aborted | Self::Completed)
    }
}

/// How far a node is; their order is the way it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Stage {
    #[default]
    Pending,
    Fetching,
    Installed,
    Draining,
    /// The machine was told to start the new system.
    Upgrading,
    /// The machine keeps it; the node is to be Ready.
    Settling,
    Completed,
    Failed,
    Aborted,
}

impl Stage {
    pub fn is_over(self) -> bool {
        self >= Self::Completed
    }

    /// Its node is out of service, or may be at any moment.
    pub fn is_under_way(self) -> bool {
        (Self::Draining..Self::Completed).contains(&self)
    }

    /// The machine cannot be called back any more.
    pub fn is_activated(self) -> bool {
        matches!(self, Self::Upgrading | Self::Settling)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub phase: Phase,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    pub observed_generation: i64,
    /// What this status is about; the spec may have moved on.
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub counts: Counts,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub current: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Entry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Past>,
}

impl Status {
    pub fn identity(&self) -> Identity<'_> {
        (&self.source, self.digest.as_deref(), self.attempt.unwrap_or(0))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Counts {
    /// `COMPLETED/SELECTED`.
    pub nodes: String,
    pub selected: usize,
    pub completed: usize,
    pub failed: usize,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    pub observed_generation: i64,
    pub last_transition_time: Time,
}

/// One node's part.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entry {
    pub name: String,
    #[serde(rename = "phase")]
    pub stage: Stage,
    /// Why it failed, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// Since when it is in this phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Reason {
    /// Some pod may not go.
    DrainRefused,
    DrainTimeout,
    /// The machine says so.
    MachineFailed,
    NodeNotReady,
}

impl Reason {
    /// Nothing was tried on the machine: worth another attempt once the spec has changed.
    pub fn is_before_activation(self) -> bool {
        matches!(self, Self::DrainRefused | Self::DrainTimeout)
    }
}

impl Entry {
    pub fn of(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    pub fn to(&mut self, stage: Stage, message: impl Into<String>, now: Timestamp) {
        let at = || Some(Time(whole_seconds(now)));
        if self.stage != stage {
            self.last_transition_time = at();
            self.reason = None;
            if self.started_at.is_none() && stage > Stage::Installed && stage != Stage::Aborted {
                self.started_at = at();
            }
            self.finished_at = if stage.is_over() { at() } else { None };
        }
        self.stage = stage;
        self.message = message.into();
    }

    pub fn fail(&mut self, reason: Reason, message: impl Into<String>, now: Timestamp) {
        self.to(Stage::Failed, message, now);
        self.reason = Some(reason);
    }

    /// As if nothing had happened.
    pub fn restart(&mut self) {
        *self = Self::of(&self.name);
    }

    pub fn since(&self, now: Timestamp) -> Timestamp {
        self.last_transition_time.as_ref().map_or(now, |time| time.0)
    }
}

/// A rollout that another took the place of.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub phase: Phase,
    pub nodes: String,
    pub failed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// A machine, as far as upgrades go.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Machine {
    pub spec: MachineSpec,
    pub status: MachineStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct MachineSpec {
    /// As it stands there: more may be in it than was written, by defaults.
    pub upgrade: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct MachineStatus {
    pub upgrade: Option<Told>,
}

/// What a machine tells about a wish. What it has fetched so far is left out: it changes all the time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Told {
    pub source: Option<String>,
    pub digest: Option<String>,
    pub attempt: Option<u32>,
    pub version: Option<String>,
    pub phase: Option<MachinePhase>,
    pub message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum MachinePhase {
    Waiting,
    Fetching,
    Installed,
    Trying,
    Committed,
    Failed,
    /// One that is not known here.
    #[serde(other)]
    Other,
}

/// A node, as far as upgrades go.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Node {
    pub spec: NodeSpec,
    pub status: NodeStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    pub unschedulable: Option<bool>,
    pub taints: Option<Vec<Taint>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    pub conditions: Option<Vec<NodeCondition>>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub last_transition_time: Option<Time>,
}

impl Node {
    pub fn ready(&self) -> Option<&NodeCondition> {
        self.status.conditions.iter().flatten().find(|condition| condition.kind == "Ready")
    }

    pub fn is_ready(&self) -> bool {
        self.ready().is_some_and(|ready| ready.status == "True")
    }

    pub fn is_unschedulable(&self) -> bool {
        self.spec.unschedulable == Some(true)
    }
}
