//! Container images: read from files as other tools write them, made from a folder, and baked so that they run in place.

pub mod bake;
pub mod blobs;
pub mod from_dir;
pub mod image;
pub mod layer;
pub mod reference;
