//! The first bytes: lines that tell how long what follows is.

use crate::{BundleError, MOST_INDEX_BYTES};
use kedge_config::slot_manifest::MOST_BYTES;

/// Of the head, filled up with zeros.
pub const HEAD_BYTES: u64 = 512;
const TITLE: &str = "kedge bundle 1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Of the manifest with its signature, which follows the head.
    pub manifest: u64,
    /// Of the index, packed, which follows the manifest.
    pub index: u64,
    pub index_unpacked: u64,
}

impl Head {
    pub fn manifest_at(&self) -> u64 {
        HEAD_BYTES
    }

    pub fn index_at(&self) -> u64 {
        HEAD_BYTES + self.manifest
    }

    /// Where the pieces begin: what the index tells of places starts there.
    pub fn pieces_at(&self) -> u64 {
        self.index_at() + self.index
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { manifest, index, index_unpacked } = self;
        let mut bytes = format!("{TITLE}\nmanifest {manifest}\nindex {index} {index_unpacked}\n").into_bytes();
        bytes.resize(HEAD_BYTES as usize, 0);
        bytes
    }

    /// Law: reads what [`Head::to_bytes`] writes, and nothing else.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let wrong = |what: &str| BundleError::Head(what.to_owned());
        let text = bytes.get(..HEAD_BYTES as usize).ok_or_else(|| wrong("it is shorter than a head"))?;
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let text = text.get(..end).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err(BundleError::Head(format!("it does not begin with \"{TITLE}\"")));
        }
        let mut numbers = |name: &str| {
            let rest = lines.next().and_then(|line| line.strip_prefix(name)).unwrap_or_default();
            rest.split_ascii_whitespace().map(|number| number.parse().unwrap_or(0)).collect::<Vec<u64>>()
        };
        let (manifest, index) = (numbers("manifest "), numbers("index "));
        let ([manifest], [index, index_unpacked]) = (manifest.as_slice(), index.as_slice()) else {
            return Err(wrong("its head has other lines than a manifest's and an index's"));
        };
        let head = Self { manifest: *manifest, index: *index, index_unpacked: *index_unpacked };
        if !(1..=MOST_BYTES as u64).contains(&head.manifest) {
            return Err(wrong("its manifest is too long"));
        }
        if !(1..=MOST_INDEX_BYTES).contains(&head.index) || !(1..=MOST_INDEX_BYTES).contains(&head.index_unpacked) {
            return Err(wrong("its index is too long"));
        }
        if bytes.get(..HEAD_BYTES as usize) != Some(head.to_bytes().as_slice()) {
            return Err(wrong("its head is not in the form in which it is written"));
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_head_is_read_as_it_is_written_and_nothing_else_is() {
        let head = Head { manifest: 800, index: 1 << 20, index_unpacked: 2 << 20 };
        let bytes = head.to_bytes();
        assert_eq!(Head::parse(&bytes), Ok(head));
        assert_eq!((head.index_at(), head.pieces_at()), (1312, 1312 + (1 << 20)));
        let told = |bytes: &[u8]| Head::parse(bytes).unwrap_err().to_string();
        assert!(told(&bytes[..100]).ends_with("shorter than a head"));
        assert!(told(&[0; 512]).ends_with("does not begin with \"kedge bundle 1\""));
        assert!(told(&Head { manifest: 60_000, ..head }.to_bytes()).ends_with("manifest is too long"));
        assert!(told(&Head { index_unpacked: 1 << 40, ..head }.to_bytes()).ends_with("index is too long"));
        assert!(told(&Head { index: 0, ..head }.to_bytes()).ends_with("index is too long"));
        let mut long = bytes.clone();
        long[500] = b'x';
        assert!(told(&long).ends_with("not in the form in which it is written"));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_what_would_be_written(noise in prop::collection::vec(any::<u8>(), 0..40), at in 0usize..60) {
            let mut bytes = Head { manifest: 1, index: 2, index_unpacked: 3 }.to_bytes();
            bytes.splice(at..at + noise.len(), noise);
            if let Ok(head) = Head::parse(&bytes) {
                prop_assert_eq!(head.to_bytes(), bytes[..512].to_vec());
            }
        }
    }
}
