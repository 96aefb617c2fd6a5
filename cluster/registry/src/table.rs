//! The table of served resources: what each is called, and how it behaves.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kedge_api::resource::Subresource;
use kedge_api::{GroupResource, Resource, Status, Verb};

use crate::custom::version::Version;
use crate::errors::Errors;
use crate::strategy::Strategy;

pub(crate) const READ_WRITE: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];

/// The `status` subresource.
pub(crate) const STATUS: Subresource = Subresource { name: "status", kind: "", group_version: None, verbs: READ_WRITE };

pub(crate) const SCALE: Subresource =
    Subresource { name: "scale", kind: "Scale", group_version: Some(("autoscaling", "v1")), verbs: READ_WRITE };

/// One served resource.
pub struct Row {
    pub resource: Resource,
    pub(crate) strategy: Strategy,
    /// Where and how its objects are kept, if not as they are shown: `events.k8s.io` serves the core group's events, and an older
    /// version of a resource what is stored in the newer one. Strategies see the stored form.
    pub(crate) stored_as: Option<Alias>,
    /// How its objects behave beyond what a strategy says: of custom resources.
    pub(crate) custom: Option<Arc<Version>>,
}

/// Another face of a resource.
#[derive(Clone, Copy)]
pub(crate) struct Alias {
    /// Group and plural of the resource that stores.
    pub(crate) resource: (&'static str, &'static str),
    /// From the stored form to this row's, and back.
    pub(crate) show: fn(&mut serde_json::Value),
    pub(crate) keep: fn(&mut serde_json::Value),
}

impl Row {
    pub(crate) const fn new(resource: Resource, strategy: Strategy) -> Self {
        Self { resource, strategy, stored_as: None, custom: None }
    }

    /// Another face of objects that `alias` says where to find.
    pub(crate) const fn alias(resource: Resource, strategy: Strategy, alias: Alias) -> Self {
        Self { resource, strategy, stored_as: Some(alias), custom: None }
    }

    /// Under which resource its objects lie in the store.
    pub(crate) fn storage(&self) -> GroupResource {
        self.stored_as.map_or_else(|| self.resource.id.clone(), |a| GroupResource::of(a.resource.0, a.resource.1))
    }

    /// What was found wrong with an object, if anything was.
    pub(crate) fn refuse(&self, errors: Errors, name: &str) -> Result<(), Status> {
        match self.strategy.error_group {
            Some(group) => errors.into_result(group, &self.resource.kind, name),
            None => errors.of(&self.resource, name),
        }
    }

    pub(crate) fn list_kind(&self) -> String {
        self.resource.list_kind()
    }
}

/// All rows, by name. Never changed: a new one takes its place when custom resources come or go.
pub struct Table {
    rows: Vec<Arc<Row>>,
    /// Of a resource's versions, the preferred one first.
    by_id: HashMap<GroupResource, Vec<usize>>,
    resources: Arc<[Arc<Resource>]>,
}

impl Table {
    pub(crate) fn of(rows: Vec<Arc<Row>>) -> Self {
        let mut by_id: HashMap<_, Vec<_>> = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            by_id.entry(row.resource.id.clone()).or_default().push(at);
        }
        let resources = rows.iter().map(|row| Arc::new(row.resource.clone())).collect();
        Self { rows, by_id, resources }
    }

    /// The built-in rows of this table, then these; but none that is called as one of the former, with whose objects its own would mix.
    pub(crate) fn with(&self, custom: impl IntoIterator<Item = Arc<Row>>) -> Self {
        let mut rows: Vec<_> = self.rows.iter().filter(|row| row.custom.is_none()).cloned().collect();
        let taken: HashSet<GroupResource> = rows.iter().map(|row| row.resource.id.clone()).collect();
        rows.extend(custom.into_iter().filter(|row| !taken.contains(&row.resource.id)));
        Self::of(rows)
    }

    /// In its preferred version.
    pub fn get(&self, id: &GroupResource) -> Option<&Arc<Row>> {
        self.versions(id).next()
    }

    /// In the version that is asked for; an empty one means the preferred one.
    pub fn find(&self, id: &GroupResource, version: &str) -> Option<&Arc<Row>> {
        self.versions(id).find(|row| version.is_empty() || row.resource.version == version)
    }

    /// Other versions of the resource, or other groups' names of it: all that keep the same objects.
    pub(crate) fn equivalents(&self, row: &Row) -> impl Iterator<Item = &Arc<Row>> {
        let (storage, own) = (row.storage(), &row.resource);
        let same = move |other: &&Arc<Row>| {
            let resource = &other.resource;
            (&resource.id, &resource.version) != (&own.id, &own.version) && other.storage() == storage
        };
        self.rows.iter().filter(same)
    }

    fn versions(&self, id: &GroupResource) -> impl Iterator<Item = &Arc<Row>> {
        self.by_id.get(id).into_iter().flatten().filter_map(|at| self.rows.get(*at))
    }

    /// By the parts of a request's path, e.g. `apps`, `v1`, `deployments`.
    pub fn by_path(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Row>> {
        self.rows.iter().find(|row| {
            let r = &row.resource;
            r.id.resource.as_str() == plural && r.id.group.as_str() == group && r.version == version
        })
    }

    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Arc<Row>> {
        self.rows.iter()
    }

    /// The rows as others see them.
    pub fn resources(&self) -> Arc<[Arc<Resource>]> {
        self.resources.clone()
    }

    /// The resource of a kind, and whether it is namespaced: `apps/v1`, `Deployment`.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<(GroupResource, bool)> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let is = |r: &&Arc<Resource>| r.kind == kind && r.version == version && r.id.group.as_str() == group;
        self.resources.iter().find(is).map(|r| (r.id.clone(), r.namespaced))
    }
}
