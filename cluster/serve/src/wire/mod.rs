//! What stands on the wire: paths, query parameters, media types, bodies. Pure: bytes in, values out; nothing here panics.

pub mod body;

pub mod media;
pub mod order;
pub mod path;
pub mod protobuf;
pub mod query;
mod walk;

/// Sets a member of an object; anything else is left as it is.
pub(crate) fn set(object: &mut serde_json::Value, key: &str, value: impl Into<serde_json::Value>) {
    if let Some(members) = object.as_object_mut() {
        members.insert(key.to_owned(), value.into());
    }
}
