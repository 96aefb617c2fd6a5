//! Fakes of the doors: an API in memory, and a runtime, a network and a machine that only take notes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use kedge_api::request::Payload;
use kedge_api::{
    Answer, Body, Change, Client, GroupResource, Informer, Key, Reason, Request, Revision, Snapshot, Status, User, Verb,
};
use kedge_net::{AttachSpec, Attachment, Network, ServiceTable};
use kedge_runtime::cgroup::Usage;
use kedge_runtime::sandbox::Sandbox;
use kedge_runtime::{ContainerEvent, ContainerSpec, ContainerState, ExecSession, ExecSpec, Exit, Runtime};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::ground::{Ground, GroundError};
use crate::translate::container::ImageFacts;
use crate::translate::container::tests::object;

/// An API server without rules.
pub struct Api {
    state: Mutex<(Snapshot, u64)>,
    changes: broadcast::Sender<Change>,
}

impl Api {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changes: broadcast::channel(1024).0 })
    }

    pub fn put(&self, resource: &GroupResource, mut value: Value) -> Value {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        let revision = Revision(state.1);
        value["metadata"]["resourceVersion"] = revision.to_string().into();
        if value["metadata"]["uid"].is_null() {
            value["metadata"]["uid"] = format!("0000-{revision}").into();
        }
        let mut made = Arc::into_inner(object(resource.clone(), value.clone())).unwrap();
        made.revision = revision;
        let after = Arc::new(made);
        let before = state.0.get(&after.key).cloned();
        state.0.insert(after.clone());
        let _ = self.changes.send(Change { revision, key: after.key.clone(), before, after: Some(after) });
        value
    }

    pub fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Value> {
        let state = self.state.lock().unwrap();
        let object = state.0.get(&Key::new(resource.clone(), namespace, name))?;
        Some(serde_json::from_slice(&object.json).unwrap())
    }

    pub fn remove(&self, resource: &GroupResource, namespace: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        let revision = Revision(state.1);
        let key = Key::new(resource.clone(), namespace, name);
        let before = state.0.remove(&key, revision);
        let _ = self.changes.send(Change { revision, key, before, after: None });
    }

    fn carry_out(&self, request: Request) -> Result<Value, Status> {
        let target = &request.target;
        let (resource, namespace, name) = (&target.resource, &target.namespace, &target.name);
        let missing = || Status::not_found(resource, name);
        match (request.verb, request.body) {
            (Verb::Create, Body::Object { value, .. }) if target.subresource == "token" => {
                let end = Timestamp::now() + jiff::SignedDuration::from_secs(3600);
                let seconds = &value["spec"]["expirationSeconds"];
                Ok(
                    json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": seconds}, "status": {"token": format!("token of {name}"), "expirationTimestamp": end.to_string()}}),
                )
            }
            (Verb::Create, Body::Object { mut value, .. }) => {
                let name = value["metadata"]["name"].as_str().unwrap().to_owned();
                if self.get(resource, namespace, &name).is_some() {
                    return Err(Status::already_exists(resource, &name));
                }
                if !namespace.is_empty() {
                    value["metadata"]["namespace"] = namespace.as_str().into();
                }
                Ok(self.put(resource, value))
            }
            (Verb::Get, _) => self.get(resource, namespace, name).ok_or_else(missing),
            (Verb::Patch, Body::Patch(_, patch)) => {
                let mut value = self.get(resource, namespace, name).ok_or_else(missing)?;
                let uid = &patch["metadata"]["uid"];
                if !uid.is_null() && *uid != value["metadata"]["uid"] {
                    return Err(Status::conflict(resource, name, "the UID in the precondition does not match"));
                }
                merge(&mut value, &patch);
                Ok(self.put(resource, value))
            }
            (Verb::Delete, _) => {
                self.get(resource, namespace, name).ok_or_else(missing)?;
                self.remove(resource, namespace, name);
                Ok(json!({}))
            }
            (verb, _) => Err(Status::new(Reason::MethodNotAllowed, format!("{verb:?} {resource}"))),
        }
    }
}

/// RFC 7386.
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else { return into.clone_from(patch) };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key], value);
        }
    }
}

#[async_trait]
impl Client for Api {
    async fn call(&self, request: Request) -> Result<Answer, Status> {
        let value = self.carry_out(request)?;
        Ok(Answer { code: 200, warnings: Vec::new(), payload: Payload::Value(value) })
    }

    fn user(&self) -> User {
        User::new("system:node:n1", &["system:nodes"])
    }
}

impl Informer for Api {
    fn snapshot(&self) -> Snapshot {
        self.state.lock().unwrap().0.clone()
    }

    fn subscribe(&self, resources: &[GroupResource]) -> (Snapshot, BoxStream<'static, Change>) {
        let state = self.state.lock().unwrap();
        let (resources, receiver) = (resources.to_vec(), self.changes.subscribe());
        let stream = futures::stream::unfold(receiver, |mut r| async move { Some((r.recv().await.ok()?, r)) });
        let stream = stream.filter(move |c: &Change| futures::future::ready(resources.contains(&c.key.resource)));
        (state.0.clone(), stream.boxed())
    }
}

/// A runtime in which nothing runs: tests say when containers end.
pub struct Machine {
    pub containers: Mutex<BTreeMap<String, (ContainerSpec, ContainerState)>>,
    /// Everything asked for, in order, e.g. `start …-c0-0`.
    pub asked: Mutex<Vec<String>>,
    pub tables: Mutex<Vec<ServiceTable>>,
    events: broadcast::Sender<ContainerEvent>,
    root: PathBuf,
}

impl Machine {
    pub fn new(root: &Path) -> Arc<Self> {
        std::fs::write(root.join("netns"), "").unwrap();
        Arc::new(Self {
            containers: Mutex::default(),
            asked: Mutex::default(),
            tables: Mutex::default(),
            events: broadcast::channel(64).0,
            root: root.to_owned(),
        })
    }

    fn ask(&self, what: &str, id: &str) {
        self.asked.lock().unwrap().push(format!("{what} {id}"));
    }

    pub fn running(&self) -> Vec<String> {
        let containers = self.containers.lock().unwrap();
        containers
            .values()
            .filter(|(_, s)| s.status == kedge_runtime::Status::Running)
            .map(|(_, s)| s.id.clone())
            .collect()
    }

    pub fn end(&self, id: &str, code: i32) {
        let exit = Exit { code, signal: None, oom_killed: false, at: Timestamp::now() };
        let status = kedge_runtime::Status::Exited(exit.clone());
        self.containers.lock().unwrap().get_mut(id).unwrap().1.status = status;
        let _ = self.events.send(ContainerEvent::Exited { id: id.to_owned(), exit });
    }
}

#[async_trait]
impl Runtime for Machine {
    async fn create(&self, spec: ContainerSpec) -> Result<(), kedge_runtime::Error> {
        self.ask("create", &spec.id);
        if spec.args == ["missing"] {
            return Err(kedge_runtime::Error::Create {
                id: spec.id,
                reason: "exec: \"missing\": executable file not found in $PATH".into(),
            });
        }
        let state = ContainerState {
            id: spec.id.clone(),
            labels: spec.labels.clone(),
            pid: 0,
            status: kedge_runtime::Status::Created,
            created_at: Timestamp::now(),
            started_at: None,
        };
        self.containers.lock().unwrap().insert(spec.id.clone(), (spec, state));
        Ok(())
    }

    async fn start(&self, id: &str) -> Result<(), kedge_runtime::Error> {
        self.ask("start", id);
        let mut containers = self.containers.lock().unwrap();
        let state = &mut containers.get_mut(id).unwrap().1;
        state.status = kedge_runtime::Status::Running;
        state.started_at = Some(Timestamp::now());
        Ok(())
    }

    async fn kill(&self, id: &str, signal: i32) -> Result<(), kedge_runtime::Error> {
        self.ask(&format!("kill {signal}"), id);
        self.end(id, 128 + signal);
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), kedge_runtime::Error> {
        self.ask("remove", id);
        self.containers.lock().unwrap().remove(id);
        Ok(())
    }

    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<ExecSession, kedge_runtime::Error> {
        self.ask("exec", id);
        let ((stdin, input), (output, stdout)) = (tokio::io::duplex(64 << 10), tokio::io::duplex(64 << 10));
        let (session, end) = ExecSession::new(Some(Box::new(stdin)), Some(Box::new(stdout)), None);
        tokio::spawn(echo(input, output, spec, end));
        Ok(session)
    }

    async fn attach(&self, id: &str, stdin: bool) -> Result<ExecSession, kedge_runtime::Error> {
        self.exec(id, ExecSpec { stdin, ..ExecSpec::default() }).await
    }

    fn list(&self) -> Vec<ContainerState> {
        self.containers.lock().unwrap().values().map(|(_, s)| s.clone()).collect()
    }

    fn subscribe(&self) -> broadcast::Receiver<ContainerEvent> {
        self.events.subscribe()
    }
}

/// Says its arguments, then repeats one line of its input; exits with the number that is its last argument.
async fn echo(
    input: tokio::io::DuplexStream,
    mut output: tokio::io::DuplexStream,
    spec: ExecSpec,
    end: tokio::sync::oneshot::Sender<i32>,
) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let said = spec.args.join(" ") + "\n";
    let _ = output.write_all(said.as_bytes()).await;
    if spec.stdin {
        let mut line = String::new();
        let _ = BufReader::new(input).read_line(&mut line).await;
        let _ = output.write_all(line.as_bytes()).await;
    }
    drop(output);
    let _ = end.send(spec.args.last().and_then(|a| a.parse().ok()).unwrap_or(0));
}

#[async_trait]
impl Network for Machine {
    async fn attach(&self, _: BorrowedFd<'_>, spec: AttachSpec) -> Result<Attachment, kedge_net::Error> {
        self.ask("attach", &spec.id);
        let mac = "02:00:00:00:00:01".parse().unwrap();
        Ok(Attachment { addresses: vec!["127.0.0.1/8".parse().unwrap()], mac })
    }

    async fn detach(&self, id: &str) -> Result<(), kedge_net::Error> {
        self.ask("detach", id);
        Ok(())
    }

    async fn converge(&self, services: &ServiceTable) -> Result<(), kedge_net::Error> {
        self.tables.lock().unwrap().push(services.clone());
        Ok(())
    }
}

#[async_trait]
impl Ground for Machine {
    async fn sandbox(&self, request: kedge_runtime::sandbox::Request) -> Result<Sandbox, GroundError> {
        Ok(Sandbox { net: request.net.then(|| self.root.join("netns")), ..Sandbox::default() })
    }
    async fn remove_sandbox(&self, id: &str) -> Result<(), GroundError> {
        self.ask("remove_sandbox", id);
        Ok(())
    }
    fn known_sandbox(&self, id: &str) -> Option<Sandbox> {
        (id == "u-1").then(Sandbox::default)
    }
    fn sandboxes(&self) -> Vec<String> {
        Vec::new()
    }
    async fn cgroup(&self, _: &str, _: &kedge_runtime::Resources) -> Result<(), GroundError> {
        Ok(())
    }
    async fn remove_cgroup(&self, path: &str) -> Result<(), GroundError> {
        self.ask("remove_cgroup", path);
        Ok(())
    }
    fn usage(&self, _: &str) -> Usage {
        Usage {
            memory_bytes: Some(2000),
            memory_working_set_bytes: Some(1000),
            cpu_nanoseconds: Some(5),
            processes: Some(1),
        }
    }
    fn image(&self, reference: &str) -> Result<ImageFacts, kedge_runtime::images::Error> {
        match reference {
            "busybox" => {
                Ok(ImageFacts { digest: "busybox@sha256:1".into(), cmd: vec!["sh".into()], ..ImageFacts::default() })
            }
            other => Err(kedge_runtime::images::Error::NotFound { reference: other.to_owned() }),
        }
    }
    fn images(&self) -> Vec<(Vec<String>, u64)> {
        vec![(vec!["busybox".into()], 1)]
    }
    fn user(&self, _: &[PathBuf], _: &str) -> Result<kedge_runtime::User, kedge_runtime::images::UserError> {
        Ok(kedge_runtime::User::default())
    }
    fn tmpfs(&self, path: &Path, _: Option<u64>) -> Result<(), GroundError> {
        self.ask("tmpfs", &path.file_name().unwrap().to_string_lossy());
        Ok(())
    }
    fn unmount(&self, _: &Path) -> Result<(), GroundError> {
        Ok(())
    }
}

/// The node's own address in tests.
pub fn host() -> IpAddr {
    "192.0.2.7".parse().unwrap()
}
