//! Growing the last partition of a GUID partition table to the end of its disk (UEFI 2.10, chapter 5).
//!
//! An image is smaller than the card it is written to. The table's second copy belongs at the disk's end, so it is moved as well.
//! The new second copy is written and synced before the first one is touched: whatever moment power fails, one copy is whole
//! (with `gpt` on its command line the kernel looks for it at the end of the disk).

use std::io;

pub const SECTOR: u64 = 512;
const SIGNATURE: [u8; 8] = *b"EFI PART";
/// Every table we read has the usual 128 entries of 128 bytes; more than this is refused rather than read into memory.
const MOST_ENTRY_BYTES: u64 = 64 * 1024;

/// What a table lives on. A fake of it is a vector of bytes.
pub trait Disk {
    fn sectors(&self) -> io::Result<u64>;
    fn read(&mut self, sector: u64, into: &mut [u8]) -> io::Result<()>;
    /// When it returns, the bytes are on the medium.
    fn write(&mut self, sector: u64, bytes: &[u8]) -> io::Result<()>;
}

#[derive(Debug, thiserror::Error)]
pub enum GptError {
    #[error("partition table: {operation}: {source}")]
    Disk { operation: &'static str, source: io::Error },
    #[error("no whole partition table (first copy: {first}; second copy: {second})")]
    Neither { first: Damage, second: Damage },
    #[error("the partition table has no partition named {0}")]
    NoPartition(String),
    #[error("partition {0} is not the last on its disk, so it cannot grow")]
    NotLast(String),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("no signature")]
    Signature,
    #[error("wrong checksum of the header")]
    Header,
    #[error("wrong checksum of the entries")]
    Entries,
    #[error("fields out of range")]
    Range,
    #[error("unreadable: {0}")]
    Unreadable(io::ErrorKind),
}

/// Where the partition lies now, in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// From 1.
    pub number: u32,
    pub start: u64,
    pub sectors: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    pub extent: Extent,
    /// Whether anything was written.
    pub grown: bool,
}

/// A header sector and the entries it vouches for. Fields are reached by their offsets in table 5-5 of the specification.
#[derive(Clone)]
struct Table {
    header: [u8; SECTOR as usize],
    entries: Vec<u8>,
}

const HEADER_SIZE: usize = 12;
const HEADER_CRC: usize = 16;
const MY_LBA: usize = 24;
const ALTERNATE_LBA: usize = 32;
const FIRST_USABLE: usize = 40;
const LAST_USABLE: usize = 48;
const ENTRIES_LBA: usize = 72;
const ENTRY_COUNT: usize = 80;
const ENTRY_SIZE: usize = 84;
const ENTRIES_CRC: usize = 88;
/// Within an entry (table 5-6).
const STARTING_LBA: usize = 32;
const ENDING_LBA: usize = 40;
const NAME: usize = 56;

/// Grows the partition called `name` to the last usable sector, and moves the table's second copy to the disk's end.
/// Nothing is written where that is so already.
pub fn grow_last(disk: &mut impl Disk, name: &str) -> Result<Growth, GptError> {
    let failed = |operation| move |source| GptError::Disk { operation, source };
    let sectors = disk.sectors().map_err(failed("size of the disk"))?;
    let last = sectors.saturating_sub(1);
    let (mut table, whole) = Table::read_either(disk, last)?;
    let (index, start, end) = table.find(name)?;
    if table.ends().any(|other| other > end) {
        return Err(GptError::NotLast(name.into()));
    }
    let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
    // Partitions end on whole MiB as they begin.
    let entry_sectors = table.entry_bytes().div_ceil(SECTOR);
    let last_usable = last.saturating_sub(entry_sectors + 1);
    let aligned_end = ((last_usable + 1) / 2048 * 2048).saturating_sub(1);
    let at_home = table.get_u64(ALTERNATE_LBA).max(table.get_u64(MY_LBA)) == last;
    if end >= aligned_end && at_home && whole {
        return Ok(Growth { extent: Extent { number, start, sectors: end + 1 - start }, grown: false });
    }
    let new_end = aligned_end.max(end);
    table.set_end(index, new_end);
    table.set_u64(LAST_USABLE, last_usable);
    for (my, alternate, entries) in [(last, 1, last_usable + 1), (1, last, 2)] {
        table.set_u64(MY_LBA, my);
        table.set_u64(ALTERNATE_LBA, alternate);
        table.set_u64(ENTRIES_LBA, entries);
        table.seal();
        disk.write(entries, &table.entries).map_err(failed("write entries"))?;
        disk.write(my, &table.header).map_err(failed("write header"))?;
    }
    Ok(Growth { extent: Extent { number, start, sectors: new_end + 1 - start }, grown: true })
}

impl Table {
    /// The first copy, or where it is damaged the second at the end of the disk; with whether the first one is whole.
    fn read_either(disk: &mut impl Disk, last: u64) -> Result<(Self, bool), GptError> {
        let first = match Self::read(disk, 1, last) {
            Ok(table) => return Ok((table, true)),
            Err(damage) => damage,
        };
        Self::read(disk, last, last).map(|table| (table, false)).map_err(|second| GptError::Neither { first, second })
    }

    fn read(disk: &mut impl Disk, sector: u64, last: u64) -> Result<Self, Damage> {
        let unreadable = |error: io::Error| Damage::Unreadable(error.kind());
        let mut table = Self { header: [0; SECTOR as usize], entries: Vec::new() };
        disk.read(sector, &mut table.header).map_err(unreadable)?;
        if !table.header.starts_with(&SIGNATURE) {
            return Err(Damage::Signature);
        }
        let size = table.get_u32(HEADER_SIZE) as usize;
        if !(92..=SECTOR as usize).contains(&size) {
            return Err(Damage::Range);
        }
        if table.header_crc() != table.get_u32(HEADER_CRC) {
            return Err(Damage::Header);
        }
        let (bytes, lba) = (table.entry_bytes(), table.get_u64(ENTRIES_LBA));
        let sound = table.get_u32(ENTRY_SIZE) >= 128
            && bytes <= MOST_ENTRY_BYTES
            && lba.checked_add(bytes.div_ceil(SECTOR)).is_some_and(|end| end <= last + 1)
            && table.get_u64(MY_LBA) == sector
            && table.get_u64(FIRST_USABLE) <= table.get_u64(LAST_USABLE);
        if !sound {
            return Err(Damage::Range);
        }
        table.entries = vec![0; bytes as usize];
        disk.read(lba, &mut table.entries).map_err(unreadable)?;
        if crc32fast::hash(&table.entries) != table.get_u32(ENTRIES_CRC) {
            return Err(Damage::Entries);
        }
        Ok(table)
    }

    fn entry_bytes(&self) -> u64 {
        u64::from(self.get_u32(ENTRY_COUNT)) * u64::from(self.get_u32(ENTRY_SIZE))
    }

    fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.chunks_exact((self.get_u32(ENTRY_SIZE) as usize).max(1))
    }

    /// Last sectors of the partitions in use.
    fn ends(&self) -> impl Iterator<Item = u64> {
        self.rows().filter(|row| row.iter().take(16).any(|byte| *byte != 0)).map(|row| u64_at(row, ENDING_LBA))
    }

    /// Index, first and last sector.
    fn find(&self, name: &str) -> Result<(usize, u64, u64), GptError> {
        let missing = || GptError::NoPartition(name.into());
        let (index, row) = self.rows().enumerate().find(|(_, row)| has_name(row, name)).ok_or_else(missing)?;
        let (start, end) = (u64_at(row, STARTING_LBA), u64_at(row, ENDING_LBA));
        if start > end { Err(missing()) } else { Ok((index, start, end)) }
    }

    fn set_end(&mut self, index: usize, end: u64) {
        let at = index * self.get_u32(ENTRY_SIZE) as usize + ENDING_LBA;
        if let Some(field) = self.entries.get_mut(at..at + 8) {
            field.copy_from_slice(&end.to_le_bytes());
        }
    }

    /// Both checksums anew.
    fn seal(&mut self) {
        let entries = crc32fast::hash(&self.entries);
        self.set_u32(ENTRIES_CRC, entries);
        let header = self.header_crc();
        self.set_u32(HEADER_CRC, header);
    }

    /// Over the header with its own checksum as zero.
    fn header_crc(&self) -> u32 {
        let mut header = self.header;
        if let Some(field) = header.get_mut(HEADER_CRC..HEADER_CRC + 4) {
            field.fill(0);
        }
        crc32fast::hash(header.get(..self.get_u32(HEADER_SIZE) as usize).unwrap_or(&header))
    }

    fn get_u64(&self, at: usize) -> u64 {
        u64_at(&self.header, at)
    }

    fn get_u32(&self, at: usize) -> u32 {
        self.header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    fn set_u64(&mut self, at: usize, value: u64) {
        if let Some(field) = self.header.get_mut(at..at + 8) {
            field.copy_from_slice(&value.to_le_bytes());
        }
    }

    fn set_u32(&mut self, at: usize, value: u32) {
        if let Some(field) = self.header.get_mut(at..at + 4) {
            field.copy_from_slice(&value.to_le_bytes());
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Names are UTF-16, padded with zeroes.
fn has_name(row: &[u8], name: &str) -> bool {
    let stored = row
        .get(NAME..NAME + 72)
        .unwrap_or(&[])
        .chunks_exact(2)
        .filter_map(|pair| pair.try_into().ok())
        .map(u16::from_le_bytes);
    stored.take_while(|unit| *unit != 0).eq(name.encode_utf16())
}

#[cfg(test)]
mod tests;
