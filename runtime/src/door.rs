//! The door: what callers ask of a runtime, and what it tells them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::{ContainerSpec, Error, ExecSession, ExecSpec};

/// Containers of one machine. Implemented by `engine::Containers`; a fake is enough to test callers.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Makes the container: its init process exists and waits, nothing of the image has run yet.
    /// A command that is not in the image fails here. On error nothing is left behind.
    async fn create(&self, spec: ContainerSpec) -> Result<(), Error>;
    /// Runs the command; returns when `execve` has succeeded, or with the reason why it did not.
    async fn start(&self, id: &str) -> Result<(), Error>;
    /// Sends a signal to the container's first process. A container that has exited is not an error.
    async fn kill(&self, id: &str, signal: i32) -> Result<(), Error>;
    /// Kills what still runs, removes the writable layer, the cgroup and all records. Logs stay. Unknown ids are not an error.
    async fn remove(&self, id: &str) -> Result<(), Error>;
    /// Runs another process in a running container.
    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<ExecSession, Error>;
    /// The first process' own standard streams, from now on; several may attach at once. Without `stdin` its input is left alone, and
    /// does not end with the session.
    async fn attach(&self, id: &str, stdin: bool) -> Result<ExecSession, Error>;
    /// All containers known, in order of id.
    fn list(&self) -> Vec<ContainerState>;
    /// Events from now on. A receiver that lags gets `Lagged` and must call `list`.
    fn subscribe(&self) -> broadcast::Receiver<ContainerEvent>;
}

/// What is known of one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerState {
    pub id: String,
    pub labels: BTreeMap<String, String>,
    /// Of the first process, in this process' pid namespace.
    pub pid: u32,
    pub status: Status,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    Created,
    Running,
    Exited(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The exit code; 128 + signal when killed by one; [`Exit::UNKNOWN`] when nobody could see it.
    pub code: i32,
    pub signal: Option<i32>,
    /// The kernel killed something in the container's cgroup for lack of memory.
    pub oom_killed: bool,
    pub at: Timestamp,
}

impl Exit {
    /// Hosted mode only: the container ended while no process of ours was its parent.
    pub const UNKNOWN: i32 = 255;
}

#[derive(Debug, Clone, PartialEq)]
pub enum ContainerEvent {
    Started {
        id: String,
    },
    /// Sent after the last of the container's output is in its log.
    Exited {
        id: String,
        exit: Exit,
    },
}
