//! A system slot: the squashfs, its hash tree, and the signed manifest at the partition's end.

use crate::digest;
use crate::signing::SigningKey;
use crate::tree::Content;
use kedge_config::boot_files::BootFile;
use kedge_config::slot_manifest::{self, AREA_BYTES, BLOCK, Digest, ManifestError, Sealed, SlotManifest};
use kedge_config::verity;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What the manifest says beside what is worked out from the squashfs.
pub struct About<'a> {
    pub board: &'a str,
    pub kernel_release: &'a str,
    pub version: &'a str,
    pub rollback_index: u64,
    pub boot_id: Digest,
    pub boot: &'a [BootFile],
    pub epoch: u32,
}

pub struct Slot {
    pub manifest: SlotManifest,
    /// Manifest and signature.
    pub text: String,
    /// The superblock's block and the tree. They lie behind the squashfs.
    pub verity: Vec<u8>,
}

/// The slot of the squashfs at `system`. The salt is the squashfs' own digest: the same image has the same tree.
pub fn seal(system: &Path, about: &About<'_>, key: &SigningKey) -> Result<Slot, SlotError> {
    let io = |source| SlotError::Io { path: system.display().to_string(), source };
    let file = File::open(system).map_err(io)?;
    let system_bytes = file.metadata().map_err(io)?.len();
    let sha256 = digest::of_file(system).map_err(io)?;
    let salt = digest::of_bytes_raw(sha256.as_bytes());
    let tree = verity::tree(BufReader::with_capacity(1 << 20, file), &salt).map_err(io)?;
    let blocks = system_bytes.div_ceil(BLOCK);
    let manifest = SlotManifest {
        board: about.board.to_owned(),
        version: about.version.to_owned(),
        kernel_release: about.kernel_release.to_owned(),
        rollback_index: about.rollback_index,
        boot_id: about.boot_id,
        boot: about.boot.to_vec(),
        system_bytes,
        tree_offset: blocks * BLOCK + verity::SUPERBLOCK_BYTES,
        root_hash: tree.root,
        salt,
        epoch: about.epoch,
    };
    let uuid = digest::uuid(&sha256, "verity").into_bytes();
    let mut bytes = verity::superblock(uuid, blocks, &salt);
    bytes.extend(tree.bytes);
    let text = key.seal(&manifest)?.to_text();
    Ok(Slot { manifest, text, verity: bytes })
}

impl Slot {
    /// Bytes of the smallest partition that holds it.
    pub fn needs(&self) -> u64 {
        self.manifest.tree_offset + self.manifest.tree_bytes() + AREA_BYTES
    }

    /// What goes where in a partition of `size` bytes, which is not less than it needs.
    pub fn parts(&self, system: &Path, size: u64) -> Vec<(u64, Content)> {
        let mut area = self.text.clone().into_bytes();
        area.resize(AREA_BYTES as usize, 0);
        vec![
            (0, Content::File(system.to_owned())),
            (self.manifest.tree_offset - verity::SUPERBLOCK_BYTES, Content::bytes(self.verity.clone())),
            (slot_manifest::area_offset(size).unwrap_or(0), Content::bytes(area)),
        ]
    }
}

/// What keeps the bytes of a slot from being what its manifest says; `None` is that they are.
pub fn fault(manifest: &SlotManifest, mut slot: impl Read + Seek) -> io::Result<Option<String>> {
    slot.seek(SeekFrom::Start(manifest.tree_offset))?;
    let mut stored = Vec::new();
    (&mut slot).take(manifest.tree_bytes()).read_to_end(&mut stored)?;
    slot.seek(SeekFrom::Start(0))?;
    let data = (&mut slot).take(manifest.data_blocks() * BLOCK);
    let found = verity::tree(BufReader::with_capacity(1 << 20, data), &manifest.salt)?;
    let differs = |from: usize| {
        let hashes = |bytes: &[u8]| bytes.get(from..).unwrap_or_default().to_vec();
        let (found, stored) = (hashes(&found.bytes), hashes(&stored));
        found.chunks(32).zip(stored.chunks(32)).position(|(found, stored)| found != stored)
    };
    // The level above the data is the last one.
    let last = slot_manifest::levels(manifest.data_blocks()).first().copied().unwrap_or(0) * BLOCK;
    let leaves = found.bytes.len().saturating_sub(usize::try_from(last).unwrap_or(usize::MAX));
    Ok(match (found.root == manifest.root_hash, found.bytes == stored) {
        (true, true) => None,
        (true, false) => Some("the hash tree is damaged, the squashfs is whole".to_owned()),
        (false, _) => Some(match differs(leaves) {
            Some(block) => format!(
                "the squashfs is damaged: block {block} of {} (at byte {}) is not what the hash tree says",
                manifest.data_blocks(),
                block as u64 * BLOCK
            ),
            None => format!("the root hash is {}, the manifest says {}", found.root, manifest.root_hash),
        }),
    })
}

/// What lies at the end of a slot.
pub fn read(mut slot: impl Read + Seek, size: u64) -> io::Result<Result<Sealed, ManifestError>> {
    let mut area = Vec::new();
    slot.seek(SeekFrom::Start(slot_manifest::area_offset(size).unwrap_or(0)))?;
    slot.take(AREA_BYTES).read_to_end(&mut area)?;
    Ok(Sealed::read(&area))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_config::boot_files::Role;
    use kedge_config::slot_manifest::Blob;
    use std::io::Cursor;
    use std::process::Command;

    fn slot(length: usize) -> (tempfile::TempDir, Slot, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("system");
        let data: Vec<u8> = (0..length)
            .map(|at| u8::try_from(at * 31 % 251).unwrap() ^ u8::try_from(at >> 12 & 255).unwrap())
            .collect();
        std::fs::write(&path, &data).unwrap();
        let about = About {
            board: "test",
            kernel_release: "6.1",
            version: "1",
            rollback_index: 3,
            boot_id: Digest([4; 32]),
            boot: &[BootFile {
                role: Role::Unified,
                path: "kedge.efi".into(),
                blob: Blob { bytes: 1, sha256: Digest([3; 32]) },
            }],
            epoch: 7,
        };
        let slot = seal(&path, &about, &SigningKey::from_seed([5; 32])).unwrap();
        let size = slot.needs().next_multiple_of(1 << 20);
        let mut partition = vec![0; size as usize];
        for (at, content) in slot.parts(&path, size) {
            let bytes = content.read().unwrap();
            partition[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
        }
        (folder, slot, partition)
    }

    /// Lengths with one, two and three levels of hashes; a length that fills no block is shown below.
    #[test]
    fn the_tree_and_its_superblock_are_those_of_veritysetup() {
        for blocks in [1, 2, 128, 129, 16_390] {
            let (folder, slot, partition) = slot(blocks * 4096);
            let (data, hashes) = (folder.path().join("system"), folder.path().join("hashes"));
            let uuid = uuid::Uuid::from_slice(&slot.verity[16..32]).unwrap().to_string();
            let mut format = Command::new("veritysetup");
            format.args(["format", "--uuid", &uuid, "--salt", &slot.manifest.salt.to_string()]).arg(&data).arg(&hashes);
            let output = format.output().expect("veritysetup: install cryptsetup-bin");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{output:?}");
            assert!(said.contains(&slot.manifest.root_hash.to_string()), "{blocks}: {said}");
            let theirs = std::fs::read(&hashes).unwrap();
            // It writes only the 512 bytes of the superblock where no tree follows.
            assert!(slot.verity.starts_with(&theirs), "{blocks} blocks");
            assert!(
                slot.verity[theirs.len()..].iter().all(|byte| *byte == 0) && theirs.len() >= 512,
                "{blocks} blocks"
            );

            // And it finds and reads them where they lie in the partition.
            let whole = folder.path().join("partition");
            std::fs::write(&whole, &partition).unwrap();
            let offset = (slot.manifest.tree_offset - 4096).to_string();
            let mut verify = Command::new("veritysetup");
            verify.arg("verify").args([&whole, &whole]).arg(slot.manifest.root_hash.to_string());
            let output = verify.args(["--hash-offset", &offset]).output().unwrap();
            assert!(output.status.success(), "{blocks} blocks: {output:?}");
        }
    }

    #[test]
    fn a_slot_is_whole_until_one_byte_changes() {
        let (_folder, slot, mut partition) = slot(300 * 4096 - 100);
        let size = partition.len() as u64;
        slot.manifest.fits(size).unwrap();
        let manifest = read(Cursor::new(&partition), size).unwrap().unwrap();
        assert_eq!(manifest.open(&[SigningKey::from_seed([5; 32]).public()]).unwrap(), slot.manifest);
        let mut told = |at: u64| {
            partition[at as usize] ^= 1;
            let told = fault(&slot.manifest, Cursor::new(&partition)).unwrap();
            partition[at as usize] ^= 1;
            told.unwrap_or_default()
        };
        assert_eq!(told(size - 1), "");
        assert_eq!(
            told(4096 * 299),
            "the squashfs is damaged: block 299 of 300 (at byte 1224704) is not what the hash tree says"
        );
        assert_eq!(told(slot.manifest.tree_offset + 9), "the hash tree is damaged, the squashfs is whole");
        assert_eq!(told(slot.manifest.tree_offset + 4096), "the hash tree is damaged, the squashfs is whole");
        let error = slot.manifest.fits(slot.needs() - 1).unwrap_err().to_string();
        assert!(error.contains("the partition has"), "{error}");
    }
}
