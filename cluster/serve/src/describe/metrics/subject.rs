//! What a request is counted under: names of rows only, so that clients cannot make labels up.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use kedge_api::{Resource, Verb};

use crate::wire::path::{About, Asked, ResourceAsked};
use crate::wire::query::Query;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    component: &'static str,
    pub(super) group: String,
    pub(super) resource: String,
    scope: &'static str,
    subresource: String,
    pub(super) verb: &'static str,
    pub(super) version: String,
    pub(super) dry_run: &'static str,
}

/// Paths besides resources that upstream counts.
const HEALTH: [&str; 3] = ["/healthz", "/livez", "/readyz"];

impl Subject {
    /// `row` is the one asked for, if there is one. `None` for what upstream does not count: discovery, and paths that are not there.
    pub fn of(asked: &Asked, row: Option<&Resource>, query: &Query, headers: &HeaderMap) -> Option<Self> {
        match &asked.about {
            About::Path { .. } => {
                let path = HEALTH.iter().find(|path| **path == asked.path)?;
                Some(Self { verb: "GET", subresource: (*path).to_owned(), ..Self::default() })
            }
            About::Resource(resource) => Some(Self::resource(resource, row?, query, headers)),
        }
    }

    fn resource(asked: &ResourceAsked, row: &Resource, query: &Query, headers: &HeaderMap) -> Self {
        let target = &asked.target;
        let sub = row.subresources.iter().find(|sub| sub.name == target.subresource);
        let applies =
            || headers.get(CONTENT_TYPE).is_some_and(|media| media.as_bytes().starts_with(b"application/apply-patch"));
        let verb = match asked.verb {
            _ if sub.is_some_and(|sub| sub.verbs.contains(&Verb::Connect)) => "CONNECT",
            Verb::Patch if applies() => "APPLY",
            verb => method(verb),
        };
        let scope = if !target.name.is_empty() || asked.verb == Verb::Create {
            "resource"
        } else if !target.namespace.is_empty() {
            "namespace"
        } else {
            "cluster"
        };
        Self {
            component: "apiserver",
            group: row.id.group.as_str().to_owned(),
            resource: row.id.resource.as_str().to_owned(),
            scope,
            subresource: sub.map(|sub| sub.name.to_owned()).unwrap_or_default(),
            verb,
            version: row.version.to_string(),
            dry_run: if query.first("dryRun") == Some("All") { "All" } else { "" },
        }
    }

    /// In the order of [`super::SUBJECT`].
    pub(super) fn labels(&self) -> [&str; 7] {
        [self.component, &self.group, &self.resource, self.scope, &self.subresource, self.verb, &self.version]
    }

    pub(super) fn reads(&self) -> bool {
        matches!(self.verb, "GET" | "LIST")
    }

    /// An answer that lasts does not count as being worked on.
    pub(super) fn lasts(&self) -> bool {
        matches!(self.verb, "WATCH" | "CONNECT") || self.subresource == "log"
    }
}

/// A verb as upstream's metrics name it.
pub(super) fn method(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Watch => "WATCH",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch => "PATCH",
        Verb::Delete => "DELETE",
        Verb::DeleteCollection => "DELETECOLLECTION",
        Verb::Connect => "CONNECT",
    }
}

/// Names that upstream tells apart; all others are told by their form.
pub(super) fn of_user(name: &str) -> &'static str {
    const KNOWN: [&str; 5] = ["admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"];
    match KNOWN.iter().find(|known| **known == name) {
        Some(known) => known,
        None if name.contains('@') => "email_id",
        None => "other",
    }
}
