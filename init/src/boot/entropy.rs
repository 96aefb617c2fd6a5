//! No key is made before the kernel's random numbers are good.

use super::Boot;
use anyhow::Context;
use rustix::rand::{GetRandomFlags, getrandom};

/// Blocks until the kernel's generator is seeded (getrandom(2)); the phase's limit bounds it.
pub fn wait(_: &Boot) -> anyhow::Result<()> {
    let mut byte = [0; 1];
    getrandom(&mut byte, GetRandomFlags::empty()).map(drop).context("wait for the kernel's random numbers")
}
