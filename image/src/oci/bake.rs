//! Puts container images into the system's tree, unpacked, so that the runtime mounts them where they are. The layout is that of
//! `kedge-runtime`: an index, and a folder a layer named by its diff id.
//!
//! Squashfs as written here holds no extended attributes, which overlayfs would need for a directory that hides another. So an
//! image whose layers take something away from each other is baked as one merged layer, under a name made from all of them.

use super::blobs::{BlobError, Blobs};
use super::image::{self, Image, ImageError};
use super::layer::{self, LayerError, Spool, Unpacked};
use crate::digest;
use crate::tree::{Content, Entry, Node, Tree, TreeError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `index.json` in [`kedge_config::names::IMAGES_DIR`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BakedIndex {
    pub images: Vec<Baked>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baked {
    pub names: Vec<String>,
    pub digest: String,
    /// `sha256:` and the folder's name below `layers/`, lowest first.
    pub layers: Vec<String>,
    pub config: Value,
    /// Bytes of all files, unpacked.
    pub size: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum BakeError {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("{image}: {source}")]
    Tree { image: String, source: TreeError },
    #[error("two images are called {0}")]
    Twice(String),
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("writing the index of images: {0}")]
    Index(#[from] serde_json::Error),
}

/// A file that a person named with `--image [NAME=]FILE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wanted {
    pub name: Option<String>,
    pub path: PathBuf,
}

impl std::str::FromStr for Wanted {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A name holds no `=`, a path may.
        Ok(match text.split_once('=') {
            Some((name, path)) if !Path::new(text).exists() => Self { name: Some(name.to_owned()), path: path.into() },
            _ => Self { name: None, path: text.into() },
        })
    }
}

/// The folder that becomes [`kedge_config::names::IMAGES_DIR`].
pub fn bake(wanted: &[Wanted], architecture: &str, spool: &Spool) -> Result<(Tree, BakedIndex), BakeError> {
    let mut out = Tree::new();
    let mut index = BakedIndex::default();
    let mut names = BTreeSet::new();
    for wanted in wanted {
        let blobs = Blobs::open(&wanted.path)?;
        for image in image::read(&blobs, architecture, wanted.name.as_deref())? {
            if let Some(twice) = image.names.iter().find(|name| !names.insert((*name).clone())) {
                return Err(BakeError::Twice(twice.clone()));
            }
            index.images.push(one(&blobs, image, spool, &mut out)?);
        }
    }
    index.images.sort_by(|a, b| a.names.cmp(&b.names));
    let text = serde_json::to_vec(&index)?;
    let generated: Arc<str> = "generated".into();
    let fail = |source| BakeError::Tree { image: "index.json".into(), source };
    out.directory("layers", 0o755, &generated).map_err(fail)?;
    out.file("index.json", 0o644, Content::bytes(text), &generated).map_err(fail)?;
    Ok((out, index))
}

/// What the manifest calls the origin of an image's files; which layer each is of, its path says.
pub fn origin(image: &str) -> String {
    format!("image {image}")
}

fn one(blobs: &Blobs, image: Image, spool: &Spool, out: &mut Tree) -> Result<Baked, BakeError> {
    let name = image.names.first().cloned().unwrap_or_default();
    let origin: Arc<str> = origin(&name).into();
    let unpacked =
        image.layers.iter().map(|layer| layer::unpack(blobs, layer, &origin, spool)).collect::<Result<Vec<_>, _>>()?;
    let fail = |source| BakeError::Tree { image: name.clone(), source };
    let takes_away = |layer: &Unpacked| !layer.whiteouts.is_empty() || !layer.opaque.is_empty();
    let trees: Vec<(String, Tree)> = if unpacked.iter().any(takes_away) {
        let ids: Vec<&str> = image.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let id = digest::of_bytes(format!("merged {}", ids.join(" ")).as_bytes());
        vec![(id, layer::flatten(unpacked).map_err(fail)?)]
    } else {
        image
            .layers
            .iter()
            .map(|layer| layer.diff_id.clone())
            .zip(unpacked.into_iter().map(|layer| layer.tree))
            .collect()
    };
    let (mut layers, mut size) = (Vec::new(), 0);
    for (id, tree) in trees {
        size += bytes_of(&tree)?;
        layers.push(format!("sha256:{id}"));
        let folder = Path::new("layers").join(&id);
        // Images may share layers.
        if out.get(&folder).is_none() {
            out.insert(&folder, Entry::new(Node::Directory, 0o755, &origin)).map_err(fail)?;
            out.graft(&folder, tree).map_err(fail)?;
        }
    }
    Ok(Baked { names: image.names, digest: image.digest, layers, config: image.config, size })
}

fn bytes_of(tree: &Tree) -> Result<u64, BakeError> {
    let mut sum = 0;
    for (path, entry) in tree.iter() {
        if let Node::File(content) = &entry.node {
            sum += content.len().map_err(|source| BakeError::Io { path: path.display().to_string(), source })?;
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests;
