//! Writes the disk image: the partition table, and each partition's bytes at its place. What is zero stays a hole.

use super::layout::{Kind, Layout, Place, SECTOR, Table};
use crate::digest;
use crate::tree::Content;
use gptman::{GPT, GPTPartitionEntry};
use kedge_config::mbr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path}, partition table: {source}")]
    Table { path: String, source: gptman::Error },
    #[error("partition {name} has {size} bytes, what goes into it has {needed}: raise its size in the board file")]
    TooSmall { name: &'static str, size: u64, needed: u64 },
}

/// A partition's content.
#[derive(Debug)]
pub enum Body {
    Empty,
    /// Parts, each at its offset within the partition, in order. What lies between them is nobody's.
    Parts(Vec<(u64, Content)>),
    /// A file system; only `used` bytes of it count.
    FileSystem {
        path: PathBuf,
        used: Vec<Range<u64>>,
    },
    /// Pieces, each at its offset within the partition. What lies between them is zero.
    Pieces(Vec<(u64, Vec<u8>)>),
}

/// Of an empty partition so much is cleared that no file system of an earlier life is found in it: the superblock that lies farthest in
/// is that of btrfs, at 64 KiB.
const CLEARED: u64 = 128 << 10;

impl Body {
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::Empty => Ok(0),
            Self::FileSystem { path, .. } => Ok(std::fs::metadata(path)?.len()),
            Self::Parts(parts) => parts.iter().try_fold(0, |end, (at, content)| Ok(end.max(at + content.len()?))),
            Self::Pieces(pieces) => Ok(pieces.iter().map(|(at, bytes)| at + bytes.len() as u64).max().unwrap_or(0)),
        }
    }

    /// The bytes of a partition of `size` that somebody will read.
    pub fn meant(&self, size: u64) -> io::Result<Vec<Range<u64>>> {
        Ok(match self {
            Self::Empty => std::iter::once(0..CLEARED.min(size)).collect(),
            Self::FileSystem { used, .. } => used.clone(),
            Self::Parts(parts) => {
                let range = |(at, content): &(u64, Content)| Ok(*at..at + content.len()?);
                parts.iter().map(range).collect::<io::Result<_>>()?
            }
            Self::Pieces(_) => std::iter::once(0..self.len()?).collect(),
        })
    }
}

const CHUNK: usize = 64 << 10;

/// Writes `path`; `bodies` belong to the layout's places, in order. Identifiers are derived from `seed`.
pub fn write(path: &Path, layout: &Layout, bodies: &[Body], seed: &str, wrote: &dyn Fn(u64)) -> Result<(), WriteError> {
    let io = |source| WriteError::Io { path: path.display().to_string(), source };
    for (place, body) in layout.places.iter().zip(bodies) {
        let needed = body.len().map_err(io)?;
        if needed > place.size {
            return Err(WriteError::TooSmall { name: place.name, size: place.size, needed });
        }
    }
    let mut disk = File::options().read(true).write(true).create(true).truncate(true).open(path).map_err(io)?;
    disk.set_len(layout.size).map_err(io)?;
    match layout.table {
        Table::Gpt => gpt(&mut disk, layout, seed)
            .map_err(|source| WriteError::Table { path: path.display().to_string(), source })?,
        Table::Mbr => mbr(&mut disk, layout, seed).map_err(io)?,
    }
    for (place, body) in layout.places.iter().zip(bodies) {
        match body {
            Body::Empty => {}
            Body::FileSystem { path, .. } => {
                let mut from = File::open(path).map_err(io)?;
                sparse(&mut disk, place.start, &mut from, wrote).map_err(io)?;
            }
            Body::Parts(parts) => {
                for (at, content) in parts {
                    let mut from = content.open().map_err(io)?;
                    sparse(&mut disk, place.start + at, &mut from, wrote).map_err(io)?;
                }
            }
            Body::Pieces(pieces) => {
                for (at, bytes) in pieces {
                    sparse(&mut disk, place.start + at, &mut bytes.as_slice(), wrote).map_err(io)?;
                }
            }
        }
    }
    disk.sync_all().map_err(io)
}

/// A GUID in the disk's byte order.
fn guid(seed: &str, name: &str) -> [u8; 16] {
    digest::uuid(seed, name).to_bytes_le()
}

fn mbr(disk: &mut File, layout: &Layout, seed: &str) -> io::Result<()> {
    let entry = |place: &Place| {
        let Place { number, start, size, kind, .. } = *place;
        let Kind::Byte(kind) = kind else { return None };
        Some(mbr::Entry { number, kind, start: start / SECTOR, sectors: size / SECTOR })
    };
    let id = digest::uuid(seed, "disk").as_fields().0;
    let table = mbr::Table { id, entries: layout.places.iter().filter_map(entry).collect() };
    for (sector, bytes) in table.sectors() {
        disk.seek(SeekFrom::Start(sector * SECTOR))?;
        disk.write_all(&bytes)?;
    }
    Ok(())
}

fn gpt(disk: &mut File, layout: &Layout, seed: &str) -> Result<(), gptman::Error> {
    let mut gpt = GPT::new_from(disk, SECTOR, guid(seed, "disk"))?;
    for place in &layout.places {
        let Place { number, name, start, size, kind } = place;
        let Kind::Guid(type_guid) = kind else { continue };
        gpt[*number] = GPTPartitionEntry {
            partition_type_guid: *type_guid,
            unique_partition_guid: guid(seed, name),
            starting_lba: start / SECTOR,
            ending_lba: (start + size) / SECTOR - 1,
            attribute_bits: 0,
            partition_name: (*name).into(),
        };
    }
    gpt.write_into(disk)?;
    GPT::write_protective_mbr_into(disk, SECTOR)
}

fn sparse(disk: &mut File, at: u64, from: &mut dyn Read, wrote: &dyn Fn(u64)) -> io::Result<()> {
    let mut at = at;
    let mut chunk = Vec::with_capacity(CHUNK);
    loop {
        chunk.clear();
        from.take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(());
        }
        if chunk.iter().any(|byte| *byte != 0) {
            disk.seek(SeekFrom::Start(at))?;
            disk.write_all(&chunk)?;
        }
        at += chunk.len() as u64;
        wrote(chunk.len() as u64);
    }
}
