//! Boots an image under QEMU as the board file's `qemu` section says.

pub mod command;
pub mod firmware;
pub mod kvm;
pub mod run;
