//! Kubernetes' protobuf: JSON values to and from the wire, walked along `kedge_api::schema`.
//!
//! The schema knows each field's name and shape; `fields.txt` adds its number: one line a type, sorted, `name=NUMBER`, or
//! `name=NUMBER.NUMBER` where protobuf has a message that JSON writes without (Go's embedded structs). They are facts of the
//! published `.proto` files of Kubernetes 1.36. Kinds without numbers (custom resources) are JSON only, as upstream has it.

mod decode;
mod encode;
mod node;
mod table;
pub mod writer;

use bytes::Bytes;
use kedge_api::schema::{self, Type};
use serde_json::Value;

pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// Every body begins with these bytes.
const MAGIC: &[u8] = b"k8s\0";
/// Objects, lists and maps within each other, as JSON's parser counts them: what is stored must be read again.
const MAX_DEPTH: usize = 120;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    #[error("the message ends in the middle")]
    Truncated,
    #[error("field {0} is not of the kind that its type has")]
    Wire(String),
    #[error("field {0} is not valid: {1}")]
    Value(String, String),
    #[error("nested deeper than {MAX_DEPTH} levels")]
    Deep,
    #[error("more than {0} values")]
    Many(usize),
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    Unknown { api_version: String, kind: String },
}

/// Reads a body; `default` is the type where the body does not name its kind.
pub fn decode(bytes: &[u8], default: Option<Type>) -> Result<Value, ProtobufError> {
    decode::envelope(bytes, default)
}

/// Writes an object, if its kind has numbers.
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    encode::envelope(object)
}

/// Writes a list, `head` without its items, and their JSON, in pieces; if its kind has numbers.
pub fn list<'a>(head: &Value, items: impl Iterator<Item = &'a [u8]>) -> Option<Result<Vec<Bytes>, serde_json::Error>> {
    encode::list(head, items)
}

/// One event of a watch, its length in front, as the streams of this form have it.
pub fn frame(kind: &str, object: &Value) -> Vec<u8> {
    // What has no numbers is still told, in the one form that it has.
    let object = encode(object).unwrap_or_else(|| object.to_string().into_bytes());
    encode::event(kind, &object)
}

/// The type of a kind.
fn type_of(api_version: &str, kind: &str) -> Option<Type> {
    if kind == "DeleteOptions" {
        // Served in every group, whatever its version there.
        return schema::get("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if group == "meta.k8s.io" {
        // Any kind and its list do: metadata and items have the same numbers everywhere.
        let any = if kind == "PartialObjectMetadata" { "Namespace" } else { "NamespaceList" };
        return kind.starts_with("PartialObjectMetadata").then(|| schema::get(&format!("io.k8s.api.core.v1.{any}")))?;
    }
    schema::types().find(|t| t.kinds().any(|gvk| gvk == (group, version, kind)))
}

#[cfg(test)]
mod tests;
