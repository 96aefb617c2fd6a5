//! Where partitions lie. Pure arithmetic.

use kedge_config::board::Partitions;
use kedge_config::names::{self, Partition};
use serde::Serialize;

pub const SECTOR: u64 = 512;
/// Partitions start at multiples of this, which suits every erase block and every RAID stripe.
pub const ALIGNMENT: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    pub name: &'static str,
    /// Bytes from the disk's start.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    #[serde(skip)]
    pub type_guid: [u8; 16],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Bytes of the whole disk.
    pub size: u64,
    pub places: Vec<Place>,
}

impl Layout {
    /// One partition after another, with room for a table at each end.
    pub fn new(sizes: &Partitions) -> Self {
        let size_of = |partition: &Partition| match partition.name {
            name if name == names::ESP.name => sizes.esp,
            name if name == names::META.name => sizes.meta,
            name if name == names::STATE.name => sizes.state,
            _ => sizes.system,
        };
        let mut next = ALIGNMENT;
        let places = names::PARTITIONS
            .iter()
            .map(|partition| {
                let (start, size) = (next, size_of(partition).bytes());
                next = start.saturating_add(size).next_multiple_of(ALIGNMENT);
                Place { name: partition.name, start, size, type_guid: partition.type_guid }
            })
            .collect();
        Self { size: next.saturating_add(ALIGNMENT), places }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_each_other() {
        let layout = Layout::new(&Partitions::default());
        let shown: Vec<String> = layout
            .places
            .iter()
            .map(|place| format!("{} {}+{}", place.name, place.start >> 20, place.size >> 20))
            .collect();
        assert_eq!(shown, ["ESP 1+64", "SYSTEM-A 65+48", "SYSTEM-B 113+48", "META 161+1", "STATE 162+64"]);
        assert_eq!(layout.size >> 20, 227);
    }
}
