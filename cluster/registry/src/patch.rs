//! Patches: what a client wants changed, applied to what is there. Pure functions over JSON.

pub(crate) mod json;
mod strategic;

pub(crate) use strategic::go_value;

use kedge_api::{PatchType, Reason, Resource, Status, schema};
use serde_json::{Map, Value};

use crate::errors::{Errors, Path};

/// `current` with `patch` applied.
pub(crate) fn patch(kind: PatchType, resource: &Resource, current: &Value, patch: &Value) -> Result<Value, Status> {
    match kind {
        PatchType::Json => json::apply(current.clone(), patch),
        PatchType::Merge => {
            object(patch)?;
            let mut patched = current.clone();
            merge(&mut patched, patch);
            Ok(patched)
        }
        PatchType::Strategic => {
            let t = schema::get(&resource.schema);
            // Nothing at all is a patch that changes nothing.
            let nothing = Map::new();
            let changes = if patch.is_null() { &nothing } else { object(patch)? };
            strategic::apply(t, current, changes).map_err(|e| match e {
                strategic::Error::Refused(why) => refused(patch, &why),
                strategic::Error::Malformed(why) => Status::new(Reason::Unknown, why),
                strategic::Error::Bad(why) => Status::bad_request(why),
            })
        }
        // It needs to know who owns what: `apply::Author` does it.
        PatchType::Apply => Err(crate::no_method()),
    }
}

/// A patch whose result is no object of the kind.
pub(crate) fn refused(patch: &Value, why: &str) -> Status {
    let mut errors = Errors::default();
    errors.invalid(&Path::root("patch"), strategic::go_value(patch), why);
    match errors.into_result("", "", "") {
        Err(status) => status,
        Ok(()) => Status::bad_request(why),
    }
}

fn object(patch: &Value) -> Result<&Map<String, Value>, Status> {
    let found = match patch {
        Value::Object(map) => return Ok(map),
        Value::Null => return Err(Status::bad_request("Invalid JSON Patch")),
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
    };
    let what =
        format!("error decoding patch: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
    Err(Status::bad_request(what))
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            map.remove(name);
        } else {
            merge(map.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// The example of RFC 7396's appendix, as far as it concerns objects.
    #[test]
    fn merge_follows_the_rfc() {
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut found = target.clone();
            merge(&mut found, &patch);
            assert_eq!(found, result, "{target} + {patch}");
        }
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!(1)), Just(json!("x")), Just(json!(null)), Just(json!([1, {"a": 2}]))];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect()))
        })
    }

    proptest! {
        /// Applying a merge patch twice is applying it once; an empty one changes nothing.
        #[test]
        fn merging_is_idempotent(target in tree(), patch in tree()) {
            let mut once = target.clone();
            merge(&mut once, &patch);
            let mut twice = once.clone();
            merge(&mut twice, &patch);
            prop_assert_eq!(&once, &twice);
            if target.is_object() {
                let mut same = target.clone();
                merge(&mut same, &json!({}));
                prop_assert_eq!(same, target);
            }
        }
    }
}
