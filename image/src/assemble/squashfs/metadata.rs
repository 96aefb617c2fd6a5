//! The parts of a squashfs behind the files' contents: inodes, directories and owners, in metadata blocks.

use super::SquashfsError;
use std::io::{self, Write};

/// Bytes of a metadata block before it is compressed.
const BLOCK: usize = 8192;
/// In the two bytes before a metadata block: it is stored as it is.
const STORED: u16 = 1 << 15;

/// A place in a table: where its metadata block starts in the table, and where in the block, unpacked, it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub block: u32,
    pub offset: u16,
}

impl Place {
    /// As the superblock refers to an inode.
    pub fn reference(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }
}

/// A table while it grows.
#[derive(Default)]
pub struct Table {
    blocks: Vec<u8>,
    open: Vec<u8>,
}

impl Table {
    /// Where the next byte goes.
    pub fn place(&self) -> Result<Place, SquashfsError> {
        let block = u32::try_from(self.blocks.len()).map_err(|_| SquashfsError::Large)?;
        let offset = u16::try_from(self.open.len()).map_err(|_| SquashfsError::Large)?;
        Ok(Place { block, offset })
    }

    pub fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.open.len()));
            self.open.extend_from_slice(now);
            if self.open.len() == BLOCK {
                self.close()?;
            }
            if later.is_empty() {
                return Ok(());
            }
            bytes = later;
        }
    }

    fn close(&mut self) -> io::Result<()> {
        let packed = super::pack(&self.open)?;
        // A block has 8192 bytes at most, so that 15 bits tell its length.
        let (body, flag) = packed.as_ref().map_or((&self.open, STORED), |packed| (packed, 0));
        self.blocks.extend((body.len() as u16 | flag).to_le_bytes());
        self.blocks.extend_from_slice(body);
        self.open.clear();
        Ok(())
    }

    /// Writes the table; gives its length.
    pub fn write(mut self, out: &mut impl Write) -> io::Result<u64> {
        if !self.open.is_empty() {
            self.close()?;
        }
        out.write_all(&self.blocks)?;
        Ok(self.blocks.len() as u64)
    }
}

/// Numbers that stand for owners in inodes.
#[derive(Default)]
pub struct Owners(Vec<u32>);

impl Owners {
    pub fn index(&mut self, owner: u32) -> Result<u16, SquashfsError> {
        let at = self.0.iter().position(|known| *known == owner).unwrap_or_else(|| {
            self.0.push(owner);
            self.0.len() - 1
        });
        u16::try_from(at).map_err(|_| SquashfsError::Owners)
    }

    pub fn len(&self) -> u16 {
        // Each has an index of 16 bits.
        self.0.len() as u16
    }

    /// Writes the blocks of owners, and behind them where each starts, `from` being where the first is; gives the length of the blocks.
    pub fn write(&self, from: u64, out: &mut impl Write) -> io::Result<u64> {
        let mut starts = Vec::new();
        let mut length = 0;
        for owners in self.0.chunks(BLOCK / size_of::<u32>()) {
            starts.push(from + length);
            let mut table = Table::default();
            table.push(&owners.iter().flat_map(|owner| owner.to_le_bytes()).collect::<Vec<u8>>())?;
            length += table.write(out)?;
        }
        starts.iter().try_for_each(|start| out.write_all(&start.to_le_bytes()))?;
        Ok(length)
    }
}
