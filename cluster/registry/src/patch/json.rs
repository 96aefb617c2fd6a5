//! JSON Patch: RFC 6902, with the two liberties that upstream's implementation takes: an index may count from the end (`-1` is the last),
//! and `replace` of a missing member adds it.
//!
//! A patch is small and what it makes need not be: copies double, and paths nest. Both are bounded.

use kedge_api::status::Details;
use kedge_api::{Reason, Status};
use serde_json::Value;

use crate::value::{DEEPEST, is_deeper};

/// As many operations as upstream takes.
const MOST: usize = 10_000;
/// What all copies of one patch may come to, in bytes of JSON, as upstream.
const COPIED: usize = 3 << 20;

pub(crate) fn apply(document: Value, patch: &Value) -> Result<Value, Status> {
    apply_if(document, patch)?.ok_or_else(rejected)
}

/// `None` if one of the patch's tests does not hold.
pub(crate) fn apply_if(mut document: Value, patch: &Value) -> Result<Option<Value>, Status> {
    let Value::Array(operations) = patch else {
        let found = if patch.is_object() { "object" } else { "value" };
        let what = format!(
            "error decoding patch: json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
        );
        return Err(Status::bad_request(what));
    };
    if operations.len() > MOST {
        let what = format!("The allowed maximum operations in a JSON patch is {MOST}, got {}", operations.len());
        return Err(Status::new(Reason::RequestEntityTooLarge, what));
    }
    let mut copied = 0;
    for operation in operations {
        if !step(&mut document, operation, &mut copied).ok_or_else(rejected)? {
            return Ok(None);
        }
    }
    Ok(Some(document))
}

fn rejected() -> Status {
    let details = Some(Box::new(Details::default()));
    Status { details, ..Status::new(Reason::Invalid, "the server rejected our request due to an error in our request") }
}

/// `None`: the operation is malformed or does not fit the document. False: it is a test that does not hold.
fn step(document: &mut Value, operation: &Value, copied: &mut usize) -> Option<bool> {
    let text = |name| operation.get(name).and_then(Value::as_str);
    let path = pointer(text("path")?)?;
    let value = || operation.get("value").cloned().unwrap_or_default();
    match text("op")? {
        "add" => add(document, &path, value())?,
        "remove" => drop(remove(document, &path)?),
        "replace" => replace(document, &path, value())?,
        "move" => {
            let moved = remove(document, &pointer(text("from")?)?)?;
            add(document, &path, moved)?;
        }
        "copy" => {
            let found = find(document, &pointer(text("from")?)?)?;
            *copied += found.to_string().len();
            let copy = (*copied <= COPIED).then(|| found.clone())?;
            add(document, &path, copy)?;
        }
        "test" => {
            let found = find(document, &path).unwrap_or(&Value::Null);
            return Some(found == operation.get("value").unwrap_or(&Value::Null));
        }
        _ => return None,
    }
    Some(true)
}

fn pointer(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let rest = text.strip_prefix('/')?;
    Some(rest.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
}

/// A position in a list of `len`; `end` allows the one after the last.
fn index(text: &str, len: usize, end: bool) -> Option<usize> {
    if text == "-" {
        return end.then_some(len);
    }
    let number: i64 = text.parse().ok()?;
    let at = if number < 0 { i64::try_from(len).ok()? + number + i64::from(end) } else { number };
    usize::try_from(at).ok().filter(|at| *at < len || (end && *at == len))
}

fn find<'a>(document: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(document, |value, name| match value {
        Value::Object(map) => map.get(name),
        Value::Array(items) => items.get(index(name, items.len(), false)?),
        _ => None,
    })
}

fn find_mut<'a>(document: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(document, |value, name| match value {
        Value::Object(map) => map.get_mut(name),
        Value::Array(items) => {
            let at = index(name, items.len(), false)?;
            items.get_mut(at)
        }
        _ => None,
    })
}

/// Whether the value may stand at the path.
fn fits(path: &[String], value: &Value) -> bool {
    DEEPEST.checked_sub(path.len()).is_some_and(|left| !is_deeper(value, left))
}

fn add(document: &mut Value, path: &[String], value: Value) -> Option<()> {
    if !fits(path, &value) {
        return None;
    }
    let Some((last, parents)) = path.split_last() else {
        *document = value;
        return Some(());
    };
    match find_mut(document, parents)? {
        Value::Object(map) => {
            map.insert(last.clone(), value);
        }
        Value::Array(items) => {
            let at = index(last, items.len(), true)?;
            items.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn replace(document: &mut Value, path: &[String], value: Value) -> Option<()> {
    if !fits(path, &value) {
        return None;
    }
    let Some((last, parents)) = path.split_last() else {
        *document = value;
        return Some(());
    };
    match find_mut(document, parents)? {
        Value::Object(map) => {
            map.insert(last.clone(), value);
        }
        Value::Array(items) => {
            let at = index(last, items.len(), false)?;
            *items.get_mut(at)? = value;
        }
        _ => return None,
    }
    Some(())
}

fn remove(document: &mut Value, path: &[String]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    match find_mut(document, parents)? {
        Value::Object(map) => map.remove(last),
        Value::Array(items) => {
            let at = index(last, items.len(), false)?;
            Some(items.remove(at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn run(document: Value, patch: Value) -> Option<Value> {
        apply(document, &patch).ok()
    }

    #[test]
    fn every_operation_does_what_it_says() {
        let document = json!({"a": {"x": 1}, "l": [1, 2, 3], "e/f~g": 0});
        for (patch, result) in [
            (json!([{"op":"add","path":"/b","value":2}]), json!({"a":{"x":1},"l":[1,2,3],"e/f~g":0,"b":2})),
            (json!([{"op":"add","path":"/l/1","value":9}]), json!({"a":{"x":1},"l":[1,9,2,3],"e/f~g":0})),
            (json!([{"op":"add","path":"/l/-","value":9}]), json!({"a":{"x":1},"l":[1,2,3,9],"e/f~g":0})),
            (json!([{"op":"replace","path":"/l/-1","value":9}]), json!({"a":{"x":1},"l":[1,2,9],"e/f~g":0})),
            (json!([{"op":"replace","path":"/z","value":9}]), json!({"a":{"x":1},"l":[1,2,3],"e/f~g":0,"z":9})),
            (json!([{"op":"remove","path":"/e~1f~0g"}]), json!({"a":{"x":1},"l":[1,2,3]})),
            (json!([{"op":"move","from":"/a/x","path":"/y"}]), json!({"a":{},"l":[1,2,3],"e/f~g":0,"y":1})),
            (json!([{"op":"copy","from":"/l/0","path":"/a/c"}]), json!({"a":{"x":1,"c":1},"l":[1,2,3],"e/f~g":0})),
            (
                json!([{"op":"test","path":"/a/x","value":1},{"op":"remove","path":"/a"}]),
                json!({"l":[1,2,3],"e/f~g":0}),
            ),
            (json!([]), document.clone()),
        ] {
            assert_eq!(run(document.clone(), patch.clone()), Some(result), "{patch}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let document = json!({"a": {"x": 1}, "l": [1]});
        for patch in [
            json!([{"op":"remove","path":"/zz"}]),
            json!([{"op":"add","path":"/no/such","value":1}]),
            json!([{"op":"add","path":"a","value":1}]),
            json!([{"op":"add","path":"/l/9","value":1}]),
            json!([{"op":"replace","path":"/l/-2","value":1}]),
            json!([{"op":"test","path":"/a/x","value":2}]),
            json!([{"op":"nope","path":"/a"}]),
            json!([{"path":"/a"}]),
            json!([{"op":"move","from":"/no","path":"/a"}]),
            json!([{"op":"remove","path":""}]),
            json!({"op": "add"}),
        ] {
            assert_eq!(run(document.clone(), patch.clone()), None, "{patch}");
        }
    }

    #[test]
    fn copies_do_not_double_without_end() {
        let twice = |n: usize| json!({"op": "copy", "from": "", "path": if n.is_multiple_of(2) { "/a" } else { "/b" }});
        let copy = |times| Value::from((0..times).map(twice).collect::<Vec<_>>());
        assert!(run(json!({"k": "x".repeat(1000)}), copy(8)).is_some());
        assert!(run(json!({"k": "x".repeat(1000)}), copy(40)).is_none());
        let long = vec![json!({"op": "copy", "from": "/k", "path": "/l/-"}); 4000];
        assert!(run(json!({"k": "x".repeat(1000), "l": []}), long.into()).is_none());
    }

    #[test]
    fn nothing_is_nested_without_end() {
        let at = |depth| "/a".repeat(depth);
        let deepen = |op: &str, depth| json!({"op": op, "from": at(1), "path": at(depth), "value": {"a": {}}});
        let mut grown = json!({"a": {"a": {}}});
        for depth in 2..DEEPEST - 2 {
            grown = run(grown, json!([deepen("add", depth)])).unwrap();
        }
        for op in ["add", "replace"] {
            assert_eq!(run(grown.clone(), json!([deepen(op, DEEPEST - 1)])), None, "{op}");
        }
        assert_eq!(run(grown.clone(), json!([deepen("copy", DEEPEST - 2)])), None);
        let aside = json!({"op": "copy", "from": "/a", "path": "/b"});
        let under = json!({"op": "move", "from": "/b", "path": at(3)});
        assert!(run(grown.clone(), json!([aside])).is_some());
        assert_eq!(run(grown, json!([aside, under])), None);
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!(null)), (0..3).prop_map(Value::from), "[a-c~/é]{0,3}".prop_map(Value::from)];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c~/]{1,2}", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    /// Paths of everything in a document, and some of nothing.
    fn paths(document: &Value, at: &str, out: &mut Vec<String>) {
        out.push(at.to_owned());
        match document {
            Value::Object(map) => {
                for (name, value) in map {
                    paths(value, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), out);
                }
                out.push(format!("{at}/new"));
            }
            Value::Array(items) => {
                for (nth, value) in items.iter().enumerate() {
                    paths(value, &format!("{at}/{nth}"), out);
                }
                out.extend([format!("{at}/-"), format!("{at}/{}", items.len())]);
            }
            _ => out.push(format!("{at}/0")),
        }
    }

    fn operations() -> impl Strategy<Value = (Value, Value)> {
        let operation = (0usize..6, any::<prop::sample::Index>(), any::<prop::sample::Index>(), tree());
        (tree(), prop::collection::vec(operation, 0..6)).prop_map(|(document, wishes)| {
            let mut known = Vec::new();
            paths(&document, "", &mut known);
            let operation = |(op, path, from, value): (usize, prop::sample::Index, prop::sample::Index, Value)| {
                let (path, from) = (path.get(&known), from.get(&known));
                match ["add", "remove", "replace", "move", "copy", "test"][op] {
                    op @ "remove" => json!({"op": op, "path": path}),
                    op @ ("move" | "copy") => json!({"op": op, "path": path, "from": from}),
                    op => json!({"op": op, "path": path, "value": value}),
                }
            };
            let patch = wishes.into_iter().map(operation).collect::<Vec<_>>();
            (document, patch.into())
        })
    }

    proptest! {
        /// Where none of the liberties is taken, another implementation of the RFC says the same.
        #[test]
        fn another_implementation_agrees((document, patch) in operations()) {
            let parsed: json_patch::Patch = serde_json::from_value(patch.clone()).unwrap();
            let mut theirs = document.clone();
            let applied = json_patch::patch_unsafe(&mut theirs, &parsed).is_ok();
            let ours = run(document, patch.clone());
            if applied {
                prop_assert_eq!(ours, Some(theirs), "{}", patch);
            } else if let Some(ours) = ours {
                // What is moved is gone before its new place is looked for, which another may have by then.
                let inward = |op: &Value| {
                    let from = format!("{}/", op["from"].as_str().unwrap_or_default());
                    op["path"].as_str().is_some_and(|path| path.starts_with(&from))
                };
                let liberal = |op: &Value| match op["op"].as_str() {
                    Some("move") => inward(op),
                    Some(name) => name == "replace" || name == "test",
                    None => false,
                };
                prop_assert!(patch.as_array().unwrap().iter().any(liberal), "{} made {}", patch, ours);
            }
        }

        /// The difference of two documents, applied to the first, gives the second.
        #[test]
        fn a_difference_is_a_patch(before in tree(), after in tree()) {
            let patch = serde_json::to_value(json_patch::diff(&before, &after)).unwrap();
            prop_assert_eq!(run(before, patch), Some(after));
        }

        #[test]
        fn what_is_moved_is_as_if_removed_and_added((document, _) in operations(), from: prop::sample::Index, to: prop::sample::Index) {
            let mut known = Vec::new();
            paths(&document, "", &mut known);
            let (from, to) = (from.get(&known), to.get(&known));
            let found = document.pointer(from).cloned();
            let moved = run(document.clone(), json!([{"op": "move", "from": from, "path": to}]));
            let by_hand = found.and_then(|value| {
                run(document, json!([{"op": "remove", "path": from}, {"op": "add", "path": to, "value": value}]))
            });
            prop_assert_eq!(moved, by_hand);
        }
    }
}
