//! dm-verity's hash tree, format 1 with SHA-256 (Linux, `Documentation/admin-guide/device-mapper/verity.rst`; the superblock is veritysetup's,
//! `lib/verity/verity.c` of cryptsetup).
//!
//! Each block of data has a hash, 128 hashes fill a block, each such block has a hash again, until one is left: the root's. On disk the level
//! that the root hash is of comes first and the one above the data last. A hash is of the salt and then the block.

use crate::slot_manifest::{BLOCK, DIGEST_BYTES, Digest};
use ring::digest::{Context, SHA256};
use std::io::{self, Read};

const BLOCK_BYTES: usize = BLOCK as usize;
/// Bytes that a superblock takes before its tree: a whole block.
pub const SUPERBLOCK_BYTES: u64 = BLOCK;
const SALT_ROOM: usize = 256;
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    pub root: Digest,
    /// Of whole blocks; none where one block of data needs no tree.
    pub bytes: Vec<u8>,
}

/// Of a block; one that is shorter counts as filled up with zeros.
pub fn hash(salt: &Digest, block: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut state = Context::new(&SHA256);
    state.update(&salt.0);
    state.update(block);
    state.update(ZEROS.get(block.len()..).unwrap_or_default());
    let mut digest = [0; DIGEST_BYTES];
    digest.iter_mut().zip(state.finish().as_ref()).for_each(|(to, from)| *to = *from);
    digest
}

/// The tree over all that `data` gives. The last block is filled up with zeros.
pub fn tree(mut data: impl Read, salt: &Digest) -> io::Result<Tree> {
    let mut hashes = Vec::new();
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    loop {
        block.clear();
        (&mut data).take(BLOCK).read_to_end(&mut block)?;
        if block.is_empty() {
            break;
        }
        hashes.push(hash(salt, &block));
    }
    Tree::over(hashes, salt).ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no data"))
}

impl Tree {
    /// The tree over blocks with these hashes; `None` where there is none.
    pub fn over(mut hashes: Vec<[u8; DIGEST_BYTES]>, salt: &Digest) -> Option<Self> {
        // The one above the data first; turned round at the end.
        let mut levels: Vec<Vec<u8>> = Vec::new();
        while hashes.len() > 1 {
            let mut level = hashes.concat();
            level.resize(level.len().next_multiple_of(BLOCK_BYTES), 0);
            hashes = level.chunks(BLOCK_BYTES).map(|block| hash(salt, block)).collect();
            levels.push(level);
        }
        let root = Digest(*hashes.first()?);
        levels.reverse();
        Some(Self { root, bytes: levels.concat() })
    }
}

/// What tools other than Kedge look for in the block before a tree. Kedge itself takes all of it from the signed manifest.
pub fn superblock(uuid: [u8; 16], data_blocks: u64, salt: &Digest) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    block.extend_from_slice(b"verity\0\0");
    // Of the superblock, and of the tree.
    for version in [1_u32, 1] {
        block.extend_from_slice(&version.to_le_bytes());
    }
    block.extend_from_slice(&uuid);
    block.extend(b"sha256".iter().copied().chain(std::iter::repeat(0)).take(32));
    for size in [BLOCK as u32; 2] {
        block.extend_from_slice(&size.to_le_bytes());
    }
    block.extend_from_slice(&data_blocks.to_le_bytes());
    block.extend_from_slice(&(DIGEST_BYTES as u16).to_le_bytes());
    block.extend_from_slice(&[0; 6]);
    block.extend(salt.0.into_iter().chain(std::iter::repeat(0)).take(SALT_ROOM));
    block.resize(BLOCK_BYTES, 0);
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot_manifest::levels;

    const SALT: Digest = Digest([7; DIGEST_BYTES]);

    #[test]
    fn a_tree_has_the_blocks_that_its_levels_say() {
        for blocks in [1, 2, 127, 128, 129, 16_384, 16_385] {
            let tree = tree(io::repeat(3).take(blocks * BLOCK), &SALT).unwrap();
            assert_eq!(tree.bytes.len() as u64, levels(blocks).iter().sum::<u64>() * BLOCK, "{blocks}");
        }
        assert!(tree(io::empty(), &SALT).is_err());
    }

    #[test]
    fn every_byte_and_the_salt_count_and_the_end_is_zeros() {
        let root = |data: &[u8], salt| tree(data, salt).unwrap().root;
        let mut data = vec![1; 5 * BLOCK_BYTES];
        let before = root(&data, &SALT);
        assert_ne!(before, root(&data, &Digest([8; DIGEST_BYTES])));
        for at in [0, BLOCK_BYTES, data.len() - 1] {
            data[at] ^= 1;
            assert_ne!(root(&data, &SALT), before);
            data[at] ^= 1;
        }
        let short = root(&data[..4 * BLOCK_BYTES + 9], &SALT);
        data[4 * BLOCK_BYTES + 9..].fill(0);
        assert_eq!(root(&data, &SALT), short);
    }
}
