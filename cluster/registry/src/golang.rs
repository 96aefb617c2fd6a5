//! Objects as upstream's internal types look where an error shows one: every field by its Go name, in the order of its declaration,
//! whether it is set or not.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;
use serde_json::ser::PrettyFormatter;

use crate::diff;
use crate::value::Look as _;

/// Read whenever an error shows an object, which is seldom: nothing is kept of it.
const TYPES: &str = include_str!("golang.txt");

pub(crate) struct Field {
    /// As Go calls it.
    pub(crate) name: &'static str,
    /// In the JSON of the API; empty: the value that the field's own owner is.
    pub(crate) path: String,
    pub(crate) shape: Shape,
}

#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// Shown as it is; the JSON of what is shown where it is absent.
    Plain(&'static str),
    Struct(&'static str),
    Pointer(&'static str),
    List(&'static str),
}

/// Of a type of the table, in the order of their declaration.
pub(crate) fn fields(of: &str) -> Vec<Field> {
    let lines = TYPES.lines().skip_while(|line| *line != of).skip(1);
    let mut fields = Vec::new();
    for line in lines.map_while(|line| line.strip_prefix(' ')) {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("="), Some(other), _) => fields.append(&mut self::fields(other)),
            (Some(name), Some(shape), path) => {
                let path = path.map_or_else(|| in_json(name), |path| path.trim_start_matches('.').to_owned());
                fields.push(Field { name, path, shape: Shape::of(shape) });
            }
            _ => {}
        }
    }
    fields
}

/// A Go name as the API has it: `HTTPGet` is `httpGet`.
fn in_json(name: &str) -> String {
    let capitals = name.bytes().take_while(u8::is_ascii_uppercase).count();
    let first = if capitals == name.len() { capitals } else { capitals.saturating_sub(1).max(1) };
    let lower = |(at, c): (usize, char)| if at < first { c.to_ascii_lowercase() } else { c };
    name.chars().enumerate().map(lower).collect()
}

impl Shape {
    fn of(word: &'static str) -> Self {
        match (word.strip_prefix('*'), word.strip_prefix("[]")) {
            (Some(name), _) => Self::Pointer(name),
            (_, Some(name)) => Self::List(name),
            _ if word.starts_with(|c: char| c.is_ascii_uppercase()) => Self::Struct(word),
            _ => Self::Plain(word),
        }
    }
}

/// The value's JSON as Go's encoder writes one of this type.
pub(crate) fn show(value: &Value, of: &str) -> String {
    escaped(serde_json::to_string(&Shown { value, of }).unwrap_or_default())
}

/// What is different between two values of a type, as upstream shows it: the lines around it, before and after.
pub(crate) fn difference(old: &Value, new: &Value, of: &str) -> String {
    let [old, new] = [old, new].map(|value| pretty(&Shown { value, of }));
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
    of: &'a str,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let fields = fields(self.of);
        let mut map = to.serialize_map(Some(fields.len()))?;
        for Field { name, path, shape } in fields {
            let value = if path.is_empty() { self.value } else { self.value.look(&path) };
            map.serialize_entry(name, &One { value, shape })?;
        }
        map.end()
    }
}

struct One<'a> {
    value: &'a Value,
    shape: Shape,
}

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { value, shape } = *self;
        match shape {
            Shape::Plain(absent) if value.is_null() => {
                serde_json::from_str::<Value>(absent).unwrap_or_default().serialize(to)
            }
            Shape::Plain(_) => value.serialize(to),
            Shape::Struct(of) => Shown { value, of }.serialize(to),
            Shape::Pointer(_) | Shape::List(_) if value.is_null() => to.serialize_unit(),
            Shape::Pointer(of) => Shown { value, of }.serialize(to),
            Shape::List(of) => to.collect_seq(value.as_array().into_iter().flatten().map(|value| Shown { value, of })),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use serde_json::json;

    #[test]
    fn every_type_stands_once_and_every_shape_is_one() {
        let lines = || TYPES.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let names: Vec<&str> = lines().filter(|line| !line.starts_with(' ')).collect();
        let known: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(known.len(), names.len());
        for line in lines().filter(|line| line.starts_with(' ')) {
            assert!((2..=3).contains(&line.split_whitespace().count()), "{line}");
        }
        for field in names.iter().flat_map(|name| fields(name)) {
            match field.shape {
                Shape::Plain(_) => {}
                Shape::Struct(of) | Shape::Pointer(of) | Shape::List(of) => assert!(known.contains(of), "{of}"),
            }
        }
    }

    #[test]
    fn the_first_word_of_a_name_is_in_lower_case() {
        for (go, api) in [
            ("Name", "name"),
            ("HostIP", "hostIP"),
            ("HTTPGet", "httpGet"),
            ("TTY", "tty"),
            ("SELinuxOptions", "seLinuxOptions"),
        ] {
            assert_eq!(in_json(go), api);
        }
    }

    #[test]
    fn what_is_absent_is_shown_all_the_same() {
        assert_eq!(
            show(&json!({}), "VolumeAttachmentSpec"),
            r#"{"Attacher":"","Source":{"PersistentVolumeName":null,"InlineVolumeSpec":null},"NodeName":""}"#
        );
        assert_eq!(
            show(&json!({"type": "<x>", "rollingUpdate": {"partition": 1}}), "StatefulSetUpdateStrategy"),
            r#"{"Type":"\u003cx\u003e","RollingUpdate":{"Partition":1,"MaxUnavailable":null}}"#
        );
        let spec = json!({"hostPID": true, "containers": [], "ephemeralContainers": [{"tty": true, "targetContainerName": "c"}]});
        let shown: Value = serde_json::from_str(&show(&spec, "PodSpec")).unwrap();
        assert_eq!(shown["SecurityContext"]["HostPID"], true);
        assert_eq!((&shown["Containers"], &shown["InitContainers"]), (&json!([]), &Value::Null));
        assert_eq!(shown["EphemeralContainers"][0]["TargetContainerName"], "c");
        assert_eq!(shown["EphemeralContainers"][0]["TTY"], true);
    }

    #[test]
    fn a_difference_is_shown_by_its_lines() {
        assert_eq!(
            difference(&json!({}), &json!({"topologyKeys": ["x"]}), "CSINodeDriver"),
            "@@ -1,6 +1,8 @@\n {\n  \"Name\": \"\",\n  \"NodeID\": \"\",\n- \"TopologyKeys\": null,\n+ \"TopologyKeys\": [\n+  \"x\"\n+ ],\n  \"Allocatable\": null\n }\n"
        );
    }
}
