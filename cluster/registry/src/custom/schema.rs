//! A structural schema, made ready once for all the objects that are held against it.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::rules::Rule;
use crate::value::Look as _;

/// One node. Parts that a schema does not have are empty, and then ask for nothing.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    /// `object`, `array`, `string`, …; empty where anything goes.
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) nullable: bool,
    pub(crate) int_or_string: bool,
    /// Keeps fields that it does not name.
    pub(crate) preserves: bool,
    /// An object with `apiVersion`, `kind` and `metadata` of its own.
    pub(crate) embedded: bool,
    /// Such a one, or the whole.
    pub(crate) resource: bool,
    /// Has one owner as a whole, if it is an object.
    pub(crate) atomic: bool,
    pub(crate) default: Option<Value>,
    pub(crate) properties: BTreeMap<String, Schema>,
    /// What keys hold that are no properties.
    pub(crate) additional: Option<Box<Schema>>,
    pub(crate) items: Option<Box<Schema>>,
    /// `set` or `map`; empty or `atomic` otherwise.
    pub(crate) list: String,
    pub(crate) map_keys: Vec<String>,
    pub(crate) required: Vec<String>,
    pub(crate) allowed: Vec<Value>,
    pub(crate) pattern: Option<(String, Regex)>,
    pub(crate) bounds: Bounds,
    pub(crate) all_of: Vec<Schema>,
    pub(crate) any_of: Vec<Schema>,
    pub(crate) one_of: Vec<Schema>,
    pub(crate) not: Option<Box<Schema>>,
    /// What must hold of each value, in CEL.
    pub(crate) rules: Vec<Rule>,
    /// Rules stand here or below.
    pub(crate) ruled: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_maximum: bool,
    pub(crate) minimum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) max_length: Option<i64>,
    pub(crate) min_length: Option<i64>,
    pub(crate) max_items: Option<i64>,
    pub(crate) min_items: Option<i64>,
    pub(crate) max_properties: Option<i64>,
    pub(crate) min_properties: Option<i64>,
}

impl Schema {
    /// From an `openAPIV3Schema` that passed validation; what is wrong in it nevertheless is left out.
    pub(crate) fn of(schema: &Value) -> Self {
        Self::at(schema, true)
    }

    /// The schema of a part of an object, or of a whole one.
    pub(crate) fn at(schema: &Value, root: bool) -> Self {
        let mut made = Self::plain(schema);
        made.resource = root || made.embedded;
        let compiled = |rule: &Value| Rule::compile(rule, &made, made.resource).ok();
        made.rules = schema.items("x-kubernetes-validations").iter().filter_map(compiled).collect();
        made.ruled = !made.rules.is_empty()
            || made.properties.values().any(|inner| inner.ruled)
            || [&made.additional, &made.items].into_iter().flatten().any(|inner| inner.ruled);
        made
    }

    fn plain(schema: &Value) -> Self {
        let boxed =
            |path: &str| Some(schema.look(path)).filter(|v| v.is_object()).map(|v| Box::new(Self::at(v, false)));
        let many = |path: &str| schema.items(path).iter().map(|v| Self::at(v, false)).collect();
        let texts = |path: &str| schema.items(path).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let pattern = schema.text("pattern");
        Self {
            kind: schema.text("type").to_owned(),
            format: schema.text("format").to_owned(),
            nullable: schema.flag("nullable"),
            int_or_string: schema.flag("x-kubernetes-int-or-string"),
            preserves: schema.flag("x-kubernetes-preserve-unknown-fields"),
            embedded: schema.flag("x-kubernetes-embedded-resource"),
            resource: false,
            atomic: schema.text("x-kubernetes-map-type") == "atomic",
            default: schema.get("default").cloned(),
            properties: schema
                .entries("properties")
                .map(|(name, value)| (name.clone(), Self::at(value, false)))
                .collect(),
            additional: match schema.look("additionalProperties") {
                Value::Bool(true) => Some(Box::new(Self { preserves: true, nullable: true, ..Self::default() })),
                _ => boxed("additionalProperties"),
            },
            items: boxed("items"),
            list: schema.text("x-kubernetes-list-type").to_owned(),
            map_keys: texts("x-kubernetes-list-map-keys"),
            required: texts("required"),
            allowed: schema.items("enum").to_vec(),
            pattern: Regex::new(pattern).ok().filter(|_| !pattern.is_empty()).map(|regex| (pattern.to_owned(), regex)),
            bounds: Bounds::of(schema),
            all_of: many("allOf"),
            any_of: many("anyOf"),
            one_of: many("oneOf"),
            not: boxed("not"),
            rules: Vec::new(),
            ruled: false,
        }
    }

    /// The schema of a field of an object.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(self.additional.as_deref())
    }

    /// A null that is as good as absent.
    pub(crate) fn drops(&self, value: &Value) -> bool {
        value.is_null() && !self.nullable
    }

    /// What an object's place in a list of type `map` is: its keys' values, defaults included.
    pub(crate) fn identity<'a>(&'a self, item: &'a Value) -> Vec<&'a Value> {
        static NULL: Value = Value::Null;
        let default = |key: &str| self.items.as_ref()?.properties.get(key)?.default.as_ref();
        self.map_keys.iter().map(|key| item.get(key).or_else(|| default(key)).unwrap_or(&NULL)).collect()
    }
}

impl Bounds {
    fn of(schema: &Value) -> Self {
        let number = |path: &str| schema.look(path).as_f64();
        let int = |path: &str| schema.int(path);
        Self {
            maximum: number("maximum"),
            exclusive_maximum: schema.flag("exclusiveMaximum"),
            minimum: number("minimum"),
            exclusive_minimum: schema.flag("exclusiveMinimum"),
            multiple_of: number("multipleOf"),
            max_length: int("maxLength"),
            min_length: int("minLength"),
            max_items: int("maxItems"),
            min_items: int("minItems"),
            max_properties: int("maxProperties"),
            min_properties: int("minProperties"),
        }
    }
}
