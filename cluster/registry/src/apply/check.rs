//! Whether what is applied has its type's form, in upstream's words, which show values as Go prints them.

use serde_json::Value;

use super::place::{Form, Place, Scalar};
use crate::patch::go_value;

/// All that is wrong with an applied object, one line each; `Ok` if nothing is.
pub(crate) fn check(root: Place<'_>, value: &Value) -> Result<(), String> {
    let mut errors = Vec::new();
    place(root, value, "", &mut errors);
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn place(at: Place<'_>, value: &Value, path: &str, errors: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    let mut wrong = |what: String| errors.push(if path.is_empty() { what } else { format!("{path}: {what}") });
    let form = at.form(Some(value));
    match (form, value) {
        (Form::Scalar(scalar), _) => {
            if let Err(what) = fits(scalar, value) {
                wrong(what);
            }
        }
        (Form::Struct(_) | Form::AtomicStruct(_) | Form::Map(_) | Form::AtomicMap(_), Value::Object(members)) => {
            for (name, value) in members {
                let path = format!("{path}.{name}");
                match form.member(name) {
                    Some(below) => place(below, value, &path, errors),
                    // Upstream looks no further into this object.
                    None => return errors.push(format!("{path}: field not declared in schema")),
                }
            }
        }
        (Form::Struct(_) | Form::AtomicStruct(_) | Form::Map(_) | Form::AtomicMap(_), _) => {
            wrong(format!("expected map, got &{{{}}}", go_value(value)));
        }
        (Form::AtomicList(item), Value::Array(items)) => {
            for (nth, value) in items.iter().enumerate() {
                place(item, value, &format!("{path}[{nth}]"), errors);
            }
        }
        (Form::Keyed(item, _) | Form::Set(item), Value::Array(items)) => {
            let mut seen = Vec::new();
            for (nth, value) in items.iter().enumerate() {
                let element = match form.element(value) {
                    Ok(element) => element,
                    Err(what) => return errors.push(format!("{path}: element {nth}: {what}")),
                };
                if seen.contains(&element) {
                    errors.push(format!("{path}: duplicate entries for key {element}"));
                }
                place(item, value, &format!("{path}{element}"), errors);
                seen.push(element);
            }
        }
        (Form::AtomicList(_) | Form::Keyed(..) | Form::Set(_), _) => {
            wrong(format!("expected list, got &{{{}}}", go_value(value)));
        }
        (Form::Opaque, _) => {}
    }
}

/// Paths of all that has one owner as a whole.
pub(crate) fn atomics(root: Place<'_>, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    whole(root, value, "", &mut found);
    found
}

fn whole(at: Place<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    match (at.form(Some(value)), value) {
        (form @ (Form::Struct(_) | Form::AtomicStruct(_) | Form::AtomicMap(_)), Value::Object(members)) => {
            if !matches!(form, Form::Struct(_)) {
                found.push(path.to_owned());
            }
            // Of a map's members upstream looks at none.
            let fields = members.iter().filter(|_| !matches!(form, Form::AtomicMap(_)));
            fields.for_each(|(name, value)| {
                form.member(name).into_iter().for_each(|below| whole(below, value, &format!("{path}.{name}"), found));
            });
        }
        (form @ (Form::AtomicList(item) | Form::Keyed(item, _) | Form::Set(item)), Value::Array(items)) => {
            if matches!(form, Form::AtomicList(_)) {
                found.push(path.to_owned());
            }
            for (nth, value) in items.iter().enumerate() {
                whole(item, value, &format!("{path}[{nth}]"), found);
            }
        }
        _ => {}
    }
}

fn fits(scalar: Scalar, value: &Value) -> Result<(), String> {
    match (scalar, value) {
        (Scalar::Number, Value::Number(_))
        | (Scalar::Text, Value::String(_))
        | (Scalar::Flag, Value::Bool(_))
        | (Scalar::Any, Value::Number(_) | Value::String(_) | Value::Bool(_)) => Ok(()),
        (Scalar::Number, _) => Err(format!("expected numeric (int or float), got {}", go_type(value))),
        (Scalar::Text, _) => {
            Err(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(value)))
        }
        (Scalar::Flag, _) => Err(format!("expected boolean, got &{{{}}}", go_value(value))),
        (Scalar::Any, _) => Err(format!("expected any scalar, got &{{{}}}", go_value(value))),
    }
}

/// Go's `%T`.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Go's `%#v`.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => crate::errors::quote(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("{}:{}", crate::errors::quote(name), go_syntax(value)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", members.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(kind: &str, value: Value) -> String {
        check(Place::root(kedge_api::schema::get(kind).unwrap()), &value).unwrap_err()
    }

    #[test]
    fn what_merges_as_a_whole_is_found() {
        let root = Place::root(kedge_api::schema::get("io.k8s.api.apps.v1.Deployment").unwrap());
        let config = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1, "selector": {"matchLabels": {"l": "v"}},
            "template": {"spec": {"containers": [{"name": "c", "args": ["x"], "resources": {"limits": {"cpu": "1"}}}]}}}});
        assert_eq!(atomics(root, &config), [".spec.selector", ".spec.template.spec.containers[0].args"]);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        const MAP: &str = "io.k8s.api.core.v1.ConfigMap";
        const POD: &str = "io.k8s.api.core.v1.Pod";
        assert_eq!(
            wrong(MAP, json!({"data": {"k": 1}})),
            ".data.k: expected string, got &value.valueUnstructured{Value:1}"
        );
        assert_eq!(wrong(MAP, json!({"data": ["x"]})), ".data: expected map, got &{[x]}");
        assert_eq!(wrong(MAP, json!({"nope": 1})), ".nope: field not declared in schema");
        assert_eq!(
            wrong(MAP, json!({"metadata": {"finalizers": ["b", "b"]}})),
            ".metadata.finalizers: duplicate entries for key [=\"b\"]"
        );
        assert_eq!(
            wrong(POD, json!({"spec": {"containers": [{"image": "x"}, {"name": "a", "tty": "y"}], "hostPID": 3}})),
            "errors:\n  .spec.containers[name=\"a\"].tty: expected boolean, got &{y}\n  .spec.hostPID: expected boolean, got &{3}"
        );
        assert_eq!(
            wrong(POD, json!({"spec": {"containers": [null]}})),
            ".spec.containers: element 0: associative list with keys may not have a null element"
        );
        let fine = json!({"metadata": {"labels": null}, "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": 1}}}]}});
        assert_eq!(check(Place::root(kedge_api::schema::get(POD).unwrap()), &fine), Ok(()));
    }
}
