//! A system as bundles are made of it: from a disk image, or from the bundle of an earlier version.

use super::{BundleError, Io as _};
use crate::assemble::slot;
use crate::inspect::Disk;
use kedge_bundle::head::{HEAD_BYTES, Head};
use kedge_bundle::index::Index;
use kedge_bundle::{Part, unpack};
use kedge_config::names;
use kedge_config::slot::SlotName;
use kedge_config::slot_manifest::{Digest, Sealed, SlotManifest};
use kedge_config::verity;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub struct System {
    pub manifest: SlotManifest,
    /// With its signature.
    pub sealed: String,
    /// The boot files one after another, see [`SlotManifest::boot_layout`].
    pub boot: Vec<u8>,
    /// What lies in the slot before the hash tree.
    pub system: Vec<u8>,
}

impl System {
    pub fn part(&self, part: Part) -> &[u8] {
        match part {
            Part::Boot => &self.boot,
            Part::System => &self.system,
        }
    }

    /// The hashes of a part's blocks, as the manifest of `new` salts them.
    pub fn hashes(&self, part: Part, salt: &Digest) -> Vec<Digest> {
        self.part(part).chunks(kedge_bundle::BLOCK as usize).map(|block| Digest(verity::hash(salt, block))).collect()
    }

    /// A bundle or a disk image, whichever lies there.
    pub fn read(path: &Path) -> Result<Self, BundleError> {
        let mut start = [0; HEAD_BYTES as usize];
        let file = File::open(path).at(path)?;
        let bundle = file.read_exact_at(&mut start, 0).is_ok() && start.starts_with(b"kedge bundle ");
        let system = if bundle { Self::of_bundle(path, &file, &start) } else { Self::of_image(path) }?;
        system.check().map_err(|what| BundleError::Damaged { path: path.display().to_string(), what })?;
        Ok(system)
    }

    /// Slot A of a disk image: what the image tool writes.
    fn of_image(path: &Path) -> Result<Self, BundleError> {
        let disk = Disk::open(path)?;
        let region = disk.region(names::SYSTEM_A.name)?;
        let read = |offset: u64, length: u64| {
            let mut bytes = Vec::new();
            region.at(offset).and_then(|region| region.take(length).read_to_end(&mut bytes)).at(path).map(|_| bytes)
        };
        let sealed =
            slot::read(region, region.len()).at(path)?.map_err(|source| BundleError::manifest(path, source))?;
        let manifest = sealed.unverified().map_err(|source| BundleError::manifest(path, source))?;
        let mut boot = Vec::new();
        for file in &manifest.boot {
            boot.extend(disk.slot_file(SlotName::A, &file.path)?);
            boot.resize(boot.len().next_multiple_of(kedge_bundle::BLOCK as usize), 0);
        }
        Ok(Self { sealed: sealed.to_text(), boot, system: read(0, manifest.tree_offset)?, manifest })
    }

    fn of_bundle(path: &Path, file: &File, start: &[u8]) -> Result<Self, BundleError> {
        let damaged = |what: String| BundleError::Damaged { path: path.display().to_string(), what };
        let wrong = |error: kedge_bundle::BundleError| damaged(error.to_string());
        let read = |at: u64, length: u64| {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
            file.read_exact_at(&mut bytes, at).at(path).map(|()| bytes)
        };
        let head = Head::parse(start).map_err(wrong)?;
        let text = read(head.manifest_at(), head.manifest)?;
        let sealed = Sealed::read(&text).map_err(|source| BundleError::manifest(path, source))?;
        let manifest = sealed.unverified().map_err(|source| BundleError::manifest(path, source))?;
        let packed = read(head.index_at(), head.index)?;
        let index = unpack(&packed, head.index_unpacked).map_err(damaged)?;
        let index = Index::parse(&index).map_err(wrong)?;
        let whole = |part: Part| {
            let contents = index.part(part);
            let mut bytes = Vec::new();
            for piece in contents.chunks.iter().filter_map(|pieces| pieces.first()) {
                let packed = read(head.pieces_at() + piece.at, u64::from(piece.length))?;
                bytes.extend(unpack(&packed, kedge_bundle::CHUNK).map_err(damaged)?);
            }
            Ok::<_, BundleError>(bytes)
        };
        let [boot, system] = Part::ALL.map(whole);
        let read = Self { sealed: sealed.to_text(), manifest, boot: boot?, system: system? };
        let hashed = |part: &Part| read.hashes(*part, &read.manifest.salt) == index.part(*part).hashes;
        if !Part::ALL.iter().all(hashed) {
            return Err(damaged("the index has other hashes than the blocks".to_owned()));
        }
        Ok(read)
    }

    /// Whether the parts are those that the manifest tells of.
    fn check(&self) -> Result<(), String> {
        for (file, place) in self.manifest.boot.iter().zip(self.manifest.boot_layout().0) {
            let place = usize::try_from(place.start).ok().zip(usize::try_from(place.end).ok());
            let bytes = place.and_then(|(start, end)| self.boot.get(start..end)).unwrap_or_default();
            if crate::digest::of_bytes_raw(bytes) != file.blob.sha256 {
                return Err(format!("boot file \"{}\" is not the one that the slot manifest tells of", file.path));
            }
        }
        let data = self.manifest.data_blocks() * kedge_bundle::BLOCK;
        let tree = verity::tree(self.system.as_slice().take(data), &self.manifest.salt);
        match tree {
            Ok(tree) if tree.root == self.manifest.root_hash => Ok(()),
            _ => Err("the system is not the one that the slot manifest tells of".to_owned()),
        }
    }
}
