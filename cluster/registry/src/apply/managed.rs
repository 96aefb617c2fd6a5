//! `metadata.managedFields`: one entry a manager, operation, version and subresource. An entry that no one touches stays as it came:
//! its fields are read only when a change could concern them.

use serde_json::{Map, Value, json};

use super::set::Set;
use crate::value::{Fill as _, Look as _};

/// Entries of updates beyond so many are merged, the oldest first.
const MOST_UPDATERS: usize = 10;
/// Who owns what the oldest did.
const ANCIENT: &str = "ancient-changes";

/// Who wrote, and how. In the order of what conflicts are told in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Manager {
    pub(crate) name: String,
    pub(crate) applies: bool,
    pub(crate) api_version: String,
    pub(crate) subresource: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) manager: Manager,
    pub(crate) time: Option<String>,
    fields: Fields,
}

#[derive(Clone, Debug)]
enum Fields {
    Encoded(Map<String, Value>),
    Set(Set),
}

impl Manager {
    /// Whether an entry of `other` is this one's: who applies has one whatever the version.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.applies == other.applies
            && self.subresource == other.subresource
            && (self.applies || self.api_version == other.api_version)
    }
}

impl Entry {
    pub(crate) const fn new(manager: Manager, time: Option<String>, set: Set) -> Self {
        Self { manager, time, fields: Fields::Set(set) }
    }

    fn decode(mut entry: Value) -> Result<Self, String> {
        let applies = match entry.text("operation") {
            "Apply" => true,
            "Update" => false,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        if entry.text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match entry.text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err("missing fieldsType in managed fields entry".into()),
            other => return Err(format!("invalid fieldsType {} in managed fields entry", crate::errors::quote(other))),
        }
        let fields = match entry.cut("fieldsV1") {
            Some(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let text = |name: &str| entry.text(name).to_owned();
        Ok(Self {
            manager: Manager {
                name: text("manager"),
                applies,
                api_version: text("apiVersion"),
                subresource: text("subresource"),
            },
            time: entry.look("time").as_str().map(str::to_owned),
            fields: Fields::Encoded(fields),
        })
    }

    fn encode(self) -> Value {
        let Self { manager, time, fields } = self;
        let fields = match fields {
            Fields::Encoded(map) => map,
            Fields::Set(set) => set.encode(),
        };
        let mut entry = json!({
            "operation": if manager.applies { "Apply" } else { "Update" }, "apiVersion": manager.api_version,
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        });
        let optional = [("manager", Some(manager.name)), ("time", time), ("subresource", Some(manager.subresource))];
        if let Value::Object(entry) = &mut entry {
            for (name, text) in optional {
                if let Some(text) = text.filter(|text| !text.is_empty()) {
                    entry.insert(name.into(), text.into());
                }
            }
        }
        entry
    }

    /// What is owned. What was read from outside and cannot be understood is nothing.
    pub(crate) fn set(&self) -> Set {
        match &self.fields {
            Fields::Encoded(map) => Set::decode(map).unwrap_or_default(),
            Fields::Set(set) => set.clone(),
        }
    }

    /// Whether the entry could own any of `set`.
    pub(crate) fn may_own(&self, set: &Set) -> bool {
        match &self.fields {
            Fields::Encoded(map) => set.touches(map),
            Fields::Set(_) => true,
        }
    }

    pub(crate) fn keep(&mut self, set: Set) {
        self.fields = Fields::Set(set);
    }

    pub(crate) fn is_empty(&self) -> bool {
        match &self.fields {
            Fields::Encoded(map) => map.is_empty(),
            Fields::Set(set) => set.is_empty(),
        }
    }
}

/// The entries of an object.
pub(crate) fn of(object: &Value) -> Result<Vec<Entry>, String> {
    decode(object.look("metadata.managedFields").clone())
}

/// All entries of a list, or why they are not valid.
pub(crate) fn decode(list: Value) -> Result<Vec<Entry>, String> {
    let Value::Array(list) = list else { return Ok(Vec::new()) };
    let mut out: Vec<Entry> = Vec::with_capacity(list.len() + 1);
    for entry in list {
        let entry = Entry::decode(entry)?;
        if let Fields::Encoded(map) = &entry.fields
            && let Some(key) = map.keys().find(|key| *key != "." && key.as_bytes().get(1) != Some(&b':'))
        {
            return Err(format!("missing colon: {key}"));
        }
        out.retain(|other| !entry.manager.is(&other.manager));
        out.push(entry);
    }
    Ok(out)
}

/// A single empty entry asks for all to be forgotten.
pub(crate) fn resets(list: &Value) -> bool {
    matches!(list.as_array().map(Vec::as_slice), Some([Value::Object(entry)]) if entry.is_empty())
}

/// The list as it is stored; `None` without entries.
pub(crate) fn encode(mut entries: Vec<Entry>) -> Option<Value> {
    entries.retain(|entry| !entry.is_empty());
    let order = |e: &Entry| {
        let Manager { name, applies, api_version, subresource } = &e.manager;
        (!applies, e.time.clone(), name.clone(), api_version.clone(), subresource.clone())
    };
    entries.sort_by_cached_key(order);
    (!entries.is_empty()).then(|| entries.into_iter().map(Entry::encode).collect())
}

/// Merges the oldest updates of each version until there are few enough.
pub(crate) fn cap(entries: &mut Vec<Entry>) {
    if entries.iter().filter(|e| !e.manager.applies).count() <= MOST_UPDATERS {
        return;
    }
    let (mut rest, mut updaters): (Vec<Entry>, Vec<Entry>) =
        std::mem::take(entries).into_iter().partition(|e| e.manager.applies);
    updaters.sort_by(|a, b| a.time.cmp(&b.time).then_with(|| a.manager.cmp(&b.manager)));
    let mut left = updaters.len();
    // The first of a version makes a bucket only when a second comes.
    let mut kept: Vec<Entry> = Vec::new();
    for entry in updaters {
        let bucket = Manager {
            name: ANCIENT.into(),
            applies: false,
            api_version: entry.manager.api_version.clone(),
            subresource: String::new(),
        };
        match kept.iter_mut().find(|first| first.manager.api_version == entry.manager.api_version) {
            Some(first) if left > MOST_UPDATERS => {
                let set = first.set().union(&entry.set());
                *first = Entry::new(bucket, entry.time, set);
                left -= 1;
            }
            Some(_) | None => kept.push(entry),
        }
    }
    rest.append(&mut kept);
    *entries = rest;
}

/// Whether two objects' entries differ in nothing but their times.
pub(crate) fn same_but_for_times(a: &Value, b: &Value) -> bool {
    let (a, b) = (a.items("metadata.managedFields"), b.items("metadata.managedFields"));
    let parts = |entry: &Value| {
        ["manager", "operation", "apiVersion", "subresource", "fieldsV1"].map(|name| entry.get(name).cloned())
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || parts(a) == parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, second: usize, field: &'static str) -> Entry {
        let manager =
            Manager { name: name.into(), applies: false, api_version: "v1".into(), subresource: String::new() };
        Entry::new(manager, Some(format!("2026-01-01T00:00:{second:02}Z")), Set::of_fields(&[field]))
    }

    #[test]
    fn entries_are_sorted_and_invalid_ones_refused() {
        let mut applied = entry("z", 9, "a");
        applied.manager.applies = true;
        let list =
            encode(vec![entry("b", 2, "b"), entry("a", 3, "c"), applied, entry("gone", 1, "x").tap_empty()]).unwrap();
        let names: Vec<_> = list.as_array().unwrap().iter().map(|e| e["manager"].clone()).collect();
        assert_eq!(names, ["z", "b", "a"]);
        assert_eq!(encode(decode(list.clone()).unwrap()), Some(list));
        for wrong in [
            json!({"manager": "x", "operation": "Nope", "apiVersion": "v1", "fieldsType": "FieldsV1"}),
            json!({"operation": "Update", "fieldsType": "FieldsV1"}),
            json!({"operation": "Update", "apiVersion": "v1"}),
            json!({"operation": "Update", "apiVersion": "v1", "fieldsType": "Nope"}),
            json!({"operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"spec": {}}}),
        ] {
            assert!(decode(json!([wrong])).is_err(), "{wrong}");
        }
        assert!(resets(&json!([{}])));
    }

    impl Entry {
        fn tap_empty(mut self) -> Self {
            self.keep(Set::default());
            self
        }
    }

    #[test]
    fn the_oldest_updates_are_merged_beyond_ten() {
        const FIELDS: [&str; 13] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"];
        let mut entries: Vec<_> =
            FIELDS.iter().enumerate().map(|(n, field)| entry(&format!("m{n:02}"), n, field)).collect();
        cap(&mut entries);
        let list = encode(entries).unwrap();
        assert_eq!(list.as_array().unwrap().len(), MOST_UPDATERS);
        assert_eq!(
            list[0],
            json!({"manager": "ancient-changes", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:03Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}, "f:b": {}, "f:c": {}, "f:d": {}}})
        );
        assert_eq!(list[1]["manager"], "m04");
    }
}
