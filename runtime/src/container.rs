//! What a container is asked to be. Plain data: nothing here touches the machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything needed to create one container. Everything is resolved: users are numbers, images are directories.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerSpec {
    /// Unique on the machine; letters, digits, `_`, `-`, `.`; at most 128 bytes.
    pub id: String,
    /// Carried with the container and given back by `list`, also after a re-exec. Opaque here.
    pub labels: BTreeMap<String, String>,
    pub rootfs: Rootfs,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Working directory; empty means `/`.
    pub cwd: String,
    pub user: User,
    pub mounts: Vec<Mount>,
    pub namespaces: Namespaces,
    /// Below the cgroup root, for example `/kedge/pods/UID/NAME`. Its parent is the caller's (see `cgroup`).
    pub cgroup: String,
    pub resources: Resources,
    /// With the prefix, for example `CAP_NET_RAW`. `None`: the default set of `spec`.
    pub capabilities: Option<Vec<String>>,
    /// Capabilities, devices and paths as the host has them.
    pub privileged: bool,
    pub readonly_rootfs: bool,
    pub no_new_privileges: bool,
    /// `None`: the defaults; `Some(empty)`: nothing is masked.
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    pub sysctls: BTreeMap<String, String>,
    pub rlimits: Vec<Rlimit>,
    pub oom_score_adj: Option<i32>,
    pub tty: bool,
    /// Keep standard input open for `attach`; else it is `/dev/null`.
    pub stdin: bool,
    /// Standard input ends when the first attached session that has one does.
    pub stdin_once: bool,
    /// CRI log file; its directory is made when missing. `None`: output is discarded.
    pub log: Option<PathBuf>,
    pub log_limit: LogLimit,
}

/// Layer directories, lowest first, used in place and never written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rootfs {
    pub layers: Vec<PathBuf>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// One mount in the order given. A bind mount has `fstype` `bind` and `rbind` or `bind` among its options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    pub fstype: String,
    pub options: Vec<String>,
}

impl Mount {
    /// A bind mount of a host path.
    pub fn bind(source: impl Into<String>, target: impl Into<String>, readonly: bool) -> Self {
        let mode = if readonly { "ro" } else { "rw" };
        Self {
            source: source.into(),
            target: target.into(),
            fstype: "bind".to_owned(),
            options: ["rbind", "rprivate", mode].map(str::to_owned).to_vec(),
        }
    }
}

/// Which namespace a container is put into.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Namespace {
    /// A new one that ends with the container.
    #[default]
    Own,
    /// The one this process is in.
    Host,
    /// One held open by a path, as `sandbox` makes them, or `/proc/PID/ns/pid` of another container.
    Path(PathBuf),
}

/// The mount namespace is always the container's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    pub net: Namespace,
    pub ipc: Namespace,
    pub uts: Namespace,
    pub pid: Namespace,
}

/// Limits of one cgroup; `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// cgroup v1 scale, 2 to 262144; converted to a v2 weight.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU in each period.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Bytes.
    pub memory: Option<i64>,
    /// Processes and threads.
    pub pids: Option<i64>,
}

/// `kind` as `RLIMIT_NOFILE`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rlimit {
    pub kind: String,
    pub soft: u64,
    pub hard: u64,
}

/// How large a log may grow: at `bytes` the file is renamed to `NAME.1`, older ones move up, `files` are kept in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLimit {
    pub bytes: u64,
    pub files: u32,
}

impl Default for LogLimit {
    /// The kubelet's `containerLogMaxSize` is 10Mi; three files of it are what a small flash can bear.
    fn default() -> Self {
        Self { bytes: 10 << 20, files: 3 }
    }
}
