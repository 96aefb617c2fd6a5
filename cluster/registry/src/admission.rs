//! The gates between a request and the store: plugins in upstream's order. Those that change an object run on what the client sent;
//! those that only judge it run on what the strategy has prepared and checked, last the quota, which charges what it lets pass.
//!
//! ```text
//! mutate ─▶ Plugin::admit … ─▶ policy::mutate ─▶ webhook::mutate ─▶ (strategy: prepare, validate)
//!        ┌──────────────────────────────────────────────────────────────────────────────┘
//!        └▶ validate ─▶ Plugin::validate … ─▶ policy::validate ─▶ webhook::validate ─▶ quota::charge ─▶ store
//! ```
//!
//! A plugin is a row of [`PLUGINS`]: on what it runs, about which resources, and what it does. Whatever does not apply costs a look at
//! the row and no more.

mod certificates;
mod counted;
mod ingress_class;
mod limits;
mod matching;
mod namespace;
mod node;
mod permissions;
mod pod_security;
pub(crate) mod policy;
mod priority;
pub(crate) mod quota;
mod runtime_class;
mod service_account;
mod storage;
mod tolerations;
mod topology;
mod webhook;

use std::time::Instant;

use kedge_api::resource::known;
use kedge_api::{GroupResource, Options, Reason, Request, Resource, Status, Target, User, Verb};
use serde_json::Value;

use self::counted::Step;
use crate::Registry;
use crate::strategy::Scope;
use crate::table::Row;
use crate::value::Look as _;
use crate::verbs::incoming::Expected;

pub use counted::Counted;

const INGRESSES: GroupResource = GroupResource::of("networking.k8s.io", "ingresses");

/// What is about to happen to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// A subresource's connection is opened, as its options say.
    Connect,
}

impl Operation {
    /// As rules and reviews call it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// Who writes what, as far as admission asks. Gathers what the plugins have to say to the client.
pub(crate) struct Writer<'a> {
    pub(crate) who: &'a User,
    pub(crate) verb: Verb,
    pub(crate) target: &'a Target,
    pub(crate) options: &'a Options,
    pub(crate) dry_run: bool,
    /// The write is a consequence of something that was admitted already: an eviction's deletion, a scale's change.
    pub(crate) admitted: bool,
    /// What a subresource takes, where that is not an object of its row: a Scale, an Eviction, the options of a connection.
    pub(crate) kind: Option<Expected<'a>>,
    pub(crate) warnings: Vec<String>,
}

impl<'a> Writer<'a> {
    pub(crate) fn of(request: &'a Request, dry_run: bool) -> Self {
        let Request { who, verb, target, options, .. } = request;
        Self { who, verb: *verb, target, options, dry_run, admitted: false, kind: None, warnings: Vec::new() }
    }

    /// Once: what is tried again says the same again.
    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(crate) fn admitted(self) -> Self {
        Self { admitted: true, ..self }
    }

    pub(crate) fn of_kind(self, kind: Expected<'a>) -> Self {
        Self { kind: Some(kind), ..self }
    }
}

/// What a plugin sees beside the object.
pub(crate) struct Attributes<'a> {
    pub(crate) operation: Operation,
    pub(crate) resource: &'a Resource,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    /// Empty where a new object has yet to get its name.
    pub(crate) name: &'a str,
    /// What stands in the store; none for what is created.
    pub(crate) old: Option<&'a Value>,
    /// What the object is, if not one of the resource.
    pub(crate) kind: Option<Expected<'a>>,
    pub(crate) dry_run: bool,
}

impl<'a> Attributes<'a> {
    fn of(writer: &Writer<'a>, row: &'a Row, operation: Operation, old: Option<&'a Value>) -> Self {
        let Target { namespace, name, subresource, .. } = writer.target;
        // A PUT that creates is a creation like any other.
        let (kind, dry_run) = (writer.kind, writer.dry_run);
        Self { operation, resource: &row.resource, subresource, namespace, name, old, kind, dry_run }
    }

    /// `403`, in the words `pods "web" is forbidden: …`.
    fn forbidden(&self, object: &Value, why: &str) -> Status {
        let given = [self.name, object.text("metadata.name"), object.text("metadata.generateName"), "Unknown"];
        let name = given.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        let id = &self.resource.id;
        Status::about(Reason::Forbidden, id, name, format!("{id} \"{name}\" is forbidden: {why}"))
    }
}

type Admit = fn(&Scope<'_>, &Attributes<'_>, &mut Value) -> Result<(), Status>;
/// A deleted object is judged as it was.
type Validate = fn(&Scope<'_>, &Attributes<'_>, &Value, &mut Vec<String>) -> Result<(), Status>;

struct Plugin {
    /// Upstream's.
    name: &'static str,
    on: &'static [Operation],
    about: &'static [GroupResource],
    subresources: &'static [&'static str],
    admit: Option<Admit>,
    validate: Option<Validate>,
}

impl Plugin {
    const fn admits(
        name: &'static str,
        on: &'static [Operation],
        about: &'static [GroupResource],
        admit: Admit,
    ) -> Self {
        Self { name, on, about, subresources: &[""], admit: Some(admit), validate: None }
    }

    const fn validates(
        name: &'static str,
        on: &'static [Operation],
        about: &'static [GroupResource],
        validate: Validate,
    ) -> Self {
        Self { name, on, about, subresources: &[""], admit: None, validate: Some(validate) }
    }

    const fn and_validates(self, validate: Validate) -> Self {
        Self { validate: Some(validate), ..self }
    }

    const fn also_of(self, subresources: &'static [&'static str]) -> Self {
        Self { subresources, ..self }
    }

    fn applies(&self, attributes: &Attributes<'_>) -> bool {
        self.on.contains(&attributes.operation)
            && (self.about.is_empty() || self.about.contains(&attributes.resource.id))
            && (self.subresources.is_empty() || self.subresources.contains(&attributes.subresource))
    }
}

const CREATE: &[Operation] = &[Operation::Create];
const UPDATE: &[Operation] = &[Operation::Update];
const WRITE: &[Operation] = &[Operation::Create, Operation::Update];
const ANYTHING: &[GroupResource] = &[];
const PODS: &[GroupResource] = &[known::PODS];
const NODES: &[GroupResource] = &[known::NODES];
const NAMESPACES: &[GroupResource] = &[known::NAMESPACES];
const LIMITED: &[GroupResource] = &[known::PODS, known::PERSISTENT_VOLUME_CLAIMS];
const CLAIMED: &[GroupResource] = &[known::PERSISTENT_VOLUME_CLAIMS];
const KEPT: &[GroupResource] =
    &[known::PERSISTENT_VOLUME_CLAIMS, known::PERSISTENT_VOLUMES, known::VOLUME_ATTRIBUTES_CLASSES];
const INGRESS: &[GroupResource] = &[INGRESSES];
const CERTIFICATES: &[GroupResource] = &[known::CERTIFICATE_SIGNING_REQUESTS];
const PRIORITIES: &[GroupResource] = &[known::PRIORITY_CLASSES];

/// In upstream's order.
const PLUGINS: &[Plugin] = &[
    Plugin::admits("NamespaceLifecycle", WRITE, ANYTHING, namespace::lifecycle).also_of(&[]),
    Plugin::admits("LimitRanger", WRITE, LIMITED, limits::default)
        .and_validates(limits::check)
        .also_of(&["", "resize"]),
    Plugin::admits("ServiceAccount", WRITE, PODS, service_account::default)
        .and_validates(service_account::check)
        .also_of(&["", "ephemeralcontainers"]),
    Plugin::admits("TaintNodesByCondition", CREATE, NODES, node::taint),
    Plugin::validates("PodSecurity", WRITE, NAMESPACES, pod_security::namespace),
    Plugin::validates("PodSecurity", WRITE, PODS, pod_security::pod).also_of(&["", "ephemeralcontainers", "resize"]),
    Plugin::validates("PodSecurity", WRITE, pod_security::CONTROLLERS, pod_security::controller),
    Plugin::admits("Priority", WRITE, PODS, priority::of_pod),
    Plugin::validates("Priority", WRITE, PRIORITIES, priority::one_default),
    Plugin::admits("DefaultTolerationSeconds", WRITE, PODS, tolerations::default),
    Plugin::admits("DefaultStorageClass", CREATE, CLAIMED, storage::default_class),
    Plugin::admits("StorageObjectInUseProtection", CREATE, KEPT, storage::protect),
    Plugin::validates("PersistentVolumeClaimResize", UPDATE, CLAIMED, storage::resize),
    Plugin::admits("RuntimeClass", CREATE, PODS, runtime_class::apply).and_validates(runtime_class::check),
    Plugin::validates("CertificateSubjectRestriction", CREATE, CERTIFICATES, certificates::restrict_subject),
    Plugin::admits("PodTopologyLabels", CREATE, PODS, topology::label).also_of(&["", "binding"]),
    Plugin::admits("DefaultIngressClass", CREATE, INGRESS, ingress_class::default),
];

/// Lets plugins and webhooks change what a client sent.
pub(crate) async fn mutate(
    registry: &Registry,
    row: &Row,
    writer: &mut Writer<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if writer.admitted {
        return Ok(());
    }
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    let began = Instant::now();
    let done = admit(registry, row, writer, operation, object, old).await;
    registry.admission.step(Step::Admit, operation.as_str(), began, done.is_err());
    done
}

async fn admit(
    registry: &Registry,
    row: &Row,
    writer: &mut Writer<'_>,
    operation: Operation,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let attributes = Attributes::of(writer, row, operation, old);
    plugins_mutate(registry, &attributes, object)?;
    let by_policy = policies_mutate(registry, row, writer, &attributes, object)?;
    if webhook::is_silent(registry, true) {
        return if by_policy { plugins_mutate(registry, &attributes, object) } else { Ok(()) };
    }
    let round = webhook::mutate(registry, row, writer, &attributes, object, None).await?;
    if by_policy || round.changed {
        let before = object.clone();
        plugins_mutate(registry, &attributes, object)?;
        policies_mutate(registry, row, writer, &attributes, object)?;
        let again = round.repeat(*object != before);
        if !again.is_empty() {
            webhook::mutate(registry, row, writer, &attributes, object, Some(&again)).await?;
        }
    }
    Ok(())
}

/// Whether a policy changed the object.
fn policies_mutate(
    registry: &Registry,
    row: &Row,
    writer: &Writer<'_>,
    attributes: &Attributes<'_>,
    object: &mut Value,
) -> Result<bool, Status> {
    if policy::is_silent(registry, true) {
        return Ok(false);
    }
    policy::mutate(registry, row, writer, attributes, object)
}

fn plugins_mutate(registry: &Registry, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    let snapshot = registry.cache.snapshot();
    let scope = Scope { snapshot: &snapshot };
    for plugin in PLUGINS.iter().filter(|plugin| plugin.applies(attributes)) {
        let Some(admit) = plugin.admit else { continue };
        timed(registry, plugin, Step::Admit, attributes, || admit(&scope, attributes, object))?;
    }
    Ok(())
}

fn timed(
    registry: &Registry,
    plugin: &Plugin,
    step: Step,
    attributes: &Attributes<'_>,
    run: impl FnOnce() -> Result<(), Status>,
) -> Result<(), Status> {
    let began = Instant::now();
    let done = run();
    registry.admission.plugin(plugin.name, step, attributes.operation.as_str(), began, done.is_err());
    done
}

/// Lets plugins, policies and webhooks judge what is about to be stored or, then as it was, deleted; or how a connection is opened.
pub(crate) async fn validate(
    registry: &Registry,
    row: &Row,
    writer: &mut Writer<'_>,
    operation: Operation,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if writer.admitted {
        return Ok(());
    }
    let began = Instant::now();
    let done = judge(registry, row, writer, operation, object, old).await;
    registry.admission.step(Step::Validate, operation.as_str(), began, done.is_err());
    done
}

async fn judge(
    registry: &Registry,
    row: &Row,
    writer: &mut Writer<'_>,
    operation: Operation,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let attributes = Attributes::of(writer, row, operation, old);
    let fixed = matches!(operation, Operation::Delete | Operation::Connect);
    if fixed && !webhook::is_silent(registry, true) {
        // There is nothing to change, but mutating webhooks may refuse.
        webhook::mutate(registry, row, writer, &attributes, &mut object.clone(), None).await?;
    }
    for warning in plugins_validate(registry, &attributes, object)? {
        writer.warn(warning);
    }
    if !policy::is_silent(registry, false) {
        policy::validate(registry, row, writer, &attributes, object)?;
    }
    if !webhook::is_silent(registry, false) {
        webhook::validate(registry, row, writer, &attributes, object).await?;
    }
    quota::charge(registry, &attributes, object).await
}

fn plugins_validate(registry: &Registry, attributes: &Attributes<'_>, object: &Value) -> Result<Vec<String>, Status> {
    let snapshot = registry.cache.snapshot();
    let scope = Scope { snapshot: &snapshot };
    let mut warnings = Vec::new();
    for plugin in PLUGINS.iter().filter(|plugin| plugin.applies(attributes)) {
        let Some(validate) = plugin.validate else { continue };
        timed(registry, plugin, Step::Validate, attributes, || validate(&scope, attributes, object, &mut warnings))?;
    }
    Ok(warnings)
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::Arc;

    use kedge_api::{Key, Snapshot};

    use super::*;

    /// A plugin's surroundings: objects as they would stand in the store, and the resource asked about.
    pub(crate) struct World {
        snapshot: Snapshot,
        resource: Resource,
    }

    impl World {
        pub(crate) fn new(resource: &GroupResource, objects: &[(GroupResource, Value)]) -> Self {
            let mut snapshot = Snapshot::default();
            for (at, (resource, object)) in objects.iter().enumerate() {
                let (namespace, name) = (object.text("metadata.namespace"), object.text("metadata.name"));
                let revision = kedge_api::Revision(u64::try_from(at).unwrap() + 1);
                let key = Key::new(resource.clone(), namespace, name);
                let json = serde_json::to_vec(object).unwrap();
                snapshot.insert(Arc::new(kedge_store::decode(key, revision, json.into()).unwrap()));
            }
            let base = crate::kinds::resource("", "", "", "", "", &[]);
            Self { snapshot, resource: Resource { id: resource.clone(), ..base } }
        }

        fn attributes<'a>(&'a self, old: Option<&'a Value>, subresource: &'a str) -> Attributes<'a> {
            let operation = if old.is_some() { Operation::Update } else { Operation::Create };
            Attributes {
                operation,
                resource: &self.resource,
                subresource,
                namespace: "n",
                name: "",
                old,
                kind: None,
                dry_run: false,
            }
        }

        pub(crate) fn admit(&self, admit: Admit, old: Option<&Value>, mut object: Value) -> Result<Value, String> {
            let scope = Scope { snapshot: &self.snapshot };
            admit(&scope, &self.attributes(old, ""), &mut object).map_err(|status| status.message)?;
            Ok(object)
        }

        /// The warnings, or why not.
        pub(crate) fn validate(
            &self,
            validate: Validate,
            old: Option<&Value>,
            object: &Value,
        ) -> Result<Vec<String>, String> {
            let scope = Scope { snapshot: &self.snapshot };
            let mut warnings = Vec::new();
            validate(&scope, &self.attributes(old, ""), object, &mut warnings).map_err(|status| status.message)?;
            Ok(warnings)
        }
    }
}
