//! A device's seed: its machine config, and what it proves itself with. The same files in every form; init looks for them on the FAT partition
//! they end up on.

use super::authority::Identity;
use crate::digest;
use crate::disk::blockmap::{self, BlockMap};
use crate::disk::esp::{self, EspError, Volume};
use crate::disk::layout::{ALIGNMENT, Kind, Layout, Place, Table};
use crate::disk::write::{self, Body, WriteError};
use crate::tree::{Content, Node, Tree, TreeError};
use kedge_config::names;
use std::fs::File;
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error("seed: {0}")]
    Tree(#[from] TreeError),
    #[error("seed: {0}")]
    Fat(#[from] EspError),
    #[error("seed: {0}")]
    Disk(#[from] WriteError),
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

/// Little more than FAT32 needs; nearly all of it is a hole.
const FAT: u64 = 34 << 20;
const LABEL: [u8; 11] = *b"KEDGE-SEED ";

pub fn files(config: &str, identity: Option<&Identity>) -> Result<Tree, SeedError> {
    let origin: Arc<str> = "provisioned".into();
    let mut tree = Tree::new();
    tree.file(names::SEED_MACHINE, 0o600, Content::bytes(config), &origin)?;
    if let Some(identity) = identity {
        tree.file(names::SEED_KEY, 0o600, Content::bytes(identity.key.as_str()), &origin)?;
        tree.file(names::SEED_CERTIFICATE, 0o644, Content::bytes(identity.certificate.as_str()), &origin)?;
        tree.file(names::SEED_AUTHORITY, 0o644, Content::bytes(identity.authority.as_str()), &origin)?;
    }
    Ok(tree)
}

/// A new file that only its owner reads.
pub fn create(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

pub fn archive(files: &Tree, path: &Path) -> Result<(), SeedError> {
    let write = || {
        let mut tar = tar::Builder::new(BufWriter::new(create(path)?));
        for (name, entry) in files.iter() {
            let Node::File(content) = &entry.node else { continue };
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len()?);
            header.set_mode(u32::from(entry.mode));
            tar.append_data(&mut header, name, content.open()?)?;
        }
        tar.into_inner()?.into_inner().map_err(|error| error.into_error())?.sync_all()
    };
    write().map_err(|source| SeedError::Io { path: path.display().to_string(), source })
}

/// A disk with one FAT partition, and its block map. Its identifiers depend on the device's name.
pub fn disk(files: &Tree, name: &str, path: &Path, map: &Path) -> Result<(), SeedError> {
    let io = |source| SeedError::Io { path: path.display().to_string(), source };
    let mut file = create(path).map_err(io)?;
    let kind = Kind::Guid(names::SEED.type_guid);
    let place = Place { number: 1, name: names::SEED.name, start: ALIGNMENT, size: FAT, kind };
    let layout = Layout { size: ALIGNMENT + FAT + ALIGNMENT, table: Table::Gpt, places: vec![place] };
    let volume = Volume { id: digest::uuid(name, "seed").as_fields().0, label: LABEL, start: ALIGNMENT };
    let bodies = [Body::Pieces(esp::make(files, FAT, volume)?)];
    write::write(path, &layout, &bodies, name, &|_| ())?;
    let meant = blockmap::meant(&layout, &bodies).map_err(io)?;
    let found = BlockMap::of(&mut file, layout.size, &meant).map_err(io)?;
    std::fs::write(map, found.to_xml()).map_err(io)
}
