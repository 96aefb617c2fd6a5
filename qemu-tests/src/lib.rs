//! Boots real images under QEMU and drives them with real clients.
//!
//! Owns the harness (`guest`, `kubectl`, `bake`) and the scenarios on top of it. Knows Kedge only from outside: a disk image, a
//! console, a power button, an API. Start reading at [`scenario`].
#![forbid(unsafe_code)]

pub mod bake;
pub mod guest;
pub mod kubectl;
pub mod registry;
pub mod report;
pub mod scenario;
pub mod server;
