//! What comes over the network before it is known to be ours.

use kedge_bundle::difference::{self, Step};
use kedge_bundle::head::Head;
use kedge_bundle::index::{Contents, Index, Piece};
use kedge_bundle::plan::{Present, Way, plan, requests};
use kedge_bundle::{CHUNK, Part, unpack};
use kedge_config::slot_manifest::Digest;

pub fn head(data: &[u8]) {
    if let Ok(head) = Head::parse(data) {
        assert!(data.starts_with(&head.to_bytes()));
        assert!(head.pieces_at() > head.index_at() && head.index_at() > head.manifest_at());
    }
}

pub fn head_seeds() -> Vec<Vec<u8>> {
    vec![Head { manifest: 900, index: 70_000, index_unpacked: 100_000 }.to_bytes()]
}

/// What is read is written as it was; and whatever it says, each chunk has a way that fetches no more than all pieces.
pub fn index(data: &[u8]) {
    let Ok(index) = Index::parse(data) else { return };
    assert_eq!(index.to_bytes(), data);
    for contents in Part::ALL.map(|part| index.part(part)) {
        let ways = plan(contents, &Present { base: Some(0), ..Present::default() });
        assert_eq!(ways.len(), contents.chunks.len());
        let fetched = ways.iter().filter(|way| matches!(way, Way::Fetch(_))).count();
        assert_eq!(requests(&ways).iter().map(|request| request.chunks.len()).sum::<usize>(), fetched);
    }
}

pub fn index_seeds() -> Vec<Vec<u8>> {
    let contents = |blocks: u8, bases: u8| Contents {
        size: u64::from(blocks) * 4096 - 1,
        hashes: (0..blocks).map(|n| Digest([n; 32])).collect(),
        bases: (0..bases).map(|n| Digest([n; 32])).collect(),
        chunks: (0..blocks.div_ceil(64))
            .map(|n| {
                let piece = |base: Option<u8>| Piece { base, at: u64::from(n) * 100, length: 100 };
                std::iter::once(None).chain((0..bases).map(Some)).map(piece).collect()
            })
            .collect(),
    };
    vec![Index { boot: contents(3, 2), system: contents(70, 1) }.to_bytes()]
}

pub fn difference(data: &[u8]) {
    let old: &[u8] = &[5; 300];
    for length in [0, 1, 20, CHUNK] {
        if let Ok(bytes) = difference::apply(data, &old, length) {
            assert_eq!(bytes.len() as u64, length);
        }
    }
}

pub fn difference_seeds() -> Vec<Vec<u8>> {
    let steps = [Step { from: 7, changed: 9, added: 3 }, Step { from: 200, changed: 8, added: 0 }];
    vec![difference::encode(&steps, &[5; 300], &[9; 20]), difference::encode(&[], &[], &[])]
}

pub fn piece(data: &[u8]) {
    for most in [0, 100, CHUNK] {
        if let Ok(bytes) = unpack(data, most) {
            assert!(bytes.len() as u64 <= most);
        }
    }
}

/// Frames of zstd at levels 1 and 19: of zeros, of a text, of nothing.
pub fn piece_seeds() -> Vec<Vec<u8>> {
    SEEDS.iter().map(|seed| seed.to_vec()).collect()
}

const SEEDS: &[&[u8]] = &[
    &[
        0x28, 0xb5, 0x2f, 0xfd, 0x64, 0x88, 0x12, 0x4d, 0x00, 0x00, 0x10, 0x00, 0x00, 0x01, 0x00, 0x83, 0xd3, 0x03,
        0x2c, 0x25, 0xb7, 0x32, 0x30,
    ],
    &[
        0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x57, 0x00, 0x25, 0x03, 0x00, 0xa4, 0x05, 0x45, 0x61, 0x63, 0x68, 0x20, 0x62,
        0x6c, 0x6f, 0x63, 0x6b, 0x20, 0x6f, 0x66, 0x20, 0x64, 0x61, 0x74, 0x61, 0x20, 0x68, 0x61, 0x73, 0x20, 0x68,
        0x2e, 0x20, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
        0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x21,
        0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e, 0x2f, 0x30, 0x31, 0x32, 0x33,
        0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x02, 0x00, 0x75, 0xa1, 0x68, 0x4c,
        0x5b, 0x9a,
    ],
    &[0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00],
];
