//! One field out of an encoded object.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The text at a dotted path of an encoded object, without decoding the rest of it. Empty if there is none.
pub(crate) fn pick(json: &[u8], path: &str) -> String {
    let mut decoder = serde_json::Deserializer::from_slice(json);
    Pick(path).deserialize(&mut decoder).ok().flatten().map(text).unwrap_or_default()
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

struct Pick<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return serde::Deserialize::deserialize(decoder).map(Some);
        }
        decoder.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an object with {}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (name, rest) = self.0.split_once('.').unwrap_or((self.0, ""));
        let mut found = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == name {
                found = map.next_value_seed(Pick(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_picked_out_of_the_bytes() {
        let json =
            br#"{"metadata":{"name":"spec"},"spec":{"a":{"x":1},"nodeName":"n","unschedulable":true},"status":null}"#;
        assert_eq!(pick(json, "spec.nodeName"), "n");
        assert_eq!(pick(json, "spec.unschedulable"), "true");
        assert_eq!(pick(json, "spec.a.x"), "1");
        assert_eq!(pick(json, "spec.b"), "");
        assert_eq!(pick(json, "status.phase"), "");
        assert_eq!(pick(json, "spec.nodeName.more"), "");
    }
}
