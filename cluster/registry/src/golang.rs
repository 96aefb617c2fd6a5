//! Objects as upstream's internal types look where an error shows one: every field by its Go name, in the order of its declaration,
//! whether it is set or not.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;
use serde_json::ser::PrettyFormatter;

use crate::diff;
use crate::value::Look as _;

/// A field's Go name, its path in the JSON of the API (empty: the value that the field's own owner is), and what it holds.
pub(crate) type Field = (&'static str, &'static str, Go);

pub(crate) enum Go {
    /// Shown as it is; the JSON of what is shown where it is absent: `null`, `""`, `0`, `false`.
    Plain(&'static str),
    Struct(&'static [Field]),
    Pointer(&'static [Field]),
    List(&'static [Field]),
}

/// The value's JSON as Go's encoder writes a type of these fields.
pub(crate) fn show(value: &Value, fields: &'static [Field]) -> String {
    escaped(serde_json::to_string(&Shown { value, fields }).unwrap_or_default())
}

/// What is different between two values of a type, as upstream shows it: the lines around it, before and after.
pub(crate) fn difference(old: &Value, new: &Value, fields: &'static [Field]) -> String {
    let [old, new] = [old, new].map(|value| pretty(&Shown { value, fields }));
    diff::unified(&old, &new)
}

/// What Go's encoder does to text that could be taken for HTML. Such characters stand only within strings.
pub(crate) fn escaped(json: String) -> String {
    if !json.contains(['<', '>', '&']) {
        return json;
    }
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn pretty(shown: &Shown<'_>) -> String {
    let mut out = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b" "));
    match shown.serialize(&mut writer) {
        Ok(()) => escaped(String::from_utf8(out).unwrap_or_default()),
        Err(_) => String::new(),
    }
}

struct Shown<'a> {
    value: &'a Value,
    fields: &'static [Field],
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.fields.len()))?;
        for (name, path, go) in self.fields {
            let value = if path.is_empty() { self.value } else { self.value.look(path) };
            map.serialize_entry(name, &One { value, go })?;
        }
        map.end()
    }
}

struct One<'a> {
    value: &'a Value,
    go: &'static Go,
}

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { value, go } = *self;
        match go {
            Go::Plain(absent) if value.is_null() => {
                serde_json::from_str::<Value>(absent).unwrap_or_default().serialize(to)
            }
            Go::Plain(_) => value.serialize(to),
            Go::Struct(fields) => Shown { value, fields }.serialize(to),
            Go::Pointer(_) | Go::List(_) if value.is_null() => to.serialize_unit(),
            Go::Pointer(fields) => Shown { value, fields }.serialize(to),
            Go::List(fields) => {
                to.collect_seq(value.as_array().into_iter().flatten().map(|value| Shown { value, fields }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const INNER: &[Field] = &[("Path", "path", Go::Plain("\"\""))];
    const OUTER: &[Field] = &[
        ("B", "b", Go::Plain("0")),
        ("A", "a", Go::Struct(INNER)),
        ("P", "p", Go::Pointer(INNER)),
        ("L", "l", Go::List(INNER)),
        ("Same", "", Go::Struct(&[("B", "b", Go::Plain("0"))])),
    ];

    #[test]
    fn what_is_absent_is_shown_all_the_same() {
        assert_eq!(show(&json!({}), OUTER), r#"{"B":0,"A":{"Path":""},"P":null,"L":null,"Same":{"B":0}}"#);
        assert_eq!(
            show(&json!({"b": 1, "p": {"path": "<x>"}, "l": [{}]}), OUTER),
            r#"{"B":1,"A":{"Path":""},"P":{"Path":"\u003cx\u003e"},"L":[{"Path":""}],"Same":{"B":1}}"#
        );
    }

    #[test]
    fn a_difference_is_shown_by_its_lines() {
        assert_eq!(
            difference(&json!({}), &json!({"a": {"path": "x"}}), OUTER),
            "@@ -1,7 +1,7 @@\n {\n  \"B\": 0,\n  \"A\": {\n-  \"Path\": \"\"\n+  \"Path\": \"x\"\n  },\n  \"P\": null,\n  \"L\": null,\n"
        );
    }
}
