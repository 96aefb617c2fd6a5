//! A DHCPv4 client (RFC 2131): asks for an address and keeps it; whoever owns the interface applies what it says.

mod lease;

pub use lease::{Event, Lease, Options};
