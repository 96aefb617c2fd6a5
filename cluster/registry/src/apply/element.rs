//! One step of a path into an object, as field sets name it: a field, a list's item by its keys or by its value, an index.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use crate::errors::quote;

pub(crate) type Name = Cow<'static, str>;

/// The order of the variants is the order of elements in a set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Element {
    /// A member of an object: `f:NAME`.
    Field(Name),
    /// The item of a list whose key fields have these values, sorted by name: `k:{"name":"c"}`.
    Key(Vec<(Name, Value)>),
    /// The item of a set that is this value: `v:"x"`.
    Item(Value),
    /// `i:0`
    Index(i64),
}

impl Element {
    /// Reads one; `Ok(None)` is of a sort that a later version may know.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, String> {
        let Some((sort, rest)) = text.split_once(':').filter(|(sort, _)| sort.len() == 1) else {
            return Err(format!("missing colon: {text}"));
        };
        let json = || serde_json::from_str::<Value>(rest).map_err(|e| e.to_string());
        Ok(Some(match sort {
            "f" => Self::Field(rest.to_owned().into()),
            "v" => Self::Item(json()?),
            "k" => {
                let Value::Object(keys) = json()? else { return Err(format!("not an object of keys: {rest}")) };
                // A JSON object's members come sorted.
                Self::Key(keys.into_iter().map(|(name, value)| (name.into(), value)).collect())
            }
            "i" => Self::Index(rest.parse().map_err(|_| format!("not an index: {rest}"))?),
            _ => return Ok(None),
        }))
    }

    /// As `fieldsV1` writes it.
    pub(crate) fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => {
                let keys: Vec<_> =
                    keys.iter().map(|(name, value)| format!("{}:{value}", Value::from(&**name))).collect();
                format!("k:{{{}}}", keys.join(","))
            }
            Self::Item(value) => format!("v:{value}"),
            Self::Index(at) => format!("i:{at}"),
        }
    }
}

/// As conflicts name it: `.spec`, `[name="c"]`, `[="x"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                let keys: Vec<_> = keys.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
                write!(f, "[{}]", keys.join(","))
            }
            Self::Item(value) => write!(f, "[={}]", shown(value)),
            Self::Index(at) => write!(f, "[{at}]"),
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        other => other.to_string(),
    }
}

impl Eq for Element {}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                let pairs = a.iter().zip(b).map(|((m, v), (n, w))| m.cmp(n).then_with(|| compare(v, w)));
                pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
            }
            (Self::Item(a), Self::Item(b)) => compare(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl Element {
    const fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Item(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

/// A total order of JSON values: numbers, texts, flags, lists, objects, null.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => x.as_f64().unwrap_or(f64::MAX).total_cmp(&y.as_f64().unwrap_or(f64::MAX)),
        },
        (Value::String(x), Value::String(y)) => x.cmp(y),
        (Value::Bool(x), Value::Bool(y)) => x.cmp(y),
        (Value::Array(x), Value::Array(y)) => {
            let pairs = x.iter().zip(y).map(|(v, w)| compare(v, w));
            pairs.fold(Ordering::Equal, Ordering::then).then(x.len().cmp(&y.len()))
        }
        (Value::Object(_), Value::Object(_)) => a.to_string().cmp(&b.to_string()),
        _ => rank(a).cmp(&rank(b)),
    }
}

const fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn elements_are_written_as_they_are_read() {
        for (text, shown) in [
            ("f:spec", ".spec"),
            ("f:a.b/c:d", ".a.b/c:d"),
            (r#"k:{"containerPort":80,"protocol":"TCP"}"#, r#"[containerPort=80,protocol="TCP"]"#),
            (r#"v:"e.com/a""#, r#"[="e.com/a"]"#),
            ("v:3", "[=3]"),
            ("i:7", "[7]"),
        ] {
            let element = Element::parse(text).unwrap().unwrap();
            assert_eq!((element.encode().as_str(), element.to_string().as_str()), (text, shown));
        }
        assert_eq!(Element::parse(r#"k:{ "b":1, "a":2 }"#).unwrap().unwrap().encode(), r#"k:{"a":2,"b":1}"#);
        assert_eq!(Element::parse("z:later"), Ok(None));
        for broken in ["spec", "", "k:[]", "k:{", "v:", "i:x"] {
            assert!(Element::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn keys_are_ordered_by_what_they_say() {
        let key = |port: i64| Element::Key(vec![("port".into(), json!(port))]);
        assert!(key(80) < key(443), "as numbers, not as text");
        assert!(Element::Field("z".into()) < key(1) && key(1) < Element::Item(json!(0)));
        assert!(Element::Item(json!(0)) < Element::Index(0));
    }
}
