//! Objects as upstream's internal types look where an error shows one: every field by its Go name, in the order of its declaration,
//! whether it is set or not.

use serde_json::Value;

use crate::errors::quote;
use crate::value::Look as _;

/// A field's Go name, its path in the JSON of the API, and what it holds.
pub(crate) type Field = (&'static str, &'static str, Go);

pub(crate) enum Go {
    /// Shown as it is; the text if it is absent: `null`, `""`, `0`, `false`.
    Plain(&'static str),
    Struct(&'static [Field]),
    Pointer(&'static [Field]),
    List(&'static [Field]),
}

/// The value's JSON as Go's encoder writes a type of these fields.
pub(crate) fn show(value: &Value, fields: &'static [Field]) -> String {
    object(shown(value, fields))
}

/// Its fields, each with its JSON.
pub(crate) fn shown(value: &Value, fields: &'static [Field]) -> impl Iterator<Item = (&'static str, String)> {
    fields.iter().map(|(name, path, go)| (*name, field(value.look(path), go)))
}

pub(crate) fn object(fields: impl Iterator<Item = (&'static str, String)>) -> String {
    let fields = fields.map(|(name, json)| format!("{}:{json}", quote(name)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn field(value: &Value, go: &Go) -> String {
    match go {
        Go::Plain(absent) if value.is_null() => (*absent).to_owned(),
        Go::Plain(_) => value.to_string(),
        Go::Struct(fields) => show(value, fields),
        Go::Pointer(_) | Go::List(_) if value.is_null() => "null".to_owned(),
        Go::Pointer(fields) => show(value, fields),
        Go::List(fields) => {
            let items = value.as_array().into_iter().flatten().map(|item| show(item, fields));
            format!("[{}]", items.collect::<Vec<_>>().join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_absent_is_shown_all_the_same() {
        const INNER: &[Field] = &[("Path", "path", Go::Plain("\"\""))];
        const OUTER: &[Field] = &[
            ("B", "b", Go::Plain("0")),
            ("A", "a", Go::Struct(INNER)),
            ("P", "p", Go::Pointer(INNER)),
            ("L", "l", Go::List(INNER)),
        ];
        assert_eq!(show(&json!({}), OUTER), r#"{"B":0,"A":{"Path":""},"P":null,"L":null}"#);
        assert_eq!(
            show(&json!({"b": 1, "p": {"path": "x"}, "l": [{}]}), OUTER),
            r#"{"B":1,"A":{"Path":""},"P":{"Path":"x"},"L":[{"Path":""}]}"#
        );
    }
}
