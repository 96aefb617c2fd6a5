//! Printer columns of custom resources.

use kedge_api::resource::CustomColumn;
use serde_json::Value;

use super::json_path::JsonPath;
use crate::age::since;
use crate::value::Look as _;

const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be \
                       set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 \
                       form and is in UTC.";

/// Those that a version names; else the age alone.
pub(super) fn of(version: &Value) -> Vec<CustomColumn> {
    let named = version.items("additionalPrinterColumns");
    if named.is_empty() {
        return vec![column("Age", "date", "", CREATED, 0, ".metadata.creationTimestamp")];
    }
    named
        .iter()
        .map(|c| {
            let (name, kind, format) = (c.text("name"), c.text("type"), c.text("format"));
            let description = if c.has("description") {
                c.text("description").to_owned()
            } else {
                format!("Custom resource definition column (in JSONPath format): {}", c.text("jsonPath"))
            };
            column(name, kind, format, &description, c.int("priority").unwrap_or(0), c.text("jsonPath"))
        })
        .collect()
}

fn column(name: &str, kind: &str, format: &str, description: &str, priority: i64, path: &str) -> CustomColumn {
    let path = JsonPath::parse(path).ok();
    let wanted = kind.to_owned();
    CustomColumn {
        name: name.to_owned(),
        r#type: kind.to_owned(),
        format: format.to_owned(),
        description: description.to_owned(),
        priority,
        cell: Box::new(move |object| {
            let found = path.as_ref().and_then(|path| path.find(object).first().copied());
            found.map_or(Value::Null, |found| cell(&wanted, found))
        }),
    }
}

/// A value as a column of this type shows it; one of another type is not shown.
fn cell(kind: &str, found: &Value) -> Value {
    match (kind, found) {
        ("string", Value::String(text)) => text.as_str().into(),
        ("string", Value::Null) => Value::Null,
        ("string", other) => other.to_string().into(),
        ("integer", number) if number.is_i64() => number.clone(),
        ("integer", number) => number.as_f64().map_or(Value::Null, |n| (n.trunc() as i64).into()),
        ("number", number) if number.is_number() => number.clone(),
        ("boolean", Value::Bool(flag)) => (*flag).into(),
        ("date", Value::String(time)) => match since(time) {
            age if age == "<unknown>" && !time.is_empty() => "<invalid>".into(),
            age => age.into(),
        },
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_of_their_columns_type() {
        let object =
            json!({"spec": {"s": "x", "n": 3, "f": 1.5, "b": true, "l": [1, "a"], "t": "2001-01-01T00:00:00Z"}});
        let shown = |kind: &str, path: &str| (column("C", kind, "", "", 0, path).cell)(&object);
        assert_eq!(shown("string", ".spec.s"), "x");
        assert_eq!(shown("string", ".spec.n"), "3");
        assert_eq!(shown("string", ".spec.l"), "[1,\"a\"]");
        assert_eq!(shown("integer", ".spec.n"), 3);
        assert_eq!(shown("integer", ".spec.f"), 1);
        assert_eq!(shown("integer", ".spec.s"), Value::Null);
        assert_eq!(shown("number", ".spec.f"), 1.5);
        assert_eq!(shown("boolean", ".spec.b"), true);
        assert!(shown("date", ".spec.t").as_str().unwrap().ends_with('y'));
        assert_eq!(shown("date", ".spec.s"), "<invalid>");
        assert_eq!(shown("string", ".spec.none"), Value::Null);
    }
}
