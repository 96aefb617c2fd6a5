//! The host tool `kedge-image`: bakes kernel, `kedge`, container images and board support into one bootable, read-only disk image.
//!
//! Owns: where the parts come from, how they are laid out on disk, and how the result is looked at and booted under QEMU.
//! Never knows: Kubernetes, and what the device does with the parts (it shares only `kedge-config`'s names and documents with it).
//! Never needs: root, loop mounts, a shell; only to write onto a disk ([`flash`]) one must be allowed to.
//!
//! ```text
//! plan::Plan ──▶ fetch (apt, lock, deb | given paths) ──▶ assemble (kernel::resolve, initramfs, root, oci::bake) ──▶ disk::write
//!   what            bytes with a known digest                trees of files, then squashfs and cpio                   GPT, ESP, slots
//! ```
//!
//! The same inputs give the same bytes: every time is the plan's epoch, every list is sorted, every identifier is a hash.
//! Start reading at [`plan`] and [`build`].
#![forbid(unsafe_code)]

pub mod assemble;
pub mod build;
pub mod bundle;
pub mod digest;
pub mod disk;
pub mod elf;
pub mod fetch;
pub mod flash;
pub mod inspect;
pub mod kernel;
pub mod licence;
pub mod manifest;
pub mod oci;
pub mod parallel;
pub mod plan;
pub mod progress;
pub mod provision;
pub mod qemu;
pub mod raspberry_pi;
pub mod sbom;
pub mod secureboot;
pub mod show;
pub mod signing;
pub mod tree;
