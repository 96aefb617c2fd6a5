//! Custom resources: rows of the table that are made at run time, each from one version of a CustomResourceDefinition.
//!
//! ```text
//! follow ─▶ names (who is called what) ─▶ status of the definition
//!        └▶ rows ─▶ Table::with ─▶ the verbs, which ask Version how an object is shaped, checked, stored and shown
//! ```

pub(crate) mod columns;
mod conversion;
mod follow;
mod formats;
pub(crate) mod json_path;
mod merge;
mod names;
mod register;
mod remove;
pub(crate) mod rules;
pub(crate) mod schema;
pub(crate) mod shape;
pub(crate) mod validate;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use kedge_api::resource::{Custom, Subresource, version_rank};
use kedge_api::{GroupResource, Object, Resource, Snapshot, Status, Verb};
use serde_json::{Value, json};

use crate::apply::place::Place;
use crate::errors::{Errors, Path};
use crate::kinds::{SCALE, STATUS};
use crate::strategy::Strategy;
use crate::table::{Row, Table};
use crate::value::{Fill as _, Look as _};
use conversion::Conversion;
pub use follow::follow;
pub(crate) use names::{is_protected, is_url};
pub(crate) use remove::mark;
use schema::Schema;

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

/// How objects of one version of a definition behave.
#[derive(Debug)]
pub(crate) struct Version {
    schema: Arc<Schema>,
    /// How objects are stored.
    stored: Arc<Stored>,
    pub(crate) scale: Option<Scale>,
    /// The definition is being deleted: nothing new may come.
    pub(crate) terminating: bool,
}

#[derive(Debug)]
struct Stored {
    /// Of all versions, served or not. The first is what is written now; older objects stay in the version of their time.
    schemas: Vec<(String, Arc<Schema>)>,
    /// Who converts between versions, where they differ in more than their name.
    conversion: Option<Conversion>,
}

/// Dotted paths of what `scale` shows.
#[derive(Debug)]
pub(crate) struct Scale {
    pub(crate) spec: String,
    pub(crate) status: String,
    pub(crate) selector: Option<String>,
}

/// The way to webhooks, if there is one.
type Webhooks<'a> = Option<&'a Arc<dyn crate::admission::Webhooks>>;

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
    fn rows(&mut self, definitions: &[Value], webhooks: Webhooks<'_>) -> Vec<Arc<Row>> {
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

fn established(definition: &Value) -> bool {
    condition(definition, "Established") == Some("True")
}

/// The status of a condition.
pub(crate) fn condition<'a>(definition: &'a Value, name: &str) -> Option<&'a str> {
    definition.items("status.conditions").iter().find(|c| c.text("type") == name).map(|c| c.text("status"))
}

/// One row for each served version, the stored one first: it is the one that controllers mean who name none.
fn rows(definition: &Value, webhooks: Webhooks<'_>) -> Vec<Row> {
    let (versions, stored) = versions(definition, webhooks);
    let served = versions.into_iter().zip(&stored.schemas).filter(|(version, _)| version.flag("served"));
    served.map(|(version, (_, schema))| row(definition, version, schema, &stored)).collect()
}

/// That of the stored version, served or not.
fn stored_row(definition: &Value, webhooks: Webhooks<'_>) -> Option<Row> {
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
    (versions, Arc::new(Stored { schemas, conversion: Conversion::of(definition, webhooks) }))
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

impl Stored {
    /// What has been stored is made what the schema of its own version describes.
    fn read(&self, value: &mut Value) {
        let own = self.schemas.iter().find(|(api_version, _)| value.text("apiVersion") == api_version);
        if let Some((_, schema)) = own.or(self.schemas.first()) {
            shape::prune(value, schema, true);
            shape::default(value, schema);
        }
    }
}

impl Version {
    /// Makes a body what the schema describes. Gives the fields that the schema does not know.
    pub(crate) fn conform(&self, value: &mut Value) -> Result<Vec<String>, String> {
        let mut unknown = shape::metadata(value, &self.schema, true)?;
        unknown.extend(shape::prune(value, &self.schema, true));
        shape::default(value, &self.schema);
        Ok(unknown)
    }

    /// How objects of this version merge.
    pub(crate) fn place(&self) -> Place<'_> {
        self.schema.place()
    }

    /// Everything that must hold of an object beside its metadata, new or in the place of an old one.
    pub(crate) fn validate(&self, new: &Value, old: Option<&Value>, errors: &mut Errors) {
        validate::value(&without_metadata(new), old.map(without_metadata).as_ref(), &self.schema, None, errors);
        self.validate_scale(new, errors);
        validate::embedded(new, &self.schema, None, true, errors);
        let mut before = Errors::default();
        if let Some(old) = old {
            validate::lists(old, &self.schema, None, &mut before);
        }
        if before.is_empty() {
            validate::lists(new, &self.schema, None, errors);
        }
        rules::check(&without_metadata(new), old.map(without_metadata).as_ref(), &self.schema, errors);
    }

    fn validate_scale(&self, new: &Value, errors: &mut Errors) {
        let Some(scale) = &self.scale else { return };
        let replicas = new.look(&scale.spec);
        let dotted = format!(".{}", scale.spec);
        let path = Path::root(&dotted);
        match replicas.as_i64() {
            Some(count) if count < 0 => errors.invalid(&path, count, "should be a non-negative integer"),
            Some(count) if count > i64::from(i32::MAX) => {
                errors.invalid(&path, count, &format!("should be less than or equal to {}", i32::MAX));
            }
            Some(_) | None => {}
        }
    }

    /// From the stored form to that of this version.
    pub(crate) fn show(&self, resource: &Resource, value: &mut Value) -> Result<(), Status> {
        self.stored.read(value);
        self.convert(value, &resource.api_version(), &self.schema)
    }

    /// The object as this version shows it: the very same one if nothing is to be changed in it.
    pub(crate) fn shown(&self, resource: &Resource, object: Arc<Object>) -> Result<Arc<Object>, Status> {
        let stored: Value = object.decode()?;
        let mut value = stored.clone();
        self.show(resource, &mut value)?;
        if value == stored { Ok(object) } else { encoded(&object, &value) }
    }

    /// The same for many: who converts is asked for all of them at once.
    pub(crate) async fn shown_all(
        &self,
        resource: &Resource,
        objects: Vec<Arc<Object>>,
    ) -> Result<Vec<Arc<Object>>, Status> {
        let Some(conversion) = &self.stored.conversion else {
            return objects.into_iter().map(|object| self.shown(resource, object)).collect();
        };
        let to = resource.api_version();
        let stored: Vec<Value> = objects.iter().map(|object| object.decode()).collect::<Result<_, _>>()?;
        let mut values = stored.clone();
        values.iter_mut().for_each(|value| self.stored.read(value));
        let foreign: Vec<&Value> = values.iter().filter(|value| value.text("apiVersion") != to).collect();
        let mut made = conversion.convert_all(&foreign, &to).await?.into_iter();
        for value in values.iter_mut().filter(|value| value.text("apiVersion") != to) {
            *value = made.next().unwrap_or_default();
            shape::prune(value, &self.schema, true);
        }
        let all = objects.into_iter().zip(stored.iter().zip(&values));
        all.map(|(object, (stored, value))| if value == stored { Ok(object) } else { encoded(&object, value) })
            .collect()
    }

    /// From this version's form to the stored one.
    pub(crate) fn keep(&self, value: &mut Value) -> Result<(), Status> {
        match self.stored.schemas.first() {
            Some((to, schema)) => self.convert(value, to, schema),
            None => Ok(()),
        }
    }

    /// From the form of any version to that of this one.
    pub(crate) fn convert_to(&self, resource: &Resource, value: &mut Value) -> Result<(), Status> {
        self.convert(value, &resource.api_version(), &self.schema)
    }

    fn convert(&self, value: &mut Value, to: &str, schema: &Schema) -> Result<(), Status> {
        if value.text("apiVersion") == to {
            return Ok(());
        }
        match &self.stored.conversion {
            Some(conversion) => *value = conversion.convert(value, to)?,
            None => value.set("apiVersion", to),
        }
        shape::prune(value, schema, true);
        Ok(())
    }
}

/// The object with other content.
fn encoded(object: &Object, value: &Value) -> Result<Arc<Object>, Status> {
    let json = serde_json::to_vec(value).map_err(|e| Status::internal(format!("encoding {}: {e}", object.key)))?;
    let Object { key, revision, meta, .. } = object;
    Ok(Arc::new(Object { key: key.clone(), revision: *revision, meta: meta.clone(), json: json.into() }))
}

/// Metadata has rules of its own, and is not what a schema restricts but in its name.
fn without_metadata(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(Value::Object(metadata)) = object.find_mut("metadata") {
        metadata.retain(|name, _| matches!(name.as_str(), "name" | "generateName"));
    }
    object
}
