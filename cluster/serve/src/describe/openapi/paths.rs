//! The operations of a resource as OpenAPI paths: which parameters they take tells kubectl what this server can do.

use kedge_api::resource::Subresource;
use kedge_api::schema;
use kedge_api::{Resource, Verb};
use serde_json::{Map, Value, json};

use super::custom::list_name;
use super::names::{self, Identity};
use super::parameters::{self, Names, parameter};
use super::types::{META, reference, subresource_type};
use super::{Edition, Entry};
use crate::wire::set;

const ANY: &[&str] = &["*/*"];
/// Custom resources have the first two forms only. The last two are those of watches.
const OBJECT_TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const LOG_TYPES: &[&str] =
    &["text/plain", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// The last only for built-in kinds.
const PATCH_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/strategic-merge-patch+json",
];

/// One row of this table is one operation: verb, method, action, parameters.
type Operation = (Verb, &'static str, &'static str, &'static [Names]);

const COLLECTION: &[Operation] = &[
    (Verb::List, "get", "list", &[parameters::SELECT, parameters::WATCH]),
    (Verb::Create, "post", "post", &[parameters::WRITE]),
    (Verb::DeleteCollection, "delete", "deletecollection", &[parameters::DELETE, parameters::SELECT]),
];
const ITEM: &[Operation] = &[
    (Verb::Get, "get", "get", &[]),
    (Verb::Create, "post", "post", &[parameters::WRITE]),
    (Verb::Update, "put", "put", &[parameters::WRITE]),
    (Verb::Patch, "patch", "patch", &[parameters::WRITE, parameters::FORCE]),
    (Verb::Delete, "delete", "delete", &[parameters::DELETE]),
];
const CONNECT: &[Operation] = &[(Verb::Connect, "get", "connect", &[]), (Verb::Connect, "post", "connect", &[])];
const PROXY: &[Operation] = &[
    (Verb::Connect, "get", "connect", &[]),
    (Verb::Connect, "post", "connect", &[]),
    (Verb::Connect, "put", "connect", &[]),
    (Verb::Connect, "patch", "connect", &[]),
    (Verb::Connect, "delete", "connect", &[]),
    (Verb::Connect, "head", "connect", &[]),
    (Verb::Connect, "options", "connect", &[]),
];

/// What a path is about.
struct About<'a> {
    row: &'a Resource,
    edition: Edition,
    /// The subresource's name, or none.
    sub: &'a str,
    /// The type taken and given.
    object: Option<String>,
    kind: Value,
    path: String,
    /// Parameters that each of its operations takes.
    names: Vec<&'static str>,
    /// Behind the names of its operations.
    suffix: &'static str,
}

/// The paths of a row.
pub fn of(row: &Resource, edition: Edition) -> Vec<Entry> {
    let prefix = match row.id.group.as_str() {
        "" => format!("/api/{}", row.version),
        group => format!("/apis/{group}/{}", row.version),
    };
    let plural = row.id.resource.as_str();
    let (scope, space): (_, &[_]) =
        if row.namespaced { ("/namespaces/{namespace}", &["namespace", "pretty"]) } else { ("", &["pretty"]) };
    let all = format!("{prefix}{scope}/{plural}");
    let about = |sub: Option<&'static Subresource>, path: String, names: &[&'static str]| {
        let kind = sub.map(|sub| sub.kind).filter(|kind| !kind.is_empty()).unwrap_or(&row.kind);
        let own = (row.id.group.as_str(), &*row.version);
        let (group, version) = sub.and_then(|sub| sub.group_version).unwrap_or(own);
        let (object, sub) =
            (sub.map_or_else(|| own_type(row), |sub| body_type(row, sub)), sub.map_or("", |sub| sub.name));
        let kind = json!({"group": group, "version": version, "kind": kind});
        About { row, edition, sub, object, kind, path, names: names.to_vec(), suffix: "" }
    };
    let mut out = Vec::new();
    let mut add = |about: &About<'_>, operations: &[Operation], verbs: &[Verb]| {
        let operations: Vec<_> = operations.iter().filter(|operation| verbs.contains(&operation.0)).collect();
        if !operations.is_empty() {
            out.push((about.path.clone(), item(about, &operations)));
        }
    };
    add(&about(None, all.clone(), space), COLLECTION, row.verbs);
    if row.namespaced {
        let everywhere = About { suffix: names::EVERYWHERE, ..about(None, format!("{prefix}/{plural}"), &["pretty"]) };
        add(&everywhere, COLLECTION.get(..1).unwrap_or_default(), row.verbs);
    }
    let named: Vec<&'static str> = ["name"].iter().chain(space).copied().collect();
    let but_create: Vec<Verb> = row.verbs.iter().filter(|verb| **verb != Verb::Create).copied().collect();
    add(&about(None, format!("{all}/{{name}}"), &named), ITEM, &but_create);
    for sub in row.subresources {
        let path = format!("{all}/{{name}}/{}", sub.name);
        let own: Vec<&'static str> = named.iter().chain(parameters::of_connection(plural, sub.name)).copied().collect();
        if !sub.verbs.contains(&Verb::Connect) {
            add(&about(Some(sub), path, &own), ITEM, sub.verbs);
            continue;
        }
        // Connections are never printed.
        let own: Vec<&'static str> = own.into_iter().filter(|name| *name != "pretty").collect();
        let operations = if sub.name == "proxy" { PROXY } else { CONNECT };
        add(&about(Some(sub), path.clone(), &own), operations, sub.verbs);
        if sub.name == "proxy" {
            let beyond: Vec<&'static str> = own.iter().chain(&["{path}"]).copied().collect();
            let beyond = About { suffix: "WithPath", ..about(Some(sub), format!("{path}/{{path}}"), &beyond) };
            add(&beyond, operations, sub.verbs);
        }
    }
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

/// What all of a path's operations take is said once, at the path.
fn item(about: &About<'_>, operations: &[&Operation]) -> Value {
    let mut taken: Vec<Vec<Value>> = operations
        .iter()
        .map(|(verb, .., groups)| {
            let read = (*verb == Verb::Get && about.row.custom.is_some()).then_some("resourceVersion");
            let mut names: Vec<&str> =
                about.names.iter().chain(groups.iter().copied().flatten()).copied().chain(read).collect();
            names.sort_unstable();
            names.iter().map(|name| parameter(name, &about.row.kind, about.edition)).collect()
        })
        .collect();
    let common: Vec<Value> = match taken.split_first() {
        Some((first, others)) => first.iter().filter(|own| others.iter().all(|o| o.contains(own))).cloned().collect(),
        None => Vec::new(),
    };
    let mut item = Map::new();
    for (operation, own) in operations.iter().zip(&mut taken) {
        own.retain(|parameter| !common.contains(parameter));
        item.insert(operation.1.to_owned(), self::operation(about, operation, std::mem::take(own)));
    }
    if !common.is_empty() {
        item.insert("parameters".to_owned(), common.into());
    }
    item.into()
}

fn operation(about: &About<'_>, (verb, method, action, _): &Operation, mut parameters: Vec<Value>) -> Value {
    let (row, edition) = (about.row, about.edition);
    let (name, text) = names::operation(row, about.sub, *verb, method, about.suffix);
    let identity = Identity::of(&name, about.path.trim_start_matches('/'));
    let mut out = json!({
        "description": text, "operationId": identity.id, "tags": identity.tags,
        "x-kubernetes-action": action, "x-kubernetes-group-version-kind": about.kind,
    });
    let produced = produced(about, *verb);
    let answer = answer(about, *verb);
    let mut responses: Map<String, Value> = codes(*verb, row.custom.is_some())
        .iter()
        .map(|(code, word)| ((*code).to_owned(), response(word, answer.as_ref(), produced, edition)))
        .collect();
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    set(&mut out, "responses", responses);
    let (body, consumed) = body(about, *verb);
    let optional = matches!(verb, Verb::Delete | Verb::DeleteCollection);
    match (body, edition) {
        (Some(body), Edition::V3) => {
            let content = consumed.iter().map(|t| ((*t).to_owned(), json!({"schema": body}))).collect::<Map<_, _>>();
            let mut request = json!({"content": content});
            if !optional {
                set(&mut request, "required", true);
            }
            set(&mut out, "requestBody", request);
        }
        (Some(body), Edition::V2) => {
            let mut parameter = json!({"name": "body", "in": "body", "schema": body});
            if !optional {
                set(&mut parameter, "required", true);
            }
            parameters.insert(0, parameter);
        }
        (None, _) => {}
    }
    if edition == Edition::V2 {
        set(&mut out, "consumes", json!(consumed));
        set(&mut out, "produces", json!(produced));
        set(&mut out, "schemes", json!(["https"]));
    }
    if !parameters.is_empty() {
        set(&mut out, "parameters", parameters);
    }
    out
}

const fn codes(verb: Verb, custom: bool) -> &'static [(&'static str, &'static str)] {
    match verb {
        Verb::Create => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
        Verb::Update => &[("200", "OK"), ("201", "Created")],
        Verb::Patch if !custom => &[("200", "OK"), ("201", "Created")],
        Verb::Delete => &[("200", "OK"), ("202", "Accepted")],
        Verb::Patch | Verb::Get | Verb::List | Verb::Watch | Verb::DeleteCollection | Verb::Connect => &[("200", "OK")],
    }
}

fn produced(about: &About<'_>, verb: Verb) -> &'static [&'static str] {
    let count = match verb {
        Verb::Connect => return ANY,
        Verb::Get if about.sub == "log" => return LOG_TYPES,
        _ if about.row.custom.is_some() => 2,
        Verb::List if about.row.verbs.contains(&Verb::Watch) => 5,
        _ => 3,
    };
    OBJECT_TYPES.get(..count).unwrap_or_default()
}

/// The schema of what is answered, where it has one.
fn answer(about: &About<'_>, verb: Verb) -> Option<Value> {
    let name = match verb {
        Verb::Connect => return Some(json!({"type": "string"})),
        Verb::Get if about.sub == "log" => return Some(json!({"type": "string"})),
        Verb::List => {
            let built_in = about.object.as_ref().map(|object| format!("{object}List"));
            match about.row.custom {
                Some(_) => Some(list_name(about.row)),
                None => built_in.filter(|list| schema::get(list).is_some()),
            }
        }
        Verb::DeleteCollection | Verb::Delete => Some(format!("{META}Status")),
        Verb::Get | Verb::Watch | Verb::Create | Verb::Update | Verb::Patch => about.object.clone(),
    };
    name.map(|name| reference(&name, about.edition))
}

/// The schema of what is sent, where something is, and the forms that it may have.
fn body(about: &About<'_>, verb: Verb) -> (Option<Value>, &'static [&'static str]) {
    let custom = about.row.custom.is_some();
    let forms = if custom { OBJECT_TYPES.get(..2).unwrap_or_default() } else { ANY };
    let of = |name: &str| Some(reference(name, about.edition));
    match verb {
        Verb::Create | Verb::Update => (about.object.as_deref().and_then(of), forms),
        Verb::Patch => {
            let known = PATCH_TYPES.len() - usize::from(custom);
            (of(&format!("{META}Patch")), PATCH_TYPES.get(..known).unwrap_or(PATCH_TYPES))
        }
        Verb::Delete | Verb::DeleteCollection => (of(&format!("{META}DeleteOptions")), forms),
        Verb::Get | Verb::List | Verb::Watch | Verb::Connect => (None, forms),
    }
}

pub fn response(word: &str, answer: Option<&Value>, types: &[&str], edition: Edition) -> Value {
    let mut response = json!({"description": word});
    if let Some(schema) = answer {
        match edition {
            Edition::V2 => set(&mut response, "schema", schema.clone()),
            Edition::V3 => {
                let content = types.iter().map(|t| ((*t).to_owned(), json!({"schema": schema}))).collect::<Map<_, _>>();
                set(&mut response, "content", content);
            }
        }
    }
    response
}
