//! Container images on this machine: those baked into the system image, used in place, and those imported since.
//!
//! Both kinds have one layout (written by `kedge-image`): `index.json` names images and their layers,
//! `layers/HEX` is an unpacked layer. Nothing here is ever written by a container.

mod passwd;
mod reference;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use passwd::{UserError, resolve_user};
pub use reference::{Reference, ReferenceError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read image index {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("image index {path} is damaged: {source}", path = path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("image index {path}: image {image}: {reason}", path = path.display())]
    Entry { path: PathBuf, image: String, reason: String },
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("image {reference} is not on this machine")]
    NotFound { reference: String },
}

/// One image, ready to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Full references that mean it, as `docker.io/library/busybox:latest`.
    pub names: Vec<String>,
    /// Of the manifest.
    pub digest: String,
    /// Directories, lowest first.
    pub layers: Vec<PathBuf>,
    pub config: Config,
    /// Bytes of the unpacked layers.
    pub size: u64,
}

/// What of an OCI image's `config` object matters to running it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    pub working_dir: String,
    /// `user`, `uid`, `user:group`, `uid:gid`; see [`resolve_user`].
    pub user: String,
    pub stop_signal: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct Index {
    images: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    names: Vec<String>,
    digest: String,
    layers: Vec<String>,
    #[serde(default)]
    config: Option<Config>,
    #[serde(default)]
    size: u64,
}

/// All images of the machine.
#[derive(Debug)]
pub struct Store {
    images: Vec<Image>,
}

impl Store {
    /// Reads the indexes below `baked` and `state`; either may be absent. An image in `state` goes before a baked one of its name.
    pub fn open(baked: &Path, state: &Path) -> Result<Self, Error> {
        let mut images = read(state)?;
        images.extend(read(baked)?);
        Ok(Self { images })
    }

    /// The image a reference means: `busybox`, `docker.io/library/busybox:1.36`, `name@sha256:…`, or a digest alone.
    pub fn resolve(&self, reference: &str) -> Result<&Image, Error> {
        let by_digest = |digest: &str| self.images.iter().find(|image| image.digest == digest);
        let found = if reference.starts_with("sha256:") {
            by_digest(reference)
        } else {
            let reference = Reference::parse(reference)?;
            match &reference.digest {
                Some(digest) => by_digest(digest),
                None => {
                    let name = reference.to_string();
                    self.images.iter().find(|image| image.names.contains(&name))
                }
            }
        };
        found.ok_or_else(|| Error::NotFound { reference: reference.to_owned() })
    }

    pub fn list(&self) -> &[Image] {
        &self.images
    }
}

fn read(root: &Path) -> Result<Vec<Image>, Error> {
    let path = root.join("index.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::Read { path, source }),
    };
    let index: Index = serde_json::from_slice(&text).map_err(|source| Error::Damaged { path: path.clone(), source })?;
    index.images.into_iter().map(|entry| image(root, &path, entry)).collect()
}

fn image(root: &Path, index: &Path, entry: Entry) -> Result<Image, Error> {
    let wrong = |reason| Error::Entry { path: index.to_owned(), image: entry.digest.clone(), reason };
    if entry.layers.is_empty() {
        return Err(wrong("has no layers".to_owned()));
    }
    let mut layers = Vec::with_capacity(entry.layers.len());
    for id in &entry.layers {
        // The id becomes a path: nothing but a digest will do.
        let hex =
            id.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let directory =
            root.join("layers").join(hex.ok_or_else(|| wrong(format!("layer {id:?} is not a sha256 digest")))?);
        if !directory.is_dir() {
            return Err(wrong(format!("layer {} is missing", directory.display())));
        }
        layers.push(directory);
    }
    let mut names = Vec::with_capacity(entry.names.len());
    for name in &entry.names {
        names.push(Reference::parse(name)?.to_string());
    }
    Ok(Image { names, layers, digest: entry.digest, config: entry.config.unwrap_or_default(), size: entry.size })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture(PathBuf);

    impl Fixture {
        fn new(name: &str, index: &str) -> Self {
            let root = std::env::temp_dir().join(format!("kedge-images-{name}-{}", std::process::id()));
            fs::create_dir_all(root.join("layers").join("a".repeat(64))).unwrap();
            fs::write(root.join("index.json"), index).unwrap();
            Self(root)
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn entry(layer: &str) -> String {
        format!(
            r#"{{"images":[{{"names":["docker.io/library/busybox:latest"],"digest":"sha256:{}","layers":["{layer}"],
              "config":{{"Cmd":["sh"],"Env":["A=1"],"Unknown":1}},"size":7}}]}}"#,
            "d".repeat(64)
        )
    }

    #[test]
    fn images_are_found_by_every_way_to_write_them() {
        let baked = Fixture::new("found", &entry(&format!("sha256:{}", "a".repeat(64))));
        let store = Store::open(&baked.0, Path::new("/does/not/exist")).unwrap();
        let digest = format!("sha256:{}", "d".repeat(64));
        for reference in
            ["busybox", "busybox:latest", "library/busybox", "docker.io/busybox", &digest, &format!("x@{digest}")]
        {
            let image = store.resolve(reference).unwrap();
            assert_eq!(image.layers, [baked.0.join("layers").join("a".repeat(64))], "{reference}");
            assert_eq!(image.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        }
        let error = store.resolve("busybox:1.0").unwrap_err().to_string();
        assert_eq!(error, "image busybox:1.0 is not on this machine");
    }

    #[test]
    fn a_damaged_index_tells_what_is_wrong() {
        for (name, index, message) in [
            ("json", "{".to_owned(), "is damaged: EOF"),
            ("path", entry("sha256:../../etc"), "is not a sha256 digest"),
            ("gone", entry(&format!("sha256:{}", "b".repeat(64))), "is missing"),
        ] {
            let baked = Fixture::new(name, &index);
            let error = Store::open(&baked.0, Path::new("/does/not/exist")).unwrap_err().to_string();
            assert!(error.contains(message), "{error:?} lacks {message:?}");
        }
    }
}
