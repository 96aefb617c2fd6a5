//! What a bundle has of each chunk, and the hashes that tell which blocks a device has already.
//!
//! Numbers are little-endian. For each part: its size, its blocks' hashes, the digests of what differences are to, and for each chunk its
//! pieces.

use crate::{BLOCK, BundleError, CHUNK, MOST_INDEX_BYTES, Part};
use kedge_config::slot_manifest::{DIGEST_BYTES, Digest};

/// Of earlier versions that one bundle has differences to.
pub const MOST_BASES: usize = 32;
const LARGEST: u64 = 1 << 40;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub boot: Contents,
    pub system: Contents,
}

/// A part: what is in it, and how to come by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    pub size: u64,
    /// Of the blocks, the last one filled up with zeros: of the salt and the block, as dm-verity's.
    pub hashes: Vec<Digest>,
    /// What differences are to, by [`Part::digest`].
    pub bases: Vec<Digest>,
    /// One list a chunk. The first piece is the chunk itself.
    pub chunks: Vec<Vec<Piece>>,
}

/// Bytes of the file from which a chunk is made, packed with zstd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// A difference to this one of the bases; `None` is the chunk itself.
    pub base: Option<u8>,
    /// From where the pieces begin.
    pub at: u64,
    pub length: u32,
}

impl Index {
    pub fn part(&self, part: Part) -> &Contents {
        match part {
            Part::Boot => &self.boot,
            Part::System => &self.system,
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for contents in Part::ALL.map(|part| self.part(part)) {
            out.extend(contents.size.to_le_bytes());
            contents.hashes.iter().for_each(|hash| out.extend(hash.0));
            out.push(contents.bases.len() as u8);
            contents.bases.iter().for_each(|base| out.extend(base.0));
            for pieces in &contents.chunks {
                out.push(pieces.len() as u8);
                for Piece { base, at, length } in pieces {
                    out.push(base.map_or(0, |base| base + 1));
                    out.extend(at.to_le_bytes());
                    out.extend(length.to_le_bytes());
                }
            }
        }
        out
    }

    /// Takes no more memory than some times the length of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let mut reader = Reader(bytes);
        let [boot, system] = Part::ALL.map(|part| reader.contents(part));
        let index = Self { boot: boot?, system: system? };
        if !reader.0.is_empty() {
            return Err(BundleError::Index(format!("{} bytes follow it", reader.0.len())));
        }
        Ok(index)
    }
}

impl Contents {
    /// Bytes of the chunk.
    pub fn chunk_bytes(&self, chunk: usize) -> u64 {
        self.size.saturating_sub(chunk as u64 * CHUNK).min(CHUNK)
    }

    /// The hashes of the chunk's blocks.
    pub fn chunk_hashes(&self, chunk: usize) -> &[Digest] {
        let blocks = crate::BLOCKS as usize;
        self.hashes.chunks(blocks).nth(chunk).unwrap_or_default()
    }

    /// The number by which pieces call a base.
    pub fn base(&self, digest: &Digest) -> Option<u8> {
        self.bases.iter().position(|base| base == digest).and_then(|at| u8::try_from(at).ok())
    }
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], BundleError> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or_else(|| BundleError::Index("it is cut off".to_owned()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BundleError> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| BundleError::Index("it is cut off".to_owned()))
    }

    fn byte(&mut self) -> Result<u8, BundleError> {
        self.array().map(|[byte]| byte)
    }

    fn digests(&mut self, count: usize) -> Result<Vec<Digest>, BundleError> {
        // Before memory is asked for: what is not there cannot be read.
        let bytes = self.take(count.saturating_mul(DIGEST_BYTES))?;
        let (digests, _) = bytes.as_chunks::<DIGEST_BYTES>();
        Ok(digests.iter().copied().map(Digest).collect())
    }

    fn contents(&mut self, part: Part) -> Result<Contents, BundleError> {
        let wrong = |what: String| BundleError::Index(format!("{}: {what}", part.name()));
        let size = u64::from_le_bytes(self.array()?);
        if !(1..=LARGEST).contains(&size) {
            return Err(wrong(format!("{size} bytes, expected 1 to {LARGEST}")));
        }
        let count = |of: u64| usize::try_from(size.div_ceil(of)).unwrap_or(usize::MAX);
        let hashes = self.digests(count(BLOCK))?;
        let bases = usize::from(self.byte()?);
        if bases > MOST_BASES {
            return Err(wrong(format!("differences to {bases} versions, expected at most {MOST_BASES}")));
        }
        let bases = self.digests(bases)?;
        let mut contents = Contents { size, hashes, bases, chunks: Vec::new() };
        for chunk in 0..count(CHUNK) {
            let pieces = self.pieces(&contents.bases)?;
            if pieces.first().is_none_or(|piece| piece.base.is_some()) {
                return Err(wrong(format!("chunk {chunk} is not there as a whole")));
            }
            contents.chunks.push(pieces);
        }
        Ok(contents)
    }

    fn pieces(&mut self, bases: &[Digest]) -> Result<Vec<Piece>, BundleError> {
        let mut pieces = Vec::new();
        for _ in 0..self.byte()? {
            let base = self.byte()?.checked_sub(1);
            let (at, length) = (u64::from_le_bytes(self.array()?), u32::from_le_bytes(self.array()?));
            let known = base.is_none_or(|base| usize::from(base) < bases.len());
            // A chunk that no compression makes smaller is longer by some bytes.
            if !known || at > LARGEST || u64::from(length) > 2 * CHUNK {
                return Err(BundleError::Index("a piece is told in a way that cannot be".to_owned()));
            }
            pieces.push(Piece { base, at, length });
        }
        Ok(pieces)
    }
}

/// Whether an index over so many bytes could be told.
pub fn fits(bytes: usize) -> bool {
    bytes as u64 <= MOST_INDEX_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contents() -> impl Strategy<Value = Contents> {
        (1..3 * CHUNK, prop::collection::vec(any::<[u8; 32]>(), 0..3), any::<u64>()).prop_map(|(size, bases, seed)| {
            let hash = |n: u64| Digest(std::array::from_fn(|at| (seed >> (at % 8)).wrapping_add(n) as u8));
            let piece = |base: Option<u8>, n: u64| Piece { base, at: n * 7, length: n as u32 + 1 };
            let differences = (0..bases.len() as u8).map(Some);
            Contents {
                size,
                hashes: (0..size.div_ceil(BLOCK)).map(hash).collect(),
                chunks: (0..size.div_ceil(CHUNK))
                    .map(|n| std::iter::once(None).chain(differences.clone()).map(|base| piece(base, n)).collect())
                    .collect(),
                bases: bases.into_iter().map(Digest).collect(),
            }
        })
    }

    proptest! {
        #[test]
        fn an_index_is_read_as_it_is_written(boot in contents(), system in contents()) {
            let index = Index { boot, system };
            let bytes = index.to_bytes();
            prop_assert_eq!(Index::parse(&bytes).unwrap(), index);
            prop_assert!(Index::parse(&bytes[..bytes.len() - 1]).is_err());
            let long = [bytes, vec![0]].concat();
            prop_assert_eq!(Index::parse(&long).unwrap_err().to_string(), "the bundle's index is damaged: 1 bytes follow it");
        }

        #[test]
        fn noise_is_refused_or_written_again_as_it_was(boot in contents(), noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let index = Index { system: boot.clone(), boot };
            let mut bytes = index.to_bytes();
            for (at, byte) in noise {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(read) = Index::parse(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn what_would_take_memory_is_refused_before() {
        let mut bytes = (LARGEST).to_le_bytes().to_vec();
        bytes.extend([0; 100]);
        assert_eq!(Index::parse(&bytes).unwrap_err().to_string(), "the bundle's index is damaged: it is cut off");
        let bytes = u64::MAX.to_le_bytes();
        assert!(Index::parse(&bytes).unwrap_err().to_string().contains("boot files: 18446744073709551615 bytes"));
    }
}
