//! Values at run time.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kedge_api::quantity::Quantity;

use crate::authorizer::Asking;
use crate::library::semver::Version;
pub use crate::library::time::parse_duration;
use crate::library::url::Url;

/// Cheap to copy around: what is large is shared.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    Duration(SignedDuration),
    Timestamp(Timestamp),
    List(Arc<[Value]>),
    /// A map or an object.
    Map(Arc<BTreeMap<Key, Value>>),
    Optional(Option<Arc<Value>>),
    Type(Arc<str>),
    Quantity(Quantity),
    Url(Arc<Url>),
    Ip(IpAddr),
    Cidr(IpAddr, u8),
    Semver(Arc<Version>),
    /// A named format, e.g. `dns1123Label`.
    Format(&'static str),
    /// A question about permissions.
    Asking(Arc<Asking>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    /// Signed and not: numbers of the same value are the same key.
    Int(i128),
    String(Arc<str>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<usize> for Value {
    fn from(n: usize) -> Self {
        Self::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::List(items.into())
    }
}

impl From<BTreeMap<Key, Value>> for Value {
    fn from(map: BTreeMap<Key, Value>) -> Self {
        Self::Map(Arc::new(map))
    }
}

impl Value {
    pub fn optional(value: Option<Self>) -> Self {
        Self::Optional(value.map(Arc::new))
    }

    pub(crate) fn key(&self) -> Option<Key> {
        match self {
            Self::Bool(flag) => Some(Key::Bool(*flag)),
            Self::Int(n) => Some(Key::Int((*n).into())),
            Self::Uint(n) => Some(Key::Int((*n).into())),
            Self::Double(n) if n.fract() == 0.0 && n.abs() < 9e15 => Some(Key::Int(*n as i128)),
            Self::String(text) => Some(Key::String(text.clone())),
            _ => None,
        }
    }

    /// A value whose type is not declared: as JSON is read.
    pub fn of_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(flag) => Self::Bool(*flag),
            serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(n), _) => Self::Int(n),
                (None, Some(n)) => Self::Uint(n),
                (None, None) => Self::Double(n.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => text.as_str().into(),
            serde_json::Value::Array(items) => items.iter().map(Self::of_json).collect::<Vec<_>>().into(),
            serde_json::Value::Object(map) => {
                let entries = map.iter().map(|(name, value)| (Key::String(name.as_str().into()), Self::of_json(value)));
                entries.collect::<BTreeMap<_, _>>().into()
            }
        }
    }

    pub(crate) fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Asking(asking) => asking.type_name(),
        }
    }

    /// How large it is, in the units in which cost counts: characters, bytes, elements.
    pub(crate) fn size(&self) -> u64 {
        let size = match self {
            Self::String(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(items) => items.len(),
            Self::Map(map) => map.len(),
            _ => 1,
        };
        size as u64
    }
}

/// Numbers of all kinds on one line; `None` if one of them is no number, or not one at all.
pub(crate) fn compare_numbers(a: &Value, b: &Value) -> Option<Ordering> {
    let int = |v: &Value| match v {
        Value::Int(n) => Some(i128::from(*n)),
        Value::Uint(n) => Some(i128::from(*n)),
        _ => None,
    };
    let double = |v: &Value| match v {
        Value::Double(n) => Some(*n),
        _ => None,
    };
    match (int(a), int(b)) {
        (Some(a), Some(b)) => return Some(a.cmp(&b)),
        (Some(a), None) => return mixed(a, double(b)?),
        (None, Some(b)) => return mixed(b, double(a)?).map(Ordering::reverse),
        (None, None) => {}
    }
    double(a)?.partial_cmp(&double(b)?)
}

/// An integer and a fraction, without rounding the integer.
fn mixed(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    if b.abs() >= 1e20 {
        return Some(if b > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = b.trunc();
    Some(a.cmp(&(whole as i128)).then_with(|| 0.0_f64.partial_cmp(&(b - whole)).unwrap_or(Ordering::Equal)))
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::String(a), Self::String(b)) | (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a.text == b.text,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a, n), Self::Cidr(b, m)) => (a, n) == (b, m),
            (Self::Semver(a), Self::Semver(b)) => a.compare(b) == Ordering::Equal,
            (Self::Format(a), Self::Format(b)) => a == b,
            _ => compare_numbers(self, other) == Some(Ordering::Equal),
        }
    }
}
