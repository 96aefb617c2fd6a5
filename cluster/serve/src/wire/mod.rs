//! What stands on the wire: paths, query parameters, media types, bodies. Pure: bytes in, values out; nothing here panics.

pub mod body;

pub mod lasting;
pub mod media;
pub mod order;
pub mod path;
pub mod protobuf;
pub mod query;
mod walk;

/// Whether it is a name of DNS (RFC 1123), as names of most objects are.
pub(crate) fn is_subdomain(name: &str) -> bool {
    let sound = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            let bytes = label.as_bytes();
            bytes.first().copied().is_some_and(sound)
                && bytes.last().copied().is_some_and(sound)
                && bytes.iter().all(|c| sound(*c) || *c == b'-')
        })
}

/// Sets a member of an object; anything else is left as it is.
pub(crate) fn set(object: &mut serde_json::Value, key: &str, value: impl Into<serde_json::Value>) {
    if let Some(members) = object.as_object_mut() {
        members.insert(key.to_owned(), value.into());
    }
}
