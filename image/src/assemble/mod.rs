//! Puts the parts together: the initramfs and the system's root, as trees and then as file systems.

pub mod cpio;
pub mod initramfs;
pub mod root;
pub mod slot;
pub mod squashfs;
