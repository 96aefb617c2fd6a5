//! Nobody hands on what they may not do themselves, unless they may `escalate` a role or `bind` it.

use kedge_api::rbac::{GROUP, MASTERS, Rule, compact, missing, quoted};
use kedge_api::resource::known;
use kedge_api::{GroupResource, Key, Reason, Status, Target, User};
use serde_json::{Value, json};

use super::{Attributes, Authorizer};

/// A namespace's role or the cluster's, as a binding names it.
struct Reference<'a> {
    group: &'a str,
    resource: GroupResource,
    name: &'a str,
}

impl Authorizer {
    pub(super) fn may_grant(
        &self,
        who: &User,
        target: &Target,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let same = old.is_some_and(|old| differs_for_collection_only(new, old));
        if same || who.groups.iter().any(|group| group == MASTERS) {
            return Ok(());
        }
        let role = [known::ROLES, known::CLUSTER_ROLES].contains(&target.resource);
        if role { self.role(who, target, new, old) } else { self.binding(who, target, new) }
    }

    fn role(&self, who: &User, target: &Target, new: &Value, old: Option<&Value>) -> Result<(), Status> {
        let resource = target.resource.resource.as_str();
        let asked = Attributes {
            namespace: &target.namespace,
            name: &target.name,
            ..Attributes::resource(who, "escalate", GROUP, resource)
        };
        if self.decide_here(&asked).is_ok() {
            return Ok(());
        }
        let rules = serde_json::from_value(new.get("rules").cloned().unwrap_or_default()).unwrap_or_default();
        self.covers(who, target, new, rules)?;
        let gathers = |role: &Value| role.get("aggregationRule").is_some_and(|rule| !rule.is_null());
        if gathers(new) || old.is_some_and(gathers) {
            // What it will gather is not known, so it may be anything.
            let why = "must have cluster-admin privileges to use the aggregationRule";
            self.lacking(who, &target.namespace, &everything()).map_err(|_| forbidden(target, new, why))?;
        }
        Ok(())
    }

    fn binding(&self, who: &User, target: &Target, new: &Value) -> Result<(), Status> {
        let text = |key: &str| new.pointer(key).and_then(Value::as_str).unwrap_or_default();
        let cluster = text("/roleRef/kind") == "ClusterRole";
        let role = Reference {
            group: text("/roleRef/apiGroup"),
            resource: if cluster { known::CLUSTER_ROLES } else { known::ROLES },
            name: text("/roleRef/name"),
        };
        let asked = Attributes {
            namespace: &target.namespace,
            name: role.name,
            ..Attributes::resource(who, "bind", role.group, role.resource.resource.as_str())
        };
        if self.decide_here(&asked).is_ok() {
            return Ok(());
        }
        let key = Key::new(role.resource, if cluster { "" } else { &target.namespace }, role.name);
        // As upstream: the resource that is named missing is the request's own.
        let rules = self.roles.role(&key).ok_or_else(|| Status::not_found(&target.resource, role.name))?;
        self.covers(who, target, new, rules.to_vec())
    }

    fn covers(&self, who: &User, target: &Target, object: &Value, rules: Vec<Rule>) -> Result<(), Status> {
        self.lacking(who, &target.namespace, &rules).map_err(|lacking| {
            let mut lines: Vec<String> = lacking.iter().map(ToString::to_string).collect();
            lines.sort_unstable();
            lines.dedup();
            let (name, groups) = (&who.name, quoted(&who.groups));
            let why = format!(
                "user {name:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{}",
                lines.join("\n")
            );
            forbidden(target, object, &why)
        })
    }

    fn lacking(&self, who: &User, namespace: &str, rules: &[Rule]) -> Result<(), Vec<Rule>> {
        let lacking = compact(missing(&self.rules(who, namespace), rules));
        if lacking.is_empty() { Ok(()) } else { Err(lacking) }
    }
}

fn everything() -> [Rule; 2] {
    let any = || vec!["*".to_owned()];
    [
        Rule { verbs: any(), api_groups: any(), resources: any(), ..Rule::default() },
        Rule { verbs: any(), non_resource_urls: any(), ..Rule::default() },
    ]
}

fn forbidden(target: &Target, object: &Value, why: &str) -> Status {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let resource = &target.resource;
    Status::about(Reason::Forbidden, resource, name, format!("{resource} {name:?} is forbidden: {why}"))
}

/// What garbage collection changes on its way to a deletion grants nothing.
fn differs_for_collection_only(new: &Value, old: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        if let Some(Value::Object(meta)) = object.get_mut("metadata") {
            for field in ["ownerReferences", "finalizers", "managedFields"] {
                meta.insert(field.to_owned(), json!(null));
            }
        }
        object
    };
    bare(new) == bare(old)
}

#[cfg(test)]
mod tests;
