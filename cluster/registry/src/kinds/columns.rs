//! Cells that many kinds print.

use kedge_api::resource::Column;
use serde_json::Value;

pub(crate) use crate::age::{duration, since};
use crate::value::Look as _;

pub(crate) const fn text(name: &'static str, cell: fn(&Value) -> Value) -> Column {
    Column { name, r#type: "string", format: "", priority: 0, cell }
}

pub(crate) const fn number(name: &'static str, cell: fn(&Value) -> Value) -> Column {
    Column { name, r#type: "integer", format: "", priority: 0, cell }
}

pub(crate) const fn boolean(name: &'static str, cell: fn(&Value) -> Value) -> Column {
    Column { name, r#type: "boolean", format: "", priority: 0, cell }
}

/// A column of its own for the name, where it is not simply that or does not stand first.
pub(crate) const fn name(cell: fn(&Value) -> Value) -> Column {
    Column { name: "Name", r#type: "string", format: "name", priority: 0, cell }
}

pub(crate) const fn wide(name: &'static str, cell: fn(&Value) -> Value) -> Column {
    Column { name, r#type: "string", format: "", priority: 1, cell }
}

/// Of kinds that upstream prints no more of.
pub(crate) const CREATED: &[Column] = &[Column {
    name: "Created At",
    r#type: "date",
    format: "",
    priority: 0,
    cell: |o| o.text("metadata.creationTimestamp").into(),
}];
pub(crate) const AGE: Column = text("Age", |o| since(o.text("metadata.creationTimestamp")).into());
/// Of a workload's pod template.
pub(crate) const CONTAINERS: Column = wide("Containers", |o| containers(o.look("spec.template"), "name"));
pub(crate) const IMAGES: Column = wide("Images", |o| containers(o.look("spec.template"), "image"));
pub(crate) const SELECTOR: Column = wide("Selector", |o| label_selector(o.look("spec.selector")).into());

/// One field of all containers of a template.
pub(crate) fn containers(template: &Value, field: &str) -> Value {
    let items = template.items("spec.containers").iter();
    items.map(|c| c.text(field)).collect::<Vec<_>>().join(",").into()
}

pub(crate) fn count(object: &Value, path: &str) -> i64 {
    object.int(path).unwrap_or(0)
}

pub(crate) fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// `a=b,c=d`, or `<none>`.
pub(crate) fn labels(map: &Value) -> String {
    let pairs = map.as_object().into_iter().flatten();
    or_none(&pairs.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect::<Vec<_>>().join(","))
}

/// A LabelSelector in the form that `-l` takes.
pub(crate) fn label_selector(selector: &Value) -> String {
    let mut terms: Vec<(String, String)> = selector
        .entries("matchLabels")
        .map(|(k, v)| (k.clone(), format!("{k}={}", v.as_str().unwrap_or_default())))
        .collect();
    for expression in selector.items("matchExpressions") {
        let key = expression.text("key");
        let mut values: Vec<_> = expression.items("values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match expression.text("operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort_by(|a, b| a.0.cmp(&b.0));
    or_none(&terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_are_written_as_they_are_typed() {
        let selector = json!({"matchLabels": {"b": "1"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "DoesNotExist"}]});
        assert_eq!(label_selector(&selector), "a in (x,y),b=1,!c");
        assert_eq!(label_selector(&json!(null)), "<none>");
    }
}
