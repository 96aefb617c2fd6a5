//! A bundle as an OCI artifact in a layout folder (image specification 1.1, "Guidance for artifact usage"), which tools such as skopeo and
//! oras copy to a registry. Its one layer is the bundle.

use super::{BundleError, Io, Written};
use crate::digest;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// As `kedge` looks for it.
const BUNDLE: &str = "application/vnd.kedge.bundle.v1";
const ARTIFACT: &str = "application/vnd.kedge.upgrade.v1";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Writes the layout of what was written to the folder `out`, tagged by its version.
pub fn write(written: &Written, out: &Path) -> Result<(), BundleError> {
    let blobs = out.join("blobs/sha256");
    fs::create_dir_all(&blobs).at(&blobs)?;
    let bundle = &written.bundle;
    let sha256 = digest::of_file(bundle).at(bundle)?;
    let layer = blobs.join(&sha256);
    let copy = || {
        let (mut from, mut to) = (File::open(bundle)?, File::create(&layer)?);
        io::copy(&mut from, &mut to)?;
        to.sync_all()
    };
    copy().at(&layer)?;
    let title = bundle.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let layer = json!({"mediaType": BUNDLE, "digest": format!("sha256:{sha256}"), "size": written.bytes,
        "annotations": {"org.opencontainers.image.title": title}});
    let config = blob(&blobs, EMPTY, b"{}")?;
    let annotations = json!({"org.opencontainers.image.version": written.version, "dev.kedge.board": written.board});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": ARTIFACT, "config": config, "layers": [layer],
        "annotations": annotations});
    let mut entry = blob(&blobs, MANIFEST, manifest.to_string().as_bytes())?;
    if let Some(entry) = entry.as_object_mut() {
        entry.insert("artifactType".into(), ARTIFACT.into());
        entry.insert("annotations".into(), json!({"org.opencontainers.image.ref.name": written.version}));
    }
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
    for (name, text) in [("oci-layout", json!({"imageLayoutVersion": "1.0.0"})), ("index.json", index)] {
        let path = out.join(name);
        fs::write(&path, text.to_string()).at(&path)?;
    }
    Ok(())
}

/// Writes a blob; gives its descriptor.
fn blob(folder: &Path, media_type: &str, bytes: &[u8]) -> Result<Value, BundleError> {
    let sha256 = digest::of_bytes(bytes);
    let path = folder.join(&sha256);
    fs::write(&path, bytes).at(&path)?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{sha256}"), "size": bytes.len()}))
}
