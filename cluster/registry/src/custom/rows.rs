//! Rows of the table that are made at run time, one for each served version of each definition.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use kedge_api::resource::{Custom, Subresource, version_rank};
use kedge_api::{GroupResource, Resource, Snapshot, Verb};
use serde_json::{Value, json};

use super::columns;
use super::conversion::Conversion;
use super::schema::Schema;
use super::status::{condition, established};
use super::version::{Scale, Stored, Version};
use crate::metadata;
use crate::strategy::Strategy;
use crate::table::{Row, SCALE, STATUS, Table};
use crate::value::Look as _;

pub(crate) const DEFINITIONS: GroupResource = GroupResource::of("apiextensions.k8s.io", "customresourcedefinitions");

/// In the order in which upstream lists them.
const VERBS: &[Verb] = &[
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Create,
    Verb::Update,
    Verb::Watch,
];

/// The way to webhooks, if there is one.
type Webhooks<'a> = Option<&'a Arc<dyn crate::webhooks::Webhooks>>;

/// The table with the rows of all definitions that are established.
pub(crate) fn table(base: &Table, snapshot: &Snapshot, webhooks: Webhooks<'_>) -> Table {
    let definitions: Vec<Value> = snapshot.list(&DEFINITIONS, "").filter_map(|object| object.decode().ok()).collect();
    base.with(Made::default().rows(&definitions, webhooks))
}

/// Rows that were made before: a schema is made ready once, however often others change.
#[derive(Default)]
pub(crate) struct Made(HashMap<String, (Value, Vec<Arc<Row>>)>);

impl Made {
    /// The rows of all definitions that are established.
    pub(crate) fn rows(&mut self, definitions: &[Value], webhooks: Webhooks<'_>) -> Vec<Arc<Row>> {
        let mut kept = HashMap::new();
        for definition in definitions.iter().filter(|d| established(d)) {
            let name = definition.text("metadata.name");
            let terminating = condition(definition, "Terminating") == Some("True");
            let (meta, names) = (definition.look("metadata"), definition.look("status.acceptedNames"));
            // The generation stands for the specification, which can be large.
            let source = json!([meta.look("uid"), meta.look("generation"), names, terminating]);
            let before = self.0.remove(name).filter(|(before, _)| *before == source);
            let made =
                before.unwrap_or_else(|| (source, rows(definition, webhooks).into_iter().map(Arc::new).collect()));
            kept.insert(name.to_owned(), made);
        }
        self.0 = kept;
        let names = definitions.iter().map(|definition| definition.text("metadata.name"));
        names.filter_map(|name| self.0.get(name)).flat_map(|(_, rows)| rows).cloned().collect()
    }
}

/// One row for each served version, the stored one first: it is the one that controllers mean who name none.
fn rows(definition: &Value, webhooks: Webhooks<'_>) -> Vec<Row> {
    let (versions, stored) = versions(definition, webhooks);
    let served = versions.into_iter().zip(&stored.schemas).filter(|(version, _)| version.flag("served"));
    served.map(|(version, (_, schema))| row(definition, version, schema, &stored)).collect()
}

/// That of the stored version, served or not.
pub(crate) fn stored_row(definition: &Value, webhooks: Webhooks<'_>) -> Option<Row> {
    let (versions, stored) = versions(definition, webhooks);
    let (version, (_, schema)) = versions.into_iter().zip(&stored.schemas).next()?;
    Some(row(definition, version, schema, &stored))
}

/// All versions, the stored one first, and how objects are stored.
fn versions<'a>(definition: &'a Value, webhooks: Webhooks<'_>) -> (Vec<&'a Value>, Arc<Stored>) {
    let mut versions: Vec<&Value> = definition.items("spec.versions").iter().collect();
    versions.sort_by_key(|version| !version.flag("storage"));
    let schema = |version: &&Value| {
        let api_version = format!("{}/{}", definition.text("spec.group"), version.text("name"));
        (api_version, Arc::new(Schema::of(version.look("schema.openAPIV3Schema"))))
    };
    let schemas = versions.iter().map(schema).collect();
    let meta = definition.look("metadata");
    let made_of = (meta.text("uid").to_owned(), meta.int("generation").unwrap_or_default());
    (versions, Arc::new(Stored { schemas, conversion: Conversion::of(definition, webhooks), made_of }))
}

fn row(definition: &Value, version: &Value, schema: &Arc<Schema>, stored: &Arc<Stored>) -> Row {
    let names = definition.look("status.acceptedNames");
    let (group, terminating) = (definition.text("spec.group"), condition(definition, "Terminating") == Some("True"));
    let subresources: &'static [Subresource] =
        match (version.has("subresources.status"), version.has("subresources.scale")) {
            (true, true) => &[STATUS, SCALE],
            (true, false) => &[STATUS],
            (false, true) => &[SCALE],
            (false, false) => &[],
        };
    let texts =
        |value: &Value| value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let custom = Custom {
        list_kind: names.text("listKind").to_owned(),
        terminating,
        short_names: texts(names.look("shortNames")),
        categories: texts(names.look("categories")),
        deprecated: version.flag("deprecated").then(|| deprecation(definition, version)),
        columns: columns::of(version),
        selectable: version
            .items("selectableFields")
            .iter()
            .map(|field| field.text("jsonPath").trim_start_matches('.').to_owned())
            .collect(),
        schema: version.look("schema.openAPIV3Schema").clone(),
    };
    let kind = names.text("kind");
    let resource = Resource {
        id: GroupResource { group: group.into(), resource: names.text("plural").into() },
        version: Cow::Owned(version.text("name").to_owned()),
        kind: Cow::Owned(kind.to_owned()),
        singular: Cow::Owned(names.text("singular").to_owned()),
        short_names: Cow::Borrowed(&[]),
        categories: Cow::Borrowed(&[]),
        namespaced: definition.text("spec.scope") == "Namespaced",
        verbs: VERBS,
        subresources,
        columns: &[],
        selectable: &[],
        schema: Cow::Owned(schema_name(group, version.text("name"), kind)),
        volatile: false,
        deprecated: None,
        stored_in: None,
        made_annotations: &[],
        custom: Some(Arc::new(custom)),
    };
    let scale = version.look("subresources.scale");
    let path = |name: &str| scale.text(name).trim_start_matches('.').to_owned();
    let custom = Version {
        schema: schema.clone(),
        stored: stored.clone(),
        scale: scale.is_object().then(|| Scale {
            spec: path("specReplicasPath"),
            status: path("statusReplicasPath"),
            selector: Some(path("labelSelectorPath")).filter(|path| !path.is_empty()),
        }),
        terminating,
    };
    let strategy = Strategy {
        generation: true,
        status: version.has("subresources.status"),
        unconditional_update: false,
        status_resets: &["metadata", "spec"],
        warnings: metadata::finalizer_warnings,
        ..Strategy::PLAIN
    };
    Row { custom: Some(Arc::new(custom)), ..Row::new(resource, strategy) }
}

/// As OpenAPI calls the kind: the group's parts from the last to the first, then version and kind.
fn schema_name(group: &str, version: &str, kind: &str) -> String {
    let parts: Vec<&str> = group.rsplit('.').chain([version, kind]).collect();
    parts.join(".")
}

fn deprecation(definition: &Value, version: &Value) -> String {
    let own = version.text("deprecationWarning");
    if !own.is_empty() {
        return own.to_owned();
    }
    let (group, kind, name) = (definition.text("spec.group"), definition.text("spec.names.kind"), version.text("name"));
    let versions = definition.items("spec.versions").iter().filter(|v| v.flag("served") && !v.flag("deprecated"));
    let newer = versions
        .map(|v| v.text("name"))
        .filter(|v| version_rank(v) > version_rank(name))
        .max_by_key(|v| version_rank(v));
    let instead = newer.map(|newer| format!("; use {group}/{newer} {kind}")).unwrap_or_default();
    format!("{group}/{name} {kind} is deprecated{instead}")
}
