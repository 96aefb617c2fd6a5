//! Brings a bundle's parts onto a disk: takes what the device has, fetches what it lacks, reads all of it back.
//!
//! Power may fail between any two writes. A slot's manifest is taken away before the first of its blocks changes, and written after
//! the last one was read back, so that a slot that has a manifest is whole. What an attempt wrote stays: the next one finds it in place.

use crate::difference::{self, Old};
use crate::files::Files;
use crate::index::Contents;
use crate::open::{Bundle, InstallError, Source, blocks};
use crate::plan::{self, Present, Way};
use crate::{BLOCK, BLOCKS, BundleError, CHUNK, Part, unpack};
use kedge_config::slot_manifest::{AREA_BYTES, Blob, Digest, ManifestError, SlotManifest, area_offset};
use kedge_config::verity;
use std::collections::HashMap;
use std::io;

/// What is written to: the idle slot's partition, or its boot files.
pub trait Target: Old {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Returns when all that was written would survive a power cut.
    fn sync(&self) -> io::Result<()>;
    /// Bytes that fit, or are there.
    fn size(&self) -> io::Result<u64>;
}

impl Target for std::fs::File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn size(&self) -> io::Result<u64> {
        // A block device tells its size by its end only.
        io::Seek::seek(&mut &*self, io::SeekFrom::End(0))
    }
}

/// What this device runs of a part, and whose manifest tells of it.
pub struct Running<'r> {
    pub bytes: &'r dyn Old,
    pub manifest: &'r SlotManifest,
}

/// How far it is. Given before each request; its error ends the installation where it is.
pub type Ask<'a> = dyn FnMut(&Far) -> Result<(), String> + 'a;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Far {
    /// Bytes fetched, of those that are to be.
    pub fetched: u64,
    pub to_fetch: u64,
    /// Bytes of the next request.
    pub next: u64,
}

/// Installs the system into the partition `slot`. Gives the bytes that were fetched.
pub fn system(
    bundle: &Bundle,
    source: &mut dyn Source,
    slot: &dyn Target,
    running: Option<&Running<'_>>,
    ask: &mut Ask<'_>,
) -> Result<u64, InstallError> {
    let size = slot.size().map_err(InstallError::Slot)?;
    bundle.manifest.fits(size)?;
    let area = area_offset(size).ok_or_else(|| ManifestError::Wrong("partition is too small".into()))?;
    write(slot, &[0; AREA_BYTES as usize], area)?;
    slot.sync().map_err(InstallError::Slot)?;
    let fetched = part(bundle, Part::System, source, slot, running, ask)?;
    write(slot, &bundle.tree.bytes, bundle.manifest.tree_offset)?;
    slot.sync().map_err(InstallError::Slot)?;
    let mut kept = vec![0; bundle.tree.bytes.len()];
    slot.read_at(&mut kept, bundle.manifest.tree_offset).map_err(InstallError::Slot)?;
    if kept != bundle.tree.bytes {
        return Err(InstallError::NotKept { part: "hash tree", blocks: 1 });
    }
    write(slot, bundle.sealed.to_text().as_bytes(), area)?;
    slot.sync().map_err(InstallError::Slot)?;
    Ok(fetched)
}

/// Brings the boot files into `files`, which are as long as the bundle's manifest says, in its order. Each is what was signed when this
/// returns. Nothing may start the slot before.
pub fn boot<F: Target>(
    bundle: &Bundle,
    source: &mut dyn Source,
    files: &[F],
    running: Option<&Running<'_>>,
    ask: &mut Ask<'_>,
) -> Result<u64, InstallError> {
    let target = Files::new(&bundle.manifest, files);
    let fetched = part(bundle, Part::Boot, source, &target, running, ask)?;
    for (known, file) in bundle.manifest.boot.iter().zip(files) {
        if !is_whole(&known.blob, file).map_err(InstallError::Slot)? {
            return Err(InstallError::BootFile(known.path.clone()));
        }
    }
    Ok(fetched)
}

/// Whether `file` begins with what `blob` tells of.
pub fn is_whole(blob: &Blob, file: &dyn Old) -> io::Result<bool> {
    struct From<'f> {
        file: &'f dyn Old,
        at: u64,
        end: u64,
    }
    impl io::Read for From<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let count = (self.end - self.at).min(to.len() as u64) as usize;
            self.file.read_at(to.get_mut(..count).unwrap_or_default(), self.at)?;
            self.at += count as u64;
            Ok(count)
        }
    }
    Ok(Digest::of(From { file, at: 0, end: blob.bytes })? == blob.sha256)
}

/// Brings a part to the start of `target`. Its blocks are on the disk, and read back, when this returns.
pub fn part(
    bundle: &Bundle,
    part: Part,
    source: &mut dyn Source,
    target: &dyn Target,
    running: Option<&Running<'_>>,
    ask: &mut Ask<'_>,
) -> Result<u64, InstallError> {
    let contents = bundle.index.part(part);
    let salt = &bundle.manifest.salt;
    let running_size = running.map_or(0, |running| part.bytes(running.manifest));
    let present = Present {
        running: match running {
            Some(running) => known(running.bytes, running_size, salt).map_err(InstallError::Running)?,
            None => HashMap::new(),
        },
        in_place: in_place(contents, target, salt),
        base: running.and_then(|running| contents.base(&part.digest(running.manifest))),
    };
    let ways = plan::plan(contents, &present);
    let old = running.map(|running| (running.bytes, running_size));
    let job = Job { contents, salt, target, old, present: &present };
    for (chunk, way) in ways.iter().enumerate() {
        if *way == Way::Copy {
            job.copy(chunk)?;
        }
    }
    let requests = plan::requests(&ways);
    let length = |request: &plan::Request| request.bytes.end - request.bytes.start;
    let mut far = Far { to_fetch: requests.iter().map(length).sum(), ..Far::default() };
    for request in &requests {
        far.next = length(request);
        ask(&far).map_err(InstallError::Stopped)?;
        let at = bundle.head.pieces_at() + request.bytes.start;
        let bytes = source.read(at, far.next).map_err(InstallError::Fetch)?;
        for chunk in &request.chunks {
            let Some(Way::Fetch(piece)) = ways.get(*chunk) else { continue };
            let from = usize::try_from(piece.at - request.bytes.start).unwrap_or(usize::MAX);
            let packed = bytes.get(from..).and_then(|bytes| bytes.get(..piece.length as usize));
            let packed = packed.ok_or_else(|| InstallError::Fetch(io::ErrorKind::UnexpectedEof.into()))?;
            job.place(*chunk, packed, piece.base.is_some())?;
        }
        far.fetched += far.next;
    }
    target.sync().map_err(InstallError::Slot)?;
    let lost = in_place(contents, target, salt).iter().filter(|kept| !**kept).count();
    if lost > 0 {
        return Err(InstallError::NotKept { part: part.name(), blocks: lost });
    }
    Ok(far.fetched)
}

fn write(target: &dyn Target, bytes: &[u8], at: u64) -> Result<(), InstallError> {
    target.write_at(bytes, at).map_err(InstallError::Slot)
}

/// Where each block of `old` is, by its hash.
fn known(old: &dyn Old, size: u64, salt: &Digest) -> io::Result<HashMap<Digest, u64>> {
    let mut known = HashMap::new();
    let mut window = vec![0; CHUNK as usize];
    for at in (0..size).step_by(CHUNK as usize) {
        let window = window.get_mut(..(size - at).min(CHUNK) as usize).unwrap_or_default();
        old.read_at(window, at)?;
        for (block, bytes) in (at / BLOCK..).zip(window.chunks(BLOCK as usize)) {
            known.entry(Digest(verity::hash(salt, bytes))).or_insert(block);
        }
    }
    Ok(known)
}

/// Which blocks are at their place. What cannot be read is not.
fn in_place(contents: &Contents, target: &dyn Target, salt: &Digest) -> Vec<bool> {
    let mut found = Vec::with_capacity(contents.hashes.len());
    let mut window = vec![0; CHUNK as usize];
    for (chunk, hashes) in contents.hashes.chunks(BLOCKS as usize).enumerate() {
        let window = window.get_mut(..contents.chunk_bytes(chunk) as usize).unwrap_or_default();
        let read = target.read_at(window, chunk as u64 * CHUNK).is_ok();
        let blocks = window.chunks(BLOCK as usize).zip(hashes);
        found.extend(blocks.map(|(bytes, hash)| read && verity::hash(salt, bytes) == hash.0));
    }
    found
}

struct Job<'j> {
    contents: &'j Contents,
    salt: &'j Digest,
    target: &'j dyn Target,
    /// With its size.
    old: Option<(&'j dyn Old, u64)>,
    present: &'j Present,
}

impl Job<'_> {
    /// Each block that is not in place is one of the running system's.
    fn copy(&self, chunk: usize) -> Result<(), InstallError> {
        let Some((old, size)) = self.old else { return Ok(()) };
        let first = chunk as u64 * BLOCKS;
        for (block, hash) in (first..).zip(self.contents.chunk_hashes(chunk)) {
            let placed = self.present.in_place.get(block as usize).copied().unwrap_or(false);
            let Some(from) = self.present.running.get(hash).filter(|_| !placed) else { continue };
            // A last block that is short counts as filled up with zeros, here and there.
            let mut bytes = [0; BLOCK as usize];
            let there = bytes.get_mut(..(size - from * BLOCK).min(BLOCK) as usize).unwrap_or_default();
            old.read_at(there, from * BLOCK).map_err(InstallError::Running)?;
            let wanted = bytes.get(..(self.contents.size - block * BLOCK).min(BLOCK) as usize).unwrap_or_default();
            write(self.target, wanted, block * BLOCK)?;
        }
        Ok(())
    }

    /// Unpacks a piece, holds it against the chunk's hashes, and writes it.
    fn place(&self, chunk: usize, packed: &[u8], is_difference: bool) -> Result<(), InstallError> {
        let length = self.contents.chunk_bytes(chunk);
        let most = if is_difference { difference::MOST_BYTES } else { length };
        let piece = unpack(packed, most).map_err(BundleError::Piece)?;
        let bytes = match self.old {
            Some((old, _)) if is_difference => difference::apply(&piece, old, length)?,
            _ => piece,
        };
        let hashes = self.contents.chunk_hashes(chunk);
        let right = bytes.len() as u64 == length
            && blocks(length) == hashes.len() as u64
            && bytes.chunks(BLOCK as usize).zip(hashes).all(|(block, hash)| verity::hash(self.salt, block) == hash.0);
        if !right {
            return Err(BundleError::Piece(format!("chunk {chunk} has other bytes than its hashes tell")).into());
        }
        write(self.target, &bytes, chunk as u64 * CHUNK)
    }
}
