//! Which groups, versions and resources there are: the older documents one by one, and the aggregated one that kubectl asks first.

use std::sync::Arc;

use super::health::Health;
use crate::wire::set;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kedge_api::groups::{GROUPS, REGISTRATION};
use kedge_api::resource::{Subresource, version_rank};
use kedge_api::{Resource, Verb};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

type Rows = [Arc<Resource>];

/// Groups in upstream's order: the core group, the aggregator's own, then by priority; others follow by name.
pub fn groups(rows: &Rows) -> Vec<&str> {
    let place = |group: &str| GROUPS.iter().position(|known| known.name == group).unwrap_or(GROUPS.len());
    let mut groups: Vec<&str> = rows.iter().map(|row| row.id.group.as_str()).collect();
    groups.sort_by_key(|group| (!group.is_empty(), *group != REGISTRATION, place(group), *group));
    groups.dedup();
    groups
}

/// Versions of a group, the preferred first: stable before beta before alpha, newer before older.
pub fn versions<'a>(rows: &'a Rows, group: &str) -> Vec<&'a str> {
    let mut versions: Vec<&str> = of(rows, group).map(|row| row.version.as_ref()).collect();
    versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
    versions.dedup();
    versions
}

fn of<'a>(rows: &'a Rows, group: &str) -> impl Iterator<Item = &'a Arc<Resource>> {
    rows.iter().filter(move |row| row.id.group.as_str() == group)
}

/// The rows of a version, by name.
fn of_version<'a>(rows: &'a Rows, group: &str, version: &str) -> Vec<&'a Arc<Resource>> {
    let mut found: Vec<_> = of(rows, group).filter(|row| row.version == version).collect();
    found.sort_by(|a, b| a.id.resource.cmp(&b.id.resource));
    found
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// `/api`
pub fn core_versions(address: &str) -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]})
}

/// `/apis`
pub fn group_list(rows: &Rows) -> Value {
    let groups: Vec<Value> = groups(rows).into_iter().filter(|g| !g.is_empty()).map(|g| group_entry(rows, g)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn group_entry(rows: &Rows, group: &str) -> Value {
    let entry = |version: &&str| json!({"groupVersion": group_version(group, version), "version": version});
    let versions: Vec<Value> = versions(rows, group).iter().map(entry).collect();
    json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
}

/// `/apis/GROUP`
pub fn group(rows: &Rows, name: &str) -> Option<Value> {
    of(rows, name).next()?;
    let mut group = group_entry(rows, name);
    set(&mut group, "kind", "APIGroup");
    set(&mut group, "apiVersion", "v1");
    Some(group)
}

/// `/api/v1`, `/apis/GROUP/VERSION`
pub fn resource_list(rows: &Rows, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for row in of_version(rows, group, version) {
        let mut entry = json!({
            "name": row.id.resource.as_str(), "singularName": row.singular, "namespaced": row.namespaced,
            "kind": row.kind, "verbs": verbs_of(row),
        });
        extras(&mut entry, row);
        if stored(row) {
            set(&mut entry, "storageVersionHash", storage_hash(row));
        }
        resources.push(entry);
        for sub in sorted(row) {
            let (kind, group_version) = response_kind(row, sub);
            let mut entry = json!({
                "name": format!("{}/{}", row.id.resource, sub.name), "singularName": "", "namespaced": row.namespaced,
                "kind": kind, "verbs": subresource_verbs(sub),
            });
            if let Some((group, version)) = group_version {
                set(&mut entry, "group", group);
                set(&mut entry, "version", version);
            }
            resources.push(entry);
        }
    }
    if resources.is_empty() {
        return None;
    }
    let mut list =
        json!({"kind": "APIResourceList", "groupVersion": group_version(group, version), "resources": resources});
    // The core group's document predates the field.
    if !group.is_empty() {
        set(&mut list, "apiVersion", "v1");
    }
    Some(list)
}

/// `/api` and `/apis` as one document: the core group, or all others.
pub fn aggregated(rows: &Rows, core: bool) -> Value {
    let groups = groups(rows).into_iter().filter(|group| group.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|group| {
            let versions: Vec<Value> =
                versions(rows, group).into_iter().map(|v| aggregated_version(rows, group, v)).collect();
            let metadata = if core { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_version(rows: &Rows, group: &str, version: &str) -> Value {
    let kind_of =
        |kind: &str, (group, version): (&str, &str)| json!({"group": group, "version": version, "kind": kind});
    let resources: Vec<Value> = of_version(rows, group, version)
        .into_iter()
        .map(|row| {
            // Upstream's handler of custom resources fills in what the one of built-in kinds leaves out.
            let own = if row.custom.is_some() { (group, version) } else { ("", "") };
            let mut entry = json!({
                "resource": row.id.resource.as_str(), "singularResource": row.singular,
                "responseKind": kind_of(&row.kind, own),
                "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
                "verbs": verbs_of(row),
            });
            extras(&mut entry, row);
            let subresources: Vec<Value> = sorted(row)
                .into_iter()
                .map(|sub| {
                    let (kind, group_version) = response_kind(row, sub);
                    json!({"subresource": sub.name, "responseKind": kind_of(kind, group_version.unwrap_or(own)), "verbs": subresource_verbs(sub)})
                })
                .collect();
            if !subresources.is_empty() {
                set(&mut entry, "subresources", subresources);
            }
            entry
        })
        .collect();
    json!({"version": version, "resources": resources, "freshness": "Current"})
}

fn extras(entry: &mut Value, row: &Resource) {
    let Some(entry) = entry.as_object_mut() else { return };
    let mut list = |key: &str, texts: &[&str]| {
        if !texts.is_empty() {
            entry.insert(key.to_owned(), json!(texts));
        }
    };
    list("shortNames", &row.short_names());
    list("categories", &row.categories());
}

fn sorted(row: &Resource) -> Vec<&Subresource> {
    let mut subresources: Vec<_> = row.subresources.iter().collect();
    if row.custom.is_none() {
        subresources.sort_by_key(|sub| sub.name);
    }
    subresources
}

/// Sorted, but for custom resources, whose verbs upstream lists in an order of its own.
fn verbs_of(row: &Resource) -> Vec<&'static str> {
    let Some(custom) = &row.custom else { return verbs(row.verbs) };
    let gone = |verb: &&Verb| custom.terminating && matches!(verb, Verb::Patch | Verb::Create | Verb::Update);
    row.verbs.iter().filter(|verb| !gone(verb)).map(|verb| verb.as_str()).collect()
}

fn response_kind<'a>(row: &'a Resource, sub: &Subresource) -> (&'a str, Option<(&'static str, &'static str)>) {
    (if sub.kind.is_empty() { &row.kind } else { sub.kind }, sub.group_version)
}

fn verbs(verbs: &[Verb]) -> Vec<&'static str> {
    let mut names: Vec<_> = verbs.iter().filter(|verb| **verb != Verb::Connect).map(|verb| verb.as_str()).collect();
    names.sort_unstable();
    names
}

/// A connection is made by any method that HTTP has for it: proxies by all, terminals by two.
fn subresource_verbs(sub: &Subresource) -> Vec<&'static str> {
    match (sub.verbs.contains(&Verb::Connect), sub.name) {
        (true, "proxy") => vec!["create", "delete", "get", "patch", "update"],
        (true, _) => vec!["create", "get"],
        (false, _) => verbs(sub.verbs),
    }
}

fn stored(row: &Resource) -> bool {
    row.verbs.contains(&Verb::Watch)
}

/// Changes when objects begin to be stored in another version; upstream's formula.
fn storage_hash(row: &Resource) -> String {
    let (group, version) = row.stored_in.unwrap_or((row.id.group.as_str(), &row.version));
    let digest = Sha256::digest(format!("{group}/{version}/{}", row.kind));
    STANDARD.encode(digest.get(..8).unwrap_or_default())
}

/// `/`: the paths that can be asked for.
pub fn paths(rows: &Rows, health: &Health) -> Value {
    let mut paths: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/version",
    ]
    .map(str::to_owned)
    .into();
    paths.extend(health.paths());
    for group in groups(rows).into_iter().filter(|g| !g.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions(rows, group).into_iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.sort_unstable();
    let mut root = Map::new();
    root.insert("paths".to_owned(), paths.into());
    root.into()
}

/// A strong entity tag of a document (RFC 9110, 8.8.3).
pub fn etag(document: &[u8]) -> String {
    let hex = Sha256::digest(document).iter().fold(String::new(), |text, byte| format!("{text}{byte:02X}"));
    format!("\"{hex}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ranked_as_upstream_does() {
        let mut versions = ["v1beta1", "v1", "foo", "v2alpha1", "v1beta2", "v10", "v2"];
        versions.sort_by_key(|v| std::cmp::Reverse(version_rank(v)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v2alpha1", "foo"]);
    }

    #[test]
    fn groups_are_in_the_order_of_their_priorities() {
        let template = crate::review::rows().remove(0);
        let row = |group: &str, plural: &str| {
            let id = kedge_api::GroupResource { group: group.into(), resource: plural.into() };
            Arc::new(Resource { id, ..template.clone() })
        };
        let rows = [
            row("zoo.example.com", "a"),
            row("batch", "jobs"),
            row("example.com", "b"),
            row("apps", "z"),
            row("", "pods"),
            row("apps", "a"),
            row(REGISTRATION, "apiservices"),
        ];
        assert_eq!(groups(&rows), ["", REGISTRATION, "apps", "batch", "example.com", "zoo.example.com"]);
        let names: Vec<_> = of_version(&rows, "apps", "v1").iter().map(|r| r.id.resource.to_string()).collect();
        assert_eq!(names, ["a", "z"]);
    }

    #[test]
    fn reviews_describe_themselves() {
        let rows: Vec<_> = crate::review::rows().into_iter().map(Arc::new).collect();
        assert_eq!(groups(&rows), ["authentication.k8s.io", "authorization.k8s.io"]);
        let want = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "authentication.k8s.io/v1", "resources": [
            {"name": "selfsubjectreviews", "singularName": "selfsubjectreview", "namespaced": false, "kind": "SelfSubjectReview", "verbs": ["create"]},
            {"name": "tokenreviews", "singularName": "tokenreview", "namespaced": false, "kind": "TokenReview", "verbs": ["create"]}]});
        assert_eq!(resource_list(&rows, "authentication.k8s.io", "v1"), Some(want));
        assert_eq!(resource_list(&rows, "authentication.k8s.io", "v2"), None);
        let aggregated = aggregated(&rows, false);
        assert_eq!(aggregated["items"][0]["versions"][0]["resources"][1]["responseKind"]["kind"], "TokenReview");
        assert_eq!(super::aggregated(&rows, true)["items"], json!([]));
    }
}
