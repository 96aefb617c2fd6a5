//! Whoever carries out requests behind the gates, and the table of what there is to ask for.

use std::sync::Arc;

use async_trait::async_trait;
use kedge_api::{Answer, GroupResource, Request, Resource, Status};

/// The registry, as this crate sees it.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    async fn carry_out(&self, request: Request) -> Result<Answer, Status>;

    /// The rows served now; grows when custom kinds are defined.
    fn rows(&self) -> Arc<[Arc<Resource>]>;
}

/// All that is served: the registry's rows and those this crate answers itself.
#[derive(Clone)]
pub struct Catalog {
    backend: Arc<dyn Backend>,
    own: Arc<[Arc<Resource>]>,
}

impl Catalog {
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, own: crate::review::rows().into_iter().map(Arc::new).collect() }
    }

    /// Every row, ordered by group, version and name.
    pub fn rows(&self) -> Vec<Arc<Resource>> {
        let mut rows: Vec<_> = self.backend.rows().iter().chain(self.own.iter()).cloned().collect();
        rows.sort_by(|a, b| (&a.id.group, &a.version, &a.id.resource).cmp(&(&b.id.group, &b.version, &b.id.resource)));
        rows
    }

    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Resource>> {
        let is = |row: &&Arc<Resource>| {
            row.id.resource.as_str() == resource && row.id.group.as_str() == group && row.version == version
        };
        self.backend.rows().iter().find(is).or_else(|| self.own.iter().find(is)).cloned()
    }

    /// A version that a resource is served in.
    pub fn version_of(&self, id: &GroupResource) -> Option<String> {
        let is = |row: &&Arc<Resource>| row.id == *id;
        let backend = self.backend.rows();
        backend.iter().find(is).or_else(|| self.own.iter().find(is)).map(|row| row.version.to_string())
    }

    /// Whether this crate answers the row itself.
    pub fn is_own(&self, row: &Arc<Resource>) -> bool {
        self.own.iter().any(|own| Arc::ptr_eq(own, row))
    }

    /// Whether built-in resources make up the group: what is not there is then answered in other words than in a group of custom ones.
    pub fn has_group(&self, group: &str) -> bool {
        let backend = self.backend.rows();
        backend.iter().chain(self.own.iter()).any(|row| row.custom.is_none() && row.id.group.as_str() == group)
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Catalog({} rows)", self.rows().len())
    }
}
