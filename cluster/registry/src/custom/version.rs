//! How objects of one version of a definition are shaped, checked, stored and shown.

use std::sync::Arc;

use kedge_api::{Object, Resource, Status};
use serde_json::Value;

use super::conversion::Conversion;
use super::schema::Schema;
use super::{rules, shape, validate};
use crate::apply::place::Place;
use crate::errors::{Errors, Path};
use crate::value::{Fill as _, Look as _};

/// How objects of one version of a definition behave.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) schema: Arc<Schema>,
    /// How objects are stored.
    pub(super) stored: Arc<Stored>,
    pub(crate) scale: Option<Scale>,
    /// The definition is being deleted: nothing new may come.
    pub(crate) terminating: bool,
}

#[derive(Debug)]
pub(super) struct Stored {
    /// Of all versions, served or not. The first is what is written now; older objects stay in the version of their time.
    pub(super) schemas: Vec<(String, Arc<Schema>)>,
    /// Who converts between versions, where they differ in more than their name.
    pub(super) conversion: Option<Conversion>,
    /// The definition's identity and generation, which stand for all that it says.
    pub(super) made_of: (String, i64),
}

/// Dotted paths of what `scale` shows.
#[derive(Debug)]
pub(crate) struct Scale {
    pub(crate) spec: String,
    pub(crate) status: String,
    pub(crate) selector: Option<String>,
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

    /// Both show objects in the same way.
    pub(crate) fn is_made_as(&self, other: &Self) -> bool {
        self.stored.made_of == other.stored.made_of
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
    pub(crate) async fn show(&self, resource: &Resource, value: &mut Value) -> Result<(), Status> {
        self.stored.read(value);
        self.convert(value, &resource.api_version(), &self.schema).await
    }

    /// The object as this version shows it: the very same one if nothing is to be changed in it.
    pub(crate) async fn shown(&self, resource: &Resource, object: Arc<Object>) -> Result<Arc<Object>, Status> {
        let stored: Value = object.decode()?;
        let mut value = stored.clone();
        self.show(resource, &mut value).await?;
        if value == stored { Ok(object) } else { encoded(&object, &value) }
    }

    /// The same where nobody can be waited for.
    pub(crate) fn shown_here(&self, resource: &Resource, object: Arc<Object>) -> Result<Arc<Object>, Status> {
        let stored: Value = object.decode()?;
        let mut value = stored.clone();
        self.show_here(resource, &mut value)?;
        if value == stored { Ok(object) } else { encoded(&object, &value) }
    }

    /// The same for many: who converts is asked for all of them at once.
    pub(crate) async fn shown_all(
        &self,
        resource: &Resource,
        objects: Vec<Arc<Object>>,
    ) -> Result<Vec<Arc<Object>>, Status> {
        let Some(conversion) = &self.stored.conversion else {
            let mut shown = Vec::with_capacity(objects.len());
            for object in objects {
                shown.push(self.shown(resource, object).await?);
            }
            return Ok(shown);
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
    pub(crate) async fn keep(&self, value: &mut Value) -> Result<(), Status> {
        match self.stored.schemas.first() {
            Some((to, schema)) => self.convert(value, to, schema).await,
            None => Ok(()),
        }
    }

    /// As [`Version::show`], where nobody can be waited for.
    pub(crate) fn show_here(&self, resource: &Resource, value: &mut Value) -> Result<(), Status> {
        self.stored.read(value);
        self.convert_to(resource, value)
    }

    /// From the form of any version to that of this one, where nobody can be waited for: see [`Conversion::convert_here`].
    pub(crate) fn convert_to(&self, resource: &Resource, value: &mut Value) -> Result<(), Status> {
        let to = resource.api_version();
        if value.text("apiVersion") == to {
            return Ok(());
        }
        match &self.stored.conversion {
            Some(conversion) => *value = conversion.convert_here(value, &to)?,
            None => value.set("apiVersion", to),
        }
        shape::prune(value, &self.schema, true);
        Ok(())
    }

    async fn convert(&self, value: &mut Value, to: &str, schema: &Schema) -> Result<(), Status> {
        if value.text("apiVersion") == to {
            return Ok(());
        }
        match &self.stored.conversion {
            Some(conversion) => *value = conversion.convert_all(&[value], to).await?.pop().unwrap_or_default(),
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
