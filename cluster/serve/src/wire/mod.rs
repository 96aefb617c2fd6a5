//! What stands on the wire: paths, query parameters, media types, bodies. Pure: bytes in, values out; nothing here panics.

pub mod body;

pub mod media;
pub mod path;
pub mod query;
