//! Acting as someone else (`kubectl --as`): read from headers, granted by authorization.
//!
//! ```text
//! headers ─▶ Said ─▶ modes, each for who is wanted: may they do this as such a one, and may they be this one? ─▶ User
//!                └▶ none grants it ─▶ may they be this one, whatever they do? ─▶ User, or why not
//! ```
//! Source: "User Impersonation" of Kubernetes' documentation; KEP-5284 "Constrained Impersonation".

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use kedge_api::rbac::MASTERS;
use kedge_api::{Status, User};

use super::headers::Said;
use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, service_account_groups};
use crate::authz::{Attributes, Authorizer, Selectors, node};
use crate::wire::is_subdomain;
use crate::wire::path::Asked;

const PREFIX: &str = "impersonate-";
const AUTHENTICATION: &str = "authentication.k8s.io";
const ASSOCIATED: &str = "associated-node";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// A way of being someone else for some requests only.
struct Mode {
    name: &'static str,
    /// Whether whom it is about may be wanted this way, by the one who asks.
    applies: fn(&Said, &User) -> bool,
}

/// In the order in which they are tried.
const MODES: &[Mode] = &[
    Mode {
        name: ASSOCIATED,
        applies: |wanted, by| is_name_alone(wanted) && node_name(&wanted.name).is_some_and(|node| runs_on(by, node)),
    },
    Mode { name: "arbitrary-node", applies: |wanted, _| is_name_alone(wanted) && node_name(&wanted.name).is_some() },
    Mode { name: "serviceaccount", applies: |wanted, _| is_name_alone(wanted) && account(&wanted.name).is_some() },
    Mode {
        name: "user-info",
        applies: |wanted, _| node_name(&wanted.name).is_none() && account(&wanted.name).is_none() && is_sound(wanted),
    },
];

fn is_name_alone(wanted: &Said) -> bool {
    wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty()
}

fn node_name(name: &str) -> Option<&str> {
    name.strip_prefix("system:node:").filter(|name| is_subdomain(name))
}

/// Namespace and name of a service account.
fn account(name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (is_subdomain(namespace) && is_subdomain(name)).then_some((namespace, name))
}

/// Whether the one who asks is a service account of a pod on that node.
fn runs_on(by: &User, node: &str) -> bool {
    account(&by.name).is_some() && by.extra.get(NODE_NAME).is_some_and(|names| *names == [node])
}

/// What only the unconstrained way still lets through.
fn is_sound(wanted: &Said) -> bool {
    let key = |key: &str| {
        let parts = key.split_once('/').is_some_and(|(domain, rest)| is_subdomain(domain) && !rest.is_empty());
        parts && !key.chars().any(char::is_uppercase)
    };
    !wanted.groups.iter().any(|group| group == MASTERS)
        && wanted.extra.iter().all(|(name, values)| key(name) && values.iter().all(|value| !value.is_empty()))
}

/// A permission on one thing that someone is to be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Demand<'a> {
    group: &'static str,
    resource: &'static str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl Demand<'_> {
    fn attributes<'a>(&'a self, by: &'a User, verb: &'a str) -> Attributes<'a> {
        let Demand { group, resource, subresource, namespace, name } = *self;
        let version = "v1";
        Attributes { version, namespace, name, subresource, ..Attributes::resource(by, verb, group, resource) }
    }
}

/// Each name, group, uid and extra is a permission of its own.
fn demands<'a>(wanted: &'a Said, mode: Option<&Mode>) -> Vec<Demand<'a>> {
    let own = if mode.is_some() { AUTHENTICATION } else { "" };
    let user = match (account(&wanted.name), node_name(&wanted.name).filter(|_| mode.is_some())) {
        (Some((namespace, name)), _) => {
            Demand { group: own, resource: "serviceaccounts", namespace, name, ..Demand::default() }
        }
        (None, Some(node)) => {
            // Whichever node it is: that it is the right one is known.
            let name = if mode.is_some_and(|mode| mode.name == ASSOCIATED) { "*" } else { node };
            Demand { group: own, resource: "nodes", name, ..Demand::default() }
        }
        (None, None) => Demand { group: own, resource: "users", name: &wanted.name, ..Demand::default() },
    };
    let groups = wanted.groups.iter().map(|name| Demand { group: own, resource: "groups", name, ..Demand::default() });
    let uid = Some(wanted.uid.as_str()).filter(|uid| !uid.is_empty());
    let uid = uid.map(|name| Demand { group: AUTHENTICATION, resource: "uids", name, ..Demand::default() });
    let extra = wanted.extra.iter().flat_map(|(subresource, values)| {
        let of = move |name| Demand { group: AUTHENTICATION, resource: "userextras", subresource, name, namespace: "" };
        values.iter().map(move |value| of(value.as_str()))
    });
    [user].into_iter().chain(groups).chain(uid).chain(extra).collect()
}

impl Mode {
    async fn allows(
        &self,
        wanted: &Said,
        by: &User,
        authorizer: &Authorizer,
        asked: &Asked,
        selectors: Selectors<'_>,
    ) -> bool {
        let by = &if self.name == ASSOCIATED { without_values(by) } else { by.clone() };
        let request = Attributes::asked(by, asked, selectors);
        let verb = format!("impersonate-on:{}:{}", self.name, request.verb);
        if authorizer.decide(&Attributes { verb: &verb, ..request }).await.is_err() {
            return false;
        }
        let verb = format!("impersonate:{}", self.name);
        for demand in demands(wanted, Some(self)) {
            if authorizer.decide(&demand.attributes(by, &verb)).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// Of what is known beside the name only which facts there are: the same on each node.
fn without_values(by: &User) -> User {
    let keys = by.extra.keys().cloned().collect();
    let extra = BTreeMap::from([("authentication.kubernetes.io/associated-node-keys".to_owned(), keys)]);
    User { extra: Arc::new(extra), ..by.clone() }
}

/// The user that `headers` ask to be, if `user` may, for the request that was asked or for any.
pub async fn impersonated(
    user: User,
    headers: &HeaderMap,
    authorizer: &Authorizer,
    asked: &Asked,
    selectors: Selectors<'_>,
) -> Result<User, Status> {
    let wanted = Said::read(headers, PREFIX);
    if wanted.name.is_empty() {
        if is_name_alone(&wanted) {
            return Ok(user);
        }
        return Err(Status::bad_request(format!(
            "requested {} without impersonating a user name",
            debug_text(&wanted)
        )));
    }
    for mode in MODES.iter().filter(|mode| (mode.applies)(&wanted, &user)) {
        if mode.allows(&wanted, &user, authorizer, asked, selectors).await {
            return Ok(made(wanted, true));
        }
    }
    for demand in demands(&wanted, None) {
        authorizer.check(&demand.attributes(&user, "impersonate")).await?;
    }
    Ok(made(wanted, false))
}

/// With the groups that the name brings along.
fn made(wanted: Said, constrained: bool) -> User {
    let Said { name, uid, mut groups, extra } = wanted;
    if groups.is_empty() {
        match (account(&name), node_name(&name)) {
            (Some((namespace, _)), _) => groups = service_account_groups(namespace),
            (None, Some(_)) if constrained => groups.push(node::GROUP.to_owned()),
            (None, _) => {}
        }
    }
    let has = |groups: &[String], name: &str| groups.iter().any(|group| group == name);
    if name == ANONYMOUS && !has(&groups, UNAUTHENTICATED) {
        groups.push(UNAUTHENTICATED.to_owned());
    } else if name != ANONYMOUS && !has(&groups, UNAUTHENTICATED) && !has(&groups, AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    User { name: name.into(), uid: uid.into(), groups: groups.into(), extra: Arc::new(extra) }
}

/// Go's `%#v` of the user, which upstream puts into the message.
fn debug_text(wanted: &Said) -> String {
    let Said { uid, groups, extra, .. } = wanted;
    let list = |items: &[String]| items.iter().map(|i| format!("{i:?}")).collect::<Vec<_>>().join(", ");
    let groups = if groups.is_empty() { "(nil)".to_owned() } else { format!("{{{}}}", list(groups)) };
    let extra = match extra.is_empty() {
        true => "(nil)".to_owned(),
        false => {
            let entries: Vec<_> = extra.iter().map(|(k, v)| format!("{k:?}:[]string{{{}}}", list(v))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    };
    format!("&user.DefaultInfo{{Name:\"\", UID:{uid:?}, Groups:[]string{groups}, Extra:map[string][]string{extra}}}")
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::fixture::Objects;
    use crate::wire::path::parse;
    use crate::wire::query::Query;

    /// Roles of `jane`, a service account on the node `n1`: what she may do as whom.
    fn authorizer() -> Authorizer {
        use kedge_api::resource::known::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES};
        let objects = Objects::default();
        let rule = |group: &str, resources: &[&str], names: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "resourceNames": names, "verbs": verbs});
        let on = [
            "impersonate-on:user-info:list",
            "impersonate-on:serviceaccount:list",
            "impersonate-on:associated-node:list",
        ];
        let rules = json!([
            rule(AUTHENTICATION, &["users"], &["joe"], &["impersonate:user-info"]),
            rule(AUTHENTICATION, &["groups"], &["devs", MASTERS], &["impersonate:user-info"]),
            rule(AUTHENTICATION, &["serviceaccounts"], &["builder"], &["impersonate:serviceaccount"]),
            rule(AUTHENTICATION, &["nodes"], &[], &["impersonate:associated-node"]),
            rule("", &["pods"], &[], &on),
            rule("", &["users"], &["ann", "joe"], &["impersonate"]),
        ]);
        objects.put(CLUSTER_ROLES, json!({"metadata": {"name": "r"}, "rules": rules}));
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"});
        let subjects = json!([{"kind": "ServiceAccount", "namespace": "n", "name": "jane"}]);
        objects.put(CLUSTER_ROLE_BINDINGS, json!({"metadata": {"name": "b"}, "roleRef": role, "subjects": subjects}));
        Authorizer::new(Arc::new(objects))
    }

    #[tokio::test]
    async fn someone_may_be_someone_else_for_some_requests() {
        let authorizer = authorizer();
        let extra = BTreeMap::from([(NODE_NAME.to_owned(), vec!["n1".to_owned()])]);
        let jane = User { extra: Arc::new(extra), ..User::new("system:serviceaccount:n:jane", &[AUTHENTICATED]) };
        let (pods, secrets) = ("/api/v1/namespaces/n/pods", "/api/v1/namespaces/n/secrets");
        for (name, groups, path, expected) in [
            ("joe", &[][..], pods, Some(&[AUTHENTICATED][..])),
            ("joe", &["devs"], pods, Some(&["devs", AUTHENTICATED])),
            // Not this group, by no way.
            ("joe", &["ops"], pods, None),
            ("joe", &[MASTERS], pods, None),
            // The unconstrained way does not look at what is asked.
            ("ann", &[], secrets, Some(&[AUTHENTICATED])),
            ("bob", &[], pods, None),
            (
                "system:serviceaccount:n:builder",
                &[],
                pods,
                Some(&["system:serviceaccounts", "system:serviceaccounts:n", AUTHENTICATED]),
            ),
            ("system:serviceaccount:n:builder", &[], secrets, None),
            ("system:serviceaccount:n:other", &[], pods, None),
            ("system:node:n1", &[], pods, Some(&["system:nodes", AUTHENTICATED])),
            ("system:node:n1", &["devs"], pods, None),
            ("system:node:n1", &[], secrets, None),
            ("system:node:n2", &[], pods, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("impersonate-user", name.parse().unwrap());
            for group in groups {
                headers.append("impersonate-group", group.parse().unwrap());
            }
            let asked = parse(&Method::GET, path, &Query::parse("")).unwrap();
            let got = impersonated(jane.clone(), &headers, &authorizer, &asked, Selectors::default()).await;
            let got = got.ok().map(|user| (user.name.to_string(), user.groups.to_vec()));
            let expected =
                expected.map(|groups| (name.to_owned(), groups.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>()));
            assert_eq!(got, expected, "{name} {groups:?} {path}");
        }
    }
}
