//! How a chunk differs from what an earlier version has.
//!
//! A list of steps, and behind it two strings of bytes. A step says: from this place of the old bytes on, add the next so many of the
//! first string to them; then comes so much of the second. Code that only moved differs in its addresses, so that the first string is
//! mostly zeros, and packs to next to nothing (C. Percival, "Naive differences of executable code", 2003).
//!
//! Numbers are in groups of seven bits, the lowest first, the highest bit telling that more follow; the distance from where the step before
//! ended is signed, its lowest bit being the sign.

use crate::{BundleError, CHUNK};

/// Of an unpacked difference to a chunk: its bytes, and steps that cannot be many.
pub const MOST_BYTES: u64 = 4 * CHUNK;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// In the old bytes.
    pub from: u64,
    /// So many are the old ones with something added.
    pub changed: u64,
    /// So many follow that are new.
    pub added: u64,
}

/// Old bytes, read at any place.
pub trait Old {
    /// Fills `to` with what lies at `at`.
    fn read_at(&self, to: &mut [u8], at: u64) -> std::io::Result<()>;
}

impl Old for &[u8] {
    fn read_at(&self, to: &mut [u8], at: u64) -> std::io::Result<()> {
        let from = usize::try_from(at).ok().and_then(|at| self.get(at..at.checked_add(to.len())?));
        to.copy_from_slice(from.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Old for std::fs::File {
    fn read_at(&self, to: &mut [u8], at: u64) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, to, at)
    }
}

/// `new` as a difference: `steps` make it from `old`.
pub fn encode(steps: &[Step], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, steps.len() as u64);
    let (mut changed, mut added): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    let (mut from, mut rest) = (0u64, new);
    for step in steps {
        let distance = step.from.wrapping_sub(from) as i64;
        number(&mut out, (distance << 1 ^ distance >> 63) as u64);
        number(&mut out, step.changed);
        number(&mut out, step.added);
        let (now, later) = rest.split_at((step.changed as usize).min(rest.len()));
        let old = old.get(step.from as usize..).unwrap_or_default();
        changed.extend(now.iter().zip(old).map(|(new, old)| new.wrapping_sub(*old)));
        let (now, later) = later.split_at((step.added as usize).min(later.len()));
        added.extend_from_slice(now);
        rest = later;
        from = step.from + step.changed;
    }
    out.extend(changed);
    out.extend(added);
    out
}

/// The chunk of `length` bytes that `difference` makes from `old`.
pub fn apply(difference: &[u8], old: &dyn Old, length: u64) -> Result<Vec<u8>, BundleError> {
    let wrong = |what: &str| BundleError::Piece(what.to_owned());
    let mut reader = Numbers(difference);
    let count = reader.next()?;
    // Each step takes three bytes.
    if count > difference.len() as u64 / 3 || length > CHUNK {
        return Err(wrong("a difference has more steps than bytes"));
    }
    let mut steps = Vec::with_capacity(count as usize);
    let (mut from, mut changed, mut added) = (0u64, 0u64, 0u64);
    for _ in 0..count {
        let distance = reader.next()?;
        let distance = (distance >> 1) as i64 ^ -((distance & 1) as i64);
        let step = Step { from: from.wrapping_add_signed(distance), changed: reader.next()?, added: reader.next()? };
        (changed, added) = (changed.saturating_add(step.changed), added.saturating_add(step.added));
        from = step.from.wrapping_add(step.changed);
        steps.push(step);
    }
    if changed.saturating_add(added) != length || reader.0.len() as u64 != length {
        return Err(wrong("a difference is not of its chunk's length"));
    }
    let (mut changes, mut news) = reader.0.split_at(changed as usize);
    let mut out = Vec::with_capacity(length as usize);
    for step in steps {
        let start = out.len();
        out.resize(start + step.changed as usize, 0);
        let to = out.get_mut(start..).unwrap_or_default();
        old.read_at(to, step.from)
            .map_err(|error| BundleError::Piece(format!("what it differs from cannot be read: {error}")))?;
        let (now, later) = changes.split_at(step.changed as usize);
        to.iter_mut().zip(now).for_each(|(byte, change)| *byte = byte.wrapping_add(*change));
        changes = later;
        let (now, later) = news.split_at(step.added as usize);
        out.extend_from_slice(now);
        news = later;
    }
    Ok(out)
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

struct Numbers<'b>(&'b [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> Result<u64, BundleError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) =
                self.0.split_first().ok_or_else(|| BundleError::Piece("a difference is cut off".into()))?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(BundleError::Piece("a number in a difference has no end".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (0u64..5000, 0u64..300, 0u64..300).prop_map(|(from, changed, added)| Step { from, changed, added });
        prop::collection::vec(step, 0..20)
    }

    proptest! {
        /// Whatever the steps, the new bytes come out.
        #[test]
        fn applying_is_the_inverse_of_encoding(steps in steps(), seed in any::<u8>()) {
            let old: Vec<u8> = (0..6000u32).map(|n| (n.wrapping_mul(31) >> 3) as u8 ^ seed).collect();
            let length = steps.iter().map(|step| step.changed + step.added).sum::<u64>();
            let new: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
            let difference = encode(&steps, &old, &new);
            prop_assert_eq!(apply(&difference, &old.as_slice(), length).unwrap(), new);
            prop_assert!(apply(&difference, &old.as_slice(), length + 1).is_err());
        }

        /// Whatever the bytes, memory is bounded by the chunk's length.
        #[test]
        fn noise_makes_no_more_than_a_chunk(noise in prop::collection::vec(any::<u8>(), 0..200), length in 0..2 * CHUNK) {
            if let Ok(bytes) = apply(&noise, &[0u8; 100].as_slice(), length) {
                prop_assert_eq!(bytes.len() as u64, length);
            }
        }
    }
}
