//! What every reader of the house is thrown at: inputs made of inputs, and what must hold whatever comes.
//!
//! Owns the table of targets, their seeds, and the mutators. A target reads bytes as one reader of the house does and asserts more than that
//! it lives: that what was read is written and read again as the same, that what it makes is bounded. Nothing is built from this crate.
//! Start reading at [`TARGETS`].
//!
//! ```text
//! seeds ─▶ mutate::fresh ─▶ Target::run ─▶ holds, or panics        cargo test: a fixed share, the same each time
//!            libFuzzer ────▶                                       make fuzz TARGET=…: guided by coverage, as long as one likes
//! ```
#![forbid(unsafe_code)]

pub mod mutate;
pub mod objects;
pub mod random;
mod targets;

pub use targets::TARGETS;

/// One reader, and what it is thrown at.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    /// Panics if something does not hold.
    pub run: fn(&[u8]),
    /// What good inputs look like, and bad ones that were found once.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

impl Target {
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Every seed, then `count` inputs made of them: the same ones each time.
    pub fn inputs(&self, count: usize) -> impl Iterator<Item = Vec<u8>> {
        let seeds = (self.seeds)();
        let mut random = random::Random::named(self.name);
        seeds.clone().into_iter().chain((0..count).map(move |_| mutate::fresh(&mut random, &seeds)))
    }
}

/// Seeds that are text.
fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}
