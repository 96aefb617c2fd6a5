//! Makes a container image of one layer from a folder: the way to an image without any registry. Owners become root and times the
//! epoch's, so that the same files give the same image.

use super::reference::{self, ReferenceError};
use crate::digest;
use serde_json::json;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum FromDirError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error(transparent)]
    Name(#[from] ReferenceError),
    #[error("{0}: sockets and devices cannot be put into an image")]
    Special(String),
    #[error("{0} is not empty")]
    NotEmpty(String),
}

/// The image to make.
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    pub name: String,
    /// OCI's name of the architecture.
    pub architecture: String,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    /// Seconds since 1970.
    pub epoch: u64,
}

struct File {
    name: String,
    bytes: Vec<u8>,
}

/// Writes an OCI layout to `out`: a tar file where the name ends in `.tar`, else a folder. Gives the manifest's digest.
pub fn make(folder: &Path, recipe: &Recipe, out: &Path) -> Result<String, FromDirError> {
    let name = reference::full(&recipe.name)?;
    let layer = pack(folder, recipe.epoch)?;
    let diff_id = digest::of_bytes(&layer);
    let lists = [("Entrypoint", &recipe.entrypoint), ("Cmd", &recipe.cmd), ("Env", &recipe.env)];
    let mut config = serde_json::Map::new();
    config.extend(
        lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key.to_owned(), json!(list))),
    );
    let texts = [("WorkingDir", &recipe.workdir), ("User", &recipe.user)];
    config.extend(texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), json!(text.as_ref()?)))));
    let configuration = json!({
        "architecture": recipe.architecture, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
    });
    let configuration = configuration.to_string().into_bytes();
    let describe = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{}", digest::of_bytes(bytes)), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("config.v1+json", &configuration), "layers": [describe("layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut top = describe("manifest.v1+json", &manifest);
    if let Some(top) = top.as_object_mut() {
        let tag = name.rsplit(':').next().unwrap_or_default();
        top.insert(
            "annotations".into(),
            json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag}),
        );
    }
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [top]});
    let digest = digest::of_bytes(&manifest);
    let mut files = vec![
        File { name: "oci-layout".into(), bytes: json!({"imageLayoutVersion": "1.0.0"}).to_string().into_bytes() },
        File { name: "index.json".into(), bytes: index.to_string().into_bytes() },
    ];
    let blob = |bytes: Vec<u8>| File { name: format!("blobs/sha256/{}", digest::of_bytes(&bytes)), bytes };
    files.extend([blob(manifest), blob(configuration), blob(layer)]);
    let io = |source| FromDirError::Io { path: out.display().to_string(), source };
    if out.extension().is_some_and(|ending| ending == "tar") {
        write_tar(&files, recipe.epoch, out).map_err(io)?;
    } else {
        write_folder(&files, out)?;
    }
    Ok(format!("sha256:{digest}"))
}

fn write_tar(files: &[File], epoch: u64, out: &Path) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::new(std::fs::File::create(out)?));
    for file in files {
        let mut header = header(tar::EntryType::Regular, 0o644, epoch);
        header.set_size(file.bytes.len() as u64);
        tar.append_data(&mut header, &file.name, file.bytes.as_slice())?;
    }
    tar.into_inner()?.flush()
}

fn write_folder(files: &[File], out: &Path) -> Result<(), FromDirError> {
    let io = |source| FromDirError::Io { path: out.display().to_string(), source };
    if out.exists() && std::fs::read_dir(out).map_err(io)?.next().is_some() && !out.join("oci-layout").exists() {
        return Err(FromDirError::NotEmpty(out.display().to_string()));
    }
    std::fs::create_dir_all(out.join("blobs/sha256")).map_err(io)?;
    files.iter().try_for_each(|file| std::fs::write(out.join(&file.name), &file.bytes).map_err(io))
}

fn header(kind: tar::EntryType, mode: u32, epoch: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(epoch);
    header.set_size(0);
    header
}

/// The folder as a tar, sorted.
fn pack(folder: &Path, epoch: u64) -> Result<Vec<u8>, FromDirError> {
    let mut paths = Vec::new();
    collect(folder, &mut paths)?;
    paths.sort();
    let mut tar = tar::Builder::new(Vec::new());
    for path in &paths {
        let io = |source| FromDirError::Io { path: path.display().to_string(), source };
        let name = path.strip_prefix(folder).unwrap_or(path);
        let about = path.symlink_metadata().map_err(io)?;
        let (kind, mode) = (about.file_type(), about.permissions().mode() & 0o7777);
        if kind.is_dir() {
            tar.append_data(&mut header(tar::EntryType::Directory, mode, epoch), name, io::empty()).map_err(io)?;
        } else if kind.is_symlink() {
            let target = std::fs::read_link(path).map_err(io)?;
            tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, epoch), name, target).map_err(io)?;
        } else if kind.is_file() {
            let bytes = std::fs::read(path).map_err(io)?;
            let mut header = header(tar::EntryType::Regular, mode, epoch);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes.as_slice()).map_err(io)?;
        } else if kind.is_fifo() {
            tar.append_data(&mut header(tar::EntryType::Fifo, mode, epoch), name, io::empty()).map_err(io)?;
        } else {
            return Err(FromDirError::Special(path.display().to_string()));
        }
    }
    tar.into_inner().map_err(|source| FromDirError::Io { path: folder.display().to_string(), source })
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> Result<(), FromDirError> {
    let io = |source| FromDirError::Io { path: folder.display().to_string(), source };
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        into.push(entry.path());
        if entry.file_type().map_err(io)?.is_dir() {
            collect(&entry.path(), into)?;
        }
    }
    Ok(())
}
