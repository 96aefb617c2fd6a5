//! A DNS server that answers its own zone at once and asks upstream servers for the rest.

mod zone;

pub use zone::{Data, Record, RecordType, Zone, ZoneAnswer};
