//! The block map of an image (`.bmap`, version 2.0, as bmaptool and Raspberry Pi Imager read it): which blocks must be written, and the
//! SHA-256 of each run of them. What is not in the map may keep what the card held before, so the map holds every block that somebody
//! will read, zeros included, and not only those that are not zero.

use super::layout::{ALIGNMENT, Layout, SECTOR, Table};
use super::write::Body;
use crate::digest::{self, Hashing};
use roxmltree::{Document, Node};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

pub const BLOCK: u64 = 4096;
/// Where the digest of the map itself stands while that digest is made.
const UNKNOWN: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// A map of a terabyte in pieces of a megabyte is smaller.
const MAX_BYTES: usize = 256 << 20;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BlockMapError {
    #[error("{path} is no block map: {what}")]
    Form { path: String, what: String },
    #[error("{path} is of version {version}, expected 2.0")]
    Version { path: String, version: String },
    #[error("{path} is damaged: its own SHA-256 is {found}, it says {expected}")]
    Damaged { path: String, found: String, expected: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMap {
    /// Bytes of the image.
    pub size: u64,
    /// Bytes of a block.
    pub block: u64,
    /// In ascending order, without overlap.
    pub extents: Vec<Extent>,
}

/// A run of blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Bytes; the last extent ends where the image does.
    pub bytes: Range<u64>,
    pub sha256: String,
}

/// The bytes of the disk that somebody will read: the partition tables and of each partition what its content says.
pub fn meant(layout: &Layout, bodies: &[Body]) -> io::Result<Vec<Range<u64>>> {
    let mut ranges: Vec<Range<u64>> = std::iter::once(0..ALIGNMENT).collect();
    match layout.table {
        Table::Gpt => ranges.push(layout.size.saturating_sub(ALIGNMENT)..layout.size),
        Table::Mbr => ranges.extend(layout.records().map(|at| at..at + SECTOR)),
    }
    for (place, body) in layout.places.iter().zip(bodies) {
        let within = body.meant(place.size)?;
        ranges.extend(within.into_iter().map(|range| place.start + range.start..place.start + range.end));
    }
    Ok(ranges)
}

/// Whole blocks, in order, those that touch as one.
fn blocks(ranges: &[Range<u64>], size: u64) -> Vec<Range<u64>> {
    let whole = |range: &Range<u64>| range.start / BLOCK * BLOCK..range.end.next_multiple_of(BLOCK).min(size);
    let mut sorted: Vec<Range<u64>> = ranges.iter().filter(|range| !range.is_empty()).map(whole).collect();
    sorted.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

impl BlockMap {
    /// The map of an image of `size` bytes in which `meant` will be read.
    pub fn of(image: &mut File, size: u64, meant: &[Range<u64>]) -> io::Result<Self> {
        let mut extents = Vec::new();
        for bytes in blocks(meant, size) {
            image.seek(SeekFrom::Start(bytes.start))?;
            let length = bytes.end - bytes.start;
            let mut reader = Hashing::new((&mut *image).take(length));
            if io::copy(&mut reader, &mut io::sink())? != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            extents.push(Extent { bytes, sha256: reader.finish() });
        }
        Ok(Self { size, block: BLOCK, extents })
    }

    /// Bytes that are in the map.
    pub fn mapped(&self) -> u64 {
        self.extents.iter().map(|extent| extent.bytes.end - extent.bytes.start).sum()
    }

    pub fn to_xml(&self) -> String {
        let count = |bytes: u64| bytes.div_ceil(self.block);
        let mut text = format!(
            "<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n    <ImageSize> {} </ImageSize>\n    <BlockSize> {} </BlockSize>\n    \
             <BlocksCount> {} </BlocksCount>\n    <MappedBlocksCount> {} </MappedBlocksCount>\n    \
             <ChecksumType> sha256 </ChecksumType>\n    <BmapFileChecksum> {UNKNOWN} </BmapFileChecksum>\n    <BlockMap>\n",
            self.size,
            self.block,
            count(self.size),
            self.extents.iter().map(|extent| count(extent.bytes.end - extent.bytes.start)).sum::<u64>(),
        );
        for Extent { bytes, sha256 } in &self.extents {
            let (first, last) = (bytes.start / self.block, count(bytes.end).saturating_sub(1));
            let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "        <Range chksum=\"{sha256}\"> {range} </Range>");
        }
        text.push_str("    </BlockMap>\n</bmap>\n");
        let own = digest::of_bytes(text.as_bytes());
        text.replacen(UNKNOWN, &own, 1)
    }

    /// Reads a map; `path` is only for messages.
    pub fn parse(path: &str, text: &str) -> Result<Self, BlockMapError> {
        let form = |what: String| BlockMapError::Form { path: path.to_owned(), what };
        if text.len() > MAX_BYTES {
            return Err(form(format!("it has {} bytes", text.len())));
        }
        let document = Document::parse(text).map_err(|error| form(error.to_string()))?;
        let root = document.root_element();
        let version = root.attribute("version").unwrap_or_default();
        if root.tag_name().name() != "bmap" {
            return Err(form(format!("it begins with <{}>", root.tag_name().name())));
        }
        if !version.starts_with("2.") {
            return Err(BlockMapError::Version { path: path.to_owned(), version: version.to_owned() });
        }
        let field = |name: &str| {
            let found = root.children().find(|node| node.tag_name().name() == name);
            found.and_then(|node| node.text()).map(str::trim).ok_or_else(|| form(format!("it has no <{name}>")))
        };
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| form(format!("\"{text}\" is no number")));
        let kind = field("ChecksumType")?;
        if kind != "sha256" {
            return Err(form(format!("its digests are {kind}, expected sha256")));
        }
        let expected = field("BmapFileChecksum")?;
        let found = digest::of_bytes(text.replacen(expected, UNKNOWN, 1).as_bytes());
        if found != expected {
            return Err(BlockMapError::Damaged { path: path.to_owned(), found, expected: expected.to_owned() });
        }
        let (size, block) = (number(field("ImageSize")?)?, number(field("BlockSize")?)?);
        if !(512..=16 << 20).contains(&block) {
            return Err(form(format!("blocks of {block} bytes")));
        }
        let map = root.children().find(|node| node.tag_name().name() == "BlockMap");
        let ranges = map.into_iter().flat_map(|map| map.children().filter(Node::is_element));
        let mut extents: Vec<Extent> = Vec::new();
        for range in ranges {
            let text = range.text().unwrap_or_default().trim();
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (number(first)?, number(last)?);
            let sha256 = range.attribute("chksum").unwrap_or_default().to_ascii_lowercase();
            let start = first.checked_mul(block).filter(|start| *start < size && first <= last);
            let start = start.filter(|start| extents.last().is_none_or(|before| before.bytes.end <= *start));
            let end = last.checked_add(1).and_then(|end| end.checked_mul(block));
            let (Some(start), Some(end)) = (start, end) else {
                return Err(form(format!("blocks {text} are not behind those before, or not of the image")));
            };
            if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(form(format!("blocks {text} have no SHA-256")));
            }
            extents.push(Extent { bytes: start..end.min(size), sha256 });
        }
        Ok(Self { size, block, extents })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    fn map() -> BlockMap {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 10 * BLOCK as usize + 100]).unwrap();
        let size = 10 * BLOCK + 100;
        BlockMap::of(&mut file, size, &[9 * BLOCK..size, 5000..5001, 0..10, BLOCK * 3..BLOCK * 4]).unwrap()
    }

    #[test]
    fn ranges_become_whole_blocks_and_the_last_ends_with_the_image() {
        let found = map();
        let shown: Vec<Range<u64>> = found.extents.iter().map(|extent| extent.bytes.clone()).collect();
        assert_eq!(shown, [0..2 * BLOCK, 3 * BLOCK..4 * BLOCK, 9 * BLOCK..10 * BLOCK + 100]);
        assert_eq!(found.mapped(), 4 * BLOCK + 100);
        assert_eq!(found.extents[1].sha256, digest::of_bytes(&[7; BLOCK as usize]));
    }

    #[test]
    fn a_map_is_read_as_it_was_written_and_a_changed_one_is_refused() {
        let text = map().to_xml();
        assert!(text.contains("> 0-1 </Range>") && text.contains("> 3 </Range>"), "{text}");
        assert_eq!(BlockMap::parse("a.bmap", &text).unwrap(), map());
        let refused = |text: &str| BlockMap::parse("a.bmap", text).unwrap_err().to_string();
        assert!(refused(&text.replace("> 3 <", "> 4 <")).contains("a.bmap is damaged"));
        assert!(refused(&text.replace("2.0", "1.3")).contains("version 1.3"));
        assert!(refused("hello").starts_with("a.bmap is no block map"));
        let signed = |text: String| {
            let old = text.split("BmapFileChecksum> ").nth(1).unwrap()[..64].to_owned();
            let blank = text.replace(&old, UNKNOWN);
            blank.replacen(UNKNOWN, &digest::of_bytes(blank.as_bytes()), 1)
        };
        assert!(refused(&signed(text.replace("> 3 <", "> 1 <"))).contains("blocks 1 are not behind those before"));
        assert!(refused(&signed(text.replace("> 3 <", "> 300 <"))).contains("not of the image"));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[<>/a-zA-Z0-9 =\"-]{0,200}") {
            let _ = BlockMap::parse("x", &text);
            let _ = BlockMap::parse("x", &format!("<bmap version=\"2.0\">{text}</bmap>"));
        }
    }
}
