//! The row type of the resource table, and the names by which a resource is called.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A resource regardless of version, e.g. `pods` or `deployments.apps`. Cheap to copy around: built-in names are static.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupResource {
    /// Empty for the core group.
    pub group: Name,
    /// The plural, e.g. `pods`.
    pub resource: Name,
}

impl GroupResource {
    pub const fn of(group: &'static str, resource: &'static str) -> Self {
        Self { group: Name::Static(group), resource: Name::Static(resource) }
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group.as_str() {
            "" => f.write_str(self.resource.as_str()),
            group => write!(f, "{}.{group}", self.resource.as_str()),
        }
    }
}

impl fmt::Debug for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name that is either known at compile time or made at run time (custom resources). Compares by its text.
#[derive(Clone)]
pub enum Name {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Name {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Static(s) => s,
            Self::Shared(s) => s,
        }
    }
}

impl From<&str> for Name {
    fn from(s: &str) -> Self {
        Self::Shared(s.into())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What a request does to a resource, as authorization names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    /// A subresource's connection: exec, attach, port-forward, proxy.
    Connect,
}

impl Verb {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Connect => "connect",
        }
    }
}

/// The row of one served resource: all that discovery, OpenAPI, Table printing, patching and kubectl need to know of it.
/// Its behaviour (defaulting, validation, …) stands beside it in the registry.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Group and plural.
    pub id: GroupResource,
    pub version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub singular: Cow<'static, str>,
    pub short_names: Cow<'static, [&'static str]>,
    pub categories: Cow<'static, [&'static str]>,
    pub namespaced: bool,
    pub verbs: &'static [Verb],
    /// Names of its subresources, e.g. `status`, `log`.
    pub subresources: &'static [Subresource],
    /// Printer columns after `Name`, in order.
    pub columns: &'static [Column],
    /// Fields beside `metadata.name` and `metadata.namespace` that a field selector may name.
    pub selectable: &'static [&'static str],
    /// The schema's name, e.g. `io.k8s.api.core.v1.Pod`.
    pub schema: Cow<'static, str>,
    /// Kept in memory only: what every node rewrites each few seconds (leases, events).
    pub volatile: bool,
    /// Why not to use it any more: a warning on every answer.
    pub deprecated: Option<&'static str>,
    /// Group and version in which its objects are stored, where these are not its own.
    pub stored_in: Option<(&'static str, &'static str)>,
    /// Annotations that upstream's conversion to this version makes. The rows of a Table, which are made before it, lack them.
    pub made_annotations: &'static [&'static str],
    /// What a row made at run time says beside, or instead.
    pub custom: Option<Arc<Custom>>,
}

/// What no program knew: the part of a row that a CustomResourceDefinition brings along.
#[derive(Debug, Default)]
pub struct Custom {
    pub list_kind: String,
    /// It is going, with all that is of it.
    pub terminating: bool,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    /// Printer columns after `Name`, in order.
    pub columns: Vec<CustomColumn>,
    /// Why not to use the version any more.
    pub deprecated: Option<String>,
    /// Dotted paths that a field selector may name.
    pub selectable: Vec<String>,
    /// The schema of the version as it was written, for publishing; `Null` where it keeps unknown fields at its root.
    pub schema: serde_json::Value,
}

type Cell = dyn Fn(&serde_json::Value) -> serde_json::Value + Send + Sync;

/// As [`Column`], with texts and a cell that were made at run time.
pub struct CustomColumn {
    pub name: String,
    pub r#type: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    pub cell: Box<Cell>,
}

impl fmt::Debug for CustomColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// In which order versions are preferred, the least first: `v2` > `v1` > `v1beta2` > `v1alpha1` > anything else.
pub fn version_rank(version: &str) -> (u8, u32, u32) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let number = |text: &str| text.parse::<u32>().ok();
    let split = |word| rest.split_once(word).and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
    match (number(rest), split("beta"), split("alpha")) {
        (Some(major), ..) => (3, major, 0),
        (None, Some((major, minor)), _) => (2, major, minor),
        (None, None, Some((major, minor))) => (1, major, minor),
        (None, None, None) => (0, 0, 0),
    }
}

impl Resource {
    pub fn short_names(&self) -> Vec<&str> {
        let custom = self.custom.iter().flat_map(|c| c.short_names.iter().map(String::as_str));
        self.short_names.iter().copied().chain(custom).collect()
    }

    pub fn categories(&self) -> Vec<&str> {
        let custom = self.custom.iter().flat_map(|c| c.categories.iter().map(String::as_str));
        self.categories.iter().copied().chain(custom).collect()
    }

    /// Whether a field selector may name this field, beside name and namespace.
    pub fn selects(&self, field: &str) -> bool {
        self.selectable.contains(&field)
            || self.custom.as_ref().is_some_and(|c| c.selectable.iter().any(|known| known == field))
    }

    /// The warning that every answer carries.
    pub fn deprecation(&self) -> Option<String> {
        self.deprecated.map(str::to_owned).or_else(|| self.custom.as_ref()?.deprecated.clone())
    }

    /// `PodList`
    pub fn list_kind(&self) -> String {
        self.custom.as_ref().map_or_else(|| format!("{}List", self.kind), |c| c.list_kind.clone())
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        match self.id.group.as_str() {
            "" => self.version.to_string(),
            group => format!("{group}/{}", self.version),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Subresource {
    pub name: &'static str,
    /// The kind it takes and gives, e.g. `Scale`; empty means the resource's own kind.
    pub kind: &'static str,
    /// Group and version of that kind where it differs from the resource's, e.g. `("autoscaling", "v1")`.
    pub group_version: Option<(&'static str, &'static str)>,
    pub verbs: &'static [Verb],
}

/// A column of the Table that `kubectl get` prints.
#[derive(Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `date`, …
    pub r#type: &'static str,
    pub format: &'static str,
    /// 0 is shown always, above only with `-o wide`.
    pub priority: u8,
    /// The cell's value from the object as JSON.
    pub cell: fn(&serde_json::Value) -> serde_json::Value,
}

impl fmt::Debug for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Resources that code names. Further ones exist only as rows of the registry's table.
pub mod known {
    use super::GroupResource;
    pub const CONFIG_MAPS: GroupResource = GroupResource::of("", "configmaps");
    pub const ENDPOINTS: GroupResource = GroupResource::of("", "endpoints");
    pub const EVENTS: GroupResource = GroupResource::of("", "events");
    pub const NAMESPACES: GroupResource = GroupResource::of("", "namespaces");
    pub const NODES: GroupResource = GroupResource::of("", "nodes");
    pub const PODS: GroupResource = GroupResource::of("", "pods");
    pub const SECRETS: GroupResource = GroupResource::of("", "secrets");
    pub const SERVICES: GroupResource = GroupResource::of("", "services");
    pub const SERVICE_ACCOUNTS: GroupResource = GroupResource::of("", "serviceaccounts");
    pub const LIMIT_RANGES: GroupResource = GroupResource::of("", "limitranges");
    pub const PERSISTENT_VOLUMES: GroupResource = GroupResource::of("", "persistentvolumes");
    pub const PERSISTENT_VOLUME_CLAIMS: GroupResource = GroupResource::of("", "persistentvolumeclaims");
    pub const REPLICATION_CONTROLLERS: GroupResource = GroupResource::of("", "replicationcontrollers");
    pub const RESOURCE_QUOTAS: GroupResource = GroupResource::of("", "resourcequotas");
    pub const CONTROLLER_REVISIONS: GroupResource = GroupResource::of("apps", "controllerrevisions");
    pub const DAEMON_SETS: GroupResource = GroupResource::of("apps", "daemonsets");
    pub const DEPLOYMENTS: GroupResource = GroupResource::of("apps", "deployments");
    pub const REPLICA_SETS: GroupResource = GroupResource::of("apps", "replicasets");
    pub const STATEFUL_SETS: GroupResource = GroupResource::of("apps", "statefulsets");
    pub const HORIZONTAL_POD_AUTOSCALERS: GroupResource = GroupResource::of("autoscaling", "horizontalpodautoscalers");
    pub const CRON_JOBS: GroupResource = GroupResource::of("batch", "cronjobs");
    pub const JOBS: GroupResource = GroupResource::of("batch", "jobs");
    pub const VALIDATING_ADMISSION_POLICIES: GroupResource =
        GroupResource::of("admissionregistration.k8s.io", "validatingadmissionpolicies");
    pub const API_SERVICES: GroupResource = GroupResource::of("apiregistration.k8s.io", "apiservices");
    pub const CERTIFICATE_SIGNING_REQUESTS: GroupResource =
        GroupResource::of("certificates.k8s.io", "certificatesigningrequests");
    pub const FLOW_SCHEMAS: GroupResource = GroupResource::of("flowcontrol.apiserver.k8s.io", "flowschemas");
    pub const PRIORITY_LEVELS: GroupResource =
        GroupResource::of("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations");
    pub const IP_ADDRESSES: GroupResource = GroupResource::of("networking.k8s.io", "ipaddresses");
    pub const SERVICE_CIDRS: GroupResource = GroupResource::of("networking.k8s.io", "servicecidrs");
    pub const LEASES: GroupResource = GroupResource::of("coordination.k8s.io", "leases");
    pub const ENDPOINT_SLICES: GroupResource = GroupResource::of("discovery.k8s.io", "endpointslices");
    pub const RUNTIME_CLASSES: GroupResource = GroupResource::of("node.k8s.io", "runtimeclasses");
    pub const POD_DISRUPTION_BUDGETS: GroupResource = GroupResource::of("policy", "poddisruptionbudgets");
    pub const PRIORITY_CLASSES: GroupResource = GroupResource::of("scheduling.k8s.io", "priorityclasses");
    pub const CSI_DRIVERS: GroupResource = GroupResource::of("storage.k8s.io", "csidrivers");
    pub const CSI_NODES: GroupResource = GroupResource::of("storage.k8s.io", "csinodes");
    pub const CSI_STORAGE_CAPACITIES: GroupResource = GroupResource::of("storage.k8s.io", "csistoragecapacities");
    pub const STORAGE_CLASSES: GroupResource = GroupResource::of("storage.k8s.io", "storageclasses");
    pub const VOLUME_ATTACHMENTS: GroupResource = GroupResource::of("storage.k8s.io", "volumeattachments");
    pub const VOLUME_ATTRIBUTES_CLASSES: GroupResource = GroupResource::of("storage.k8s.io", "volumeattributesclasses");
    pub const ROLES: GroupResource = GroupResource::of("rbac.authorization.k8s.io", "roles");
    pub const ROLE_BINDINGS: GroupResource = GroupResource::of("rbac.authorization.k8s.io", "rolebindings");
    pub const CLUSTER_ROLES: GroupResource = GroupResource::of("rbac.authorization.k8s.io", "clusterroles");
    pub const CLUSTER_ROLE_BINDINGS: GroupResource =
        GroupResource::of("rbac.authorization.k8s.io", "clusterrolebindings");
}
