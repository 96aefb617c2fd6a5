//! How custom resources merge in server-side apply: the schema says it in its list and map types.

use kedge_api::schema::{self, Shape};
use serde_json::Value;

use super::schema::Schema;
use crate::apply::place::{Custom, Form, Keys, Members, Place, Scalar};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

impl Schema {
    pub(crate) fn place(&self) -> Place<'_> {
        if self.kind.is_empty() && !self.int_or_string { Place::Free } else { Place::Custom(self) }
    }
}

impl Custom for Schema {
    fn form(&self) -> Form<'_> {
        let item = self.items.as_deref().map_or(Place::Free, Self::place);
        match (self.kind.as_str(), self.list.as_str(), &self.additional) {
            _ if self.int_or_string => Form::Scalar(Scalar::Any),
            ("object", _, Some(inner)) if self.atomic => Form::AtomicMap(inner.place()),
            ("object", _, Some(inner)) => Form::Map(inner.place()),
            ("object", ..) if self.atomic => Form::AtomicStruct(Members::Custom(self)),
            ("object", ..) => Form::Struct(Members::Custom(self)),
            ("array", "map", _) => Form::Keyed(item, Keys::new(Place::Custom(self), item)),
            ("array", "set", _) => Form::Set(item),
            ("array", ..) => Form::AtomicList(item),
            ("string", ..) => Form::Scalar(Scalar::Text),
            ("integer" | "number", ..) => Form::Scalar(Scalar::Number),
            ("boolean", ..) => Form::Scalar(Scalar::Flag),
            _ => Form::Opaque,
        }
    }

    fn member(&self, name: &str) -> Option<Place<'_>> {
        match name {
            "metadata" if self.resource => schema::get(OBJECT_META).map(Place::root),
            "apiVersion" | "kind" if self.resource => Some(Place::Known { shape: Shape::String, field: None }),
            _ => self.properties.get(name).map(Self::place).or(self.preserves.then_some(Place::Free)),
        }
    }

    fn keys(&self) -> &[String] {
        &self.map_keys
    }

    fn default(&self, key: &str) -> Option<Value> {
        self.properties.get(key)?.default.clone()
    }
}
