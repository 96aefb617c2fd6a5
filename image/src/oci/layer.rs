//! One layer: a tar that says what is added to the layers below it and what is taken away (image-spec, `layer.md`).

use super::blobs::{BlobError, Blobs, decompress};
use super::image::Layer;
use crate::digest::Hashing;
use crate::tree::{self, Content, Entry, Node, Tree, TreeError};
use std::cell::Cell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tar::EntryType;

/// Of all images of one build together, unpacked. A system slot is smaller by far; what is larger is a mistake or an attack.
const MAX_UNPACKED: u64 = 8 << 30;
const MAX_ENTRIES: u64 = 1_000_000;
/// Smaller files are kept in memory.
const SMALL: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("{image}, layer {layer}: {source}")]
    Tar { image: String, layer: String, source: io::Error },
    #[error("{image}, layer {layer}: {source}")]
    Path { image: String, layer: String, source: TreeError },
    #[error("{image}, layer {layer}: hard link \"{path}\" to \"{target}\", which the layer does not hold")]
    Link { image: String, layer: String, path: String, target: String },
    #[error("{image}, layer {layer}: the unpacked layer has digest sha256:{found}")]
    Corrupt { image: String, layer: String, found: String },
    #[error("{image}, layer {layer}: images unpack to more than {MAX_UNPACKED} bytes or {MAX_ENTRIES} files")]
    TooLarge { image: String, layer: String },
}

/// Where unpacked files wait to be written; gone when it is dropped.
pub struct Spool {
    folder: tempfile::TempDir,
    files: Cell<u64>,
    bytes: Cell<u64>,
    /// Files whose extended attributes were left out.
    pub bare: Cell<u64>,
}

impl Spool {
    pub fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("kedge-image-").tempdir()?;
        Ok(Self { folder, files: Cell::new(0), bytes: Cell::new(0), bare: Cell::new(0) })
    }

    /// Whether this many more bytes are still acceptable.
    fn allow(&self, bytes: u64) -> bool {
        self.files.set(self.files.get() + 1);
        self.bytes.set(self.bytes.get().saturating_add(bytes));
        self.files.get() <= MAX_ENTRIES && self.bytes.get() <= MAX_UNPACKED
    }

    fn put(&self, length: u64, mut reader: impl Read) -> io::Result<Content> {
        if length <= SMALL {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes)?;
            return Ok(Content::bytes(bytes));
        }
        let path = self.folder.path().join(self.files.get().to_string());
        io::copy(&mut reader, &mut std::fs::File::create(&path)?)?;
        Ok(Content::File(path))
    }
}

/// A layer as a tree, and what it takes away from the layers below.
#[derive(Debug, Default)]
pub struct Unpacked {
    pub tree: Tree,
    pub whiteouts: Vec<PathBuf>,
    /// Directories that hide what lower layers have in them.
    pub opaque: Vec<PathBuf>,
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

pub fn unpack(blobs: &Blobs, layer: &Layer, origin: &Arc<str>, spool: &Spool) -> Result<Unpacked, LayerError> {
    let (image, name) = (blobs.path().to_owned(), layer.diff_id.clone());
    let damaged = |source| LayerError::Tar { image: image.clone(), layer: name.clone(), source };
    let mut stream = Hashing::new(decompress(blobs.reader(&layer.blob)?).map_err(damaged)?);
    let mut into = Into { unpacked: Unpacked::default(), origin, spool, image: &image, layer: &name };
    let mut archive = tar::Archive::new(&mut stream);
    for entry in archive.entries().map_err(damaged)? {
        into.take(entry.map_err(damaged)?)?;
    }
    let unpacked = into.unpacked;
    io::copy(&mut (&mut stream).take(MAX_UNPACKED), &mut io::sink()).map_err(damaged)?;
    let found = stream.finish();
    if found != layer.diff_id {
        return Err(LayerError::Corrupt { image, layer: name, found });
    }
    Ok(unpacked)
}

struct Into<'u> {
    unpacked: Unpacked,
    origin: &'u Arc<str>,
    spool: &'u Spool,
    image: &'u str,
    layer: &'u str,
}

impl Into<'_> {
    fn take<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), LayerError> {
        let (image, layer) = (self.image.to_owned(), self.layer.to_owned());
        let damaged = |source| LayerError::Tar { image: image.clone(), layer: layer.clone(), source };
        let wrong = |source| LayerError::Path { image: image.clone(), layer: layer.clone(), source };
        let too_large = || LayerError::TooLarge { image: image.clone(), layer: layer.clone() };
        let Some(path) = tree::inside(&entry.path().map_err(damaged)?).map_err(wrong)? else { return Ok(()) };
        if self.is_whiteout(&path) {
            return Ok(());
        }
        if entry
            .pax_extensions()
            .ok()
            .flatten()
            .is_some_and(|all| all.flatten().any(|one| one.key_bytes().starts_with(b"SCHILY.xattr.")))
        {
            self.spool.bare.set(self.spool.bare.get() + 1);
        }
        let kind = entry.header().entry_type();
        let length = if kind.is_file() { entry.size() } else { 0 };
        if !self.spool.allow(length) {
            return Err(too_large());
        }
        let device = |entry: &tar::Entry<'_, R>| {
            let header = entry.header();
            Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
        };
        let node = match kind {
            EntryType::Directory => Node::Directory,
            EntryType::Symlink => {
                let target = entry.link_name().map_err(damaged)?.map(|target| target.into_owned());
                Node::Symlink(target.unwrap_or_default())
            }
            EntryType::Link => return self.link(&path, entry.link_name().map_err(damaged)?.as_deref()),
            EntryType::Char => {
                device(&entry).map(|(major, minor)| Node::Character { major, minor }).map_err(damaged)?
            }
            EntryType::Block => device(&entry).map(|(major, minor)| Node::Block { major, minor }).map_err(damaged)?,
            EntryType::Fifo => Node::Fifo,
            kind if kind.is_file() => Node::File(self.spool.put(length, &mut entry).map_err(damaged)?),
            // Global headers and the like hold no file.
            _ => return Ok(()),
        };
        let header = entry.header();
        let number = |value: u64| u32::try_from(value).map_err(|_| damaged(io::Error::other("owner out of range")));
        let made = Entry {
            node,
            mode: (header.mode().map_err(damaged)? & 0o7777) as u16,
            uid: number(header.uid().map_err(damaged)?)?,
            gid: number(header.gid().map_err(damaged)?)?,
            mtime: Some(u32::try_from(header.mtime().map_err(damaged)?).unwrap_or(u32::MAX)),
            origin: Arc::clone(self.origin),
        };
        self.unpacked.tree.insert(path, made).map_err(wrong)
    }

    /// Notes a marker of something taken away.
    fn is_whiteout(&mut self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let folder = path.parent().unwrap_or(Path::new(""));
        if name == OPAQUE {
            self.unpacked.opaque.push(folder.to_owned());
            return true;
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else { return false };
        let hidden = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(hidden);
        // Further `.wh..wh.` names are bookkeeping of aufs.
        if !hidden.as_encoded_bytes().starts_with(WHITEOUT) && !matches!(hidden.as_encoded_bytes(), b"" | b"." | b"..")
        {
            self.unpacked.whiteouts.push(folder.join(hidden));
        }
        true
    }

    /// The same content under another name; squashfs stores equal contents once.
    fn link(&mut self, path: &Path, target: Option<&Path>) -> Result<(), LayerError> {
        let (image, layer) = (self.image.to_owned(), self.layer.to_owned());
        let target = target.unwrap_or(Path::new(""));
        let clean = tree::inside(target).map_err(|source| LayerError::Path {
            image: image.clone(),
            layer: layer.clone(),
            source,
        })?;
        let Some(entry) = clean.and_then(|clean| self.unpacked.tree.get(&clean)).cloned() else {
            let (path, target) = (path.display().to_string(), target.display().to_string());
            return Err(LayerError::Link { image, layer, path, target });
        };
        self.unpacked.tree.insert(path, entry).map_err(|source| LayerError::Path { image, layer, source })
    }
}

/// All layers of an image in one, lowest first: what upper layers take away is gone.
pub fn flatten(layers: Vec<Unpacked>) -> Result<Tree, TreeError> {
    let mut merged = Tree::new();
    for layer in layers {
        for path in &layer.opaque {
            merged.remove_below(path);
        }
        for path in &layer.whiteouts {
            merged.remove(path);
        }
        merged.graft(Path::new(""), layer.tree)?;
    }
    Ok(merged)
}
