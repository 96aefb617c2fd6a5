//! The system's file system: squashfs with zstd, the same bytes for the same tree.

use crate::tree::{Content, Node, Tree};
use backhand::compression::{CompressionOptions, Compressor, Zstd};
use backhand::{BackhandError, FilesystemCompressor, FilesystemWriter, NodeHeader};
use std::io::{Cursor, Seek, Write};

/// Larger blocks pack better and cost more memory and time for each page read; this is the kernel's own usual size.
const BLOCK: u32 = 128 << 10;
/// At 19 the same is 1 % smaller and takes five times as long; how fast it unpacks does not depend on it.
const LEVEL: u32 = 15;

#[derive(Debug, thiserror::Error)]
pub enum SquashfsError {
    #[error("{path}: {source}")]
    Entry { path: String, source: BackhandError },
    #[error("writing the squashfs: {0}")]
    Write(#[from] BackhandError),
}

/// Writes `tree` to `out`; gives the file system's length.
pub fn write(tree: &Tree, epoch: u32, out: impl Write + Seek) -> Result<u64, SquashfsError> {
    let mut writer = FilesystemWriter::default();
    writer.set_time(epoch);
    writer.set_block_size(BLOCK);
    writer.set_only_root_id();
    writer.set_root_mode(0o755);
    let options = CompressionOptions::Zstd(Zstd { compression_level: LEVEL });
    writer.set_compressor(FilesystemCompressor::new(Compressor::Zstd, Some(options))?);
    for (path, entry) in tree.iter() {
        let header = NodeHeader::new(entry.mode, entry.uid, entry.gid, entry.mtime.unwrap_or(epoch));
        let pushed = match &entry.node {
            Node::Directory => writer.push_dir(path, header),
            Node::File(Content::Bytes(bytes)) => {
                writer.push_file(Cursor::new(std::sync::Arc::clone(bytes)), path, header)
            }
            Node::File(Content::File(source)) => writer.push_file_from_path(source, path, header),
            Node::Symlink(target) => writer.push_symlink(target, path, header),
            Node::Character { major, minor } => writer.push_char_device(device(*major, *minor), path, header),
            Node::Block { major, minor } => writer.push_block_device(device(*major, *minor), path, header),
            Node::Fifo => writer.push_fifo(path, header),
        };
        pushed.map_err(|source| SquashfsError::Entry { path: path.display().to_string(), source })?;
    }
    let (_, length) = writer.write(out)?;
    Ok(length)
}

/// As the kernel stores it (`new_encode_dev` in `include/linux/kdev_t.h`).
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use backhand::{FilesystemReader, InnerNode};

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
            write(&tree(), 7, &mut out).unwrap();
            out.into_inner()
        });
        assert!(written[0] == written[1]);
        let reader = FilesystemReader::from_reader(Cursor::new(written[0].clone())).unwrap();
        assert_eq!((reader.mod_time, reader.block_size), (7, BLOCK));
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
}
