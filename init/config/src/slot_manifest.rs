//! The signed manifest of a system slot: what lies in it, to the bit, and who says so.
//!
//! A slot is the squashfs, the dm-verity hash tree behind it, and in the last [`AREA_BYTES`] of the partition the manifest. The manifest holds
//! the tree's root hash, so that one signature vouches for every block; and the digests of the files that start it, see [`crate::boot_files`].
//!
//! ```text
//! 0            systemBytes   treeOffset             partition − 64 KiB
//! ├─ squashfs ─┤ (zero)      ├─ hash tree ─┤ (unused) ├─ manifest, signature, zeros ─┤
//! ```
//! It is text of one form only: named lines in a fixed order, then the signature's. What is not byte for byte what
//! [`SlotManifest::body`] would have written is refused, so that there are no two readings of one signature. Whoever boots from it or writes it
//! onto a disk goes through [`Sealed::open`], which looks at nothing before the signature was found good.

use crate::boot_files::{self, BootFile, Role};
use crate::signing::{Key, KeyId, SIGNATURE_BYTES, SignatureError};
use ring::digest::{Context, SHA256};
use std::fmt;
use std::io::{self, Read};

/// At the end of a system partition.
pub const AREA_BYTES: u64 = 64 << 10;
/// Of the manifest with its signature: enough for [`boot_files::MOST`] of them.
pub const MOST_BYTES: usize = 56 << 10;
/// dm-verity's, for data and for hashes.
pub const BLOCK: u64 = 4096;
/// Of a SHA-256, and of the salt.
pub const DIGEST_BYTES: usize = 32;
/// No slot is larger: what comes of lengths below it fits into 64 bits.
const LARGEST: u64 = 1 << 40;
const LONGEST_WORD: usize = 64;

/// The first line. A signature of this key over something else is none over a manifest.
const TITLE: &str = "kedge slot manifest 1";
const SIGNATURE: &str = "signature";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotManifest {
    /// The board the system was built for.
    pub board: String,
    pub version: String,
    /// As `uname -r` tells it: the modules in the squashfs are for this kernel only.
    pub kernel_release: String,
    /// Raised where going back to what was before must be refused.
    pub rollback_index: u64,
    /// The same in the initramfs that belongs to this system ([`crate::names::STAGE1_BOOT_ID`]): by it stage 1 knows whether it does.
    pub boot_id: Digest,
    /// What the boot loader needs of the slot, by their paths.
    pub boot: Vec<BootFile>,
    /// Length of the squashfs; up to the next whole block there are zeros.
    pub system_bytes: u64,
    /// Where the hash tree starts within the partition, at a whole block.
    pub tree_offset: u64,
    /// Of the tree: dm-verity's format 1 with SHA-256.
    pub root_hash: Digest,
    pub salt: Digest,
    /// Seconds since 1970 that the image gives for the time it was made.
    pub epoch: u32,
}

/// A file beside the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    pub bytes: u64,
    pub sha256: Digest,
}

/// Thirty-two bytes, in text as lower-case hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; DIGEST_BYTES]);

impl Digest {
    /// The SHA-256 of all that `from` gives.
    pub fn of(mut from: impl Read) -> io::Result<Self> {
        let mut state = Context::new(&SHA256);
        let mut piece = vec![0; 64 << 10];
        loop {
            match from.read(&mut piece)? {
                0 => break,
                count => state.update(piece.get(..count).unwrap_or_default()),
            }
        }
        Ok(Self::finish(state))
    }

    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut state = Context::new(&SHA256);
        state.update(bytes);
        Self::finish(state)
    }

    fn finish(state: Context) -> Self {
        let mut digest = Self([0; DIGEST_BYTES]);
        digest.0.iter_mut().zip(state.finish().as_ref()).for_each(|(to, from)| *to = *from);
        digest
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&crate::hex::encode(&self.0))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("no slot manifest (the first bytes are {0:02x?})")]
    None(Vec<u8>),
    #[error("the slot manifest does not end within {MOST_BYTES} bytes")]
    Endless,
    #[error("the slot manifest is no text")]
    Text,
    #[error("the slot manifest's line {line}: found \"{found}\", expected {expected}")]
    Line { line: usize, found: String, expected: String },
    #[error("bytes that are not zero follow the slot manifest")]
    Trailing,
    #[error("the slot manifest's {0}")]
    Wrong(String),
    #[error("the slot manifest: {0}")]
    Signature(#[from] SignatureError),
}

impl SlotManifest {
    /// The one form of its text: what is signed. Refused where it could not be read again.
    pub fn body(&self) -> Result<String, ManifestError> {
        self.check()?;
        Ok(self.write())
    }

    /// Law, tested below: what is written is read again by [`SlotManifest::parse`], and nothing else is.
    fn write(&self) -> String {
        let lines = [
            ("board", self.board.clone()),
            ("version", self.version.clone()),
            ("kernel-release", self.kernel_release.clone()),
            ("rollback-index", self.rollback_index.to_string()),
            ("boot-id", self.boot_id.to_string()),
        ];
        let boot = self.boot.iter().map(|file| (file.role.name(), file.to_string()));
        let system = [
            ("system-bytes", self.system_bytes.to_string()),
            ("tree-offset", self.tree_offset.to_string()),
            ("root-hash", self.root_hash.to_string()),
            ("salt", self.salt.to_string()),
            ("epoch", self.epoch.to_string()),
        ];
        let lines = lines.into_iter().chain(boot).chain(system);
        lines.fold(format!("{TITLE}\n"), |text, (name, value)| text + name + " " + &value + "\n")
    }

    /// Reads a body. Whose word it is, is another question: see [`Sealed::open`].
    pub fn parse(body: &str) -> Result<Self, ManifestError> {
        let mut lines = Lines { rest: body, line: 0 };
        lines.exactly(TITLE)?;
        let read = Self {
            board: lines.word("board")?,
            version: lines.word("version")?,
            kernel_release: lines.word("kernel-release")?,
            rollback_index: lines.number("rollback-index")?,
            boot_id: lines.digest("boot-id")?,
            boot: lines.boot_files()?,
            system_bytes: lines.number("system-bytes")?,
            tree_offset: lines.number("tree-offset")?,
            root_hash: lines.digest("root-hash")?,
            salt: lines.digest("salt")?,
            epoch: lines.number("epoch")?,
        };
        read.check()?;
        if read.write() != body {
            return Err(ManifestError::Wrong("text is not in the form in which it is written".into()));
        }
        Ok(read)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let wrong = |what: String| Err(ManifestError::Wrong(what));
        for (name, word) in
            [("board", &self.board), ("version", &self.version), ("kernel-release", &self.kernel_release)]
        {
            if !is_word(word) {
                return wrong(format!("{name} is \"{word}\", expected 1 to {LONGEST_WORD} printable characters"));
            }
        }
        boot_files::check(&self.boot).map_err(ManifestError::Wrong)?;
        let Self { system_bytes, tree_offset, .. } = *self;
        if !(1..=LARGEST).contains(&system_bytes) {
            return wrong(format!("system-bytes is {system_bytes}, expected 1 to {LARGEST}"));
        }
        if tree_offset > LARGEST
            || !tree_offset.is_multiple_of(BLOCK)
            || tree_offset < system_bytes.next_multiple_of(BLOCK)
        {
            let least = system_bytes.next_multiple_of(BLOCK);
            return wrong(format!(
                "tree-offset is {tree_offset}, expected a multiple of {BLOCK} from {least} to {LARGEST}"
            ));
        }
        Ok(())
    }

    /// Whether squashfs, tree and manifest fit into a partition of `size` bytes.
    pub fn fits(&self, size: u64) -> Result<(), ManifestError> {
        let needed = self.tree_offset + self.tree_bytes() + AREA_BYTES;
        if needed > size {
            return Err(ManifestError::Wrong(format!("system needs {needed} bytes, the partition has {size}")));
        }
        Ok(())
    }

    /// The boot file that has this part; there is one at most, but of [`Role::Other`].
    pub fn boot_file(&self, role: Role) -> Option<&BootFile> {
        self.boot.iter().find(|file| file.role == role)
    }

    pub fn data_blocks(&self) -> u64 {
        self.system_bytes.div_ceil(BLOCK)
    }

    pub fn tree_bytes(&self) -> u64 {
        levels(self.data_blocks()).iter().sum::<u64>() * BLOCK
    }
}

/// How many blocks each level of a hash tree over so many blocks has, the one above the data first and the root's last (Linux,
/// `drivers/md/dm-verity-target.c`). One block of data needs no tree: its hash is the root hash.
pub fn levels(data_blocks: u64) -> Vec<u64> {
    const HASHES: u64 = BLOCK / DIGEST_BYTES as u64;
    let mut levels = Vec::new();
    let mut below = data_blocks;
    while below > 1 {
        below = below.div_ceil(HASHES);
        levels.push(below);
    }
    levels
}

fn is_word(text: &str) -> bool {
    (1..=LONGEST_WORD).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Where a partition of `size` bytes has its manifest; `None` where it is too small for one.
pub fn area_offset(size: u64) -> Option<u64> {
    size.checked_sub(AREA_BYTES)
}

/// A manifest and a signature, before anybody looked whether they belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    body: String,
    pub key: KeyId,
    signature: [u8; SIGNATURE_BYTES],
}

impl Sealed {
    /// Of a signature that was made over [`SlotManifest::body`].
    pub fn new(manifest: &SlotManifest, key: KeyId, signature: [u8; SIGNATURE_BYTES]) -> Result<Self, ManifestError> {
        Ok(Self { body: manifest.body()?, key, signature })
    }

    /// What goes to the start of the area; the rest of it is zero.
    pub fn to_text(&self) -> String {
        format!("{}{SIGNATURE} {} {}\n", self.body, self.key, crate::hex::encode(&self.signature))
    }

    /// Takes a manifest and its signature apart. `area` is what a partition's last [`AREA_BYTES`] hold, or the text alone.
    pub fn read(area: &[u8]) -> Result<Self, ManifestError> {
        if !area.starts_with(TITLE.as_bytes()) {
            return Err(ManifestError::None(area.iter().take(8).copied().collect()));
        }
        let end = area.iter().position(|byte| *byte == 0).unwrap_or(area.len());
        let (text, rest) = area.split_at_checked(end).unwrap_or((area, &[]));
        if text.len() > MOST_BYTES {
            return Err(ManifestError::Endless);
        }
        if rest.iter().any(|byte| *byte != 0) {
            return Err(ManifestError::Trailing);
        }
        let text = std::str::from_utf8(text).map_err(|_| ManifestError::Text)?;
        let start = text.trim_end_matches('\n').rfind('\n').map_or(0, |at| at + 1);
        let (body, signed) = text.split_at_checked(start).unwrap_or((text, ""));
        let mut line = Lines { rest: signed, line: body.lines().count() };
        let value = line.value(SIGNATURE)?;
        let expected = || line.error(value, "the signature, a key's id and 128 hexadecimal digits");
        let (key, signature) = value.split_once(' ').ok_or_else(expected)?;
        let key = KeyId::parse(key).ok_or_else(expected)?;
        let signature = crate::hex::decode(signature).ok_or_else(expected)?;
        if !line.rest.is_empty() {
            return Err(ManifestError::Trailing);
        }
        Ok(Self { body: body.to_owned(), key, signature })
    }

    /// The manifest, if one of `keys` signed it.
    pub fn open(&self, keys: &[Key]) -> Result<SlotManifest, ManifestError> {
        let key = Key::find(keys, self.key)?;
        key.verify(self.body.as_bytes(), &self.signature)?;
        SlotManifest::parse(&self.body)
    }

    /// What it says, whoever says it: to be shown, never to be acted on.
    pub fn unverified(&self) -> Result<SlotManifest, ManifestError> {
        SlotManifest::parse(&self.body)
    }
}

struct Lines<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Lines<'t> {
    fn error(&self, found: &str, expected: &str) -> ManifestError {
        let found = found.chars().take(80).collect();
        ManifestError::Line { line: self.line, found, expected: expected.to_owned() }
    }

    fn next(&mut self) -> Result<&'t str, ManifestError> {
        self.line += 1;
        let (line, rest) =
            self.rest.split_once('\n').ok_or_else(|| self.error(self.rest, "a line with a line feed at its end"))?;
        self.rest = rest;
        Ok(line)
    }

    fn exactly(&mut self, expected: &str) -> Result<(), ManifestError> {
        let line = self.next()?;
        if line == expected { Ok(()) } else { Err(self.error(line, &format!("\"{expected}\""))) }
    }

    fn value(&mut self, name: &str) -> Result<&'t str, ManifestError> {
        let line = self.next()?;
        let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
        value.ok_or_else(|| self.error(line, &format!("\"{name}\" and its value")))
    }

    fn word(&mut self, name: &str) -> Result<String, ManifestError> {
        self.value(name).map(str::to_owned)
    }

    fn number<N: std::str::FromStr>(&mut self, name: &str) -> Result<N, ManifestError> {
        let value = self.value(name)?;
        value.parse().map_err(|_| self.error(value, "a number"))
    }

    fn digest(&mut self, name: &str) -> Result<Digest, ManifestError> {
        let value = self.value(name)?;
        crate::hex::decode(value).map(Digest).ok_or_else(|| self.error(value, "64 hexadecimal digits"))
    }

    /// All lines that tell of one.
    fn boot_files(&mut self) -> Result<Vec<BootFile>, ManifestError> {
        let mut files = Vec::new();
        while let Some(role) = Role::ALL
            .into_iter()
            .find(|role| self.rest.strip_prefix(role.name()).is_some_and(|rest| rest.starts_with(' ')))
        {
            let value = self.value(role.name())?;
            let file = BootFile::parse(role, value);
            files.push(file.ok_or_else(|| self.error(value, "a length, 64 hexadecimal digits and a path"))?);
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests;
