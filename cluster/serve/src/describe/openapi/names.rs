//! What upstream's documents call operations: names that client generators make methods of.

use kedge_api::{Resource, Verb};

/// An operation's name and the group of operations that it is in.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: String,
    pub tags: Vec<String>,
}

/// Ends the name of an operation on all namespaces.
pub const EVERYWHERE: &str = "ForAllNamespaces";

/// What an operation's name may begin with. The group goes behind it.
const PREFIXES: &[&str] = &["connect", "create", "delete", "get", "list", "patch", "read", "replace"];

impl Identity {
    /// Of an operation such as `readNamespacedPod` at a path without a slash before it, such as `api/v1/…`.
    pub fn of(operation: &str, path: &str) -> Self {
        let prefix = PREFIXES.iter().find(|prefix| operation.starts_with(**prefix)).copied().unwrap_or_default();
        let rest = operation.strip_prefix(prefix).unwrap_or(operation);
        let (mut id, mut tags) = (prefix.to_owned(), Vec::new());
        match group_version(path) {
            Some((group, version)) => {
                let group = group.strip_suffix(".k8s.io").unwrap_or(group);
                id.push_str(&camel(group, true));
                id.push_str(&camel(version, true));
                let separator = if version.is_empty() { "" } else { "_" };
                tags.push(format!("{}{separator}{version}", camel(group, false)));
            }
            None => tags.push(camel(path.split('/').next().unwrap_or_default(), false)),
        }
        id.push_str(&camel(rest, !id.is_empty()));
        Self { id, tags }
    }
}

/// Group and version of a path; the core group has a name here.
pub fn group_version(path: &str) -> Option<(&str, &str)> {
    let mut parts = path.split('/');
    let group = match parts.next()? {
        "api" => "core",
        "apis" => parts.next()?,
        _ => return None,
    };
    Some((group, parts.next().unwrap_or_default()))
}

/// Letters and digits only: what follows another sign is written large.
fn camel(text: &str, first: bool) -> String {
    let mut large = first;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() {
            large = true;
        } else if std::mem::take(&mut large) {
            out.push(c.to_ascii_uppercase());
        } else {
            out.push(c);
        }
    }
    out
}

/// What an operation on a resource is called before the group is put into it, and said to do.
pub fn operation(row: &Resource, sub: &str, verb: Verb, method: &str, suffix: &str) -> (String, String) {
    let kind = &*row.kind;
    let article = if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    let (of, of_one) = match sub {
        "" => (String::new(), String::new()),
        sub => (format!(" {sub} of"), format!(" {sub} of {article}")),
    };
    let (name, text) = match verb {
        Verb::Get => ("read", format!("read{of} the specified {kind}")),
        Verb::List if row.custom.is_some() => ("list", format!("list objects of kind {kind}")),
        Verb::List | Verb::Watch => ("list", format!("list or watch objects of kind {kind}")),
        Verb::Create if sub.is_empty() => ("create", format!("create {article} {kind}")),
        Verb::Create => ("create", format!("create{of_one} {kind}")),
        Verb::Update => ("replace", format!("replace{of} the specified {kind}")),
        Verb::Patch => ("patch", format!("partially update{of} the specified {kind}")),
        Verb::Delete => ("delete", format!("delete {article} {kind}")),
        Verb::DeleteCollection => ("deletecollection", format!("delete collection of {kind}")),
        Verb::Connect => ("connect", format!("connect {} requests to{of} {kind}", method.to_ascii_uppercase())),
    };
    let method = if verb == Verb::Connect { camel(method, true) } else { String::new() };
    let namespaced = if row.namespaced && suffix != EVERYWHERE { "Namespaced" } else { "" };
    (format!("{name}{method}{namespaced}{kind}{}{suffix}", camel(sub, true)), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_stands_behind_the_verb() {
        let of = |operation: &str, path: &str| {
            let identity = Identity::of(operation, path);
            (identity.id, identity.tags.join(" "))
        };
        let pair = |id: &str, tag: &str| (id.to_owned(), tag.to_owned());
        let pods = "api/v1/namespaces/{namespace}/pods";
        assert_eq!(of("readNamespacedPod", pods), pair("readCoreV1NamespacedPod", "core_v1"));
        assert_eq!(of("deletecollectionNamespacedPod", pods), pair("deleteCoreV1CollectionNamespacedPod", "core_v1"));
        assert_eq!(
            of("listClusterRole", "apis/rbac.authorization.k8s.io/v1/clusterroles"),
            pair("listRbacAuthorizationV1ClusterRole", "rbacAuthorization_v1")
        );
        assert_eq!(of("getAPIGroup", "apis/apps"), pair("getAppsAPIGroup", "apps"));
        assert_eq!(of("getAPIVersions", "api"), pair("getCoreAPIVersions", "core"));
        assert_eq!(of("getAPIVersions", "apis"), pair("getAPIVersions", "apis"));
        assert_eq!(of("getCodeVersion", "version"), pair("getCodeVersion", "version"));
        assert_eq!(of("getX", ".well-known/openid-configuration"), pair("getX", "WellKnown"));
    }
}
