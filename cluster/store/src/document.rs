//! Objects as bytes: encoded once, with a hole where the revision goes that only the commit knows.
//!
//! `apiVersion` and `kind` come first, then `metadata` with `resourceVersion` as its first field, then the rest. So the first
//! `"resourceVersion":"` in the bytes is always the object's own.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kedge_api::{Key, Object, Revision};
use serde::Deserialize;
use serde::de::value::MapDeserializer;
use serde_json::Value;

const MARK: &[u8] = b"\"resourceVersion\":\"";

/// Stays in the bytes alone: no one selects by it, and parsed it would be larger than all else.
const UNREAD: &str = "managedFields";

#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("encoding {key}: {source}")]
    Json { key: Key, source: serde_json::Error },
    #[error("encoding {0}: it is not an object with metadata")]
    Shape(Key),
    #[error("decoding {0}: no resourceVersion among its first fields")]
    Unstamped(Key),
}

/// An object ready to be written.
#[derive(Clone, Debug)]
pub struct Draft {
    key: Key,
    meta: Box<ObjectMeta>,
    json: Vec<u8>,
    hole: usize,
}

impl Draft {
    /// Encodes `value`, whose `metadata.resourceVersion` is ignored.
    pub fn encode(key: Key, value: &Value) -> Result<Self, EncodeError> {
        let shape = || EncodeError::Shape(key.clone());
        let object = value.as_object().ok_or_else(shape)?;
        let metadata = object.get("metadata").and_then(Value::as_object).ok_or_else(shape)?;
        let failed = |source| EncodeError::Json { key: key.clone(), source };
        let known = metadata.iter().filter(|(name, _)| *name != UNREAD).map(|(name, value)| (name.as_str(), value));
        let meta = ObjectMeta::deserialize(MapDeserializer::new(known)).map_err(failed)?;

        let mut json = Vec::with_capacity(512);
        json.push(b'{');
        for name in ["apiVersion", "kind"] {
            write!(json, "\"{name}\":").map_err(|e| failed(serde_json::Error::io(e)))?;
            serde_json::to_writer(&mut json, object.get(name).unwrap_or(&Value::Null)).map_err(failed)?;
            json.push(b',');
        }
        json.extend_from_slice(b"\"metadata\":{");
        json.extend_from_slice(MARK);
        let hole = json.len();
        json.push(b'"');
        let mut put = |name: &String, value: &Value| -> Result<(), serde_json::Error> {
            json.push(b',');
            serde_json::to_writer(&mut json, name)?;
            json.push(b':');
            serde_json::to_writer(&mut json, value)
        };
        for (name, value) in metadata.iter().filter(|(name, _)| *name != "resourceVersion") {
            put(name, value).map_err(failed)?;
        }
        json.push(b'}');
        let mut put = |name: &String, value: &Value| -> Result<(), serde_json::Error> {
            json.push(b',');
            serde_json::to_writer(&mut json, name)?;
            json.push(b':');
            serde_json::to_writer(&mut json, value)
        };
        for (name, value) in object.iter().filter(|(n, _)| !["apiVersion", "kind", "metadata"].contains(&n.as_str())) {
            put(name, value).map_err(failed)?;
        }
        json.push(b'}');
        Ok(Self { key, meta: Box::new(meta), json, hole })
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The size of the encoding, without the revision.
    pub fn len(&self) -> usize {
        self.json.len()
    }

    pub fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    /// Fills the hole.
    pub(crate) fn stamp(&self, revision: Revision) -> Arc<Object> {
        let mut meta = (*self.meta).clone();
        meta.resource_version = Some(revision.to_string());
        let (before, after) = self.json.split_at(self.hole.min(self.json.len()));
        Arc::new(Object { key: self.key.clone(), revision, meta, json: fill(before, revision, after) })
    }
}

fn fill(before: &[u8], revision: Revision, after: &[u8]) -> Bytes {
    let digits = revision.to_string();
    let mut json = Vec::with_capacity(before.len() + digits.len() + after.len());
    json.extend_from_slice(before);
    json.extend_from_slice(digits.as_bytes());
    json.extend_from_slice(after);
    json.into()
}

/// An object from bytes that [`Draft`] once made.
pub fn decode(key: Key, revision: Revision, json: Bytes) -> Result<Object, EncodeError> {
    #[derive(Deserialize)]
    struct Head {
        metadata: ObjectMeta,
    }
    match serde_json::from_slice::<Head>(&json) {
        Ok(mut head) => {
            head.metadata.managed_fields = None;
            Ok(Object { key, revision, meta: head.metadata, json })
        }
        Err(source) => Err(EncodeError::Json { key, source }),
    }
}

/// The same object under another revision: what a deletion shows to watchers.
pub fn restamp(object: &Object, revision: Revision) -> Result<Object, EncodeError> {
    let unstamped = || EncodeError::Unstamped(object.key.clone());
    let mark = object.json.windows(MARK.len()).position(|w| w == MARK).ok_or_else(unstamped)?;
    let (before, rest) = object.json.split_at_checked(mark + MARK.len()).ok_or_else(unstamped)?;
    let end = rest.iter().position(|&b| b == b'"').ok_or_else(unstamped)?;
    let (_, after) = rest.split_at_checked(end).ok_or_else(unstamped)?;
    let mut meta = object.meta.clone();
    meta.resource_version = Some(revision.to_string());
    Ok(Object { key: object.key.clone(), revision, meta, json: fill(before, revision, after) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_api::resource::known;
    use serde_json::json;

    fn key() -> Key {
        Key::new(known::CONFIG_MAPS, "default", "a")
    }

    #[test]
    fn a_stamped_draft_reads_back_as_what_was_encoded() {
        let mut value = json!({
            "kind": "ConfigMap", "data": {"x": "\"resourceVersion\":\"7\""}, "apiVersion": "v1",
            "metadata": {"name": "a", "namespace": "default", "uid": "u", "resourceVersion": "stale",
                         "annotations": {"resourceVersion": "no"},
                         "managedFields": [{"manager": "m", "operation": "Update", "fieldsV1": {"f:data": {}}}]},
        });
        let object = Draft::encode(key(), &value).unwrap().stamp(Revision(42));
        value["metadata"]["resourceVersion"] = "42".into();
        assert_eq!(serde_json::from_slice::<Value>(&object.json).unwrap(), value);
        assert_eq!(object.meta.resource_version.as_deref(), Some("42"));
        let again = decode(key(), Revision(42), object.json.clone()).unwrap();
        assert_eq!(again.meta, object.meta);
        assert_eq!((again.meta.name.as_deref(), &again.meta.managed_fields), (Some("a"), &None));

        let deleted = restamp(&object, Revision(12345)).unwrap();
        value["metadata"]["resourceVersion"] = "12345".into();
        assert_eq!(serde_json::from_slice::<Value>(&deleted.json).unwrap(), value);
        assert_eq!(deleted.meta.resource_version.as_deref(), Some("12345"));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(matches!(Draft::encode(key(), &json!([])), Err(EncodeError::Shape(_))));
        assert!(matches!(Draft::encode(key(), &json!({"metadata": 1})), Err(EncodeError::Shape(_))));
        assert!(matches!(Draft::encode(key(), &json!({"metadata": {"name": 1}})), Err(EncodeError::Json { .. })));
        assert!(decode(key(), Revision(1), Bytes::from_static(b"{\"metadata\":{\"name\":")).is_err());
    }
}
