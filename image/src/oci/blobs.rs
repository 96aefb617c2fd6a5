//! The files of an image archive by name: in a folder (OCI layout) or within a tar file, compressed or not. A tar is read once
//! for its table of contents; what it holds is then read from its place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Indexes, manifests and configurations; the OCI distribution specification lets registries refuse more than 4 MiB.
const MAX_DOCUMENT: u64 = 8 << 20;
const MAX_ENTRIES: usize = 100_000;
/// A compressed archive is unpacked to the temporary folder, up to this.
const MAX_ARCHIVE: u64 = 16 << 30;

#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error(
        "{path} is no container image: expected an OCI layout (folder or tar) or an archive of \"docker save\": {source}"
    )]
    NotAnArchive { path: String, source: io::Error },
    #[error("{path}: more than {MAX_ENTRIES} files")]
    TooMany { path: String },
    #[error("{path}: unpacks to more than {MAX_ARCHIVE} bytes")]
    TooLarge { path: String },
    #[error("{path} has no \"{name}\" in it")]
    Missing { path: String, name: String },
    #[error("{path}, \"{name}\": more than {MAX_DOCUMENT} bytes")]
    Document { path: String, name: String },
}

pub struct Blobs {
    /// What messages call it.
    path: String,
    kind: Kind,
}

enum Kind {
    Folder(PathBuf),
    Archive { file: File, index: BTreeMap<String, (u64, u64)> },
}

impl Blobs {
    pub fn open(path: &Path) -> Result<Self, BlobError> {
        let name = path.display().to_string();
        let io = |source| BlobError::Io { path: name.clone(), source };
        if std::fs::metadata(path).map_err(io)?.is_dir() {
            return Ok(Self { path: name, kind: Kind::Folder(path.to_owned()) });
        }
        let file = plain(File::open(path).map_err(io)?, &name)?;
        let index = index(&file, &name)?;
        Ok(Self { path: name, kind: Kind::Archive { file, index } })
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn has(&self, name: &str) -> bool {
        match &self.kind {
            Kind::Folder(folder) => folder.join(name).is_file(),
            Kind::Archive { index, .. } => index.contains_key(name),
        }
    }

    /// `name` comes from a person's file: the caller has checked that it cannot lead out of a folder.
    pub fn reader(&self, name: &str) -> Result<Box<dyn Read + '_>, BlobError> {
        let io = |source| BlobError::Io { path: self.path.clone(), source };
        let missing = || BlobError::Missing { path: self.path.clone(), name: name.to_owned() };
        match &self.kind {
            Kind::Folder(folder) => match File::open(folder.join(name)) {
                Ok(file) => Ok(Box::new(BufReader::new(file))),
                Err(source) if source.kind() == io::ErrorKind::NotFound => Err(missing()),
                Err(source) => Err(io(source)),
            },
            Kind::Archive { file, index } => {
                let (start, length) = *index.get(name).ok_or_else(missing)?;
                let mut file = file;
                file.seek(SeekFrom::Start(start)).map_err(io)?;
                Ok(Box::new(BufReader::new(file.take(length))))
            }
        }
    }

    /// A small file, whole.
    pub fn document(&self, name: &str) -> Result<Vec<u8>, BlobError> {
        let mut bytes = Vec::new();
        let io = |source| BlobError::Io { path: self.path.clone(), source };
        self.reader(name)?.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(BlobError::Document { path: self.path.clone(), name: name.to_owned() });
        }
        Ok(bytes)
    }
}

/// Undoes compression that the first bytes tell of.
pub fn decompress<'r>(mut reader: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut head = Vec::new();
    (&mut reader).take(6).read_to_end(&mut head)?;
    let whole = io::Cursor::new(head.clone()).chain(reader);
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(whole)?),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(xz2::read::XzDecoder::new_multi_decoder(whole)),
        _ => Box::new(whole),
    })
}

/// The file itself, or a temporary one with what it holds decompressed.
fn plain(mut file: File, path: &str) -> Result<File, BlobError> {
    let io = |source| BlobError::Io { path: path.to_owned(), source };
    let mut head = Vec::new();
    (&file).take(6).read_to_end(&mut head).map_err(io)?;
    file.rewind().map_err(io)?;
    if !matches!(head.as_slice(), [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xfd, b'7', b'z', ..]) {
        return Ok(file);
    }
    let mut unpacked = tempfile::tempfile().map_err(io)?;
    let reader = decompress(BufReader::new(file)).map_err(io)?;
    let damaged = |source| BlobError::NotAnArchive { path: path.to_owned(), source };
    let length = io::copy(&mut reader.take(MAX_ARCHIVE + 1), &mut unpacked).map_err(damaged)?;
    if length > MAX_ARCHIVE {
        return Err(BlobError::TooLarge { path: path.to_owned() });
    }
    Ok(unpacked)
}

/// Where each file of the archive lies. Older "docker save" archives hold equal layers as links to one.
fn index(file: &File, path: &str) -> Result<BTreeMap<String, (u64, u64)>, BlobError> {
    let damaged = |source| BlobError::NotAnArchive { path: path.to_owned(), source };
    let mut file = file;
    let end = file.seek(SeekFrom::End(0)).map_err(damaged)?;
    file.rewind().map_err(damaged)?;
    let mut index = BTreeMap::new();
    let mut links = Vec::new();
    for entry in tar::Archive::new(BufReader::new(file)).entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let clean = |path: &Path| {
            path.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect::<PathBuf>()
        };
        let name = entry.path().map_err(damaged)?.into_owned();
        if let Ok(Some(target)) = entry.link_name() {
            let beside = name.parent().unwrap_or(Path::new("")).join(&target);
            links.push((clean(&name).display().to_string(), lexical(&beside).display().to_string()));
        } else if entry.header().entry_type().is_file() {
            let place = (entry.raw_file_position(), entry.size());
            if place.0.saturating_add(place.1) > end {
                return Err(damaged(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off")));
            }
            index.insert(clean(&name).display().to_string(), place);
        }
        if index.len() + links.len() > MAX_ENTRIES {
            return Err(BlobError::TooMany { path: path.to_owned() });
        }
    }
    for (name, target) in links {
        if let Some(place) = index.get(&target).copied() {
            index.insert(name, place);
        }
    }
    Ok(index)
}

/// `a/../b` is `b`; only names of the table of contents are looked up with it.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, *bytes).unwrap();
        }
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        tar.append_link(&mut link, "two/layer.tar", "../one/layer.tar").unwrap();
        tar.into_inner().unwrap()
    }

    #[test]
    fn files_links_and_compression_are_seen_through() {
        let folder = tempfile::tempdir().unwrap();
        let plain = archive(&[("index.json", b"{}"), ("one/layer.tar", b"layer")]);
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        for (name, bytes) in [("a.tar", &plain), ("a.tar.zst", &zstd)] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let blobs = Blobs::open(&path).unwrap();
            assert_eq!(blobs.document("index.json").unwrap(), b"{}");
            assert_eq!(blobs.document("two/layer.tar").unwrap(), b"layer");
            assert!(!blobs.has("nothing"));
            assert!(matches!(blobs.document("nothing"), Err(BlobError::Missing { .. })));
        }
    }

    #[test]
    fn other_files_and_cut_archives_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let whole = archive(&[("one/layer.tar", &[7; 5000])]);
        for bytes in [&b"hello, I am no archive at all, whatever my name says"[..], &whole[..2000]] {
            std::fs::write(&path, bytes).unwrap();
            let error = Blobs::open(&path).err().expect("refused").to_string();
            assert!(error.contains("a.tar") && error.contains("is no container image"), "{error}");
        }
    }
}
