//! The initramfs archive format (Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`): "newc" cpio. Inode numbers
//! count up and times are fixed, so that the same tree gives the same bytes.

use crate::tree::{Node, Tree};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

const TRAILER: &[u8] = b"TRAILER!!!";

/// Writes `tree` to `out`.
pub fn write(tree: &Tree, epoch: u32, mut out: impl Write) -> io::Result<()> {
    let mut inode = 0;
    for (path, entry) in tree.iter() {
        inode += 1;
        let (kind, body, device): (u32, Vec<u8>, (u32, u32)) = match &entry.node {
            Node::Directory => (0o040_000, Vec::new(), (0, 0)),
            Node::File(content) => (0o100_000, content.read()?.to_vec(), (0, 0)),
            Node::Symlink(target) => (0o120_000, target.as_os_str().as_bytes().to_vec(), (0, 0)),
            Node::Character { major, minor } => (0o020_000, Vec::new(), (*major, *minor)),
            Node::Block { major, minor } => (0o060_000, Vec::new(), (*major, *minor)),
            Node::Fifo => (0o010_000, Vec::new(), (0, 0)),
        };
        let links = if matches!(entry.node, Node::Directory) { 2 } else { 1 };
        let length =
            u32::try_from(body.len()).map_err(|_| io::Error::other(format!("{}: 4 GiB or more", path.display())))?;
        let mode = kind | u32::from(entry.mode);
        let fields =
            [inode, mode, entry.uid, entry.gid, links, entry.mtime.unwrap_or(epoch), length, 0, 0, device.0, device.1];
        record(&mut out, fields, path.as_os_str().as_bytes())?;
        out.write_all(&body)?;
        pad(&mut out, body.len())?;
    }
    record(&mut out, [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], TRAILER)
}

/// The bytes of the file called `name` in an archive that [`write`] made; `None` where there is none, or no such archive.
pub fn find<'a>(archive: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = archive;
    loop {
        let field = |at: usize| {
            let digits = std::str::from_utf8(rest.get(6 + 8 * at..14 + 8 * at)?).ok()?;
            usize::try_from(u32::from_str_radix(digits, 16).ok()?).ok()
        };
        let (length, name_length) = (field(6)?, field(11)?);
        let body = 110_usize.checked_add(name_length)?.checked_next_multiple_of(4)?;
        let end = body.checked_add(length)?;
        let found = rest.get(110..110 + name_length)?.strip_suffix(&[0])?;
        if !rest.starts_with(b"070701") || found == TRAILER {
            return None;
        }
        if found == name.as_bytes() {
            return rest.get(body..end);
        }
        rest = rest.get(end.checked_next_multiple_of(4)?..)?;
    }
}

fn record(out: &mut impl Write, fields: [u32; 11], name: &[u8]) -> io::Result<()> {
    write!(out, "070701")?;
    for field in fields {
        write!(out, "{field:08X}")?;
    }
    // Length of the name with its final zero, and a checksum that this variant leaves zero.
    write!(out, "{:08X}{:08X}", name.len() + 1, 0)?;
    out.write_all(name)?;
    out.write_all(&[0])?;
    pad(out, 110 + name.len() + 1)
}

fn pad(out: &mut impl Write, written: usize) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take((written.next_multiple_of(4) - written) as u64), out).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Content;

    #[test]
    fn the_archive_is_what_cpio_expects() {
        let origin = "test".into();
        let mut tree = Tree::new();
        tree.file("init", 0o755, Content::bytes("hello"), &origin).unwrap();
        tree.symlink("sbin/x", "../init", &origin).unwrap();
        let mut bytes = Vec::new();
        write(&tree, 0x10, &mut bytes).unwrap();
        let first = "070701 00000001 000081ED 00000000 00000000 00000001 00000010 00000005 00000000 00000000 00000000 00000000 00000005 00000000";
        let first = first.replace(' ', "");
        assert_eq!(&bytes[..110], first.as_bytes());
        assert_eq!(&bytes[110..124], b"init\0\0hello\0\0\0");
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"), "{:?}", bytes.len() % 4);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(find(&bytes, "init"), Some(&b"hello"[..]));
        assert_eq!(find(&bytes, "sbin"), Some(&b""[..]));
        assert_eq!(find(&bytes, "keys"), None);
        for end in 0..bytes.len() {
            assert_eq!(find(&bytes[..end], "keys"), None, "cut at {end}");
        }
    }
}
