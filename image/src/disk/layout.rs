//! Where partitions lie. Pure arithmetic.

use kedge_config::board::{BootloaderKind, Partitions};
use kedge_config::mbr;
use kedge_config::names::{self, Partition};
use serde::Serialize;

pub const SECTOR: u64 = 512;
/// Partitions start at multiples of this, which suits every erase block and every RAID stripe.
pub const ALIGNMENT: u64 = 1 << 20;

/// The kind of partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    Gpt,
    Mbr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    pub number: u32,
    pub name: &'static str,
    /// Bytes from the disk's start.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    #[serde(skip)]
    pub kind: Kind,
}

/// What a table calls the partition's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Guid([u8; 16]),
    Byte(u8),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Bytes of the whole disk.
    pub size: u64,
    pub table: Table,
    pub places: Vec<Place>,
}

/// From this number on an MBR's partitions are logical ones, each behind a record of its own.
const FIRST_LOGICAL: u32 = 5;
const RECORD: u64 = mbr::RECORD_GAP * SECTOR;

impl Layout {
    /// Where the records of an MBR's logical partitions lie, in bytes.
    pub fn records(&self) -> impl Iterator<Item = u64> {
        let logical = |place: &&Place| self.table == Table::Mbr && place.number >= FIRST_LOGICAL;
        self.places.iter().filter(logical).map(|place| place.start.saturating_sub(RECORD))
    }

    /// One partition after another, with room for what describes them.
    pub fn new(loader: BootloaderKind, sizes: &Partitions) -> Self {
        match loader {
            BootloaderKind::SystemdBoot => {
                let rows = (1..).zip(names::PARTITIONS).map(|(number, row)| (number, row, Kind::Guid(row.type_guid)));
                let (places, end) = places(rows, sizes);
                // The second copy of the table lies at the disk's end.
                Self { size: end.saturating_add(ALIGNMENT), table: Table::Gpt, places }
            }
            BootloaderKind::RaspberryPi => {
                let rows =
                    names::MBR_PARTITIONS.into_iter().map(|row| (row.number, row.partition, Kind::Byte(row.kind)));
                let (places, size) = places(rows, sizes);
                Self { size, table: Table::Mbr, places }
            }
        }
    }
}

fn places(rows: impl Iterator<Item = (u32, Partition, Kind)>, sizes: &Partitions) -> (Vec<Place>, u64) {
    let size_of = |partition: &Partition| match partition.name {
        name if name == names::ESP.name => sizes.esp.bytes(),
        name if name == names::BOOT_A.name || name == names::BOOT_B.name => sizes.boot.map_or(0, |size| size.bytes()),
        name if name == names::META.name => sizes.meta.bytes(),
        name if name == names::STATE.name => sizes.state.bytes(),
        _ => sizes.system.bytes(),
    };
    let mut next = ALIGNMENT;
    let place = |(number, partition, kind): (u32, Partition, Kind)| {
        let logical = matches!(kind, Kind::Byte(_)) && number >= FIRST_LOGICAL;
        let record = if logical { RECORD } else { 0 };
        let (start, size) = (next.saturating_add(record), size_of(&partition));
        next = start.saturating_add(size).next_multiple_of(ALIGNMENT);
        Place { number, name: partition.name, start, size, kind }
    };
    let places = rows.map(place).collect();
    (places, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_config::size::Size;

    fn shown(layout: &Layout) -> Vec<String> {
        let show = |place: &Place| format!("{} {}+{}", place.name, place.start >> 20, place.size >> 20);
        layout.places.iter().map(show).collect()
    }

    #[test]
    fn partitions_follow_each_other() {
        let layout = Layout::new(BootloaderKind::SystemdBoot, &Partitions::default());
        assert_eq!(shown(&layout), ["ESP 1+64", "SYSTEM-A 65+48", "SYSTEM-B 113+48", "META 161+1", "STATE 162+64"]);
        assert_eq!(layout.size >> 20, 227);
    }
    #[test]
    fn behind_an_mbr_each_logical_partition_has_a_record_before_it() {
        let sizes = Partitions { boot: Some(Size::mib(80)), ..Partitions::default() };
        let layout = Layout::new(BootloaderKind::RaspberryPi, &sizes);
        let expected = [
            "ESP 1+64",
            "BOOT-A 65+80",
            "BOOT-B 145+80",
            "SYSTEM-A 226+48",
            "SYSTEM-B 275+48",
            "META 324+1",
            "STATE 326+64",
        ];
        assert_eq!(shown(&layout), expected);
        assert_eq!(layout.size >> 20, 390);
        assert_eq!(layout.places.iter().map(|place| place.number).collect::<Vec<_>>(), [1, 2, 3, 5, 6, 7, 8]);
    }
}
