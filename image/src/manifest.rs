//! The list of every file in an image with its size, digest and origin, beside the image as `manifest.json`.

use crate::tree::{Node, Tree};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub board: String,
    pub version: &'static str,
    /// Seconds since 1970 that the image gives for now.
    pub epoch: u32,
    pub kernel_release: String,
    /// What an origin that comes from outside is, to the bit: the SHA-256 of the package, the program, or the image's manifest.
    pub origins: BTreeMap<String, String>,
    pub files: Vec<Line>,
}

#[derive(Debug, Serialize)]
pub struct Line {
    /// Which file system: `initramfs`, `system`, or a FAT partition such as `esp`.
    pub of: String,
    pub path: String,
    pub size: u64,
    pub sha256: String,
    pub origin: String,
}

/// The files of a tree.
pub fn lines(of: &str, tree: &Tree) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (path, entry) in tree.iter() {
        if let Node::File(content) = &entry.node {
            let (size, sha256) = (content.len()?, content.sha256()?);
            lines.push(Line {
                of: of.to_owned(),
                path: format!("/{}", path.display()),
                size,
                sha256,
                origin: entry.origin.to_string(),
            });
        }
    }
    Ok(lines)
}
