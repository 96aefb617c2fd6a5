//! A whole card: the image, with the seed on its FAT partition, which is written anew with all that was on it. What the image's block map
//! leaves out is left out here as well.

use super::seed;
use crate::disk::blockmap::{BlockMap, BlockMapError};
use crate::disk::esp::{self, EspError, Volume};
use crate::inspect::region::Region;
use crate::inspect::{Disk, InspectError};
use crate::tree::{Content, Tree, TreeError};
use kedge_config::names;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum CardError {
    #[error(transparent)]
    Image(#[from] InspectError),
    #[error(transparent)]
    Map(#[from] BlockMapError),
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path}, ESP: {source}")]
    Tree { path: String, source: TreeError },
    #[error(transparent)]
    Fat(#[from] EspError),
    #[error("{path} holds \"{file}\" already: it is a device's card; name the image that \"kedge-image build\" made")]
    Used { path: String, file: String },
}

/// The image that cards are made from.
pub struct Card {
    image: PathBuf,
    size: u64,
    /// What is copied: all that is mapped, but for the FAT partition.
    ranges: Vec<Range<u64>>,
    /// Where the FAT partition lies, its number, and what is on it.
    fat: Range<u64>,
    volume: u32,
    files: Tree,
}

const CHUNK: usize = 1 << 20;
/// Folders deeper than this are not the image tool's.
const DEPTH: usize = 6;

impl Card {
    /// Reads the image's tables and FAT partition, and its block map where it has one.
    pub fn open(image: &Path) -> Result<Self, CardError> {
        let path = || image.display().to_string();
        let disk = Disk::open(image)?;
        let fat = disk.place(names::ESP.name)?;
        let map = image.with_added_extension("bmap");
        let (size, mapped) = match std::fs::read_to_string(&map) {
            Ok(text) => {
                let map = BlockMap::parse(&map.display().to_string(), &text)?;
                (map.size, map.extents.into_iter().map(|extent| extent.bytes).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (disk.size(), std::iter::once(0..disk.size()).collect())
            }
            Err(source) => return Err(CardError::Io { path: map.display().to_string(), source }),
        };
        let esp = disk.esp()?;
        let mut files = Tree::new();
        read(&esp.root_dir(), Path::new(""), DEPTH, &mut files)
            .map_err(|source| CardError::Io { path: format!("{}, ESP", path()), source })?;
        let used = [names::SEED_MACHINE, names::SEED_KEY].into_iter().find(|file| files.get(Path::new(file)).is_some());
        if let Some(file) = used {
            return Err(CardError::Used { path: path(), file: file.to_owned() });
        }
        let ranges = without(mapped, &fat);
        Ok(Self { image: image.to_owned(), size, ranges, fat, volume: esp.volume_id(), files })
    }

    /// Writes a card with `seed` on it, and its block map.
    pub fn write(&self, seed: &Tree, path: &Path, map: &Path) -> Result<(), CardError> {
        let io = |path: &Path| {
            let path = path.display().to_string();
            move |source| CardError::Io { path, source }
        };
        let mut files = self.files.clone();
        let tree = |source| CardError::Tree { path: path.display().to_string(), source };
        files.graft(Path::new(""), seed.clone()).map_err(tree)?;
        let volume = Volume { id: self.volume, label: esp::LABEL, start: self.fat.start };
        let pieces = esp::make(&files, self.fat.end - self.fat.start, volume)?;
        let mut card = seed::create(path).map_err(io(path))?;
        self.copy(&card).map_err(io(path))?;
        let mut end = self.fat.start;
        for (at, bytes) in &pieces {
            card.write_all_at(bytes, self.fat.start + at).map_err(io(path))?;
            end = end.max(self.fat.start + at + bytes.len() as u64);
        }
        card.sync_all().map_err(io(path))?;
        let ranges: Vec<Range<u64>> = self.ranges.iter().cloned().chain(std::iter::once(self.fat.start..end)).collect();
        let found = BlockMap::of(&mut card, self.size, &ranges).map_err(io(path))?;
        std::fs::write(map, found.to_xml()).map_err(io(map))
    }

    fn copy(&self, card: &File) -> io::Result<()> {
        let image = File::open(&self.image)?;
        card.set_len(self.size)?;
        let mut chunk = vec![0; CHUNK];
        for range in &self.ranges {
            let mut at = range.start;
            while at < range.end {
                let wanted = usize::try_from(range.end - at).unwrap_or(CHUNK).min(CHUNK);
                let part = chunk.get_mut(..wanted).unwrap_or_default();
                image.read_exact_at(part, at)?;
                if part.iter().any(|byte| *byte != 0) {
                    card.write_all_at(part, at)?;
                }
                at += wanted as u64;
            }
        }
        Ok(())
    }
}

/// The parts of `ranges` that lie outside of `hole`.
fn without(ranges: Vec<Range<u64>>, hole: &Range<u64>) -> Vec<Range<u64>> {
    let parts = |range: Range<u64>| [range.start..range.end.min(hole.start), range.start.max(hole.end)..range.end];
    ranges.into_iter().flat_map(parts).filter(|range| !range.is_empty()).collect()
}

/// All that lies in a folder of the FAT.
fn read(folder: &fatfs::Dir<'_, Region<'_>>, path: &Path, depth: usize, into: &mut Tree) -> io::Result<()> {
    let origin: Arc<str> = "image".into();
    for entry in folder.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == "." || name == ".." {
            continue;
        }
        let path = path.join(&name);
        if entry.is_dir() {
            into.directory(&path.to_string_lossy(), 0o755, &origin).map_err(io::Error::other)?;
            if depth > 0 {
                read(&entry.to_dir(), &path, depth - 1, into)?;
            }
        } else {
            let mut bytes = Vec::new();
            entry.to_file().read_to_end(&mut bytes)?;
            into.file(&path, 0o644, Content::bytes(bytes), &origin).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_hole_is_cut_out() {
        let ranges = vec![0..10, 15..20, 25..40];
        assert_eq!(without(ranges, &(5..30)), [0..5, 30..40]);
    }
}
