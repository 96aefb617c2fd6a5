//! An agent's door before a machine on which containers are plain processes of the test.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use kedge_api::event::Recorder;
use kedge_api::resource::known::PODS;
use kedge_api::{
    Answer, Change, Client, GroupResource, Informer, Key, Object, Reason, Request, Revision, Snapshot, User,
};
use kedge_net::{AttachSpec, Attachment, Network, ServiceTable};
use kedge_node::ground::{Ground, GroundError};
use kedge_node::pod::SlotId;
use kedge_node::site::Site;
use kedge_node::translate::container::{ImageFacts, id, label};
use kedge_node::{Tls, Unmanaged, serve};
use kedge_runtime::cgroup::Usage;
use kedge_runtime::sandbox::{self, Sandbox};
use kedge_runtime::{
    ContainerEvent, ContainerSpec, ContainerState, ExecSession, ExecSpec, Resources, Runtime, Status, images,
};
use kedge_serve::pki::{Profile, Signer};
use serde_json::json;
use tokio::process::Command;
use tokio::sync::{broadcast, watch};

use crate::support::server::Server;

/// What an attached container does.
const CONTAINER: &str = "while read line; do echo got $line; done; echo end >&2; exit 3";

/// Serves the node `n1` with one running container: `main` of the pod `default/web`.
pub async fn start(server: &Server, dir: &Path) -> SocketAddr {
    let tls = Tls {
        identity: server.pki.resolver(&Profile::KubeletServing).unwrap(),
        client_ca: vec![server.pki.authority(Signer::Client).clone()],
    };
    let (client, machine) = (Arc::new(Nobody), Arc::new(Machine(broadcast::channel(1).0)));
    let site = Arc::new(Site {
        node: "n1".into(),
        state_dir: dir.to_owned(),
        run_dir: dir.to_owned(),
        cluster_dns: Vec::new(),
        domain: "cluster.local".into(),
        cpus: 1,
        memory: 1 << 30,
        addresses: watch::channel(Vec::new()).1,
        client: client.clone(),
        informer: Arc::new(Pods::of_one()),
        runtime: machine.clone(),
        network: machine.clone(),
        ground: machine,
        host: Arc::new(Unmanaged),
        recorder: Recorder::new(client, "kubelet", "n1"),
    });
    let served = serve::Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &tls, site).await.unwrap();
    let address = served.address().unwrap();
    tokio::spawn(served.run());
    address
}

/// What the door does not use.
const UNUSED: &str = "the node's door does not ask for it";

/// What the agent knows: one pod.
struct Pods(Snapshot);

impl Pods {
    fn of_one() -> Self {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default", "name": "web", "uid": "u-1"},
            "spec": {"nodeName": "n1", "containers": [{"name": "main"}]},
        });
        let key = Key::new(PODS, "default", "web");
        let meta = serde_json::from_value(pod["metadata"].clone()).unwrap();
        let mut snapshot = Snapshot::default();
        snapshot.insert(Arc::new(Object { key, revision: Revision(1), meta, json: pod.to_string().into() }));
        Self(snapshot)
    }
}

impl Informer for Pods {
    fn snapshot(&self) -> Snapshot {
        self.0.clone()
    }

    fn subscribe(&self, _: &[GroupResource]) -> (Snapshot, BoxStream<'static, Change>) {
        (self.snapshot(), futures::stream::pending().boxed())
    }
}

struct Nobody;

#[async_trait]
impl Client for Nobody {
    async fn call(&self, _: Request) -> Result<Answer, kedge_api::Status> {
        Err(kedge_api::Status::new(Reason::Forbidden, UNUSED))
    }

    fn user(&self) -> User {
        User::new("system:node:n1", &["system:nodes"])
    }
}

struct Machine(broadcast::Sender<ContainerEvent>);

fn run(args: &[String], stdin: bool) -> Result<ExecSession, kedge_runtime::Error> {
    let failed = |source: std::io::Error| kedge_runtime::Error::Exec { id: "main".into(), reason: source.to_string() };
    let (program, args) = args.split_first().unwrap();
    let mut child = Command::new(program)
        .args(args)
        .stdin(if stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (session, end) = ExecSession::new(
        child.stdin.take().map(|s| Box::new(s) as _),
        child.stdout.take().map(|s| Box::new(s) as _),
        child.stderr.take().map(|s| Box::new(s) as _),
    );
    tokio::spawn(async move {
        let status = child.wait().await.unwrap();
        let _ = end.send(status.code().unwrap_or(255));
    });
    Ok(session)
}

#[async_trait]
impl Runtime for Machine {
    async fn create(&self, _: ContainerSpec) -> Result<(), kedge_runtime::Error> {
        unreachable!("{UNUSED}")
    }
    async fn start(&self, _: &str) -> Result<(), kedge_runtime::Error> {
        unreachable!("{UNUSED}")
    }
    async fn kill(&self, _: &str, _: i32) -> Result<(), kedge_runtime::Error> {
        unreachable!("{UNUSED}")
    }
    async fn remove(&self, _: &str) -> Result<(), kedge_runtime::Error> {
        unreachable!("{UNUSED}")
    }
    async fn exec(&self, _: &str, spec: ExecSpec) -> Result<ExecSession, kedge_runtime::Error> {
        run(&spec.args, spec.stdin)
    }
    async fn attach(&self, _: &str, stdin: bool) -> Result<ExecSession, kedge_runtime::Error> {
        run(&["sh", "-c", CONTAINER].map(str::to_owned), stdin)
    }
    fn list(&self) -> Vec<ContainerState> {
        let labels =
            [(label::UID, "u-1"), (label::NAMESPACE, "default"), (label::POD, "web"), (label::CONTAINER, "main")];
        vec![ContainerState {
            id: id("u-1", SlotId::Main(0), 0),
            labels: labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            pid: 0,
            status: Status::Running,
            created_at: Timestamp::UNIX_EPOCH,
            started_at: None,
        }]
    }
    fn subscribe(&self) -> broadcast::Receiver<ContainerEvent> {
        self.0.subscribe()
    }
}

#[async_trait]
impl Network for Machine {
    async fn attach(&self, _: BorrowedFd<'_>, _: AttachSpec) -> Result<Attachment, kedge_net::Error> {
        unreachable!("{UNUSED}")
    }
    async fn detach(&self, _: &str) -> Result<(), kedge_net::Error> {
        unreachable!("{UNUSED}")
    }
    async fn converge(&self, _: &ServiceTable) -> Result<(), kedge_net::Error> {
        unreachable!("{UNUSED}")
    }
}

#[async_trait]
impl Ground for Machine {
    async fn sandbox(&self, _: sandbox::Request) -> Result<Sandbox, GroundError> {
        unreachable!("{UNUSED}")
    }
    async fn remove_sandbox(&self, _: &str) -> Result<(), GroundError> {
        unreachable!("{UNUSED}")
    }
    fn sandboxes(&self) -> Vec<String> {
        Vec::new()
    }
    /// Without a network of its own: the test's loopback is the pod's.
    fn known_sandbox(&self, _: &str) -> Option<Sandbox> {
        Some(Sandbox::default())
    }
    async fn cgroup(&self, _: &str, _: &Resources) -> Result<(), GroundError> {
        unreachable!("{UNUSED}")
    }
    async fn remove_cgroup(&self, _: &str) -> Result<(), GroundError> {
        unreachable!("{UNUSED}")
    }
    fn usage(&self, _: &str) -> Usage {
        unreachable!("{UNUSED}")
    }
    fn image(&self, _: &str) -> Result<ImageFacts, images::Error> {
        unreachable!("{UNUSED}")
    }
    fn images(&self) -> Vec<(Vec<String>, u64)> {
        Vec::new()
    }
    fn user(&self, _: &[PathBuf], _: &str) -> Result<kedge_runtime::User, images::UserError> {
        unreachable!("{UNUSED}")
    }
    fn tmpfs(&self, _: &Path, _: Option<u64>) -> Result<(), GroundError> {
        unreachable!("{UNUSED}")
    }
    fn unmount(&self, _: &Path) -> Result<(), GroundError> {
        unreachable!("{UNUSED}")
    }
}
