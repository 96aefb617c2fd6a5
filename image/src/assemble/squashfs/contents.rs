//! The files' contents: in blocks, each packed by itself, packed by all processors, written in order.

use super::{BLOCK, SquashfsError};
use crate::parallel;
use crate::tree::Content;
use std::collections::HashMap;
use std::io::{self, Read, Write};

/// In a block's length: it is stored as it is.
const STORED: u32 = 1 << 24;
/// Contents that are not small start at multiples of this, dm-verity's block: what did not change is the same blocks wherever it moved to.
const ALIGNMENT: u64 = 4096;
/// Blocks that are in memory at a time.
const WINDOW: usize = 64;

/// Where a content lies.
#[derive(Debug, Clone, Default)]
pub struct Extent {
    pub start: u64,
    pub size: u64,
    /// One a block, as the inode holds them.
    pub lengths: Vec<u32>,
}

/// How a content is laid down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// The blocks are packed where that makes them smaller.
    pub packed: bool,
    /// It starts at a whole block of the disk.
    pub aligned: bool,
}

pub struct Contents<W> {
    out: W,
    at: u64,
    /// By the SHA-256 of the content: the same one is there once.
    known: HashMap<String, Extent>,
}

impl<W: Write> Contents<W> {
    /// `out` is where byte `at` of the file system goes.
    pub fn new(out: W, at: u64) -> Self {
        Self { out, at, known: HashMap::new() }
    }

    pub fn add(&mut self, path: &str, content: &Content, style: Style) -> Result<Extent, SquashfsError> {
        let failed = |source| SquashfsError::Read { path: path.to_owned(), source };
        let sum = content.sha256().map_err(failed)?;
        if let Some(extent) = self.known.get(&sum) {
            return Ok(extent.clone());
        }
        if style.aligned {
            self.align()?;
        }
        let mut extent = Extent { start: self.at, ..Extent::default() };
        let mut source = content.open().map_err(failed)?;
        loop {
            let mut window = Vec::new();
            source.by_ref().take((WINDOW * BLOCK) as u64).read_to_end(&mut window).map_err(failed)?;
            if window.is_empty() {
                break;
            }
            extent.size += window.len() as u64;
            for (block, packed) in window.chunks(BLOCK).zip(pack_all(&window, style.packed)?) {
                let (body, flag) = packed.as_ref().map_or((block, STORED), |packed| (packed, 0));
                self.out.write_all(body)?;
                self.at += body.len() as u64;
                // No block is longer than `BLOCK`.
                extent.lengths.push(body.len() as u32 | flag);
            }
        }
        self.known.insert(sum, extent.clone());
        Ok(extent)
    }

    fn align(&mut self) -> io::Result<()> {
        let next = self.at.next_multiple_of(ALIGNMENT);
        io::copy(&mut io::repeat(0).take(next - self.at), &mut self.out)?;
        self.at = next;
        Ok(())
    }

    /// What was written to, and where it ends.
    pub fn end(self) -> (W, u64) {
        (self.out, self.at)
    }
}

/// Each block of `window` packed; `None` where that would not make it smaller, or is not wanted.
fn pack_all(window: &[u8], wanted: bool) -> io::Result<Vec<Option<Vec<u8>>>> {
    let blocks: Vec<&[u8]> = window.chunks(BLOCK).collect();
    parallel::map(&blocks, |block| if wanted { super::pack(block) } else { Ok(None) })
}
