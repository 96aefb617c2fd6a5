//! Which steps make new bytes out of old ones: after C. Percival, "Naive differences of executable code" (2003). The longest match of
//! what comes next is looked up in the sorted suffixes of the old bytes; about each match, bytes that differ now and then still count as
//! the old ones with something added.

use kedge_bundle::CHUNK;
use kedge_bundle::difference::Step;

/// A match has to explain so many bytes more than going on as before would.
const WORTH: usize = 8;
/// Numbers of 32 bits with a sign name the suffixes.
pub const LONGEST: usize = i32::MAX as usize;

/// A place in the old bytes that goes on as the new ones do, and for how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Match {
    old: usize,
    length: usize,
}

/// Old bytes with their suffixes sorted.
pub struct Old<'o> {
    bytes: &'o [u8],
    suffixes: Vec<i32>,
}

impl<'o> Old<'o> {
    /// `bytes` are no more than [`LONGEST`].
    pub fn new(bytes: &'o [u8]) -> Self {
        let mut suffixes = vec![0; bytes.len()];
        divsufsort::sort_in_place(bytes, &mut suffixes);
        Self { bytes, suffixes }
    }

    fn suffix(&self, at: usize) -> (usize, &'o [u8]) {
        let start = self.suffixes.get(at).map_or(0, |start| *start as usize);
        (start, self.bytes.get(start..).unwrap_or_default())
    }

    /// The longest beginning of `wanted` that is in the old bytes.
    fn longest(&self, wanted: &[u8]) -> Match {
        let (mut low, mut high) = (0, self.suffixes.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.suffix(middle).1 < wanted { low = middle + 1 } else { high = middle }
        }
        // The neighbours of where it would stand share most with it.
        let at = |at: usize| {
            let (old, suffix) = self.suffix(at);
            Match { old, length: common(suffix, wanted) }
        };
        let before = low.checked_sub(1).map(at).unwrap_or_default();
        let after = if low < self.suffixes.len() { at(low) } else { Match::default() };
        if before.length > after.length { before } else { after }
    }

    /// The steps that make `new`, one after another.
    pub fn steps(&self, new: &[u8]) -> Vec<Step> {
        let mut steps = Vec::new();
        // What was told already ends here, in the new bytes and in the old.
        let (mut done, mut done_old) = (0, 0);
        let mut at = 0;
        while done < new.len() {
            let (next, found) = self.next(new, at, done, done_old);
            let forward = self.forward(new, done, done_old, next);
            let backward = if next < new.len() { self.backward(new, done, next, found) } else { 0 };
            let (forward, backward) = self.meet(new, (done, done_old, forward), (next, found.old, backward));
            let end = next - backward;
            steps.push(Step { from: done_old as u64, changed: forward as u64, added: (end - done - forward) as u64 });
            (done, done_old) = (end, found.old.saturating_sub(backward));
            at = next + found.length;
        }
        steps
    }

    /// From `at` on, the first place of `new` where a match explains more than going on from `done_old`; the end of `new` if there is none.
    fn next(&self, new: &[u8], mut at: usize, done: usize, done_old: usize) -> (usize, Match) {
        // Whether going on as before explains the byte at `place`.
        let same = |place: usize| self.bytes.get((done_old + place).wrapping_sub(done)) == new.get(place);
        // How much of the bytes from `at` to `counted` going on explains.
        let (mut explained, mut counted) = (0, at);
        while at < new.len() {
            let found = self.longest(new.get(at..).unwrap_or_default());
            while counted < at + found.length {
                explained += usize::from(same(counted));
                counted += 1;
            }
            if found.length > 0 && found.length == explained {
                // Going on explains it all: what comes behind it is looked at.
                (at, explained, counted) = (at + found.length, 0, at + found.length);
                continue;
            }
            if found.length > explained + WORTH {
                return (at, found);
            }
            if counted > at {
                explained -= usize::from(same(at));
            }
            at += 1;
            counted = counted.max(at);
        }
        (new.len(), Match::default())
    }

    /// How far from the last match on more than half of the bytes are the old ones.
    fn forward(&self, new: &[u8], done: usize, done_old: usize, next: usize) -> usize {
        let pairs = new.get(done..next).unwrap_or_default().iter().zip(self.bytes.get(done_old..).unwrap_or_default());
        best(pairs.map(|(new, old)| new == old))
    }

    /// The same before the next match, backwards.
    fn backward(&self, new: &[u8], done: usize, next: usize, found: Match) -> usize {
        let before = self.bytes.get(..found.old).unwrap_or_default().iter().rev();
        best(new.get(done..next).unwrap_or_default().iter().rev().zip(before).map(|(new, old)| new == old))
    }

    /// Where the stretch behind the last match and the one before the next overlap, the border is put where most is explained.
    fn meet(
        &self,
        new: &[u8],
        (done, done_old, forward): (usize, usize, usize),
        (next, next_old, backward): (usize, usize, usize),
    ) -> (usize, usize) {
        let overlap = (done + forward).saturating_sub(next - backward);
        let start = done + forward - overlap;
        let is = |old: usize, place: usize| self.bytes.get(old) == new.get(place);
        let (mut score, mut top, mut border) = (0i64, 0i64, 0);
        for at in 0..overlap {
            score += i64::from(is(done_old + forward - overlap + at, start + at));
            score -= i64::from(is((next_old + at).wrapping_sub(backward), start + at));
            if score > top {
                (top, border) = (score, at + 1);
            }
        }
        (forward - overlap + border, backward - border)
    }
}

/// The length at which twice what is right less the length is greatest.
fn best(right: impl Iterator<Item = bool>) -> usize {
    let (mut score, mut top, mut length) = (0i64, 0i64, 0);
    for (at, right) in right.enumerate() {
        score += if right { 1 } else { -1 };
        if score > top {
            (top, length) = (score, at + 1);
        }
    }
    length
}

fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// The steps of each chunk: one that goes over a border is cut there.
pub fn chunks(steps: &[Step]) -> Vec<Vec<Step>> {
    let mut chunks: Vec<Vec<Step>> = Vec::new();
    let (mut open, mut room) = (Vec::new(), CHUNK);
    for step in steps {
        let mut rest = *step;
        while rest.changed + rest.added > 0 {
            let changed = rest.changed.min(room);
            let added = rest.added.min(room - changed);
            // What is new waits for what is changed before it.
            let added = if changed < rest.changed { 0 } else { added };
            open.push(Step { from: rest.from, changed, added });
            rest = Step { from: rest.from + changed, changed: rest.changed - changed, added: rest.added - added };
            room -= changed + added;
            if room == 0 {
                chunks.push(std::mem::take(&mut open));
                room = CHUNK;
            }
        }
    }
    if !open.is_empty() {
        chunks.push(open);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_bundle::difference::{apply, encode};
    use proptest::prelude::*;

    fn rebuilt(old: &[u8], new: &[u8]) -> (Vec<u8>, usize) {
        let steps = chunks(&Old::new(old).steps(new));
        let mut packed = 0;
        let made = steps.iter().zip(new.chunks(CHUNK as usize)).flat_map(|(steps, chunk)| {
            let difference = encode(steps, old, chunk);
            packed += zstd::bulk::compress(&difference, 19).unwrap().len();
            apply(&difference, &old, chunk.len() as u64).unwrap()
        });
        let made = made.collect();
        (made, packed)
    }

    proptest! {
        /// Small alphabets match often and in strange ways.
        #[test]
        fn what_comes_out_is_the_new(
            old in prop::collection::vec(0u8..4, 0..400),
            new in prop::collection::vec(0u8..4, 0..400),
        ) {
            prop_assert_eq!(rebuilt(&old, &new).0, new);
        }

        #[test]
        fn pieces_moved_and_changed_come_out(
            seed in any::<u32>(),
            cuts in prop::collection::vec((0usize..60_000, 0usize..3000, any::<u8>()), 1..30),
        ) {
            let mut state = seed | 1;
            let old: Vec<u8> = (0..60_000).map(|_| { state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); (state >> 24) as u8 }).collect();
            let mut new = Vec::new();
            for (at, length, noise) in &cuts {
                new.extend_from_slice(&old[*at..(at + length).min(old.len())]);
                new.extend(std::iter::repeat_n(*noise, usize::from(*noise) % 9));
            }
            let (made, packed) = rebuilt(&old, &new);
            prop_assert_eq!(made, new);
            // A step a cut, and little more.
            prop_assert!(packed < 200 + 40 * cuts.len(), "{packed} bytes for {} cuts", cuts.len());
        }
    }

    /// Code that moved: every hundredth word is another number, and something was put in.
    #[test]
    fn moved_code_packs_to_little() {
        let word = |n: u32| n.wrapping_mul(2_654_435_761) >> 7;
        let old: Vec<u8> = (0..200_000).flat_map(|n| word(n).to_le_bytes()).collect();
        let mut new: Vec<u8> = (0..200_000)
            .flat_map(|n| (if n % 100 == 0 { word(n).wrapping_add(0x40) } else { word(n) }).to_le_bytes())
            .collect();
        new.splice(300_001..300_001, b"something new".iter().copied());
        let (made, packed) = rebuilt(&old, &new);
        assert!(made == new);
        assert!(packed < new.len() / 50, "{packed} of {}", new.len());
    }
}
