//! The control plane of this machine: opened once, then run by several services.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ObjectReference;
use kedge_api::event::{Note, Recorder, Severity};
use kedge_api::resource::known::{NODES, PODS};
use kedge_api::{Client, GroupResource, Informer, Key, Object, Status, User};
use kedge_control::certificates::{Asked, Signed};
use kedge_control::tokens::Holder;
use kedge_registry::{Options as RegistryOptions, Registry};
use kedge_serve::audit::Audit;
use kedge_serve::audit::log::{self, LogError};
use kedge_serve::audit::policy::{Policy, PolicyError};
use kedge_serve::audit::webhook::Webhook;
use kedge_serve::authn::fixed::{FixedError, FixedTokens};
use kedge_serve::authn::issuer::Issuer;
use kedge_serve::authn::token::{TokenError, Tokens};
use kedge_serve::authz::Authorizer;
use kedge_serve::clock::Clock;
use kedge_serve::describe::health::Health;
use kedge_serve::document::Mistakes;
use kedge_serve::pki::certify::{CertifyError, Wanted};
use kedge_serve::pki::{Names, Pki, PkiError, Profile, Signer};
use kedge_serve::registry::Served;
use kedge_serve::server::{AssembleError, Front, InProcess, ListenError, Own, Setup, assemble, follow, serve};
use kedge_serve::webhook::Webhooks;
use kedge_store::sqlite::Damage;
use kedge_store::{Counted, Sqlite, Store, sqlite};
use kedge_watch::Cache;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::encryption::{self, Encryption, Rotation};
use crate::snapshots::{self, DATABASE, Snapshots};
use crate::{AuditSettings, Settings};

/// Certificates last months: looking often enough costs nothing.
const RENEW: Duration = Duration::from_secs(6 * 3600);
/// Below the state directory: a line of `TOKEN,USER,UID,"GROUP,…"` for each token that the administrator gives out.
const TOKENS: &str = "tokens.csv";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("encryption at rest: {0}")]
    Encryption(#[from] encryption::Error),
    #[error("opening the store: {0}")]
    Store(#[from] kedge_store::Error),
    #[error("the cluster's certificates: {0}")]
    Pki(#[from] PkiError),
    #[error("the key of service account tokens: {0}")]
    Token(#[from] TokenError),
    #[error("the administrator's tokens: {0}")]
    Fixed(#[from] FixedError),
    #[error("the administrator's tokens: {path}: {source}")]
    FixedFile { path: PathBuf, source: std::io::Error },
    #[error("the audit policy {name}: {source}")]
    AuditPolicy { name: String, source: PolicyError },
    #[error(transparent)]
    AuditLog(#[from] LogError),
    #[error("the audit webhook: {0}")]
    AuditWebhook(String),
    #[error("the API server: {0}")]
    Assemble(#[from] AssembleError),
    #[error("who may do what: {0}")]
    Authorization(#[from] Mistakes),
    #[error("what every cluster holds could not be written: {0}")]
    Bootstrap(#[from] Status),
    #[error("listening on port {port}: {source}; is another API server running?")]
    Listen { port: u16, source: std::io::Error },
    #[error(transparent)]
    Serve(#[from] ListenError),
    #[error("a start-up task ended early: {0}")]
    Join(#[from] tokio::task::JoinError),
}

pub struct ControlPlane {
    pub(crate) settings: Settings,
    pub(crate) pki: Arc<Pki>,
    tokens: Arc<Tokens>,
    pub(crate) cache: Arc<Cache>,
    registry: Arc<Registry>,
    queues: Arc<kedge_control::counted::Counted>,
    /// Serves custom resources as they are defined; ends with the control plane.
    _definitions: AbortOnDropHandle<()>,
    /// Takes them by themselves; ends with the control plane.
    _snapshots: AbortOnDropHandle<()>,
    /// Writes what is stored as its keys say; ends with the control plane.
    _rotation: AbortOnDropHandle<()>,
    damage: Option<Damage>,
    front: Arc<Front>,
    tls: Arc<rustls::ServerConfig>,
    health: Health,
}

impl ControlPlane {
    /// Opens database and keys, making both on first boot. `addresses` are the node's own; `stop` ends open watches.
    pub async fn open(settings: Settings, addresses: Vec<IpAddr>, stop: CancellationToken) -> Result<Self, Error> {
        let clock = Clock::system();
        let (pki_dir, state) = (settings.state.join("pki"), settings.state.clone());
        let (names, pki_clock) = (names(&settings, addresses), clock.clone());
        let pki = tokio::task::spawn_blocking(move || Pki::open(&pki_dir, names, pki_clock));
        let encryption = Encryption::open(&settings.encryption, &state)?;
        let keys = encryption.keys.clone();
        let options = sqlite::Options {
            volatile: kedge_registry::volatile(),
            notes: settings.notes.clone(),
            keys: keys.clone(),
            ..Default::default()
        };
        let file = state.join(DATABASE);
        let open = move || Sqlite::open_or_return(&state.join(DATABASE), options, || snapshots::list(&state));
        let (store, damage) = tokio::task::spawn_blocking(open).await??;
        if let Some(damage) = &damage {
            tracing::error!("{damage}");
        }
        let counted = Arc::new(Counted::new(Arc::new(store), Some(file)));
        let store: Arc<dyn Store> = counted.clone();
        let snapshots = Arc::new(Snapshots::new(store.clone(), &settings.state));
        let rotation = Arc::new(Rotation::new(encryption, store.clone(), snapshots.clone()));
        let cache = Cache::start(store.clone()).await?;
        let pki = Arc::new(pki.await??);
        let tokens = Arc::new(Tokens::new(pki.token_key(), clock.clone())?);
        let audit = settings.audit.clone().map(|audit| open_audit(audit, &clock)).transpose()?;
        let fixed = fixed_tokens(&settings.state.join(TOKENS))?;
        let issuer = Issuer::new(tokens.clone(), cache.clone(), clock.clone());
        let authorization = settings.access.authorization.clone();
        let authorizer = Arc::new(Authorizer::open(cache.clone(), authorization, clock.clone())?);
        let registry = Arc::new(Registry::new(
            store,
            cache.clone(),
            RegistryOptions {
                settings: kedge_registry::Settings {
                    service_network: settings.service_network,
                    node_ports: settings.node_ports.clone(),
                    api_port: settings.api_port,
                },
                tokens: Some(Arc::new(issuer)),
                guard: Some(authorizer.clone()),
                rules: settings.rules.clone(),
                webhooks: Some(Arc::new(Webhooks::new(cache.clone()))),
                permissions: Some(authorizer.clone()),
                now: jiff::Timestamp::now,
            },
        ));
        kedge_registry::bootstrap(&registry).await?;
        let definitions = AbortOnDropHandle::new(tokio::spawn(kedge_registry::follow(registry.clone())));
        let health = checks(&cache, definitions.abort_handle());
        let (front, tls) = assemble(Setup {
            pki: pki.clone(),
            tokens: tokens.clone(),
            fixed,
            access: settings.access.clone(),
            authorizer,
            backend: Arc::new(Served::new(registry.clone())),
            informer: cache.clone(),
            health: health.clone(),
            clock,
            audit,
            own: Some(Arc::new(vec![snapshots.clone() as Arc<dyn Own>, rotation.clone()])),
            address: format!("{}:{}", settings.node, settings.api_port),
            stop,
        })?;
        let queues = Arc::<kedge_control::counted::Counted>::default();
        front.metrics().add(counted);
        front.metrics().add(keys);
        front.metrics().add(cache.clone());
        front.metrics().add(registry.admission().clone());
        front.metrics().add(queues.clone());
        let automatic = AbortOnDropHandle::new(tokio::spawn(async move { snapshots.run().await }));
        let rotating = AbortOnDropHandle::new(tokio::spawn(async move { rotation.run().await }));
        let plane = Self {
            settings,
            pki,
            tokens,
            cache,
            registry,
            queues,
            _definitions: definitions,
            _snapshots: automatic,
            _rotation: rotating,
            damage,
            front,
            tls,
            health,
        };
        plane.tell_damage().await;
        Ok(plane)
    }

    /// What was wrong with the database, if something was.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// As an event of the node: who looks at the cluster must see that it is not as it was.
    async fn tell_damage(&self) {
        let Some(damage) = &self.damage else { return };
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(self.settings.node.clone()),
            uid: Some(self.settings.node.clone()),
            ..ObjectReference::default()
        };
        let (reason, message) = ("DatabaseDamaged".to_owned(), damage.to_string());
        let recorder =
            Recorder::new(self.client("system:apiserver", &["system:masters"]), "kedge", &self.settings.node);
        let note = Note { about, severity: Severity::Warning, reason, message };
        if let Err(error) = recorder.record(&note, jiff::Timestamp::now()).await {
            tracing::warn!(%error, "telling the cluster of its damaged database");
        }
    }

    /// Answers HTTPS until `stop`. `ready` is called when the port is open.
    pub async fn serve(&self, stop: CancellationToken, ready: impl FnOnce()) -> Result<(), Error> {
        let port = self.settings.api_port;
        let listener = listen(port).await.map_err(|source| Error::Listen { port, source })?;
        ready();
        let _following = AbortOnDropHandle::new(tokio::spawn(follow(self.front.clone())));
        let admin = self.client("system:apiserver", &["system:masters"]);
        let label = crate::own_node::label(admin, self.informer(), self.settings.node.clone());
        let _labelling = AbortOnDropHandle::new(tokio::spawn(label));
        Ok(serve(listener, self.tls.clone(), self.front.clone(), stop).await?)
    }

    /// Keeps certificates and the service `kubernetes` right while addresses change. Never ends.
    pub async fn follow_addresses(&self, mut addresses: watch::Receiver<Vec<IpAddr>>) -> Result<(), Error> {
        let admin = self.client("system:apiserver", &["system:masters"]);
        loop {
            let now = addresses.borrow_and_update().clone();
            self.pki.set_names(names(&self.settings, now.clone()))?;
            crate::kubernetes_service::converge(&*admin, &self.settings, &now).await?;
            self.health.done(OWN_SERVICE);
            loop {
                tokio::select! {
                    changed = addresses.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return Ok(()),
                    },
                    () = tokio::time::sleep(RENEW) => self.pki.renew()?,
                }
            }
        }
    }

    /// Runs all controllers. Never ends.
    pub async fn controllers(&self) {
        let (registry, checked) = (self.registry.clone(), self.registry.clone());
        let tokens = self.tokens.clone();
        let sign = move |holder: Holder<'_>| {
            let Holder { namespace, account, uid, secret } = holder;
            tokens.issue_endless(namespace, account, uid, secret).map_err(|e| Status::internal(format!("signing: {e}")))
        };
        let pki = self.pki.clone();
        let certify = move |asked: Asked<'_>| {
            let Asked { request, signer, usages, seconds } = asked;
            match pki.certify(Wanted { request, signer, usages, seconds }) {
                Ok(Some(certificate)) => Ok(Signed::Certificate(certificate)),
                Ok(None) => Ok(Signed::Unknown),
                Err(CertifyError::Refused(why)) => Ok(Signed::Refused(why)),
                Err(error @ CertifyError::Failed(_)) => Err(Status::internal(error.to_string())),
            }
        };
        let options = kedge_control::Options {
            certify: Arc::new(certify),
            ca_pem: self.server_ca().to_owned(),
            sign: Arc::new(sign),
            mapper: Arc::new(move |version, kind| registry.table().of_kind(version, kind)),
            type_check: Arc::new(move |policy| checked.expression_warnings(policy)),
            counted: self.queues.clone(),
        };
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
        let client = |account: &str| match account.strip_prefix("system:") {
            Some(_) => self.client(account, &[]),
            None => self.client(&format!("system:serviceaccount:kube-system:{account}"), &groups),
        };
        kedge_control::run(&client, self.informer(), options).await;
    }

    /// Runs the scheduler. Never ends.
    pub async fn scheduler(&self) {
        let client = self.client("system:kube-scheduler", &[]);
        kedge_schedule::run(client, self.informer(), kedge_schedule::Options::default()).await;
    }

    /// A client of this process, as `user`.
    pub fn client(&self, user: &str, groups: &[&str]) -> Arc<dyn Client> {
        let groups: Vec<&str> = groups.iter().copied().chain(["system:authenticated"]).collect();
        Arc::new(InProcess::new(self.front.clone(), User::new(user, &groups)))
    }

    /// Completes when a node is Ready.
    pub async fn node_ready(&self) {
        self.seen(NODES, is_ready).await;
    }

    /// Tells whether this machine's node is Ready, as its agent says from the moment of this call on. Never ends.
    pub fn follow_node<'a>(&'a self, ready: &'a watch::Sender<bool>) -> impl Future<Output = ()> + 'a {
        let (_, mut changes) = self.cache.subscribe(&[NODES]);
        let key = Key::new(NODES, "", &self.settings.node);
        async move {
            loop {
                while let Some(change) = changes.next().await {
                    if change.key == key {
                        let node = change.after.as_ref().and_then(|node| node.decode().ok());
                        ready.send_replace(node.is_some_and(|node| is_ready(&node)));
                    }
                }
                changes = self.cache.subscribe(&[NODES]).1;
            }
        }
    }

    /// Completes when a pod runs.
    pub async fn pod_running(&self) {
        self.seen(PODS, |pod| pod.pointer("/status/phase").is_some_and(|phase| phase == "Running")).await;
    }

    /// Completes when an object of `resource` is as wanted.
    async fn seen(&self, resource: GroupResource, wanted: fn(&Value) -> bool) {
        let is = |object: &Object| object.decode().is_ok_and(|value| wanted(&value));
        loop {
            let (snapshot, mut changes) = self.cache.subscribe(std::slice::from_ref(&resource));
            if snapshot.list(&resource, "").any(|object| is(object)) {
                return;
            }
            drop(snapshot);
            while let Some(change) = changes.next().await {
                if change.after.as_ref().is_some_and(|object| is(object)) {
                    return;
                }
            }
        }
    }

    pub fn informer(&self) -> Arc<dyn Informer> {
        self.cache.clone()
    }

    /// Checks behind `/readyz`.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The administrator's kubeconfig, for a server at `server`.
    pub fn admin_kubeconfig(&self, server: &str) -> Result<String, Error> {
        Ok(self.pki.kubeconfig(&Profile::Admin, server)?)
    }

    /// The same in a file that only its owner reads.
    pub fn write_admin_kubeconfig(&self, path: &Path, server: &str) -> Result<(), Error> {
        Ok(self.pki.write_admin_kubeconfig(path, server)?)
    }

    /// What pods trust the API server by.
    pub fn server_ca(&self) -> &str {
        self.pki.authority_pem(Signer::Server)
    }
}

fn is_ready(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// The step of the start that makes the service `kubernetes` lead here.
const OWN_SERVICE: &str = "poststarthook/bootstrap-controller";
/// Steps that were done before anything was served.
const BOOTSTRAPPED: &[&str] = &[
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/kube-apiserver-autoregistration",
];
/// What the task is that serves custom resources as they are defined.
const DEFINITIONS: &[&str] = &["poststarthook/start-apiextensions-controllers", "poststarthook/crd-informer-synced"];

/// The control plane's checks under upstream's names of what is the same here.
fn checks(cache: &Arc<Cache>, definitions: AbortHandle) -> Health {
    let health = Health::default();
    for (name, live) in [("etcd", true), ("etcd-readiness", false), ("informer-sync", false)] {
        let cache = cache.clone();
        health.add(name, live, move || cache.check());
    }
    for name in DEFINITIONS {
        let task = definitions.clone();
        health.add(name, true, move || if task.is_finished() { Err("it has ended".to_owned()) } else { Ok(()) });
    }
    BOOTSTRAPPED.iter().for_each(|name| health.done(name));
    health.awaits(OWN_SERVICE);
    health
}

/// The administrator's own tokens; there need not be any.
fn fixed_tokens(path: &Path) -> Result<FixedTokens, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(FixedTokens::parse(&text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(FixedTokens::default()),
        Err(source) => Err(Error::FixedFile { path: path.to_owned(), source }),
    }
}

fn open_audit(settings: AuditSettings, clock: &Clock) -> Result<Arc<Audit>, Error> {
    let AuditSettings { policy: (name, text), log, webhook } = settings;
    let policy = Policy::parse(&text).map_err(|source| Error::AuditPolicy { name, source })?;
    let log = log.map(log::open).transpose()?;
    let webhook = webhook.map(|path| Webhook::of_kubeconfig(&path).map_err(Error::AuditWebhook)).transpose()?;
    Ok(Arc::new(Audit::new(policy, log.into_iter().chain(webhook.map(Webhook::start)).collect(), clock.clone())))
}

fn names(settings: &Settings, addresses: Vec<IpAddr>) -> Names {
    Names {
        node: settings.node.clone(),
        addresses,
        service: IpAddr::V4(settings.kubernetes_address()),
        domain: settings.domain.clone(),
    }
}

/// On all addresses of both families; on IPv4 alone where the kernel has no IPv6.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from(([0u16; 8], port))).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await,
    }
}
