//! An upgrade bundle: one file from which a device takes only what it lacks.
//!
//! ```text
//! 0          512                  │                 │
//! ├─ head ───┼─ slot manifest ────┼─ index (zstd) ──┼─ pieces ─┤
//! ```
//! The manifest is the slot's own, with its signature ([`kedge_config::slot_manifest`]). The index has the hash of each block of 4 KiB of the
//! new system, and where in the file each chunk of 256 KiB of it is to be found: as a whole, and as a difference to what
//! earlier versions have. A device reads head, manifest and index, decides chunk by chunk ([`plan`]), and fetches ranges of the file.
//!
//! What a slot is started by ([`kedge_config::boot_files`]) is one part, all files one after another, each from a whole block on
//! ([`files`]): many small ones cost no more than one, and what did not change is not fetched.
//!
//! Only the manifest is signed. The hashes of the system's blocks are believed because they make the manifest's root hash; the boot files
//! because each has the manifest's digest once it is whole. Until then nothing of the file is believed, and
//! whatever it says costs no more memory than [`MOST_INDEX_BYTES`] and a few chunks.
//!
//! Owns the format, and the order of writes by which a bundle comes onto a disk ([`install`]). Never knows where a bundle comes from, which
//! slot is idle, or when it is time.
#![forbid(unsafe_code)]

pub mod difference;
pub mod files;
pub mod head;
pub mod index;
pub mod install;
pub mod open;
pub mod plan;

use kedge_config::slot_manifest::{Digest, SlotManifest};
use ruzstd::decoding::StreamingDecoder;
use std::io::Read;

/// Of a block: dm-verity's.
pub const BLOCK: u64 = kedge_config::slot_manifest::BLOCK;
/// What a part is cut into. The last one of a part is shorter.
pub const CHUNK: u64 = 256 << 10;
pub const BLOCKS: u64 = CHUNK / BLOCK;
/// Of an index, unpacked: enough for systems of 7 GiB.
pub const MOST_INDEX_BYTES: u64 = 64 << 20;

/// What a bundle holds of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All boot files.
    Boot,
    /// What lies in a slot before the hash tree.
    System,
}

impl Part {
    /// In the order of the file.
    pub const ALL: [Self; 2] = [Self::Boot, Self::System];

    pub fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot files",
            Self::System => "system",
        }
    }

    /// How long `manifest` says that it is.
    pub fn bytes(self, manifest: &SlotManifest) -> u64 {
        match self {
            Self::Boot => manifest.boot_layout().1,
            Self::System => manifest.tree_offset,
        }
    }

    /// By which differences call the one that `manifest` tells of.
    pub fn digest(self, manifest: &SlotManifest) -> Digest {
        match self {
            Self::Boot => manifest.boot_digest(),
            Self::System => manifest.root_hash,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("this is no upgrade bundle: {0}")]
    Head(String),
    #[error("the bundle's index is damaged: {0}")]
    Index(String),
    #[error("a piece of the bundle is damaged: {0}")]
    Piece(String),
}

/// A frame may ask for a window, which is memory, of no less (RFC 8878, 3.1.1.1.2).
const LEAST_WINDOW: u64 = 1024;

/// What `packed` holds, which is no more than `most` bytes.
pub fn unpack(packed: &[u8], most: u64) -> Result<Vec<u8>, String> {
    let mut frame = packed;
    let window = most.next_power_of_two().max(LEAST_WINDOW);
    let decoder = StreamingDecoder::new_with_max_window_size(&mut frame, window).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    decoder.take(most + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > most {
        return Err(format!("it unpacks to more than {most} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let packed = zstd::bulk::compress(&vec![7; 100_000], 19).unwrap();
        assert_eq!(unpack(&packed, 100_000).unwrap(), vec![7; 100_000]);
        assert!(unpack(&packed, 50_000).is_err());
        // A frame that does not tell its length, and one that wants a window of 64 MiB.
        let mut stream = zstd::Encoder::new(Vec::new(), 1).unwrap();
        std::io::Write::write_all(&mut stream, &vec![7; 100_000]).unwrap();
        let open = stream.finish().unwrap();
        assert!(unpack(&open, 100).is_err());
        assert!(unpack(&[0x28, 0xb5, 0x2f, 0xfd, 0, 16 << 3, 1, 0, 0], CHUNK).unwrap_err().contains("indow"));
        assert!(unpack(&packed[..packed.len() - 3], 100_000).is_err());
        assert!(unpack(b"", 100).is_err());
    }
}
