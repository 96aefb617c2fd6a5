//! How the values at one place of an object merge, as the schema says.

use std::sync::LazyLock;

use kedge_api::schema::{self, Field, Item, Shape, Type};
use serde_json::{Map, Value};

use super::element::{Element, Name};

/// A place: the shape that its values have and, where it is a field, the rules of that field.
#[derive(Clone, Copy)]
pub(crate) enum Place<'s> {
    Known {
        shape: Shape,
        field: Option<Field>,
    },
    /// A part of a resource that no type is known of.
    Custom(&'s dyn Custom),
    /// Anything: objects merge member by member, all else has one owner.
    Free,
}

/// The schema of a part of a custom resource.
pub(crate) trait Custom: Sync {
    fn form(&self) -> Form<'_>;

    fn member(&self, name: &str) -> Option<Place<'_>>;

    /// Of a list, the fields that tell its items apart.
    fn keys(&self) -> &[String] {
        &[]
    }

    /// Of an item, the value of a key field that it leaves out.
    fn default(&self, _key: &str) -> Option<Value> {
        None
    }
}

/// What a place holds. Atomic lists and maps belong to one owner as a whole.
#[derive(Clone, Copy)]
pub(crate) enum Form<'s> {
    Scalar(Scalar),
    /// An object whose fields are known.
    Struct(Members<'s>),
    /// An object of any keys.
    Map(Place<'s>),
    Keyed(Place<'s>, Keys<'s>),
    Set(Place<'s>),
    AtomicStruct(Members<'s>),
    AtomicMap(Place<'s>),
    AtomicList(Place<'s>),
    /// Anything at all, with one owner.
    Opaque,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Text,
    Number,
    Flag,
    Any,
}

/// Whose fields are the members of an object.
#[derive(Clone, Copy)]
pub(crate) enum Members<'s> {
    Known(Type),
    Custom(&'s dyn Custom),
}

/// The fields that tell the items of a list apart are the list's; their defaults are the item's.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'s> {
    list: Place<'s>,
    item: Place<'s>,
}

impl<'s> Keys<'s> {
    pub(crate) const fn new(list: Place<'s>, item: Place<'s>) -> Self {
        Self { list, item }
    }
}

impl<'s> Place<'s> {
    pub(crate) const fn root(t: Type) -> Self {
        Self::Known { shape: Shape::Type(t), field: None }
    }

    fn item(item: Item) -> Self {
        Self::Known { shape: item.shape(), field: None }
    }

    /// How one value of this place merges; `None` is one that is not there.
    pub(crate) fn form(self, value: Option<&Value>) -> Form<'s> {
        match self {
            Self::Known { shape, field } => known(shape, field),
            Self::Custom(schema) => schema.form(),
            Self::Free if value.is_some_and(Value::is_object) => Form::Map(Self::Free),
            Self::Free => Form::Opaque,
        }
    }

    /// How two values of this place merge.
    pub(crate) fn form_of_both(self, a: Option<&Value>, b: Option<&Value>) -> Form<'s> {
        match (a, b) {
            (Some(a), Some(b)) if a.is_object() != b.is_object() && matches!(self, Self::Free) => Form::Opaque,
            _ => self.form(a.or(b)),
        }
    }
}

fn known<'s>(shape: Shape, field: Option<Field>) -> Form<'s> {
    let atomic = field.is_some_and(Field::map_is_atomic);
    match shape.resolve() {
        Shape::String | Shape::Bytes => Form::Scalar(Scalar::Text),
        Shape::Int32 | Shape::Int64 | Shape::Number => Form::Scalar(Scalar::Number),
        Shape::Boolean => Form::Scalar(Scalar::Flag),
        Shape::Time | Shape::IntOrString | Shape::Quantity => Form::Scalar(Scalar::Any),
        Shape::Any | Shape::Object => Form::Opaque,
        Shape::Type(t) if atomic || t.is_atomic() => Form::AtomicStruct(Members::Known(t)),
        Shape::Type(t) => Form::Struct(Members::Known(t)),
        Shape::Map(item) if atomic => Form::AtomicMap(Place::item(item)),
        Shape::Map(item) => Form::Map(Place::item(item)),
        Shape::List(item) => {
            let place = Place::item(item);
            match field.and_then(Field::list) {
                Some(schema::List::Map) => Form::Keyed(place, Keys::new(Place::Known { shape, field }, place)),
                Some(schema::List::Set) => Form::Set(place),
                Some(schema::List::Atomic) | None => Form::AtomicList(place),
            }
        }
    }
}

impl<'s> Members<'s> {
    pub(crate) fn get(self, name: &str) -> Option<Place<'s>> {
        match self {
            Self::Known(t) => t.field(name).map(|field| Place::Known { shape: field.shape(), field: Some(field) }),
            Self::Custom(schema) => schema.member(name),
        }
    }

    /// The field's own record, of a type that has such.
    pub(crate) fn field(self, name: &str) -> Option<Field> {
        match self {
            Self::Known(t) => t.field(name),
            Self::Custom(_) => None,
        }
    }
}

impl<'s> Form<'s> {
    /// What is below a member of an object of this form; `None`: there is no such field.
    pub(crate) fn member(self, name: &str) -> Option<Place<'s>> {
        match self {
            Self::Struct(members) | Self::AtomicStruct(members) => members.get(name),
            Self::Map(place) | Self::AtomicMap(place) => Some(place),
            Self::Scalar(_) | Self::Keyed(..) | Self::Set(_) | Self::AtomicList(_) | Self::Opaque => None,
        }
    }

    /// The element that names an item of an associative list.
    pub(crate) fn element(self, item: &Value) -> Result<Element, String> {
        match self {
            Self::Keyed(_, keys) => keys.element(item),
            Self::Set(_) => match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
                Value::String(_) | Value::Number(_) | Value::Bool(_) => Ok(Element::Item(item.clone())),
            },
            Self::Scalar(_)
            | Self::Struct(_)
            | Self::Map(_)
            | Self::AtomicStruct(_)
            | Self::AtomicMap(_)
            | Self::AtomicList(_)
            | Self::Opaque => Err("invalid indexing of non-associative list".into()),
        }
    }
}

impl Keys<'_> {
    fn names(&self) -> Vec<Name> {
        match self.list {
            Place::Known { field, .. } => field.into_iter().flat_map(Field::map_keys).map(Into::into).collect(),
            Place::Custom(schema) => schema.keys().iter().map(|key| key.clone().into()).collect(),
            Place::Free => Vec::new(),
        }
    }

    fn default(&self, key: &str) -> Option<Value> {
        match self.item {
            Place::Known { shape: Shape::Type(t), .. } => default_of(t.field(key)?),
            Place::Custom(schema) => schema.default(key),
            Place::Known { .. } | Place::Free => None,
        }
    }

    fn element(self, item: &Value) -> Result<Element, String> {
        let Value::Object(item) = item else {
            let what = if item.is_null() { "a null element" } else { "non-map elements" };
            return Err(format!("associative list with keys may not have {what}"));
        };
        let value = |key: &str| item.get(key).cloned().or_else(|| self.default(key));
        let mut keys: Vec<(Name, Value)> =
            self.names().into_iter().filter_map(|key| value(&key).map(|value| (key, value))).collect();
        if keys.is_empty() {
            let names: Vec<_> = self.names().iter().map(|name| crate::errors::quote(name)).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key \
                 fields)",
                names.join(" ")
            ));
        }
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Element::Key(keys))
    }
}

/// An object of which only what every object has is known: its type and its metadata.
struct Unknown;

impl Custom for Unknown {
    fn form(&self) -> Form<'_> {
        Form::Struct(Members::Custom(self))
    }

    fn member(&self, name: &str) -> Option<Place<'_>> {
        match name {
            "metadata" => schema::get("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").map(Place::root),
            _ => Some(Place::Free),
        }
    }
}

/// How objects of a type merge; those of unknown types member by member.
pub(crate) fn of_type(name: &str) -> Place<'static> {
    schema::get(name).map_or(UNKNOWN, Place::root)
}

const UNKNOWN: Place<'static> = Place::Custom(&Unknown);

/// The value of a key field that an item leaves out: its published default, or the empty one of a field that is always written.
fn default_of(field: Field) -> Option<Value> {
    match field.default() {
        Some(json) => serde_json::from_str(json).ok(),
        None if field.required() => Some(zero(field).clone()),
        None => None,
    }
}

static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
static TEXT: LazyLock<Value> = LazyLock::new(|| Value::String(String::new()));
static NUMBER: LazyLock<Value> = LazyLock::new(|| 0.into());
static FALSE: Value = Value::Bool(false);
static NULL: Value = Value::Null;

/// What upstream's encoder writes for a field that no one has set, if it writes any: the other side of a comparison of `value` with nothing.
/// That a value is null, or empty where such texts are left out, shows that its field is always written.
pub(crate) fn unset(field: Field, value: Option<&Value>) -> Option<&'static Value> {
    match value {
        _ if field.keeps_zero() || field.required() => Some(zero(field)),
        Some(Value::Null) => Some(&NULL),
        Some(Value::String(text)) if text.is_empty() && !field.keeps_empty() => Some(&TEXT),
        Some(_) | None => None,
    }
}

fn zero(field: Field) -> &'static Value {
    if field.keeps_zero() {
        return &EMPTY;
    }
    match field.shape().resolve() {
        Shape::String => &TEXT,
        Shape::Int32 | Shape::Int64 | Shape::Number => &NUMBER,
        Shape::Boolean => &FALSE,
        Shape::Bytes
        | Shape::Time
        | Shape::Any
        | Shape::Object
        | Shape::IntOrString
        | Shape::Quantity
        | Shape::Type(_)
        | Shape::List(_)
        | Shape::Map(_) => &NULL,
    }
}
