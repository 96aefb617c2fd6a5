//! A bundle as a device opens it: signature first, then what is not signed is held against what is.

use crate::head::{HEAD_BYTES, Head};
use crate::index::Index;
use crate::{BLOCK, BundleError, Part, unpack};
use kedge_config::signing::Key;
use kedge_config::slot_manifest::{DIGEST_BYTES, ManifestError, Sealed, SlotManifest};
use kedge_config::verity::Tree;
use std::io;

/// Where a bundle lies: a file, or a server that gives ranges of one.
pub trait Source {
    /// These bytes, all of them.
    fn read(&mut self, at: u64, length: u64) -> io::Result<Vec<u8>>;
}

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Worth another try.
    #[error("fetching the bundle: {0}")]
    Fetch(#[source] io::Error),
    /// The bundle will not get better.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    #[error("the bundle is for board {found}, this is {expected}")]
    Board { found: String, expected: String },
    #[error("reading what runs: {0}")]
    Running(#[source] io::Error),
    #[error("writing the slot: {0}")]
    Slot(#[source] io::Error),
    /// What was written reads as something else.
    #[error("{part}: {blocks} of its blocks were not kept by the disk")]
    NotKept { part: &'static str, blocks: usize },
    /// Only the manifest is signed: the index lied.
    #[error("boot file \"{0}\" is not the one that the slot manifest tells of")]
    BootFile(String),
    /// The caller wanted so; what is there stays, and is not fetched again.
    #[error("stopped: {0}")]
    Stopped(String),
}

/// A bundle whose manifest somebody signed who is trusted here.
#[derive(Debug)]
pub struct Bundle {
    pub head: Head,
    pub manifest: SlotManifest,
    pub sealed: Sealed,
    pub index: Index,
    pub tree: Tree,
}

impl Bundle {
    /// Reads everything but the pieces. `board` is this machine's.
    pub fn open(source: &mut dyn Source, keys: &[Key], board: &str) -> Result<Self, InstallError> {
        let head = Head::parse(&source.read(0, HEAD_BYTES).map_err(InstallError::Fetch)?)?;
        let text = source.read(head.manifest_at(), head.manifest).map_err(InstallError::Fetch)?;
        let sealed = Sealed::read(&text)?;
        let manifest = sealed.open(keys)?;
        if manifest.board != board {
            return Err(InstallError::Board { found: manifest.board, expected: board.to_owned() });
        }
        let packed = source.read(head.index_at(), head.index).map_err(InstallError::Fetch)?;
        let index = unpack(&packed, head.index_unpacked).map_err(BundleError::Index)?;
        let index = Index::parse(&index)?;
        for part in Part::ALL {
            let (found, told) = (index.part(part).size, part.bytes(&manifest));
            if found != told {
                let what = format!("{}: {found} bytes, the manifest tells of {told}", part.name());
                return Err(BundleError::Index(what).into());
            }
        }
        let tree = tree(&index, &manifest).ok_or_else(|| {
            BundleError::Index("the hashes of its blocks do not make the manifest's root hash".into())
        })?;
        Ok(Self { head, manifest, sealed, index, tree })
    }
}

/// The tree over the hashes that the index tells, if it is the manifest's.
fn tree(index: &Index, manifest: &SlotManifest) -> Option<Tree> {
    let blocks = usize::try_from(manifest.data_blocks()).ok()?;
    let hashes: Vec<[u8; DIGEST_BYTES]> = index.system.hashes.get(..blocks)?.iter().map(|hash| hash.0).collect();
    Tree::over(hashes, &manifest.salt).filter(|tree| tree.root == manifest.root_hash)
}

/// Blocks of something so long.
pub(crate) fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK)
}
