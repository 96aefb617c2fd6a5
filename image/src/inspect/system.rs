//! What is in a system slot: the squashfs is opened, and every file of it read, so that damage is found here and not on a device.
//! Squashfs has no checksums: what is found is what keeps its reader from reading.

use super::region::Region;
use super::report::{ContainerImage, System};
use crate::oci::bake::BakedIndex;
use backhand::{BackhandError, FilesystemReader, InnerNode, SquashfsFileReader};
use kedge_config::names;
use std::io::{self, BufReader, Read};
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    #[error("no squashfs that can be read: {0}")]
    NoSquashfs(BackhandError),
    #[error("the squashfs is damaged: \"{path}\": {source}")]
    Damaged { path: String, source: io::Error },
    #[error("the squashfs is damaged in a way that its reader does not withstand")]
    Broken,
    #[error("the squashfs says it has {found} bytes, the slot has {size}")]
    TooLong { found: u64, size: u64 },
    #[error("\"{path}\" is no index of images: {source}")]
    Index { path: &'static str, source: serde_json::Error },
}

/// Whether the slot begins with zeros only.
pub fn is_blank(region: &Region<'_>) -> io::Result<bool> {
    let mut head = [0; 4096];
    let count = region.at(0)?.read(&mut head)?;
    Ok(head.iter().take(count).all(|byte| *byte == 0))
}

pub fn look(region: Region<'_>) -> Result<System, SystemError> {
    // The library is fuzzed by its authors, and still it indexes: a panic of it is a damaged file system to us.
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = std::panic::catch_unwind(|| read(region));
    std::panic::set_hook(quiet);
    found.unwrap_or(Err(SystemError::Broken))
}

fn read(region: Region<'_>) -> Result<System, SystemError> {
    let size = region.len();
    let mut superblock = [0; 48];
    let mut start = region.at(0).map_err(|source| damaged("/", source))?;
    start.read_exact(&mut superblock).map_err(|source| damaged("/", source))?;
    // `bytes_used` of the superblock (Linux, `fs/squashfs/squashfs_fs.h`).
    let bytes = superblock.last_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let reader = FilesystemReader::from_reader(BufReader::new(region)).map_err(SystemError::NoSquashfs)?;
    if bytes > size {
        return Err(SystemError::TooLong { found: bytes, size });
    }
    let (mut files, mut unpacked, mut modules) = (0, 0, 0);
    let (mut os_release, mut index, mut kernel_release) = (None, BakedIndex::default(), None);
    let index_path = Path::new(names::IMAGES_DIR).join("index.json");
    for node in reader.files() {
        let path = node.fullpath.as_path();
        if path.parent() == Some(Path::new(names::MODULES_DIR)) {
            kernel_release = path.file_name().map(|name| name.to_string_lossy().into_owned());
        }
        let InnerNode::File(file) = &node.inner else { continue };
        files += 1;
        let wanted = path == index_path || path == Path::new("/usr/lib/os-release");
        let (length, content) =
            content(&reader, file, wanted).map_err(|source| damaged(&path.display().to_string(), source))?;
        unpacked += length;
        modules += u64::from(path.extension().is_some_and(|ending| ending == "ko"));
        if path == index_path {
            index = serde_json::from_slice(&content)
                .map_err(|source| SystemError::Index { path: "/usr/lib/kedge/images/index.json", source })?;
        } else if wanted {
            os_release = Some(String::from_utf8_lossy(&content).into_owned());
        }
    }
    let value = |key: &str| {
        os_release.as_deref()?.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
    };
    let container_images = index
        .images
        .into_iter()
        .map(|image| ContainerImage {
            names: image.names,
            digest: image.digest,
            layers: image.layers.len(),
            size: image.size,
        })
        .collect();
    Ok(System {
        version: value("VERSION_ID"),
        board: value("VARIANT_ID"),
        kernel_release,
        bytes,
        files,
        unpacked,
        modules,
        epoch: reader.mod_time,
        container_images,
    })
}

fn damaged(path: &str, source: io::Error) -> SystemError {
    SystemError::Damaged { path: path.to_owned(), source }
}

/// A file's length, and its bytes where they are wanted.
fn content(reader: &FilesystemReader<'_>, file: &SquashfsFileReader, wanted: bool) -> io::Result<(u64, Vec<u8>)> {
    let mut stream = reader.file(file).reader_checked().map_err(io::Error::other)?;
    let mut kept = Vec::new();
    let length = if wanted { io::copy(&mut stream, &mut kept)? } else { io::copy(&mut stream, &mut io::sink())? };
    if length != file.file_len() as u64 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is cut off"));
    }
    Ok((length, kept))
}
