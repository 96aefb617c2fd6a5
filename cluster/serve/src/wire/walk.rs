//! A document into a value, by any of serde's parsers: counts its values, and notes keys that stand twice.

use std::cell::RefCell;
use std::fmt;

use kedge_api::findings::Findings;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// More than any object has that fits the size limit and is no attack; a node takes some 50 bytes of memory.
pub const MAX_NODES: usize = 512 * 1024;

/// What is noted while a document is walked.
pub struct State {
    nodes: RefCell<usize>,
    duplicates: RefCell<Findings>,
    /// Each duplicate is told once, however often it comes.
    once: bool,
    stop_at: Option<usize>,
    /// Every key's path, where these are asked for.
    keys: Option<RefCell<Findings>>,
}

/// Of keys' paths, in bytes: a short document can have long ones.
const KEYS: usize = 4 << 20;

impl State {
    pub fn new(stop_at: Option<usize>) -> Self {
        Self { nodes: RefCell::new(0), duplicates: RefCell::default(), once: false, stop_at, keys: None }
    }

    /// Tells each duplicate once, as upstream does of JSON.
    pub fn once() -> Self {
        Self { once: true, ..Self::new(None) }
    }

    /// Notes the path of every key as well.
    pub fn noting() -> Self {
        Self { keys: Some(RefCell::new(Findings::up_to(usize::MAX, KEYS))), ..Self::new(None) }
    }

    pub fn into_keys(self) -> Vec<String> {
        self.keys.map(|keys| keys.into_inner().into_texts()).unwrap_or_default()
    }

    pub fn into_duplicates(self) -> Vec<String> {
        self.duplicates.into_inner().into_texts()
    }

    fn note(&self, path: Path<'_>) {
        let mut duplicates = self.duplicates.borrow_mut();
        if self.once { duplicates.note_once(path) } else { duplicates.note(path) }
    }

    /// Counts one more value.
    pub fn has_room(&self) -> bool {
        let mut nodes = self.nodes.borrow_mut();
        *nodes += 1;
        *nodes <= MAX_NODES
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.has_room() { Ok(()) } else { Err(E::custom(format!("more than {MAX_NODES} values"))) }
    }
}

/// Where in the document we are: a list of steps on the stack, so that only a duplicate costs memory.
#[derive(Clone, Copy)]
pub enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[derive(Clone, Copy)]
pub struct Seed<'a> {
    pub state: &'a State,
    pub path: Path<'a>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.state.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("json: unsupported value: not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        let next = |index| Seed { state: self.state, path: Path::Index(&self.path, index) };
        while let Some(item) = items.next_element_seed(next(out.len()))? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = entries.next_key_seed(KeySeed { seed: self, seen: &out })? {
            if let Some(keys) = &self.state.keys {
                keys.borrow_mut().note(Path::Key(&self.path, &key));
            }
            let value = entries.next_value_seed(Seed { state: self.state, path: Path::Key(&self.path, &key) })?;
            match out.get_mut(&key) {
                Some(old) => {
                    self.state.note(Path::Key(&self.path, &key));
                    merge(old, value);
                }
                None => {
                    out.insert(key, value);
                }
            }
        }
        Ok(Value::Object(out))
    }
}

fn merge(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                match old.get_mut(&key) {
                    Some(old) => merge(old, value),
                    None => {
                        old.insert(key, value);
                    }
                }
            }
        }
        (old, new) => *old = new,
    }
}

/// Reads a key: YAML's may be numbers or booleans, which JSON writes as text.
struct KeySeed<'a> {
    seed: Seed<'a>,
    seen: &'a Map<String, Value>,
}

impl KeySeed<'_> {
    fn check<E: serde::de::Error>(self, key: String) -> Result<String, E> {
        let state = self.seed.state;
        if state.stop_at.is_some()
            && state.stop_at == Some(state.duplicates.borrow().len())
            && self.seen.contains_key(&key)
        {
            return Err(E::custom("duplicate"));
        }
        Ok(key)
    }
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        self.check(key.to_owned())
    }

    fn visit_bool<E: serde::de::Error>(self, key: bool) -> Result<String, E> {
        self.check(key.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, key: i64) -> Result<String, E> {
        self.check(key.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, key: u64) -> Result<String, E> {
        self.check(key.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, key: f64) -> Result<String, E> {
        self.check(key.to_string())
    }
}
