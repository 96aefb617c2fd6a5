//! What image tool, stage 1 and init agree on: board config, machine config, slot record, slot manifest, partition names and paths.
//!
//! Owns: the shapes, their defaults, their checks and the messages a person sees when a document is wrong.
//! Never knows: how anything is done with them. It opens no file, mounts nothing and talks to nobody.
//!
//! Start reading at [`board::BoardConfig`], [`machine::MachineConfig`], [`slot::Record`] and
//! [`slot_manifest::SlotManifest`].
#![forbid(unsafe_code)]

pub mod autoboot;
#[cfg(feature = "documents")]
pub mod board;
pub mod boot_entry;
pub mod boot_files;
#[cfg(feature = "documents")]
pub mod cidr;
#[cfg(feature = "documents")]
pub mod document;
pub mod hex;
#[cfg(feature = "documents")]
pub mod machine;
pub mod mbr;
pub mod names;
pub mod signing;
#[cfg(feature = "documents")]
pub mod size;
pub mod slot;
pub mod slot_manifest;
#[cfg(feature = "documents")]
mod source;
pub mod verity;

#[cfg(feature = "documents")]
pub use board::BoardConfig;
#[cfg(feature = "documents")]
pub use document::ConfigError;
#[cfg(feature = "documents")]
pub use machine::MachineConfig;
#[cfg(feature = "documents")]
pub use source::Source;

/// The version of this build, as `kedge --version`, the boot menu and the node's status tell it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
