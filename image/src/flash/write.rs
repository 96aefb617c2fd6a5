//! Copies an image's mapped pieces onto a disk, and reads them back.

use super::source::Source;
use super::{FlashError, failed};
use crate::digest::Hashing;
use crate::disk::blockmap::{BlockMap, Extent};
use ring::digest::{Context, SHA256};
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Large enough for a card's erase block, small enough to show progress.
const CHUNK: usize = 4 << 20;

/// A run of bytes to be written, and the digest that it must have where one is known.
pub struct Piece {
    pub bytes: Range<u64>,
    pub sha256: Option<String>,
}

/// What the map holds; without a map everything, up to the image's end where even that is not known.
pub fn pieces(map: Option<&BlockMap>, size: Option<u64>) -> Vec<Piece> {
    match map {
        Some(map) => {
            map.extents.iter().map(|e| Piece { bytes: e.bytes.clone(), sha256: Some(e.sha256.clone()) }).collect()
        }
        None => vec![Piece { bytes: 0..size.unwrap_or(u64::MAX), sha256: None }],
    }
}

/// Writes the pieces and waits until they are on the medium. Gives what was written.
pub fn copy(
    image: &mut Source,
    disk: &File,
    path: &Path,
    pieces: &[Piece],
    wrote: &dyn Fn(u64),
) -> Result<Vec<Extent>, FlashError> {
    let io = failed(path);
    let mut written = Vec::new();
    let mut chunk = vec![0; CHUNK];
    for Piece { bytes, sha256 } in pieces {
        image.skip_to(bytes.start)?;
        let mut state = Context::new(&SHA256);
        let mut at = bytes.start;
        while at < bytes.end {
            let wanted = usize::try_from(bytes.end - at).unwrap_or(CHUNK).min(CHUNK);
            let count = image.fill(chunk.get_mut(..wanted).unwrap_or_default())?;
            let part = chunk.get(..count).unwrap_or_default();
            state.update(part);
            disk.write_all_at(part, at).map_err(&io)?;
            wrote(count as u64);
            at += count as u64;
            if count < wanted {
                break;
            }
        }
        if at < bytes.end && bytes.end != u64::MAX {
            return Err(FlashError::Truncated { image: image.path(), at, expected: bytes.end });
        }
        let found: String = state.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(expected) = sha256.clone().filter(|expected| *expected != found) {
            let (image, start, end) = (image.path(), bytes.start, bytes.end);
            return Err(FlashError::Damaged { image, start, end, found, expected });
        }
        written.push(Extent { bytes: bytes.start..at, sha256: found });
    }
    disk.sync_all().map_err(&io)?;
    Ok(written)
}

/// Reads from the medium, not from memory, what was written.
pub fn verify(disk: &File, path: &Path, written: &[Extent], read: &dyn Fn(u64)) -> Result<(), FlashError> {
    let io = failed(path);
    // Everything was synced: the kernel forgets what it holds of the disk and must ask it.
    fadvise(disk, 0, None, Advice::DontNeed).map_err(|errno| io(errno.into()))?;
    for Extent { bytes, sha256 } in written {
        let mut reader = Hashing::new(At { disk, at: bytes.start, end: bytes.end, read });
        io::copy(&mut reader, &mut io::sink()).map_err(&io)?;
        if reader.finish() != *sha256 {
            let (start, end) = (bytes.start, bytes.end);
            return Err(FlashError::Mismatch { disk: path.display().to_string(), start, end });
        }
    }
    Ok(())
}

/// A run of the disk's bytes.
struct At<'d> {
    disk: &'d File,
    at: u64,
    end: u64,
    read: &'d dyn Fn(u64),
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let count = self.disk.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.at)?;
        self.at += count as u64;
        (self.read)(count as u64);
        Ok(count)
    }
}
