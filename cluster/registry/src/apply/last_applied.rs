//! From client-side to server-side apply: `kubectl` takes over what its older way has noted in an annotation, and keeps the note true as long
//! as it is there.

use serde_json::Value;

use super::check::check;
use super::compare::{compare, fields};
use super::place::Place;
use super::set::Set;

/// The only manager that this is done for; who does not want it takes another name.
pub(super) const KUBECTL: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// All annotations together.
const MOST: usize = 256 << 10;

fn annotations(object: &Value) -> Option<&serde_json::Map<String, Value>> {
    object.get("metadata")?.get("annotations")?.as_object()
}

fn noted(object: &Value) -> Option<&str> {
    annotations(object)?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// The fields that client-side apply set and that are still as it set them: these may be taken over.
pub(super) fn allowed(root: Place<'_>, live: &Value, api_version: &str) -> Option<Set> {
    let last: Value = serde_json::from_str(noted(live)?).ok()?;
    if last.get("apiVersion").and_then(Value::as_str) != Some(api_version) || check(root, &last).is_err() {
        return None;
    }
    let diff = compare(root, &last, live);
    Some(fields(root, &last).difference(&diff.modified).difference(&diff.added).difference(&diff.removed))
}

/// Writes what is applied into the annotation, if there is one.
pub(super) fn renew(object: &mut Value, config: &Value) {
    if noted(object).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(Value::Object(map)) = config.pointer_mut("/metadata/annotations") {
        map.remove(ANNOTATION);
    }
    let text = format!("{config}\n");
    let Some(Value::Object(map)) = object.pointer_mut("/metadata/annotations") else { return };
    let others = map.iter().filter(|(name, _)| *name != ANNOTATION);
    let size: usize = others.map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum();
    if size + ANNOTATION.len() + text.len() > MOST {
        map.remove(ANNOTATION);
    } else {
        map.insert(ANNOTATION.into(), text.into());
    }
}
