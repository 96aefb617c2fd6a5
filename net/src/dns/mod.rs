//! A DNS server that answers its own zone at once and asks upstream servers for the rest.
//!
//! [`Server`] owns the sockets, `message` the wire format, `cache` what others answered, `upstream` how they are asked.

mod cache;
mod lookup;
pub(crate) mod message;
mod server;
mod upstream;
mod zone;

pub use lookup::addresses;
pub use server::{Error, Server};
pub use zone::{Authority, Data, Record, RecordType, Zone, ZoneAnswer};
