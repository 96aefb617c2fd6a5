//! How a device comes by each chunk of a part, with as little over the network as can be.

use crate::index::{Contents, Piece};
use kedge_config::slot_manifest::Digest;
use std::collections::HashMap;
use std::ops::Range;

/// Of one request.
const MOST_REQUEST: u64 = 4 << 20;
/// Bytes between two pieces that are fetched along: a new request costs more.
const GAP: u64 = 16 << 10;

/// What the device has, by the hashes of its blocks.
#[derive(Debug, Default)]
pub struct Present {
    /// Where a block is in what the device runs.
    pub running: HashMap<Digest, u64>,
    /// Blocks that are at their place already: an earlier attempt was cut off, or the idle slot's system was like this one.
    pub in_place: Vec<bool>,
    /// What differences can be applied to: a number of the part's bases.
    pub base: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    InPlace,
    /// Each block that is not in place is one of the running system's.
    Copy,
    Fetch(Piece),
}

/// The way to each chunk.
pub fn plan(contents: &Contents, present: &Present) -> Vec<Way> {
    let in_place = |block: usize| present.in_place.get(block).copied().unwrap_or(false);
    let blocks = crate::BLOCKS as usize;
    let way = |(chunk, pieces): (usize, &Vec<Piece>)| {
        let hashes = || contents.chunk_hashes(chunk).iter().enumerate().map(|(at, hash)| (chunk * blocks + at, hash));
        if hashes().all(|(block, _)| in_place(block)) {
            return Way::InPlace;
        }
        if hashes().all(|(block, hash)| in_place(block) || present.running.contains_key(hash)) {
            return Way::Copy;
        }
        let usable = pieces.iter().filter(|piece| piece.base.is_none() || piece.base == present.base);
        // A chunk is never without a piece, see `Index::parse`.
        usable.min_by_key(|piece| piece.length).map_or(Way::InPlace, |piece| Way::Fetch(*piece))
    };
    contents.chunks.iter().enumerate().map(way).collect()
}

/// Bytes of the bundle to be asked for at once, from where the pieces begin, and the chunks whose pieces they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub bytes: Range<u64>,
    pub chunks: Vec<usize>,
}

/// What is to be fetched, in the order of the chunks.
pub fn requests(ways: &[Way]) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    for (chunk, way) in ways.iter().enumerate() {
        let Way::Fetch(piece) = way else { continue };
        let (start, end) = (piece.at, piece.at + u64::from(piece.length));
        match requests.last_mut() {
            Some(last)
                if start >= last.bytes.end
                    && start - last.bytes.end <= GAP
                    && end - last.bytes.start <= MOST_REQUEST =>
            {
                last.bytes.end = end;
                last.chunks.push(chunk);
            }
            _ => requests.push(Request { bytes: start..end, chunks: vec![chunk] }),
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BLOCKS, CHUNK};

    fn piece(base: Option<u8>, at: u64, length: u32) -> Piece {
        Piece { base, at, length }
    }

    /// Four chunks, the last one of a block and a half; each block's hash is its number.
    fn contents() -> Contents {
        let size = 3 * CHUNK + 6000;
        let hash = |n: u64| Digest(std::array::from_fn(|at| (n >> (8 * (at % 8))) as u8));
        Contents {
            size,
            hashes: (0..3 * BLOCKS + 2).map(hash).collect(),
            bases: vec![Digest([9; 32])],
            chunks: vec![
                vec![piece(None, 0, 1000), piece(Some(0), 5000, 10)],
                vec![piece(None, 1000, 1000), piece(Some(0), 5010, 2000)],
                vec![piece(None, 2000, 1000), piece(Some(0), 7010, 10)],
                vec![piece(None, 3000, 100)],
            ],
        }
    }

    fn ways(present: &Present) -> Vec<Way> {
        plan(&contents(), present)
    }

    #[test]
    fn the_shortest_way_is_taken() {
        let whole = [piece(None, 0, 1000), piece(None, 1000, 1000), piece(None, 2000, 1000), piece(None, 3000, 100)];
        assert_eq!(ways(&Present::default()), whole.map(Way::Fetch));

        let mut present = Present { base: Some(0), ..Present::default() };
        let shortest = [piece(Some(0), 5000, 10), whole[1], piece(Some(0), 7010, 10), whole[3]].map(Way::Fetch);
        assert_eq!(ways(&present), shortest);

        present.in_place = vec![true; BLOCKS as usize + 1];
        present.running =
            contents().hashes[BLOCKS as usize..2 * BLOCKS as usize].iter().map(|hash| (*hash, 7)).collect();
        assert_eq!(ways(&present), [Way::InPlace, Way::Copy, shortest[2], shortest[3]]);

        // One block that is nowhere: the chunk has to come.
        let missing = contents().hashes[2 * BLOCKS as usize - 1];
        present.running.remove(&missing);
        assert_eq!(ways(&present)[1], Way::Fetch(whole[1]));
    }

    #[test]
    fn pieces_side_by_side_are_one_request() {
        let fetch = |at, length| Way::Fetch(piece(None, at, length));
        let far = 100 + GAP;
        let ways = [fetch(0, 100), Way::Copy, fetch(far, 50), fetch(far + 51 + GAP, 1), fetch(10, 5)];
        let told: Vec<(Range<u64>, Vec<usize>)> = requests(&ways).into_iter().map(|r| (r.bytes, r.chunks)).collect();
        assert_eq!(told, [(0..far + 50, vec![0, 2]), (far + 51 + GAP..far + 52 + GAP, vec![3]), (10..15, vec![4])]);
        let many: Vec<Way> = (0..40).map(|n| fetch(n * CHUNK, CHUNK as u32)).collect();
        let lengths: Vec<u64> = requests(&many).into_iter().map(|r| r.bytes.end - r.bytes.start).collect();
        assert_eq!(lengths, [MOST_REQUEST, MOST_REQUEST, MOST_REQUEST / 2]);
    }
}
