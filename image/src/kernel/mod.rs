//! The kernel's files: image, modules, and the order in which modules load.

pub mod lean;
pub mod modinfo;
pub mod modules;
pub mod resolve;

use crate::disk::boot::Files;
use crate::tree::Content;
use modules::Modules;
use std::sync::Arc;

/// A kernel that can be put into an image.
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    pub image: Content,
    pub modules: Modules,
    /// Those that the board asks for, by name.
    pub device_trees: Files,
    /// Where it came from, for the manifest.
    pub origin: Arc<str>,
}
