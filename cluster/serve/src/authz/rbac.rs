//! Roles and bindings: who may do what by the objects of `rbac.authorization.k8s.io`.
//!
//! Owns an index of them, by subject and namespace, that is brought up to date when it is asked: so that a binding counts as soon as
//! whoever made it has the answer. Where nothing changed, that costs a few pointer comparisons.
//!
//! ```text
//! Informer::snapshot ─▶ Index::follow (what differs in four resources) ─▶ user, groups ─▶ bindings ─▶ role ─▶ rules
//! ```

mod index;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use kedge_api::rbac::{Rule, Wish};
use kedge_api::resource::known;
use kedge_api::{GroupResource, Informer, Key, User};

use super::{Attributes, Decision, Source, What};
use index::{Binding, Index};

const RESOURCES: [GroupResource; 4] =
    [known::ROLES, known::CLUSTER_ROLES, known::ROLE_BINDINGS, known::CLUSTER_ROLE_BINDINGS];

pub struct Rbac {
    informer: Arc<dyn Informer>,
    /// Held for writing only while changed roles and bindings are read in.
    index: RwLock<Index>,
}

impl Rbac {
    pub fn new(informer: Arc<dyn Informer>) -> Self {
        Self { informer, index: RwLock::default() }
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        let snapshot = self.informer.snapshot();
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        if index.shows(&snapshot) {
            return index;
        }
        drop(index);
        self.index.write().unwrap_or_else(PoisonError::into_inner).follow(snapshot);
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules of a role; `None` if there is no such role.
    pub fn role(&self, key: &Key) -> Option<Arc<[Rule]>> {
        self.index().role(key).cloned()
    }
}

impl Source for Rbac {
    fn decide(&self, a: &Attributes<'_>) -> Decision {
        let wish = match a.what {
            What::Path(path) => Wish::Path(path),
            What::Resource => {
                Wish::Resource { group: a.group, resource: a.resource, subresource: a.subresource, name: a.name }
            }
        };
        // A path is in no namespace.
        let namespace = if a.what == What::Resource { a.namespace } else { "" };
        let index = self.index();
        let mut missing: Vec<String> = Vec::new();
        for binding in index.bindings(a.user, namespace) {
            match index.role(&binding.role) {
                Some(rules) if rules.iter().any(|rule| rule.allows(a.verb, wish)) => {
                    return Decision::Allow(format!("RBAC: allowed by {}", binding.told_of(a.user)));
                }
                Some(_) => {}
                None => missing.push(no_role(binding)),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        Decision::NoOpinion(match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    fn rules(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let index = self.index();
        let mut seen: Vec<&Binding> = Vec::new();
        for binding in index.bindings(user, namespace) {
            if !seen.iter().any(|other| std::ptr::eq(*other, binding)) {
                seen.push(binding);
            }
        }
        seen.into_iter()
            .filter_map(|binding| index.role(&binding.role))
            .flat_map(|rules| rules.iter().cloned())
            .collect()
    }
}

fn no_role(binding: &Binding) -> String {
    let kind = if binding.role.namespace.is_empty() { "clusterrole" } else { "role" };
    format!("{kind}.rbac.authorization.k8s.io {:?} not found", binding.role.name)
}

#[cfg(test)]
mod tests;
