//! The operations of a resource as OpenAPI paths: which parameters they take tells kubectl what this server can do.

use kedge_api::resource::Subresource;
use kedge_api::schema;
use kedge_api::{Resource, Verb};
use serde_json::{Map, Value, json};

use super::custom::list_name;
use super::types::{by_kind, reference, subresource_type};
use super::{Edition, Entry};
use crate::wire::set;

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

const OBJECT_TYPES: &[&str] = &["application/json", "application/yaml"];
/// The last only for built-in kinds.
const PATCH_TYPES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Query parameters by what an operation does: name, type.
const WRITE: &[(&str, &str)] = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const DELETE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const SELECT: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];

/// One row of this table is one operation: verb, method, action, parameters.
type Operation = (Verb, &'static str, &'static str, &'static [&'static [(&'static str, &'static str)]]);

const COLLECTION: &[Operation] = &[
    (Verb::List, "get", "list", &[SELECT]),
    (Verb::Create, "post", "post", &[WRITE]),
    (Verb::DeleteCollection, "delete", "deletecollection", &[DELETE, SELECT]),
];
const ITEM: &[Operation] = &[
    (Verb::Get, "get", "get", &[]),
    (Verb::Update, "put", "put", &[WRITE]),
    (Verb::Patch, "patch", "patch", &[WRITE, &[("force", "boolean")]]),
    (Verb::Delete, "delete", "delete", &[DELETE]),
];
const SUBRESOURCE: &[Operation] = &[
    (Verb::Get, "get", "get", &[]),
    (Verb::Create, "post", "post", &[WRITE]),
    (Verb::Update, "put", "put", &[WRITE]),
    (Verb::Patch, "patch", "patch", &[WRITE, &[("force", "boolean")]]),
    (Verb::Connect, "get", "connect", &[]),
    (Verb::Connect, "post", "connect", &[]),
];

/// What an operation is about.
struct About<'a> {
    row: &'a Resource,
    edition: Edition,
    /// The type taken and given.
    object: Option<String>,
    kind: Value,
}

/// The paths of a row.
pub fn of(row: &Resource, edition: Edition) -> Vec<Entry> {
    let prefix = match row.id.group.as_str() {
        "" => format!("/api/{}", row.version),
        group => format!("/apis/{group}/{}", row.version),
    };
    let scope = if row.namespaced { "/namespaces/{namespace}" } else { "" };
    let (all, plural) = (format!("{prefix}{scope}/{}", row.id.resource), row.id.resource.as_str());
    let about = |kind: &str, group_version: Option<(&str, &str)>, object: Option<String>| {
        let (group, version) = group_version.unwrap_or((row.id.group.as_str(), &row.version));
        About { row, edition, object, kind: json!({"group": group, "version": version, "kind": kind}) }
    };
    let own = about(&row.kind, None, own_type(row));
    let mut out = vec![(all.clone(), path(&own, COLLECTION, row.verbs, &[]))];
    if row.namespaced && row.verbs.contains(&Verb::List) {
        let everywhere = COLLECTION.iter().filter(|op| op.0 == Verb::List).copied().collect::<Vec<_>>();
        out.push((format!("{prefix}/{plural}"), path(&own, &everywhere, row.verbs, &["cluster"])));
    }
    if ITEM.iter().any(|op| row.verbs.contains(&op.0)) {
        out.push((format!("{all}/{{name}}"), path(&own, ITEM, row.verbs, &["name"])));
    }
    for sub in row.subresources {
        let about =
            about(if sub.kind.is_empty() { &row.kind } else { sub.kind }, sub.group_version, body_type(row, sub));
        out.push((format!("{all}/{{name}}/{}", sub.name), path(&about, SUBRESOURCE, sub.verbs, &["name"])));
    }
    out.retain(|(_, item)| item.as_object().is_some_and(|item| item.keys().any(|key| key != "parameters")));
    out
}

fn own_type(row: &Resource) -> Option<String> {
    schema::get(&row.schema).map(|t| t.name()).or(row.custom.is_some().then_some(&*row.schema)).map(str::to_owned)
}

fn body_type(row: &Resource, sub: &Subresource) -> Option<String> {
    if sub.kind.is_empty() {
        return own_type(row);
    }
    subresource_type(row, sub.kind, sub.group_version).map(|t| t.name().to_owned())
}

fn path(about: &About<'_>, operations: &[Operation], verbs: &[Verb], segments: &[&str]) -> Value {
    let mut item = Map::new();
    let mut parameters = Vec::new();
    let v3 = about.edition == Edition::V3;
    let parameter = |name: &str, at: &str, kind: &str| {
        let mut parameter = json!({"name": name, "in": at});
        if at == "path" {
            set(&mut parameter, "required", true);
        }
        if v3 {
            set(&mut parameter, "schema", json!({"type": kind, "uniqueItems": true}));
        } else {
            set(&mut parameter, "type", kind);
            set(&mut parameter, "uniqueItems", true);
        }
        parameter
    };
    if segments.contains(&"name") {
        parameters.push(parameter("name", "path", "string"));
    }
    if about.row.namespaced && !segments.contains(&"cluster") {
        parameters.push(parameter("namespace", "path", "string"));
    }
    parameters.push(parameter("pretty", "query", "string"));
    for (verb, method, action, groups) in operations {
        if verbs.contains(verb) {
            let own = groups
                .iter()
                .flat_map(|group| group.iter())
                .map(|(name, kind)| parameter(name, "query", kind))
                .collect();
            item.insert((*method).to_owned(), operation(about, *verb, action, own));
        }
    }
    item.insert("parameters".to_owned(), parameters.into());
    item.into()
}

fn operation(about: &About<'_>, verb: Verb, action: &str, mut parameters: Vec<Value>) -> Value {
    let answer = match verb {
        Verb::List => {
            let built_in = about.object.as_ref().map(|object| format!("{object}List"));
            match about.row.custom {
                Some(_) => Some(list_name(about.row)),
                None => built_in.filter(|list| schema::get(list).is_some()),
            }
        }
        Verb::DeleteCollection | Verb::Delete => Some(STATUS.to_owned()),
        Verb::Connect => None,
        Verb::Get | Verb::Watch | Verb::Create | Verb::Update | Verb::Patch => about.object.clone(),
    };
    let body = match verb {
        Verb::Create | Verb::Update => about.object.clone().map(|object| (object, OBJECT_TYPES)),
        Verb::Patch => {
            let known = PATCH_TYPES.len() - usize::from(about.row.custom.is_some());
            by_meta("Patch").map(|patch| (patch, PATCH_TYPES.get(..known).unwrap_or(PATCH_TYPES)))
        }
        Verb::Delete | Verb::DeleteCollection => Some((DELETE_OPTIONS.to_owned(), OBJECT_TYPES)),
        Verb::Get | Verb::List | Verb::Watch | Verb::Connect => None,
    };
    let code = if verb == Verb::Create { "201" } else { "200" };
    let mut out = Map::new();
    match about.edition {
        Edition::V3 => {
            let content = |name: &str, types: &[&str]| -> Map<String, Value> {
                types.iter().map(|t| ((*t).to_owned(), json!({"schema": reference(name, Edition::V3)}))).collect()
            };
            let mut response = json!({"description": "OK"});
            if let Some(answer) = &answer {
                set(&mut response, "content", content(answer, OBJECT_TYPES));
            }
            out.insert("responses".to_owned(), json!({code: response}));
            if let Some((body, types)) = &body {
                out.insert("requestBody".to_owned(), json!({"content": content(body, types)}));
            }
        }
        Edition::V2 => {
            let mut response = json!({"description": "OK"});
            if let Some(answer) = &answer {
                set(&mut response, "schema", reference(answer, Edition::V2));
            }
            out.insert("responses".to_owned(), json!({code: response}));
            out.insert("produces".to_owned(), json!(OBJECT_TYPES));
            out.insert("schemes".to_owned(), json!(["https"]));
            if let Some((body, types)) = &body {
                parameters.push(json!({"name": "body", "in": "body", "schema": reference(body, Edition::V2)}));
                out.insert("consumes".to_owned(), json!(types));
            }
        }
    }
    if !parameters.is_empty() {
        out.insert("parameters".to_owned(), parameters.into());
    }
    out.insert("x-kubernetes-action".to_owned(), action.into());
    out.insert("x-kubernetes-group-version-kind".to_owned(), about.kind.clone());
    out.into()
}

fn by_meta(kind: &str) -> Option<String> {
    let name = format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}");
    schema::get(&name).or_else(|| by_kind("meta.k8s.io", "v1", kind)).map(|t| t.name().to_owned())
}

/// A path that is about no resource.
pub fn plain(path: &str) -> Entry {
    (path.to_owned(), json!({"get": {"responses": {"200": {"description": "OK"}}}}))
}
