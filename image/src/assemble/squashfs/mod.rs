//! The system's file system: squashfs 4.0 with zstd (Documentation/filesystems/squashfs.rst), the same bytes for the same tree.
//!
//! It is laid out for upgrades and small memories. What did not change from one version to the next is the same 4 KiB blocks, since contents
//! that are not small start at one. And programs that each version changes ([`AS_THEY_ARE`]) are not packed: their difference to the
//! version before is small only as they are, and a page of them costs a read of that page and no unpacking of the 31 about it.
//!
//! ```text
//! superblock │ contents, large ones first │ inodes │ directories │ owners
//! ```

mod contents;
mod metadata;

use crate::tree::{Entry, Node, Tree};
use contents::{Contents, Extent, Style};
use metadata::{Owners, Place, Table};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Larger blocks pack better and cost more memory and time for each page read; this is the kernel's own usual size.
pub(crate) const BLOCK: usize = 128 << 10;
/// At 19 the same is 1 % smaller and takes five times as long; how fast it unpacks does not depend on it.
const LEVEL: i32 = 15;
/// Files that are stored as they are.
const AS_THEY_ARE: &[&str] = &["usr/bin/kedge"];
/// Contents below this lie behind the others, close together.
const SMALL: u64 = 32 << 10;

const SUPERBLOCK_BYTES: u64 = 96;
const MAGIC: u32 = 0x7371_7368;
const ZSTD: u16 = 6;
/// There are no fragments and no extended attributes; contents may be shared.
const FLAGS: u16 = 0x10 | 0x40 | 0x200;
const ABSENT: u64 = u64::MAX;
const NO_FRAGMENT: u32 = u32::MAX;
const NO_ATTRIBUTES: u32 = u32::MAX;

/// Types of inodes, in directories and, plus [`EXTENDED`], of inodes with wider fields.
const DIRECTORY: u16 = 1;
const FILE: u16 = 2;
const SYMLINK: u16 = 3;
const BLOCK_DEVICE: u16 = 4;
const CHARACTER_DEVICE: u16 = 5;
const FIFO: u16 = 6;
const EXTENDED: u16 = 7;

/// Entries under one header of a listing.
const RUN: usize = 256;
/// What a listing's length is told too long by: `.` and `..`.
const UNLISTED: usize = 3;

#[derive(Debug, thiserror::Error)]
pub enum SquashfsError {
    #[error("reading {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("writing the squashfs: {0}")]
    Write(#[from] io::Error),
    #[error("a squashfs cannot hold so many files")]
    Large,
    #[error("a squashfs cannot hold more than 65536 owners")]
    Owners,
    #[error("{0}: a name or a link is too long for a squashfs")]
    Name(String),
}

/// Writes `tree` to `out`, which is empty; gives the file system's length.
pub fn write(tree: &Tree, epoch: u32, mut out: impl Write + Seek) -> Result<u64, SquashfsError> {
    out.seek(SeekFrom::Start(SUPERBLOCK_BYTES))?;
    let (mut out, inode_table, extents) = write_contents(tree, out)?;
    let (folders, count) = folders(tree)?;
    let mut writer = Writer {
        folders,
        extents,
        epoch,
        inodes: Table::default(),
        directories: Table::default(),
        owners: Owners::default(),
    };
    let mut root = Entry::new(Node::Directory, 0o755, &"root".into());
    root.mtime = Some(0);
    let root = writer.folder(Path::new(""), &root, count, count + 1)?;
    let Writer { inodes, directories, owners, .. } = writer;
    let directory_table = inode_table + inodes.write(&mut out)?;
    let id_blocks = directory_table + directories.write(&mut out)?;
    let id_table = id_blocks + owners.write(id_blocks, &mut out)?;
    let length = out.stream_position()?;

    let mut superblock = Vec::new();
    for word in [MAGIC, count, epoch, BLOCK as u32, 0] {
        superblock.extend(word.to_le_bytes());
    }
    for half in [ZSTD, BLOCK.ilog2() as u16, FLAGS, owners.len(), 4, 0] {
        superblock.extend(half.to_le_bytes());
    }
    for long in [root.reference(), length, id_table, ABSENT, inode_table, directory_table, ABSENT, ABSENT] {
        superblock.extend(long.to_le_bytes());
    }
    out.seek(SeekFrom::Start(0))?;
    out.write_all(&superblock)?;
    out.seek(SeekFrom::Start(length))?;
    Ok(length)
}

/// Packed, where that makes it smaller.
fn pack(bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let packed = zstd::bulk::compress(bytes, LEVEL)?;
    Ok((packed.len() < bytes.len()).then_some(packed))
}

/// Writes all contents, large ones first; gives where they end and where each lies.
fn write_contents<W: Write>(tree: &Tree, out: W) -> Result<(W, u64, HashMap<PathBuf, Extent>), SquashfsError> {
    let mut contents = Contents::new(out, SUPERBLOCK_BYTES);
    let mut extents = HashMap::new();
    for small in [false, true] {
        for (path, entry) in tree.iter() {
            let Node::File(content) = &entry.node else { continue };
            let shown = path.display().to_string();
            let size = content.len().map_err(|source| SquashfsError::Read { path: shown.clone(), source })?;
            if (size < SMALL) == small {
                let style = Style { packed: !AS_THEY_ARE.contains(&shown.as_str()), aligned: !small };
                extents.insert(path.clone(), contents.add(&shown, content, style)?);
            }
        }
    }
    let (out, end) = contents.end();
    Ok((out, end, extents))
}

/// What lies in each folder, by name, with its inode's number; and how many inodes there are with the root's.
type Folders<'t> = HashMap<&'t Path, BTreeMap<&'t [u8], (u32, &'t Path, &'t Entry)>>;

fn folders(tree: &Tree) -> Result<(Folders<'_>, u32), SquashfsError> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut folders: Folders<'_> = HashMap::new();
    let mut count = 0;
    for (path, entry) in tree.iter() {
        count += 1;
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let name = name.as_bytes();
        if !(1..=256).contains(&name.len()) {
            return Err(SquashfsError::Name(path.display().to_string()));
        }
        folders.entry(folder).or_default().insert(name, (count, path, entry));
    }
    Ok((folders, count + 1))
}

struct Writer<'t> {
    folders: Folders<'t>,
    extents: HashMap<PathBuf, Extent>,
    epoch: u32,
    inodes: Table,
    directories: Table,
    owners: Owners,
}

/// A line of a listing.
struct Line<'t> {
    name: &'t [u8],
    kind: u16,
    inode: u32,
    place: Place,
}

impl<'t> Writer<'t> {
    /// What lies in the folder first, since it says where that is.
    fn folder(&mut self, path: &Path, entry: &Entry, inode: u32, parent: u32) -> Result<Place, SquashfsError> {
        let mut lines = Vec::new();
        for (name, (number, path, entry)) in self.folders.remove(path).unwrap_or_default() {
            let (kind, place) = match &entry.node {
                Node::Directory => (DIRECTORY, self.folder(path, entry, number, inode)?),
                _ => self.leaf(path, entry, number)?,
            };
            lines.push(Line { name, kind, inode: number, place });
        }
        let listing = self.directories.place()?;
        let length = listed(&lines, &mut self.directories)? + UNLISTED;
        let links = 2 + lines.iter().filter(|line| line.kind == DIRECTORY).count() as u32;
        let mut body = Vec::new();
        let kind = match u16::try_from(length) {
            Ok(length) => {
                body.extend(listing.block.to_le_bytes());
                body.extend(links.to_le_bytes());
                body.extend(length.to_le_bytes());
                body.extend(listing.offset.to_le_bytes());
                body.extend(parent.to_le_bytes());
                DIRECTORY
            }
            Err(_) => {
                let length = u32::try_from(length).map_err(|_| SquashfsError::Large)?;
                for word in [links, length, listing.block, parent] {
                    body.extend(word.to_le_bytes());
                }
                // No index: a listing is read from its start.
                body.extend(0u16.to_le_bytes());
                body.extend(listing.offset.to_le_bytes());
                body.extend(NO_ATTRIBUTES.to_le_bytes());
                DIRECTORY + EXTENDED
            }
        };
        self.inode(kind, entry, inode, &body)
    }

    fn leaf(&mut self, path: &Path, entry: &Entry, number: u32) -> Result<(u16, Place), SquashfsError> {
        let once = 1u32.to_le_bytes();
        let special = |major, minor| [once, device(major, minor).to_le_bytes()].concat();
        let (kind, body) = match &entry.node {
            Node::File(_) => {
                let extent = self.extents.remove(path).unwrap_or_default();
                let (kind, body) = file(&extent);
                return Ok((FILE, self.inode(kind, entry, number, &body)?));
            }
            Node::Symlink(target) => {
                use std::os::unix::ffi::OsStrExt as _;
                let target = target.as_os_str().as_bytes();
                // As long as the kernel takes one: a page.
                let length = u32::try_from(target.len()).ok().filter(|length| (1..4096).contains(length));
                let length = length.ok_or_else(|| SquashfsError::Name(path.display().to_string()))?;
                (SYMLINK, [&once, &length.to_le_bytes(), target].concat())
            }
            Node::Character { major, minor } => (CHARACTER_DEVICE, special(*major, *minor)),
            Node::Block { major, minor } => (BLOCK_DEVICE, special(*major, *minor)),
            Node::Directory | Node::Fifo => (FIFO, once.to_vec()),
        };
        Ok((kind, self.inode(kind, entry, number, &body)?))
    }

    fn inode(&mut self, kind: u16, entry: &Entry, number: u32, body: &[u8]) -> Result<Place, SquashfsError> {
        let place = self.inodes.place()?;
        let mut head = Vec::new();
        for half in [kind, entry.mode, self.owners.index(entry.uid)?, self.owners.index(entry.gid)?] {
            head.extend(half.to_le_bytes());
        }
        head.extend(entry.mtime.unwrap_or(self.epoch).to_le_bytes());
        head.extend(number.to_le_bytes());
        self.inodes.push(&[&head, body].concat())?;
        Ok(place)
    }
}

/// A file's inode after its head.
fn file(extent: &Extent) -> (u16, Vec<u8>) {
    let mut body = Vec::new();
    let kind = match (u32::try_from(extent.start), u32::try_from(extent.size)) {
        (Ok(start), Ok(size)) => {
            for word in [start, NO_FRAGMENT, 0, size] {
                body.extend(word.to_le_bytes());
            }
            FILE
        }
        _ => {
            for long in [extent.start, extent.size, 0] {
                body.extend(long.to_le_bytes());
            }
            for word in [1, NO_FRAGMENT, 0, NO_ATTRIBUTES] {
                body.extend(word.to_le_bytes());
            }
            FILE + EXTENDED
        }
    };
    body.extend(extent.lengths.iter().flat_map(|length| length.to_le_bytes()));
    (kind, body)
}

/// Writes a listing; gives its length.
fn listed(lines: &[Line<'_>], table: &mut Table) -> Result<usize, SquashfsError> {
    // One header serves lines whose inodes lie in one block, with numbers that are not far apart.
    let together = |first: &Line<'_>, line: &Line<'_>| {
        line.place.block == first.place.block && i16::try_from(i64::from(line.inode) - i64::from(first.inode)).is_ok()
    };
    let mut length = 0;
    let mut rest = lines;
    while let Some(first) = rest.first() {
        let run = rest.iter().take(RUN).take_while(|line| together(first, line)).count();
        let (now, later) = rest.split_at(run);
        let mut bytes = Vec::new();
        for word in [run as u32 - 1, first.place.block, first.inode] {
            bytes.extend(word.to_le_bytes());
        }
        for line in now {
            // Within the reach of 16 bits, see `together`.
            let distance = line.inode.wrapping_sub(first.inode) as u16;
            for half in [line.place.offset, distance, line.kind, line.name.len() as u16 - 1] {
                bytes.extend(half.to_le_bytes());
            }
            bytes.extend_from_slice(line.name);
        }
        length += bytes.len();
        table.push(&bytes)?;
        rest = later;
    }
    Ok(length)
}

/// As the kernel stores it (`new_encode_dev` in `include/linux/kdev_t.h`).
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Content;
    use backhand::{FilesystemReader, InnerNode};
    use std::io::{Cursor, Read as _};

    fn tree() -> Tree {
        let origin = "test".into();
        let mut tree = Tree::new();
        tree.file("usr/bin/kedge", 0o755, Content::bytes(vec![1; 300_000]), &origin).unwrap();
        tree.file("usr/bin/again", 0o755, Content::bytes(vec![1; 300_000]), &origin).unwrap();
        tree.symlink("sbin/init", "../usr/bin/kedge", &origin).unwrap();
        tree.directory("tmp", 0o1777, &origin).unwrap();
        let node = Node::Character { major: 1, minor: 259 };
        tree.insert("null", crate::tree::Entry::new(node, 0o666, &origin)).unwrap();
        tree
    }

    #[test]
    fn what_is_written_is_read_again_and_the_bytes_are_the_same() {
        let written = [0, 1].map(|_| {
            let mut out = Cursor::new(Vec::new());
            assert_eq!(write(&tree(), 7, &mut out).unwrap(), out.get_ref().len() as u64);
            out.into_inner()
        });
        assert!(written[0] == written[1]);
        let reader = FilesystemReader::from_reader(Cursor::new(written[0].clone())).unwrap();
        assert_eq!((reader.mod_time, reader.block_size), (7, BLOCK as u32));
        let mut seen = Vec::new();
        for node in reader.files() {
            let detail = match &node.inner {
                InnerNode::File(file) => file.file_len().to_string(),
                InnerNode::Symlink(link) => link.link.display().to_string(),
                InnerNode::CharacterDevice(device) => format!("{:x}", device.device_number),
                _ => String::new(),
            };
            seen.push(format!(
                "{} {:o} {} {detail}",
                node.fullpath.display(),
                node.header.permissions,
                node.header.mtime
            ));
        }
        let expected = [
            "/ 755 0 ",
            "/null 666 7 100103",
            "/sbin 755 7 ",
            "/sbin/init 777 7 ../usr/bin/kedge",
            "/tmp 1777 7 ",
            "/usr 755 7 ",
            "/usr/bin 755 7 ",
            "/usr/bin/again 755 7 300000",
            "/usr/bin/kedge 755 7 300000",
        ];
        assert_eq!(seen, expected);
    }

    /// Lengths about those of blocks and windows, listings of many blocks and longer than 16 bits tell, and what is there twice.
    #[test]
    fn contents_and_long_listings_are_read_again() {
        let origin = "test".into();
        let mut tree = Tree::new();
        let noise = |length: usize| {
            let mut state = length as u32 | 1;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            (0..length).map(|_| next()).collect::<Vec<u8>>()
        };
        let mut contents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for length in [0, 1, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 70 * BLOCK + 5] {
            contents.insert(format!("noise/{length}"), noise(length));
            contents.insert(format!("zeros/{length}"), vec![0; length]);
        }
        for number in 0..3000 {
            contents.insert(format!("many/{number:05}-{}", "x".repeat(80)), number.to_string().into_bytes());
        }
        contents.insert("noise/again".into(), noise(BLOCK + 1));
        contents.insert("usr/bin/kedge".into(), vec![7; 3 * BLOCK + 1]);
        for (path, bytes) in &contents {
            tree.file(path, 0o644, Content::bytes(bytes.clone()), &origin).unwrap();
        }
        let mut out = Cursor::new(Vec::new());
        write(&tree, 7, &mut out).unwrap();
        let out = out.into_inner();
        // All noise is there once, and the program as it is.
        assert!(out.len() < 80 * BLOCK, "{}", out.len());
        assert!(out.chunks(4096).filter(|block| block.iter().all(|byte| *byte == 7)).count() >= 3 * BLOCK / 4096);

        let reader = FilesystemReader::from_reader(Cursor::new(out)).unwrap();
        let mut read: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for node in reader.files() {
            let InnerNode::File(file) = &node.inner else { continue };
            if let backhand::SquashfsFileReader::Basic(basic) = file
                && basic.file_size > SMALL as u32
            {
                assert_eq!(basic.blocks_start % 4096, 0, "{}", node.fullpath.display());
            }
            let mut bytes = Vec::new();
            reader.file(file).reader().read_to_end(&mut bytes).unwrap();
            read.insert(node.fullpath.strip_prefix("/").unwrap().display().to_string(), bytes);
        }
        assert!(read.keys().eq(contents.keys()));
        for (path, bytes) in &contents {
            assert!(read[path] == *bytes, "{path}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let origin = "test".into();
        let written = |path: &str, target: &str| {
            let mut tree = Tree::new();
            tree.symlink(path, target, &origin).unwrap();
            write(&tree, 7, Cursor::new(Vec::new())).unwrap_err().to_string()
        };
        assert_eq!(written("a", &"x".repeat(4096)), "a: a name or a link is too long for a squashfs");
        let name = "y".repeat(257);
        assert_eq!(written(&name, "x"), format!("{name}: a name or a link is too long for a squashfs"));
    }
}
