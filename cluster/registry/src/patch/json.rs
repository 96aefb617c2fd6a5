//! JSON Patch: RFC 6902, with the two liberties that upstream's implementation takes: an index may count from the end (`-1` is the last),
//! and `replace` of a missing member adds it.

use kedge_api::status::Details;
use kedge_api::{Reason, Status};
use serde_json::Value;

/// As many operations as upstream takes.
const MOST: usize = 10_000;

pub(crate) fn apply(mut document: Value, patch: &Value) -> Result<Value, Status> {
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
    for operation in operations {
        step(&mut document, operation).ok_or_else(rejected)?;
    }
    Ok(document)
}

fn rejected() -> Status {
    let details = Some(Box::new(Details::default()));
    Status { details, ..Status::new(Reason::Invalid, "the server rejected our request due to an error in our request") }
}

/// `None`: the operation is malformed or does not fit the document.
fn step(document: &mut Value, operation: &Value) -> Option<()> {
    let text = |name| operation.get(name).and_then(Value::as_str);
    let path = pointer(text("path")?)?;
    let value = || operation.get("value").cloned().unwrap_or_default();
    match text("op")? {
        "add" => add(document, &path, value()),
        "remove" => remove(document, &path).map(drop),
        "replace" => replace(document, &path, value()),
        "move" => {
            let moved = remove(document, &pointer(text("from")?)?)?;
            add(document, &path, moved)
        }
        "copy" => {
            let copied = find(document, &pointer(text("from")?)?)?.clone();
            add(document, &path, copied)
        }
        "test" => {
            let found = find(document, &path).cloned().unwrap_or_default();
            (found == value()).then_some(())
        }
        _ => None,
    }
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

fn add(document: &mut Value, path: &[String], value: Value) -> Option<()> {
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
}
