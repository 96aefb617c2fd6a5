//! What happens before the system is there: modules, disk, slot record, root. The program is `main.rs`; the parts are a
//! library because init loads modules, finds partitions and confirms the slot in the same way.
//!
//! Owns: the initramfs, the choice of the slot, the mount of the system.
//! Never knows: YAML, networks, containers. It must stay small: it is unpacked into memory at each boot.
//!
//! ```text
//! main ─▶ mounts::early ─▶ modules::load_list ─▶ disk::wait ─▶ meta::Meta::read ─▶ Record::choose ◀──────────────── condemn
//!                                                                                    │       │                          ▲ refused, corrupt
//!                                                                       nothing left │       ▼                          │
//!                                                                     recovery::enter ◀┘  trust::manifest ─▶ Record::way ─▶ Verity ─▶ root::mount ─▶ root::switch
//!                                                                                                              │ its kernel is another
//!                                                                                                              ▼
//!                                                                                             transport::Transport ─▶ transport::restart
//! ```
#![deny(unsafe_code)]

pub mod disk;
pub mod meta;
pub mod modules;
pub mod mounts;
pub mod recovery;
pub mod report;
pub mod root;
pub mod say;
#[expect(unsafe_code, reason = "system calls that no safe wrapper offers")]
mod sys;
pub mod transport;
pub mod trust;
pub mod verity;
pub mod watchdog;
