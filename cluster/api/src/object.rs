//! Objects as the control plane holds them: encoded once, shared, with the metadata everyone asks for already parsed.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

use crate::resource::GroupResource;
use crate::status::Status;

/// A point in the one history of a store. Starts at 1; every commit takes the next one. On the wire it is
/// `metadata.resourceVersion`, an opaque decimal string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an object lives. Orders by resource, then namespace, then name: a namespace of a resource is one contiguous range.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub resource: GroupResource,
    /// Empty for objects of cluster scope.
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Key {
    pub fn new(resource: GroupResource, namespace: &str, name: &str) -> Self {
        Self { resource, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.resource, self.name)
        } else {
            write!(f, "{} {}/{}", self.resource, self.namespace, self.name)
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One version of one object: immutable and shared by everyone who looks at it.
#[derive(Debug)]
pub struct Object {
    pub key: Key,
    /// The revision that wrote this version; the same as `meta.resource_version`.
    pub revision: Revision,
    /// Parsed from `json`.
    pub meta: ObjectMeta,
    /// The whole object as JSON in its storage version, `apiVersion`, `kind` and `metadata.resourceVersion` included:
    /// what a GET answers, byte for byte.
    pub json: Bytes,
}

/// A store writes each revision once: key and revision name one version of one object.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision && self.key == other.key
    }
}

impl Object {
    /// The object as one of `k8s_openapi`'s types.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Status> {
        serde_json::from_slice(&self.json).map_err(|e| Status::internal(format!("decoding {}: {e}", self.key)))
    }

    /// A pod, which controllers, scheduler and agent all read. The code that reads one is large, and a generic function is shared only with
    /// crates above the one that made it: made here, below them all, it is in the binary once, also where they say `decode`.
    pub fn pod(&self) -> Result<Pod, Status> {
        self.decode()
    }

    /// A node, made here for the same reason.
    pub fn node(&self) -> Result<Node, Status> {
        self.decode()
    }

    /// The JSON from `"metadata"` on: an item of a list, which lacks `apiVersion` and `kind`, is `{` and this.
    pub fn list_item(&self) -> &[u8] {
        const MARK: &[u8] = b"\"metadata\":";
        // Neither apiVersion nor kind, which come first, can contain the mark.
        let at = self.json.windows(MARK.len()).position(|w| w == MARK).unwrap_or_default();
        self.json.get(at..).unwrap_or_default()
    }

    pub fn uid(&self) -> &str {
        self.meta.uid.as_deref().unwrap_or_default()
    }

    pub fn is_deleting(&self) -> bool {
        self.meta.deletion_timestamp.is_some()
    }
}
