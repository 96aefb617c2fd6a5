//! The partition table of disks that a Raspberry Pi starts from: an MBR, with the partitions that Linux alone reads as logical ones in
//! the fourth. An MBR has no names; a mark in its first sector says that the numbers mean what [`names::MBR_PARTITIONS`] says.
//!
//! ```text
//! sector 0 ── 1 ESP · 2 BOOT-A · 3 BOOT-B · 4 extended ─▶ record ── 5 SYSTEM-A
//!                                                           └─▶ record ── 6 SYSTEM-B ─▶ … ─▶ record ── 8 STATE
//! ```
//!
//! All here is pure: sectors in, sectors out. Units are sectors of 512 bytes.

use crate::names::{self, MbrPartition};
use std::io;

pub const SECTOR_BYTES: usize = 512;
pub type Sector = [u8; SECTOR_BYTES];
/// A logical partition lies so far behind the record that describes it: a whole MiB, as partitions begin on whole MiB.
pub const RECORD_GAP: u64 = 2048;

/// Where a PC's BIOS would find its program: a jump to itself, and the mark. A Raspberry Pi runs neither.
const MARK: [u8; 10] = *b"\xeb\xfeKEDGEMBR";
const ID: usize = 440;
const TABLE: usize = 446;
const ENTRY_BYTES: usize = 16;
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// "Extended, with LBA" is what is written; all three are read (Linux, `block/partitions/msdos.c`).
const EXTENDED: u8 = 0x0f;
const EXTENDED_KINDS: [u8; 3] = [0x05, 0x0f, 0x85];
const EXTENDED_NUMBER: u32 = 4;
const FIRST_LOGICAL: u32 = 5;
/// Longer chains of records are a loop.
const MOST_LOGICAL: u32 = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// As Linux numbers it: 1 to 4, logical ones from 5.
    pub number: u32,
    /// The type byte.
    pub kind: u8,
    pub start: u64,
    pub sectors: u64,
}

impl Entry {
    fn end(&self) -> u64 {
        self.start + self.sectors
    }
}

/// All partitions but the extended one, in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The disk's signature, which Linux shows in `PARTUUID`.
    pub id: u32,
    pub entries: Vec<Entry>,
}

#[derive(Debug, thiserror::Error)]
pub enum MbrError {
    #[error("sector {sector}: {source}")]
    Read { sector: u64, source: io::Error },
    #[error("sector {sector} has no signature of a partition table")]
    Signature { sector: u64 },
    #[error("the chain of logical partitions does not end")]
    Loop,
    #[error("the partition table has no partition {0}")]
    NoPartition(u32),
    #[error("partition {0} is not the last on its disk, so it cannot grow")]
    NotLast(u32),
}

/// Whether this first sector bears the mark.
pub fn is_ours(first: &Sector) -> bool {
    first.starts_with(&MARK) && first.ends_with(&SIGNATURE)
}

/// What the number of a partition means on a disk with the mark.
pub fn partition(number: u32) -> Option<MbrPartition> {
    names::MBR_PARTITIONS.into_iter().find(|row| row.number == number)
}

impl Table {
    /// Follows the chain through `read`.
    pub fn read(read: &mut dyn FnMut(u64) -> io::Result<Sector>) -> Result<Self, MbrError> {
        let mut fetch = |sector: u64| {
            let bytes = read(sector).map_err(|source| MbrError::Read { sector, source })?;
            if bytes.ends_with(&SIGNATURE) { Ok(bytes) } else { Err(MbrError::Signature { sector }) }
        };
        let first = fetch(0)?;
        let mut entries = Vec::new();
        let mut extended = None;
        for (number, [kind, start, sectors]) in (1..).zip(rows(&first)) {
            if EXTENDED_KINDS.contains(&(kind as u8)) {
                extended = extended.or(Some(start));
            } else if sectors > 0 {
                entries.push(Entry { number, kind: kind as u8, start, sectors });
            }
        }
        let (mut next, mut number) = (extended, FIRST_LOGICAL);
        while let (Some(record), Some(container)) = (next, extended) {
            if number >= FIRST_LOGICAL + MOST_LOGICAL {
                return Err(MbrError::Loop);
            }
            let [own, link, ..] = rows(&fetch(record)?);
            let [kind, start, sectors] = own;
            if sectors > 0 {
                entries.push(Entry { number, kind: kind as u8, start: record + start, sectors });
            }
            let [kind, start, sectors] = link;
            next = (EXTENDED_KINDS.contains(&(kind as u8)) && sectors > 0).then_some(container + start);
            number += 1;
        }
        Ok(Self { id: word(&first, ID) as u32, entries })
    }

    /// The sectors that say so, each with its number. Written in this order, what is described is always within what contains it.
    pub fn sectors(&self) -> Vec<(u64, Sector)> {
        let (logical, primary): (Vec<Entry>, Vec<Entry>) =
            self.entries.iter().partition(|entry| entry.number >= FIRST_LOGICAL);
        let record = |entry: &Entry| entry.start.saturating_sub(RECORD_GAP);
        let mut first = [0; SECTOR_BYTES];
        put(&mut first, 0, &MARK);
        put(&mut first, ID, &self.id.to_le_bytes());
        for entry in &primary {
            row(&mut first, entry.number as usize - 1, entry.kind, entry.start, entry.sectors);
        }
        let ends = logical.first().map(record).zip(logical.last().map(Entry::end));
        if let Some((start, end)) = ends {
            row(&mut first, EXTENDED_NUMBER as usize - 1, EXTENDED, start, end.saturating_sub(start));
        }
        put(&mut first, SECTOR_BYTES - 2, &SIGNATURE);
        let mut sectors = vec![(0, first)];
        for (at, entry) in logical.iter().enumerate() {
            let mut bytes = [0; SECTOR_BYTES];
            row(&mut bytes, 0, entry.kind, RECORD_GAP, entry.sectors);
            if let (Some(next), Some((container, _))) = (logical.get(at + 1), ends) {
                row(&mut bytes, 1, EXTENDED, record(next).saturating_sub(container), next.end() - record(next));
            }
            put(&mut bytes, SECTOR_BYTES - 2, &SIGNATURE);
            sectors.push((record(entry), bytes));
        }
        sectors
    }

    /// The partition `number` reaches to the end of a disk of `disk` sectors, on a whole MiB, as far as 32 bits of sectors go.
    /// It never shrinks.
    pub fn grow(&mut self, number: u32, disk: u64) -> Result<Entry, MbrError> {
        let last = self.entries.iter().map(Entry::end).max().unwrap_or(0);
        let entry =
            self.entries.iter_mut().find(|entry| entry.number == number).ok_or(MbrError::NoPartition(number))?;
        if entry.end() < last {
            return Err(MbrError::NotLast(number));
        }
        let end = disk.min(u64::from(u32::MAX)) / RECORD_GAP * RECORD_GAP;
        entry.sectors = entry.sectors.max(end.saturating_sub(entry.start));
        Ok(*entry)
    }
}

/// Type, start and length of the four rows.
fn rows(sector: &Sector) -> [[u64; 3]; 4] {
    [0, 1, 2, 3].map(|index| {
        let at = TABLE + index * ENTRY_BYTES;
        [u64::from(sector.get(at + 4).copied().unwrap_or(0)), word(sector, at + 8), word(sector, at + 12)]
    })
}

/// Cylinders and heads are given as "beyond", which makes readers take the sector numbers.
fn row(sector: &mut Sector, index: usize, kind: u8, start: u64, sectors: u64) {
    let at = TABLE + index * ENTRY_BYTES;
    put(sector, at, &[0, 0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff]);
    put(sector, at + 8, &(start as u32).to_le_bytes());
    put(sector, at + 12, &(sectors as u32).to_le_bytes());
}

fn word(sector: &Sector, at: usize) -> u64 {
    let bytes = sector.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    u64::from(bytes.map_or(0, u32::from_le_bytes))
}

fn put(sector: &mut Sector, at: usize, bytes: &[u8]) {
    if let Some(place) = sector.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn table() -> Table {
        let entries = [(1, 0x0c, 2048, 4096), (2, 0x0c, 6144, 4096), (5, 0x83, 12288, 2048), (6, 0x83, 16384, 8192)];
        let entries = entries.map(|(number, kind, start, sectors)| Entry { number, kind, start, sectors });
        Table { id: 0x1234_5678, entries: entries.to_vec() }
    }

    fn read(sectors: &[(u64, Sector)]) -> Result<Table, MbrError> {
        let disk: BTreeMap<u64, Sector> = sectors.iter().copied().collect();
        Table::read(&mut |at| Ok(disk.get(&at).copied().unwrap_or([0; SECTOR_BYTES])))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let sectors = table().sectors();
        assert_eq!(sectors.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 10240, 14336]);
        assert!(is_ours(&sectors[0].1));
        assert_eq!(read(&sectors).unwrap(), table());
    }

    #[test]
    fn the_bytes_are_as_fdisk_reads_them() {
        let first = table().sectors()[0].1;
        assert_eq!(first[440..444], 0x1234_5678_u32.to_le_bytes());
        // "1 FAT32 with LBA, at 2048, 4096 sectors"; row 4 contains 10240 to 24576.
        assert_eq!(first[446..462], [0, 0xfe, 0xff, 0xff, 0x0c, 0xfe, 0xff, 0xff, 0, 8, 0, 0, 0, 16, 0, 0]);
        assert_eq!(rows(&first)[3], [0x0f, 10240, 14336]);
    }

    #[test]
    fn every_cut_while_growing_leaves_a_table_that_holds_all_partitions() {
        let (old, mut new) = (table(), table());
        assert_eq!(new.grow(6, 1_000_000).unwrap().sectors, 999_424 - 16384);
        let (before, after) = (old.sectors(), new.sectors());
        for written in 0..=after.len() {
            let disk: Vec<_> = after[..written].iter().chain(&before[written..]).copied().collect();
            let found = read(&disk).unwrap();
            assert_eq!(found.entries[..3], old.entries[..3]);
            assert_eq!(found.entries[3], if written == after.len() { new.entries[3] } else { old.entries[3] });
            let container = rows(&disk[0].1)[3];
            assert!(found.entries[3].end() <= container[1] + container[2]);
        }
    }

    #[test]
    fn only_the_last_grows_and_none_shrinks() {
        let mut table = table();
        assert_eq!(table.grow(6, 20_000).unwrap().sectors, 8192);
        assert_eq!(table.grow(6, u64::MAX).unwrap().end(), 0xffff_f800);
        assert!(matches!(table.grow(5, 1 << 20), Err(MbrError::NotLast(5))));
        assert!(matches!(table.grow(7, 1 << 20), Err(MbrError::NoPartition(7))));
    }

    #[test]
    fn a_chain_in_a_circle_and_other_disks_are_told() {
        let mut sectors = table().sectors();
        row(&mut sectors[2].1, 1, EXTENDED, 0, 9999);
        assert!(matches!(read(&sectors), Err(MbrError::Loop)));
        assert!(matches!(read(&sectors[..1]), Err(MbrError::Signature { sector: 10240 })));
        assert!(matches!(read(&[]), Err(MbrError::Signature { sector: 0 })));
        sectors[0].1[3] = 0;
        assert!(!is_ours(&sectors[0].1));
    }
}
