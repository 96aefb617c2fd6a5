//! What an archive says about the image in it: names, digest, configuration, layers. OCI layouts (image-spec, `image-layout.md`)
//! and archives of `docker save`; both are often in one file, and then the layout decides and the other lends its names.

use super::blobs::{BlobError, Blobs};
use super::reference::{self, ReferenceError};
use crate::digest::Hashing;
use serde::Deserialize;
use serde_json::Value;
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("{path}, \"{name}\": {source}")]
    Json { path: String, name: String, source: serde_json::Error },
    #[error("{path} is no container image: it has neither index.json (OCI layout) nor manifest.json (docker save)")]
    Neither { path: String },
    #[error("{path}: \"{digest}\" is no sha256 digest")]
    Digest { path: String, digest: String },
    #[error("{path}, \"{name}\": the content has digest sha256:{found}")]
    Corrupt { path: String, name: String, found: String },
    #[error("{path}: no image for {wanted}; it has {found}")]
    Platform { path: String, wanted: String, found: String },
    #[error("{path}: the image has no name: give one with --image NAME={path}")]
    NoName { path: String },
    #[error("{path}: {source}")]
    Name { path: String, source: ReferenceError },
    #[error("{path}: {manifest} layers in the manifest, {config} in the configuration")]
    Layers { path: String, manifest: usize, config: usize },
    #[error("{path}: indexes nested more than {MAX_DEPTH} deep")]
    Nested { path: String },
}

/// One image of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Full references, at least one.
    pub names: Vec<String>,
    /// Of the manifest; of the configuration where an archive has no manifest. With `sha256:`.
    pub digest: String,
    /// The image configuration's `config` object.
    pub config: Value,
    /// Lowest first.
    pub layers: Vec<Layer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// File in the archive.
    pub blob: String,
    /// Hexadecimal digest of the unpacked tar.
    pub diff_id: String,
}

const MAX_DEPTH: usize = 3;
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize, Clone)]
struct Platform {
    architecture: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    config: Value,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The images of `blobs` for `architecture` (OCI's name). `name` overrules what the archive says.
pub fn read(blobs: &Blobs, architecture: &str, name: Option<&str>) -> Result<Vec<Image>, ImageError> {
    let saved: Vec<Saved> = if blobs.has("manifest.json") { json(blobs, "manifest.json")? } else { Vec::new() };
    let mut images = if blobs.has("index.json") {
        from_layout(blobs, architecture, &saved)?
    } else if saved.is_empty() {
        return Err(ImageError::Neither { path: blobs.path().to_owned() });
    } else {
        saved.iter().map(|saved| from_saved(blobs, architecture, saved)).collect::<Result<_, _>>()?
    };
    if let (Some(name), [image]) = (name, images.as_mut_slice()) {
        image.names = vec![name.to_owned()];
    }
    for image in &mut images {
        if image.names.is_empty() {
            return Err(ImageError::NoName { path: blobs.path().to_owned() });
        }
        for name in &mut image.names {
            let fail = |source| ImageError::Name { path: blobs.path().to_owned(), source };
            *name = reference::full(name).map_err(fail)?;
        }
        image.names.sort();
        image.names.dedup();
    }
    Ok(images)
}

fn json<T: serde::de::DeserializeOwned>(blobs: &Blobs, name: &str) -> Result<T, ImageError> {
    let fail = |source| ImageError::Json { path: blobs.path().to_owned(), name: name.to_owned(), source };
    serde_json::from_slice(&blobs.document(name)?).map_err(fail)
}

/// The hexadecimal part of a digest, which is safe as part of a path.
fn hex<'d>(blobs: &Blobs, digest: &'d str) -> Result<&'d str, ImageError> {
    let hex = digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex.ok_or_else(|| ImageError::Digest { path: blobs.path().to_owned(), digest: digest.to_owned() })
}

/// The file of a descriptor, after its digest was found right.
fn blob(blobs: &Blobs, descriptor: &Descriptor) -> Result<String, ImageError> {
    let hex = hex(blobs, &descriptor.digest)?;
    let name = format!("blobs/sha256/{hex}");
    let mut reader = Hashing::new(blobs.reader(&name)?);
    io::copy(&mut reader, &mut io::sink()).map_err(|source| BlobError::Io { path: blobs.path().to_owned(), source })?;
    let found = reader.finish();
    if found != hex.to_ascii_lowercase() {
        return Err(ImageError::Corrupt { path: blobs.path().to_owned(), name, found });
    }
    Ok(name)
}

fn from_layout(blobs: &Blobs, architecture: &str, saved: &[Saved]) -> Result<Vec<Image>, ImageError> {
    let index: Index = json(blobs, "index.json")?;
    let mut images: Vec<Image> = Vec::new();
    for descriptor in &index.manifests {
        let manifest = manifest_for(blobs, descriptor, architecture, 0)?;
        let mut image = from_manifest(blobs, &manifest, architecture)?;
        let named = NAME_ANNOTATIONS.iter().find_map(|key| descriptor.annotations.get(*key));
        // A bare tag, as some tools write it, is no name.
        image.names.extend(named.filter(|name| name.contains(['/', ':'])).cloned());
        if image.names.is_empty() && saved.len() == index.manifests.len() {
            image.names.extend(saved.iter().flat_map(|saved| saved.repo_tags.clone().unwrap_or_default()));
        }
        match images.iter_mut().find(|known| known.digest == image.digest) {
            Some(known) => known.names.append(&mut image.names),
            None => images.push(image),
        }
    }
    Ok(images)
}

/// Follows an index to the manifest for the architecture.
fn manifest_for(blobs: &Blobs, from: &Descriptor, architecture: &str, depth: usize) -> Result<Descriptor, ImageError> {
    let is_index =
        from.media_type.ends_with("image.index.v1+json") || from.media_type.ends_with("manifest.list.v2+json");
    if !is_index {
        return Ok(from.clone());
    }
    if depth >= MAX_DEPTH {
        return Err(ImageError::Nested { path: blobs.path().to_owned() });
    }
    let index: Index = json(blobs, &blob(blobs, from)?)?;
    let platform = |descriptor: &Descriptor| descriptor.platform.as_ref().map(|platform| platform.architecture.clone());
    let fits = |descriptor: &&Descriptor| platform(descriptor).is_none_or(|found| found == architecture);
    match index.manifests.iter().find(fits) {
        Some(next) => manifest_for(blobs, next, architecture, depth + 1),
        None => {
            let found = index.manifests.iter().filter_map(platform).collect::<Vec<_>>().join(", ");
            Err(ImageError::Platform { path: blobs.path().to_owned(), wanted: architecture.to_owned(), found })
        }
    }
}

fn from_manifest(blobs: &Blobs, descriptor: &Descriptor, architecture: &str) -> Result<Image, ImageError> {
    let manifest: Manifest = json(blobs, &blob(blobs, descriptor)?)?;
    let configuration = json(blobs, &blob(blobs, &manifest.config)?)?;
    let layers = manifest.layers.iter().map(|layer| blob(blobs, layer)).collect::<Result<Vec<_>, _>>()?;
    image(blobs, architecture, configuration, layers, descriptor.digest.to_ascii_lowercase())
}

fn from_saved(blobs: &Blobs, architecture: &str, saved: &Saved) -> Result<Image, ImageError> {
    let document = blobs.document(&saved.config)?;
    let digest = format!("sha256:{}", crate::digest::of_bytes(&document));
    let configuration = json(blobs, &saved.config)?;
    let mut image = image(blobs, architecture, configuration, saved.layers.clone(), digest)?;
    image.names = saved.repo_tags.clone().unwrap_or_default();
    Ok(image)
}

fn image(
    blobs: &Blobs,
    architecture: &str,
    configuration: Configuration,
    layers: Vec<String>,
    digest: String,
) -> Result<Image, ImageError> {
    let path = || blobs.path().to_owned();
    if !configuration.architecture.is_empty() && configuration.architecture != architecture {
        return Err(ImageError::Platform {
            path: path(),
            wanted: architecture.to_owned(),
            found: configuration.architecture,
        });
    }
    let diff_ids = &configuration.rootfs.diff_ids;
    if diff_ids.len() != layers.len() {
        return Err(ImageError::Layers { path: path(), manifest: layers.len(), config: diff_ids.len() });
    }
    let layer = |(blob, diff_id): (String, &String)| {
        hex(blobs, diff_id).map(|hex| Layer { blob, diff_id: hex.to_ascii_lowercase() })
    };
    let layers = layers.into_iter().zip(diff_ids).map(layer).collect::<Result<_, _>>()?;
    let config = if configuration.config.is_null() { Value::Object(Default::default()) } else { configuration.config };
    Ok(Image { names: Vec::new(), digest, config, layers })
}
