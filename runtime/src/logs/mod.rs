//! Container output: from FIFOs (or a terminal) into log files in the CRI format, and to whoever is attached.
//!
//! ```text
//! container ─▶ FIFO ─▶ pump::Pump ─▶ cri::Lines (pure) ─▶ file::LogFile (rotated)
//!                          └──────▶ tap::Taps ─▶ attached sessions
//! ```
//! The container holds its end open for reading and writing, so that output waits in the kernel, and nothing breaks, while this
//! process is being replaced. An idle container costs no buffer: bytes are read when there are some.

pub mod cri;
mod file;
mod pump;
mod tap;

pub use file::LogFile;
pub(crate) use pump::{Pump, Source};
pub(crate) use tap::Taps;
