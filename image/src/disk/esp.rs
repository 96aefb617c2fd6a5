//! The FAT partitions that firmware reads, first of all the EFI system partition: FAT32 as Microsoft's "FAT32 File System Specification" 1.03 has it, with long names. Written here
//! rather than by a library because it must be the same bytes each time, clean to every checker, and need no buffer of its size:
//! the result is pieces with their offsets.

use super::layout::SECTOR;
use crate::tree::{Node, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum EspError {
    #[error("ESP, \"{path}\": {source}")]
    File { path: String, source: io::Error },
    #[error("ESP, \"{path}\": {what}")]
    Name { path: String, what: &'static str },
    #[error("ESP of {size} bytes is too small: its files need {needed}; raise partitions.esp of the board")]
    Full { size: u64, needed: u64 },
    #[error("ESP of {size} bytes: FAT32 takes 33 MiB to 2 TiB")]
    Size { size: u64 },
}

const RESERVED: u64 = 32;
const TABLES: u64 = 2;
/// Fewer clusters make it FAT16, whatever the boot sector says (specification, section 3.5).
const FEWEST_CLUSTERS: u64 = 65_525;
const ROOT: u32 = 2;
const END: u32 = 0x0fff_ffff;
const ENTRY: u64 = 32;
const IS_FOLDER: u8 = 0x10;
const IS_LABEL: u8 = 0x08;
const IS_LONG_NAME: u8 = 0x0f;
/// The volume's name, padded with blanks.
pub type Label = [u8; 11];
pub const LABEL: Label = *b"KEDGE-ESP  ";
pub const LABEL_A: Label = *b"KEDGE-A    ";
pub const LABEL_B: Label = *b"KEDGE-B    ";
/// 1 January 1980, the first day that FAT knows. A real time would tell nobody anything.
const DAY: [u8; 2] = [0x21, 0];

/// Where things lie, in sectors and clusters.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    sectors: u32,
    sectors_per_cluster: u64,
    table_sectors: u32,
    clusters: u64,
}

impl Geometry {
    fn new(size: u64) -> Result<Self, EspError> {
        let refuse = || EspError::Size { size };
        let sectors = u32::try_from(size / SECTOR).map_err(|_| refuse())?;
        let sectors_per_cluster = if size <= 260 << 20 { 1 } else { 8 };
        let usable = u64::from(sectors).checked_sub(RESERVED).ok_or_else(refuse)?;
        // As if tables took no room: at most a few sectors more than needed.
        let table_sectors = ((usable / sectors_per_cluster + 2) * 4).div_ceil(SECTOR);
        let clusters = usable.checked_sub(TABLES * table_sectors).ok_or_else(refuse)? / sectors_per_cluster;
        if clusters < FEWEST_CLUSTERS {
            return Err(refuse());
        }
        let table_sectors = u32::try_from(table_sectors).map_err(|_| refuse())?;
        Ok(Self { sectors, sectors_per_cluster, table_sectors, clusters })
    }

    fn cluster_bytes(&self) -> u64 {
        self.sectors_per_cluster * SECTOR
    }

    fn table(&self, number: u64) -> u64 {
        (RESERVED + number * u64::from(self.table_sectors)) * SECTOR
    }

    fn cluster(&self, number: u32) -> u64 {
        self.table(TABLES) + u64::from(number - ROOT) * self.cluster_bytes()
    }
}

/// A name and its short form.
type Name = (String, [u8; 11]);
/// Every folder with the names in it, the root first.
type Folders = BTreeMap<PathBuf, Vec<Name>>;
/// First cluster and bytes of every file and folder.
type Places = BTreeMap<PathBuf, (u32, u64)>;

/// What tells one file system from another.
#[derive(Debug, Clone, Copy)]
pub struct Volume {
    pub id: u32,
    pub label: Label,
    /// Bytes that lie before it on the disk.
    pub start: u64,
}

/// The file system's bytes, each piece with its offset; all else is zero.
pub fn make(tree: &Tree, size: u64, volume: Volume) -> Result<Vec<(u64, Vec<u8>)>, EspError> {
    let geometry = Geometry::new(size)?;
    let folders = folders(tree)?;
    let mut chains = Chains { geometry, table: vec![0x0fff_fff8, END], size };
    let mut places = Places::new();
    for (path, items) in &folders {
        let bytes = folder_bytes(path, items);
        places.insert(path.clone(), (chains.take(bytes)?, bytes));
    }
    for (path, entry) in tree.iter() {
        if let Node::File(content) = &entry.node {
            let bytes = content.len().map_err(|source| EspError::File { path: path.display().to_string(), source })?;
            places.insert(path.clone(), (chains.take(bytes)?, bytes));
        }
    }
    let mut pieces = system_area(&geometry, volume, &chains);
    for path in folders.keys() {
        let first = places.get(path).map_or(ROOT, |(first, _)| *first);
        pieces.push((geometry.cluster(first), folder(path, volume.label, &folders, &places)));
    }
    for (path, entry) in tree.iter() {
        let (Node::File(content), Some((first, 1..))) = (&entry.node, places.get(path)) else { continue };
        let bytes = content.read().map_err(|source| EspError::File { path: path.display().to_string(), source })?;
        pieces.push((geometry.cluster(*first), bytes.to_vec()));
    }
    pieces.sort_by_key(|(at, _)| *at);
    Ok(pieces)
}

/// Both names of each file and folder are fixed here.
fn folders(tree: &Tree) -> Result<Folders, EspError> {
    let mut folders = Folders::from([(PathBuf::new(), Vec::new())]);
    let mut taken: BTreeSet<(PathBuf, [u8; 11])> = BTreeSet::new();
    for (path, entry) in tree.iter() {
        let refuse = |what| EspError::Name { path: path.display().to_string(), what };
        match entry.node {
            Node::Directory => drop(folders.insert(path.clone(), Vec::new())),
            Node::File(_) => {}
            _ => return Err(refuse("FAT holds files and folders only")),
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let legal = |byte: u8| byte.is_ascii_graphic() && !b"\"*/:<>?\\|".contains(&byte);
        if name.is_empty() || name.len() > 255 || !name.bytes().all(legal) {
            return Err(refuse("expected a name of at most 255 ASCII letters, digits and signs"));
        }
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        let short = (0..10_000)
            .map(|number| short_name(name, number))
            .find(|short| taken.insert((parent.clone(), *short)))
            .ok_or_else(|| refuse("too many names alike"))?;
        folders.entry(parent).or_default().push((name.to_owned(), short));
    }
    Ok(folders)
}

/// The name of eight and three letters; `number` 0 is the name itself, others tell apart those that would be alike.
fn short_name(name: &str, number: u32) -> [u8; 11] {
    let (stem, ending) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).unwrap_or((name, ""));
    let letters = |text: &str| -> Vec<u8> {
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'()-@^_`{}~".contains(byte);
        text.bytes().filter(fits).map(|byte| byte.to_ascii_uppercase()).collect()
    };
    let (mut stem_letters, ending_letters) = (letters(stem), letters(ending));
    let whole = stem_letters.len() == stem.len() && ending_letters.len() == ending.len();
    let fits = (1..=8).contains(&stem_letters.len()) && ending_letters.len() <= 3;
    if number > 0 || !whole || !fits {
        let tail = format!("~{}", number + 1);
        stem_letters.truncate(8 - tail.len());
        stem_letters.extend(tail.bytes());
    }
    let mut short = [b' '; 11];
    let (left, right) = short.split_at_mut(8);
    left.iter_mut().zip(stem_letters).for_each(|(to, from)| *to = from);
    right.iter_mut().zip(ending_letters).for_each(|(to, from)| *to = from);
    short
}

/// Whether the short name alone says it all.
fn is_short(name: &str, short: &[u8; 11]) -> bool {
    let (stem, ending) = short.split_at(8);
    let (stem, ending) = (String::from_utf8_lossy(stem), String::from_utf8_lossy(ending));
    let (stem, ending) = (stem.trim_end(), ending.trim_end());
    name == if ending.is_empty() { stem.to_owned() } else { format!("{stem}.{ending}") }
}

/// Entries that a long name takes before the short one; each holds 13 letters.
fn long_entries(name: &str, short: &[u8; 11]) -> u64 {
    if is_short(name, short) { 0 } else { name.len().div_ceil(13) as u64 }
}

fn folder_bytes(path: &Path, names: &[Name]) -> u64 {
    // The root begins with the volume's name, others with `.` and `..`.
    let own = if path.as_os_str().is_empty() { 1 } else { 2 };
    (own + names.iter().map(|(name, short)| 1 + long_entries(name, short)).sum::<u64>()) * ENTRY
}

/// The allocation table as it grows: every chain lies in one piece.
struct Chains {
    geometry: Geometry,
    table: Vec<u32>,
    size: u64,
}

impl Chains {
    /// The first cluster of a chain for `bytes`; an empty file has none, which is 0.
    fn take(&mut self, bytes: u64) -> Result<u32, EspError> {
        let count = bytes.div_ceil(self.geometry.cluster_bytes());
        let used = self.table.len() as u64 - u64::from(ROOT);
        let full = || EspError::Full { size: self.size, needed: (used + count) * self.geometry.cluster_bytes() };
        let first = u32::try_from(self.table.len()).map_err(|_| full())?;
        if used + count > self.geometry.clusters {
            return Err(full());
        }
        let last = first + count as u32;
        self.table.extend((first + 1..last).chain((count > 0).then_some(END)));
        Ok(if count > 0 { first } else { 0 })
    }
}

fn system_area(geometry: &Geometry, volume: Volume, chains: &Chains) -> Vec<(u64, Vec<u8>)> {
    let mut boot = Vec::with_capacity(SECTOR as usize);
    boot.extend(*b"\xeb\x58\x90KEDGE   ");
    boot.extend((SECTOR as u16).to_le_bytes());
    boot.push(geometry.sectors_per_cluster as u8);
    boot.extend((RESERVED as u16).to_le_bytes());
    boot.push(TABLES as u8);
    // No fixed root folder, no 16-bit counts; a fixed disk; a geometry that nobody uses any more; what lies before it.
    boot.extend([0, 0, 0, 0, 0xf8, 0, 0, 63, 0, 255, 0]);
    boot.extend(((volume.start / SECTOR) as u32).to_le_bytes());
    boot.extend(geometry.sectors.to_le_bytes());
    boot.extend(geometry.table_sectors.to_le_bytes());
    boot.extend([0, 0, 0, 0]);
    boot.extend(ROOT.to_le_bytes());
    // FSInfo is sector 1, the copy of the boot sector sector 6.
    boot.extend([1, 0, 6, 0]);
    boot.extend([0; 12]);
    boot.extend([0x80, 0, 0x29]);
    boot.extend(volume.id.to_le_bytes());
    boot.extend(volume.label);
    boot.extend(*b"FAT32   ");
    boot.resize(510, 0);
    boot.extend([0x55, 0xaa]);
    let used = chains.table.len() as u64 - u64::from(ROOT);
    let mut info = b"RRaA".to_vec();
    info.resize(484, 0);
    info.extend(*b"rrAa");
    info.extend(((geometry.clusters - used) as u32).to_le_bytes());
    info.extend((chains.table.len() as u32).to_le_bytes());
    info.resize(510, 0);
    info.extend([0x55, 0xaa]);
    let table: Vec<u8> = chains.table.iter().flat_map(|next| next.to_le_bytes()).collect();
    let mut pieces = Vec::new();
    for copy in [0, 6] {
        pieces.extend([(copy * SECTOR, boot.clone()), ((copy + 1) * SECTOR, info.clone())]);
    }
    pieces.extend((0..TABLES).map(|number| (geometry.table(number), table.clone())));
    pieces
}

fn folder(path: &Path, label: Label, folders: &Folders, places: &Places) -> Vec<u8> {
    let mut bytes = Vec::new();
    let place = |path: &Path| places.get(path).copied().unwrap_or_default();
    match path.parent() {
        None => bytes.extend(entry(label, IS_LABEL, 0, 0)),
        Some(parent) => {
            bytes.extend(entry(*b".          ", IS_FOLDER, place(path).0, 0));
            // The root is written as 0 here (specification, section 6.5).
            let above = if parent.as_os_str().is_empty() { 0 } else { place(parent).0 };
            bytes.extend(entry(*b"..         ", IS_FOLDER, above, 0));
        }
    }
    for (name, short) in folders.get(path).into_iter().flatten() {
        let child = path.join(name);
        let (cluster, size) = place(&child);
        let (kind, size) = if folders.contains_key(&child) { (IS_FOLDER, 0) } else { (0, size) };
        bytes.extend(long_name(name, short));
        bytes.extend(entry(*short, kind, cluster, size as u32));
    }
    bytes
}

fn entry(short: [u8; 11], kind: u8, cluster: u32, size: u32) -> Vec<u8> {
    let [a, b, c, d] = cluster.to_le_bytes();
    let mut bytes = short.to_vec();
    // Created and last read on that day, at midnight; then the cluster's upper half; written on that day.
    bytes.extend([kind, 0, 0, 0, 0]);
    bytes.extend(DAY.into_iter().chain(DAY).chain([c, d, 0, 0]).chain(DAY).chain([a, b]));
    bytes.extend(size.to_le_bytes());
    bytes
}

/// The entries of a long name, last part first, as they stand before the short one.
fn long_name(name: &str, short: &[u8; 11]) -> Vec<u8> {
    let count = long_entries(name, short) as usize;
    let checksum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    // The name ends with a zero unless it fills the last entry; what is left over is all ones.
    let letters = name.bytes().map(u16::from).chain([0]).chain(std::iter::repeat(0xffff));
    let letters: Vec<u16> = letters.take(count * 13).collect();
    let mut bytes = Vec::new();
    for (number, part) in letters.chunks(13).enumerate().rev() {
        let last = if number + 1 == count { 0x40 } else { 0 };
        let part: Vec<u8> = part.iter().flat_map(|letter| letter.to_le_bytes()).collect();
        let (one, rest) = part.split_at(10);
        let (two, three) = rest.split_at(12);
        bytes.push(last | (number + 1) as u8);
        bytes.extend(one);
        bytes.extend([IS_LONG_NAME, 0, checksum]);
        bytes.extend(two.iter().chain(&[0, 0]).chain(three));
    }
    bytes
}

#[cfg(test)]
mod tests;
