//! The disk image: a partition table, FAT partitions for the firmware, two system slots, the slot record, and STATE.

pub mod blockmap;
pub mod boot;
pub mod compress;
pub mod esp;
pub mod layout;
pub mod state;
pub mod write;
