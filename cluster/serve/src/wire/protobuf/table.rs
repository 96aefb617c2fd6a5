//! `fields.txt` as it lies in the binary: looked up by binary search, each line parsed once.

use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use kedge_api::schema::{self, Field, Shape, Type};

const TABLE: &str = include_str!("fields.txt");
const PREFIX: &str = "io.k8s.";

/// A field with the numbers that lead to it.
#[derive(Clone, Copy, Debug)]
pub struct Numbered {
    pub field: Field,
    path: &'static [u32],
}

/// A type's fields that have numbers, in the order of these.
#[derive(Debug)]
pub struct Known {
    pub fields: Vec<Numbered>,
    /// Places among the fields, in the order of their names.
    names: Vec<usize>,
}

impl Known {
    /// The place of the field of this name.
    pub fn by_name(&self, name: &str) -> Option<usize> {
        let of = |at: &usize| self.fields.get(*at).map_or("", |numbered| numbered.field.name());
        let found = self.names.binary_search_by(|at| of(at).cmp(name)).ok()?;
        self.names.get(found).copied()
    }
}

/// What was read already, kept for good: types are few, and each message of each object asks for its own.
static READ: LazyLock<RwLock<HashMap<Type, &'static Known>>> = LazyLock::new(RwLock::default);

/// Nothing of a type without numbers.
pub fn known(of: Type) -> Option<&'static Known> {
    if let Some(known) = READ.read().unwrap_or_else(PoisonError::into_inner).get(&of) {
        return Some(known);
    }
    let words = line(of.name())?.split(' ').skip(1);
    let fields: Vec<Numbered> = words
        .filter_map(|word| {
            let (name, path) = word.split_once('=')?;
            let path: Vec<u32> = path.split('.').filter_map(|number| number.parse().ok()).collect();
            Some(Numbered { field: of.field(name)?, path: path.leak() })
        })
        .collect();
    let name = |at: &usize| fields.get(*at).map_or("", |numbered| numbered.field.name());
    let mut names: Vec<usize> = (0..fields.len()).collect();
    names.sort_by(|a, b| name(a).cmp(name(b)));
    let read = Known { fields, names };
    Some(READ.write().unwrap_or_else(PoisonError::into_inner).entry(of).or_insert_with(|| Box::leak(Box::new(read))))
}

/// The fields of a type that have numbers, in the order of these.
pub fn fields(of: Type) -> &'static [Numbered] {
    known(of).map_or(&[], |known| &known.fields)
}

pub fn knows(of: Type) -> bool {
    line(of.name()).is_some()
}

impl Numbered {
    /// What follows `prefix` on the way to the field: its own number, or the number of a message on the way.
    pub fn after(&self, prefix: &[u32]) -> Option<Step> {
        match self.path.strip_prefix(prefix)? {
            [] => None,
            [number] => Some(Step::Field(*number)),
            [number, ..] => Some(Step::Inside(*number)),
        }
    }
}

/// A part of a JSON schema that JSON writes as a schema or as something simpler, and the wire as a message with a field for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either {
    Bool,
    Array,
    Strings,
}

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

impl Either {
    pub fn of(shape: Shape) -> Option<Self> {
        let Shape::Type(of) = shape else { return None };
        match of.name().strip_prefix(SCHEMA)? {
            "OrBool" => Some(Self::Bool),
            "OrArray" => Some(Self::Array),
            "OrStringArray" => Some(Self::Strings),
            _ => None,
        }
    }

    /// The number of the schema.
    pub const fn schema(self) -> u32 {
        match self {
            Self::Bool => 2,
            Self::Array | Self::Strings => 1,
        }
    }

    /// The number of what may stand in its place.
    pub const fn other(self) -> u32 {
        match self {
            Self::Bool => 1,
            Self::Array | Self::Strings => 2,
        }
    }

    /// Of the schema, and of what an array is of.
    pub fn shapes(self) -> (Shape, Shape) {
        let schema = schema::get(SCHEMA).map_or(Shape::Any, Shape::Type);
        (schema, if self == Self::Strings { Shape::String } else { schema })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Field(u32),
    Inside(u32),
}

fn line(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix(PREFIX)?;
    let (mut low, mut high) = (0, TABLE.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let start = TABLE.get(..middle)?.rfind('\n').map_or(0, |at| at + 1).max(low);
        let end = TABLE.get(start..)?.find('\n').map_or(TABLE.len(), |at| start + at);
        let line = TABLE.get(start..end)?;
        match line.split(' ').next()?.cmp(name) {
            std::cmp::Ordering::Equal => return Some(line),
            std::cmp::Ordering::Less => low = end + 1,
            std::cmp::Ordering::Greater => high = start,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use kedge_api::schema;

    use super::*;

    #[test]
    fn every_line_is_found_and_names_fields_that_exist() {
        let mut before = "";
        for text in TABLE.lines() {
            let mut words = text.split(' ');
            let name = words.next().unwrap();
            assert!(before < name, "{name} is not in order");
            before = name;
            let of = schema::get(&format!("{PREFIX}{name}")).unwrap();
            assert_eq!(line(of.name()), Some(text));
            assert_eq!(fields(of).len(), words.count(), "{name}");
            // A list's elements name their kind nowhere.
            let missing = of.fields().filter(|field| !fields(of).iter().any(|f| f.field.name() == field.name()));
            assert!(missing.map(|field| field.name()).all(|name| ["apiVersion", "kind"].contains(&name)), "{name}");
        }
        assert_eq!(line("io.k8s.api.core.v1.Nothing"), None);
        assert_eq!(line("zzz"), None);
    }

    #[test]
    fn every_type_of_the_api_has_numbers() {
        let without = schema::types().filter(|t| t.alias().is_none() && !knows(*t)).map(|t| t.name());
        assert_eq!(without.collect::<Vec<_>>(), ["io.k8s.apimachinery.pkg.version.Info"]);
    }
}
