//! The machine as services see it.

use crate::boot;
use crate::logs::Logs;
use crate::reexec::Origin;
use crate::request::{Request, Requests};
use crate::trial::Trial;
use kedge_api::Informer;
use kedge_config::{BoardConfig, MachineConfig};
use kedge_net::IpNet;
use kedge_runtime::reaper::Reaper;
use kedge_stage1::disk::Disk;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

pub struct Machine {
    /// Whether this is a process on somebody's Linux and not PID 1.
    pub hosted: bool,
    pub hostname: String,
    pub config: Arc<MachineConfig>,
    /// Where `config` is on trial; `None` again once that has ended well.
    pub trial: watch::Sender<Option<Trial>>,
    /// Whether the agent has told since this process began that the node is Ready.
    pub node_ready: watch::Sender<bool>,
    /// Changes when something has become of an upgrade without its doing.
    pub upgrade: watch::Sender<u64>,
    /// What is known of the cluster, once the API server runs here.
    pub informer: OnceLock<Arc<dyn Informer>>,
    pub board: Option<Arc<BoardConfig>>,
    pub disk: Option<Disk>,
    /// Whether containers run here.
    pub agent: bool,
    /// Whether controllers and scheduler run here.
    pub controllers: bool,
    /// Where all that lasts is kept.
    pub state: PathBuf,
    /// Where is kept what lasts until the next boot.
    pub run: PathBuf,
    /// When this process began, since the kernel started.
    pub started: Duration,
    pub boot: boot::Report,
    pub origin: Origin,
    pub reaper: Reaper,
    pub requests: Requests,
    pub network: watch::Sender<Network>,
    pub logs: Logs,
    /// Set before services are asked to stop: only when it is not [`Request::Reexec`] do containers have to end.
    pub ending: OnceLock<Request>,
}

/// How the machine is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// With the interface's name.
    pub addresses: Vec<(String, IpNet)>,
    pub nameservers: Vec<IpAddr>,
    pub time_servers: Vec<IpAddr>,
}
