//! Bindings by subject and namespace, and roles by name, as one snapshot has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kedge_api::rbac::Rule;
use kedge_api::resource::known;
use kedge_api::{Change, Key, Object, Snapshot, User};
use serde::Deserialize;

use super::RESOURCES;

const USER: &str = "User";
const PEOPLE: &str = "Group";
const ACCOUNT: &str = "ServiceAccount";
const CLUSTER_ROLE: &str = "ClusterRole";

/// Namespace of bindings, empty for those of the whole cluster; then their names.
type Places = HashMap<Arc<str>, BTreeMap<Arc<str>, Arc<Binding>>>;

#[derive(Default)]
pub(super) struct Index {
    seen: Snapshot,
    roles: HashMap<Key, Arc<[Rule]>>,
    users: HashMap<String, Places>,
    groups: HashMap<String, Places>,
}

/// A ClusterRoleBinding or RoleBinding.
pub(super) struct Binding {
    key: Key,
    pub(super) role: Key,
    subjects: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingForm {
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
}

#[derive(Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct RoleForm {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

impl Index {
    /// Whether this is what the snapshot has.
    pub(super) fn shows(&self, snapshot: &Snapshot) -> bool {
        RESOURCES.iter().all(|resource| self.seen.is_same(snapshot, resource))
    }

    /// Reads in what differs in the snapshot.
    pub(super) fn follow(&mut self, snapshot: Snapshot) {
        // Another thread may have been here, with a newer one.
        if snapshot.revision < self.seen.revision {
            return;
        }
        for resource in &RESOURCES {
            let roles = [known::ROLES, known::CLUSTER_ROLES].contains(resource);
            for change in snapshot.since(&self.seen, resource) {
                if roles {
                    self.change_role(&change);
                } else {
                    self.change_binding(&change);
                }
            }
        }
        self.seen = snapshot.only(&RESOURCES);
    }

    fn change_role(&mut self, change: &Change) {
        match change.after.as_deref().and_then(read::<RoleForm>) {
            Some(form) => self.roles.insert(change.key.clone(), form.rules.unwrap_or_default().into()),
            None => self.roles.remove(&change.key),
        };
    }

    fn change_binding(&mut self, change: &Change) {
        if let Some(binding) = change.before.as_deref().and_then(Binding::of) {
            for subject in &binding.subjects {
                let (people, who) = self.people(&binding, subject);
                let empty = people.get_mut(&who).is_some_and(|places| {
                    let empty = places.get_mut(&binding.key.namespace).is_some_and(|names| {
                        names.remove(&binding.key.name);
                        names.is_empty()
                    });
                    if empty {
                        places.remove(&binding.key.namespace);
                    }
                    places.is_empty()
                });
                if empty {
                    people.remove(&who);
                }
            }
        }
        if let Some(binding) = change.after.as_deref().and_then(Binding::of).map(Arc::new) {
            for subject in &binding.subjects {
                let (people, who) = self.people(&binding, subject);
                let names = people.entry(who).or_default().entry(binding.key.namespace.clone()).or_default();
                names.insert(binding.key.name.clone(), binding.clone());
            }
        }
    }

    /// Where a subject stands, and under which name: a service account is the user that its tokens make.
    fn people(&mut self, binding: &Binding, subject: &Subject) -> (&mut HashMap<String, Places>, String) {
        match subject.kind.as_str() {
            PEOPLE => (&mut self.groups, subject.name.clone()),
            ACCOUNT => (&mut self.users, account(subject, &binding.key.namespace)),
            _ => (&mut self.users, subject.name.clone()),
        }
    }

    pub(super) fn role(&self, key: &Key) -> Option<&Arc<[Rule]>> {
        self.roles.get(key)
    }

    /// The user's bindings: of the cluster first, then of the namespace if there is one. One stands more than once if it names the user
    /// in several ways.
    pub(super) fn bindings<'a>(
        &'a self,
        user: &'a User,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Binding> + use<'a> {
        let places = ["", namespace].into_iter().take(if namespace.is_empty() { 1 } else { 2 });
        places.flat_map(move |place| {
            let groups = user.groups.iter().filter_map(|group| self.groups.get(group));
            let all = self.users.get(&*user.name).into_iter().chain(groups);
            all.filter_map(move |places| places.get(place)).flat_map(|names| names.values().map(|b| &**b))
        })
    }
}

impl Binding {
    fn of(object: &Object) -> Option<Self> {
        let form: BindingForm = read(object)?;
        let key = object.key.clone();
        let role = match form.role_ref.kind.as_str() {
            CLUSTER_ROLE => Key::new(known::CLUSTER_ROLES, "", &form.role_ref.name),
            _ => Key::new(known::ROLES, &key.namespace, &form.role_ref.name),
        };
        let mut subjects = form.subjects.unwrap_or_default();
        // Any other kind is nobody.
        subjects.retain(|subject| [USER, PEOPLE, ACCOUNT].contains(&subject.kind.as_str()));
        Some(Self { key, role, subjects })
    }

    /// Which binding this is, of which role, and as whom it names the user.
    pub(super) fn told_of(&self, user: &User) -> String {
        let (kind, name) = match &*self.key.namespace {
            "" => ("ClusterRoleBinding", self.key.name.to_string()),
            namespace => ("RoleBinding", format!("{}/{namespace}", self.key.name)),
        };
        let role = if self.role.namespace.is_empty() { CLUSTER_ROLE } else { "Role" };
        let subject = self.subjects.iter().find(|subject| match subject.kind.as_str() {
            PEOPLE => user.groups.contains(&subject.name),
            ACCOUNT => *user.name == account(subject, &self.key.namespace),
            _ => *user.name == subject.name,
        });
        let subject = subject.map_or_else(String::new, |subject| match subject.kind.as_str() {
            ACCOUNT => format!("{ACCOUNT} {:?}", format!("{}/{}", subject.name, subject.namespace)),
            kind => format!("{kind} {:?}", subject.name),
        });
        format!("{kind} {name:?} of {role} {:?} to {subject}", self.role.name)
    }
}

fn account(subject: &Subject, place: &str) -> String {
    let namespace = if subject.namespace.is_empty() { place } else { &subject.namespace };
    format!("system:serviceaccount:{namespace}:{}", subject.name)
}

/// What is stored was checked; what cannot be read all the same grants nothing.
fn read<'a, T: Deserialize<'a>>(object: &'a Object) -> Option<T> {
    match serde_json::from_slice(&object.json) {
        Ok(form) => Some(form),
        Err(error) => {
            tracing::warn!(object = %object.key, %error, "cannot be read, so it grants nothing");
            None
        }
    }
}
