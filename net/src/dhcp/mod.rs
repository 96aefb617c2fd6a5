//! A DHCPv4 client (RFC 2131): asks for an address and keeps it; whoever owns the interface applies what it says.
//!
//! [`Client::run`] owns sockets and time; `machine` decides; `message`, `wire` and `packet` read and write bytes. Until there is an
//! address it speaks through a packet socket with a filter in the kernel; while a lease is good it has no socket at all.

mod client;
mod lease;
pub(crate) mod machine;
pub(crate) mod message;
pub(crate) mod packet;
mod wire;

pub use client::{Client, Error, USUAL_PATIENCE};
pub use lease::{Event, Lease, Options};
