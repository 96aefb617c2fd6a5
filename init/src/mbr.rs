//! Growing the last partition of an MBR to the end of its disk. What the sectors say is decided in `kedge_config::mbr`; each is written
//! whole and synced before the next, and after each of them the table is whole.

use crate::gpt::{Disk, Extent, Growth};
use kedge_config::mbr::{self, Entry, MbrError, SECTOR_BYTES, Table};
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    #[error("partition table: {operation}: {source}")]
    Disk { operation: &'static str, source: io::Error },
    #[error("partition table: {0}")]
    Table(#[from] MbrError),
    #[error("the partition table has no partition named {0}")]
    NoPartition(String),
    #[error(
        "the partition table was changed by another tool: sector {sector} is not as the image had it, so nothing is grown"
    )]
    Changed { sector: u64 },
}

/// Grows the partition called `name`; `None` where the disk has another kind of table. Nothing is written where it is grown already.
pub fn grow_last(disk: &mut impl Disk, name: &str) -> Result<Option<Growth>, GrowError> {
    let failed = |operation| move |source| GrowError::Disk { operation, source };
    let mut read = |sector: u64| {
        let mut bytes = [0; SECTOR_BYTES];
        disk.read(sector, &mut bytes).map(|()| bytes)
    };
    if !mbr::is_ours(&read(0).map_err(failed("read"))?) {
        return Ok(None);
    }
    let table = Table::read(&mut read)?;
    let row = kedge_config::names::MBR_PARTITIONS.into_iter().find(|row| row.partition.name == name);
    let number = row.ok_or_else(|| GrowError::NoPartition(name.into()))?.number;
    let before = table.sectors();
    let mut grown = table.clone();
    let sectors = disk.sectors().map_err(failed("size of the disk"))?;
    let Entry { start, sectors, .. } = grown.grow(number, sectors)?;
    for (sector, expected) in &before {
        let mut found = [0; SECTOR_BYTES];
        disk.read(*sector, &mut found).map_err(failed("read"))?;
        // An earlier boot may have been cut off between two of its writes: container and link reach further than what is in them.
        let ours = found == *expected || grown.sectors().iter().any(|(at, bytes)| at == sector && *bytes == found);
        if !ours {
            return Err(GrowError::Changed { sector: *sector });
        }
    }
    let extent = Extent { number, start, sectors };
    if grown == table {
        return Ok(Some(Growth { extent, grown: false }));
    }
    for ((sector, new), (_, old)) in grown.sectors().iter().zip(&before) {
        if new != old {
            disk.write(*sector, new).map_err(failed("write"))?;
        }
    }
    Ok(Some(Growth { extent, grown: true }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_config::names::MBR_PARTITIONS;

    /// A disk in memory which loses power after so many sectors written.
    struct Memory {
        bytes: Vec<u8>,
        power: usize,
    }

    impl Disk for Memory {
        fn sectors(&self) -> io::Result<u64> {
            Ok((self.bytes.len() / SECTOR_BYTES) as u64)
        }

        fn read(&mut self, sector: u64, into: &mut [u8]) -> io::Result<()> {
            let at = sector as usize * SECTOR_BYTES;
            into.copy_from_slice(self.bytes.get(at..at + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }

        fn write(&mut self, sector: u64, bytes: &[u8]) -> io::Result<()> {
            self.power = self.power.checked_sub(1).ok_or(io::ErrorKind::Other)?;
            let at = sector as usize * SECTOR_BYTES;
            self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    const MIB: usize = 1 << 20;

    /// Partitions of a MiB each, on a disk of so many MiB.
    fn card(mib: usize) -> Memory {
        let start =
            |number: u32| 2048 * if number < 5 { u64::from(number) } else { 4 + (u64::from(number) - 5) * 2 + 1 };
        let entry = |number| Entry { number, kind: 0x83, start: start(number), sectors: 2048 };
        let table = Table { id: 1, entries: MBR_PARTITIONS.iter().map(|row| entry(row.number)).collect() };
        let mut disk = Memory { bytes: vec![0; mib * MIB], power: usize::MAX };
        table.sectors().iter().for_each(|(sector, bytes)| disk.write(*sector, bytes).unwrap());
        disk
    }

    #[test]
    fn state_reaches_to_the_end_and_is_left_alone_then() {
        let mut disk = card(40);
        let extent = Extent { number: 8, start: 11 * 2048, sectors: 29 * 2048 };
        assert_eq!(grow_last(&mut disk, "STATE").unwrap(), Some(Growth { extent, grown: true }));
        disk.power = 0;
        assert_eq!(grow_last(&mut disk, "STATE").unwrap(), Some(Growth { extent, grown: false }));
    }

    #[test]
    fn after_a_power_cut_the_next_boot_goes_on() {
        for power in 0..3 {
            let mut disk = card(40);
            disk.power = power;
            assert!(grow_last(&mut disk, "STATE").is_err(), "{power} writes were not enough");
            disk.power = usize::MAX;
            let growth = grow_last(&mut disk, "STATE").unwrap().unwrap();
            assert_eq!((growth.grown, growth.extent.sectors), (true, 29 * 2048));
            let mut whole = card(40);
            grow_last(&mut whole, "STATE").unwrap();
            assert!(disk.bytes == whole.bytes);
        }
    }

    #[test]
    fn other_tables_and_other_hands_are_told() {
        assert_eq!(grow_last(&mut Memory { bytes: vec![0; MIB], power: 0 }, "STATE").unwrap(), None);
        let mut disk = card(40);
        disk.bytes[446 + 4] = 0x83;
        // Row 1's type alone is kept as it is read; a partition that somebody made active is not.
        disk.bytes[446] = 0x80;
        let error = grow_last(&mut disk, "STATE").unwrap_err().to_string();
        assert!(error.contains("changed by another tool: sector 0"), "{error}");
        assert!(matches!(grow_last(&mut card(40), "OTHER"), Err(GrowError::NoPartition(_))));
    }
}
