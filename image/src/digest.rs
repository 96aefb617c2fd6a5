//! SHA-256 in the forms the tool needs: of bytes, of a file, of what passes through a reader, and as identifiers.

use kedge_config::slot_manifest::{DIGEST_BYTES, Digest};
use ring::digest::{Context, SHA256, digest};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Lower-case hexadecimal.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

pub fn of_bytes_raw(bytes: &[u8]) -> Digest {
    let mut sum = [0; DIGEST_BYTES];
    sum.iter_mut().zip(digest(&SHA256, bytes).as_ref()).for_each(|(to, from)| *to = *from);
    Digest(sum)
}

pub fn of_file(path: &Path) -> io::Result<String> {
    let mut reader = Hashing::new(File::open(path)?);
    io::copy(&mut reader, &mut io::sink())?;
    Ok(reader.finish())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sixteen bytes that depend on `seed` and `name` only, marked as an RFC 9562 version 8 UUID (big-endian fields).
pub fn uuid(seed: &str, name: &str) -> uuid::Uuid {
    let digest = digest(&SHA256, format!("{seed}\n{name}").as_bytes());
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Passes bytes through and hashes them.
pub struct Hashing<R> {
    inner: R,
    state: Context,
}

impl<R: Read> Hashing<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, state: Context::new(&SHA256) }
    }

    /// The digest of what was read so far.
    pub fn finish(self) -> String {
        hex(self.state.finish().as_ref())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.state.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_sha256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(of_bytes(b""), empty);
        let mut reader = Hashing::new(&b"abc"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(reader.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn identifiers_depend_on_both_parts_and_are_marked() {
        let (a, b, c) = (uuid("seed", "disk"), uuid("seed", "esp"), uuid("other", "disk"));
        assert!(a != b && a != c && a == uuid("seed", "disk"));
        assert_eq!(a.get_version_num(), 8);
    }
}
