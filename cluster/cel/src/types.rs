//! Types, as the checker knows them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Anything: checked only when it is evaluated.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Object(Arc<Object>),
    Optional(Arc<Type>),
    /// A type as a value.
    Type,
    /// One of a library's, e.g. `kubernetes.Quantity`.
    Library(&'static str),
    /// A variable of a signature.
    Param(u8),
    /// What an empty literal holds: whatever it is put beside.
    Open,
}

/// An object whose fields are known.
#[derive(Debug)]
pub struct Object {
    pub name: String,
    pub fields: BTreeMap<String, Type>,
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || (self.name == other.name && self.fields == other.fields)
    }
}

pub(crate) const URL: Type = Type::Library("kubernetes.URL");
pub(crate) const QUANTITY: Type = Type::Library("kubernetes.Quantity");
pub(crate) const IP: Type = Type::Library("net.IP");
pub(crate) const CIDR: Type = Type::Library("net.CIDR");
pub(crate) const SEMVER: Type = Type::Library("kubernetes.Semver");
pub(crate) const FORMAT: Type = Type::Library("kubernetes.NamedFormat");

impl Type {
    pub fn list(of: Self) -> Self {
        Self::List(Arc::new(of))
    }

    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new(key), Arc::new(value))
    }

    pub fn optional(of: Self) -> Self {
        Self::Optional(Arc::new(of))
    }

    /// Nothing was put beside what is open: it holds anything.
    pub(crate) fn settled(self) -> Self {
        match self {
            Self::Open => Self::Dyn,
            Self::List(of) => Self::list((*of).clone().settled()),
            Self::Optional(of) => Self::optional((*of).clone().settled()),
            Self::Map(key, value) => Self::map((*key).clone().settled(), (*value).clone().settled()),
            other => other,
        }
    }

    pub fn object(name: &str, fields: BTreeMap<String, Self>) -> Self {
        Self::Object(Arc::new(Object { name: name.to_owned(), fields }))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn | Self::Open => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Duration => f.write_str("google.protobuf.Duration"),
            Self::Timestamp => f.write_str("google.protobuf.Timestamp"),
            Self::List(of) => write!(f, "list({of})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Object(object) => f.write_str(&object.name),
            Self::Optional(of) => write!(f, "optional_type({of})"),
            Self::Type => f.write_str("type"),
            Self::Library(name) => f.write_str(name),
            Self::Param(n) => write!(f, "{}", char::from(b'A' + n % 26)),
        }
    }
}

/// What the parameters of a signature stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Binding(BTreeMap<u8, Type>);

impl Binding {
    /// Whether `found` can stand where `wanted` is asked for; binds parameters on the way.
    pub(crate) fn accept(&mut self, wanted: &Type, found: &Type) -> bool {
        match (wanted, found) {
            (Type::Param(n), found) => match self.0.get(n).cloned() {
                // The wider of the two.
                Some(bound) if fits(&bound, found) || fits(found, &bound) => {
                    self.0.insert(*n, join(&bound, found));
                    true
                }
                Some(_) => false,
                None => {
                    self.0.insert(*n, found.clone());
                    true
                }
            },
            (Type::Dyn | Type::Open, _) | (_, Type::Dyn | Type::Open) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.accept(a, b),
            (Type::Map(ka, va), Type::Map(kb, vb)) => self.accept(ka, kb) && self.accept(va, vb),
            // Null stands for what is not there, where anything can be absent.
            (Type::Object(_) | Type::Duration | Type::Timestamp | Type::Library(_), Type::Null) => true,
            (wanted, found) => wanted == found,
        }
    }

    pub(crate) fn apply(&self, of: &Type) -> Type {
        match of {
            Type::Param(n) => self.0.get(n).cloned().unwrap_or(Type::Open),
            Type::List(of) => Type::list(self.apply(of)),
            Type::Optional(of) => Type::optional(self.apply(of)),
            Type::Map(key, value) => Type::map(self.apply(key), self.apply(value)),
            other => other.clone(),
        }
    }
}

/// Whether a value of one type may stand where the other is.
pub(crate) fn fits(wanted: &Type, found: &Type) -> bool {
    Binding::default().accept(wanted, found)
}

/// The type of either: one of them, or anything.
pub(crate) fn join(a: &Type, b: &Type) -> Type {
    match (a, b) {
        (a, b) if a == b => a.clone(),
        (Type::Null, Type::Object(_) | Type::Duration | Type::Timestamp | Type::Library(_)) | (Type::Open, _) => {
            b.clone()
        }
        (Type::Object(_) | Type::Duration | Type::Timestamp | Type::Library(_), Type::Null) | (_, Type::Open) => {
            a.clone()
        }
        (Type::List(x), Type::List(y)) => Type::list(join(x, y)),
        (Type::Map(k, v), Type::Map(l, w)) => Type::map(join(k, l), join(v, w)),
        (Type::Optional(x), Type::Optional(y)) => Type::optional(join(x, y)),
        _ => Type::Dyn,
    }
}
