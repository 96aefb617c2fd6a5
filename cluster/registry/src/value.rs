//! Reading and filling objects as JSON, by dotted paths such as `spec.template.spec`.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// Nothing is stored that is nested deeper: parsers stop at depths not far above, and lists and reviews put more around an object.
pub(crate) const DEEPEST: usize = 100;

/// Whether more than `most` lists and objects lie in each other.
pub(crate) fn is_deeper(value: &Value, most: usize) -> bool {
    match (value, most.checked_sub(1)) {
        (Value::Array(_) | Value::Object(_), None) => true,
        (Value::Array(items), Some(left)) => items.iter().any(|value| is_deeper(value, left)),
        (Value::Object(map), Some(left)) => map.values().any(|value| is_deeper(value, left)),
        _ => false,
    }
}

/// Reading: what is absent or of another type reads as empty.
pub(crate) trait Look {
    /// `Null` if absent.
    fn look(&self, path: &str) -> &Value;
    fn text(&self, path: &str) -> &str;
    fn int(&self, path: &str) -> Option<i64>;
    fn flag(&self, path: &str) -> bool;
    fn items(&self, path: &str) -> &[Value];
    fn entries(&self, path: &str) -> impl Iterator<Item = (&String, &Value)>;
    fn has(&self, path: &str) -> bool;
}

impl Look for Value {
    fn look(&self, path: &str) -> &Value {
        path.split('.').try_fold(self, |value, name| value.get(name)).unwrap_or(&NULL)
    }

    fn text(&self, path: &str) -> &str {
        self.look(path).as_str().unwrap_or_default()
    }

    fn int(&self, path: &str) -> Option<i64> {
        self.look(path).as_i64()
    }

    fn flag(&self, path: &str) -> bool {
        self.look(path).as_bool().unwrap_or_default()
    }

    fn items(&self, path: &str) -> &[Value] {
        self.look(path).as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn entries(&self, path: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.look(path).as_object().into_iter().flatten()
    }

    fn has(&self, path: &str) -> bool {
        !self.look(path).is_null()
    }
}

/// Changing. What stands in the way and is no object is replaced by one.
pub(crate) trait Fill {
    fn slot(&mut self, path: &str) -> &mut Value;
    fn set(&mut self, path: &str, value: impl Into<Value>);
    /// Sets what is absent.
    fn fill(&mut self, path: &str, value: impl Into<Value>);
    /// Sets what is absent or an empty string.
    fn fill_text(&mut self, path: &str, value: &str);
    fn cut(&mut self, path: &str) -> Option<Value>;
    fn items_mut(&mut self, path: &str) -> &mut [Value];
    /// What is there already; nothing is made.
    fn find_mut(&mut self, path: &str) -> Option<&mut Value>;
    /// This object's fields; of anything else, none.
    fn map_mut(&mut self) -> Option<&mut Map<String, Value>>;
}

impl Fill for Value {
    fn slot(&mut self, path: &str) -> &mut Value {
        path.split('.').fold(self, |value, name| {
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            match value {
                Value::Object(map) => map.entry(name).or_insert(Value::Null),
                other => other,
            }
        })
    }

    fn set(&mut self, path: &str, value: impl Into<Value>) {
        *self.slot(path) = value.into();
    }

    fn fill(&mut self, path: &str, value: impl Into<Value>) {
        if !self.has(path) {
            self.set(path, value);
        }
    }

    fn fill_text(&mut self, path: &str, value: &str) {
        if self.text(path).is_empty() {
            self.set(path, value);
        }
    }

    fn cut(&mut self, path: &str) -> Option<Value> {
        match path.rsplit_once('.') {
            Some((parent, name)) => self.find_mut(parent)?.as_object_mut()?.remove(name),
            None => self.as_object_mut()?.remove(path),
        }
    }

    fn items_mut(&mut self, path: &str) -> &mut [Value] {
        self.find_mut(path).and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default()
    }

    fn find_mut(&mut self, path: &str) -> Option<&mut Value> {
        path.split('.').try_fold(self, |value, name| value.get_mut(name))
    }

    fn map_mut(&mut self) -> Option<&mut Map<String, Value>> {
        self.as_object_mut()
    }
}
