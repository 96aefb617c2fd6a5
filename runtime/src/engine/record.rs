//! What is kept of a container on tmpfs, so that a new process finds it: `record.json`, and `exit.json` once it has ended.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::reaper::Ended;
use crate::{ContainerSpec, ContainerState, LogLimit, Namespace, Status};

/// Everything about a container that outlives this process. `state.pid` is 0 while it is being made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub state: ContainerState,
    /// When the process was started, in the kernel's ticks since boot: tells it from another that was given its pid later.
    pub ticks: u64,
    pub cgroup: String,
    pub log: Option<PathBuf>,
    pub log_limit: LogLimit,
    pub tty: bool,
    /// Standard input is held open.
    pub stdin: bool,
    pub stdin_once: bool,
    /// Its pid namespace ends with it; otherwise what it leaves behind must be killed.
    pub own_pids: bool,
    /// The number of the terminal's descriptor, which is inherited across this process' own `execve`.
    pub terminal: Option<i32>,
}

/// Written by the reaper before the zombie goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredExit {
    pub code: i32,
    pub signal: Option<i32>,
    pub at: Timestamp,
}

impl StoredExit {
    pub fn now(ended: Ended) -> Self {
        Self { code: ended.code, signal: ended.signal, at: Timestamp::now() }
    }
}

impl Record {
    pub fn new(spec: &ContainerSpec) -> Self {
        Self {
            state: ContainerState {
                id: spec.id.clone(),
                labels: spec.labels.clone(),
                pid: 0,
                status: Status::Created,
                created_at: Timestamp::now(),
                started_at: None,
            },
            ticks: 0,
            cgroup: spec.cgroup.clone(),
            log: spec.log.clone(),
            log_limit: spec.log_limit,
            tty: spec.tty,
            stdin: spec.stdin,
            stdin_once: spec.stdin_once,
            own_pids: spec.namespaces.pid == Namespace::Own,
            terminal: None,
        }
    }

    pub fn save(&self, directory: &Path) -> io::Result<()> {
        store(&directory.join("record.json"), self)
    }

    pub fn load(directory: &Path) -> io::Result<Self> {
        load(&directory.join("record.json"))
    }
}

impl StoredExit {
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        store(&directory.join("exit.json"), self)
    }

    pub fn load(directory: &Path) -> Option<Self> {
        load(&directory.join("exit.json")).ok()
    }
}

/// Whole or not at all. The disk is memory, so nothing is synced.
fn store<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(value)?)?;
    fs::rename(&new, path)
}

fn load<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
