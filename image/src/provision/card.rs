//! A whole card: the image, with the seed on its FAT partition. What the image's block map leaves out is left out here as well.

use super::seed;
use crate::disk::blockmap::{BlockMap, BlockMapError};
use crate::inspect::{Disk, InspectError};
use crate::tree::{Node, Tree};
use kedge_config::names;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum CardError {
    #[error(transparent)]
    Image(#[from] InspectError),
    #[error(transparent)]
    Map(#[from] BlockMapError),
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path}, \"{file}\": {source}")]
    Fat { path: String, file: String, source: io::Error },
    #[error("{path} holds \"{file}\" already: it is a device's card; name the image that \"kedge-image build\" made")]
    Used { path: String, file: String },
}

/// The image that cards are made from.
pub struct Card {
    image: PathBuf,
    size: u64,
    /// What is copied.
    ranges: Vec<Range<u64>>,
    /// Where the FAT partition lies.
    fat: Range<u64>,
}

const CHUNK: usize = 1 << 20;

impl Card {
    /// Reads the image's tables, and its block map where it has one.
    pub fn open(image: &Path) -> Result<Self, CardError> {
        let disk = Disk::open(image)?;
        if let Some(file) = [names::SEED_MACHINE, names::SEED_KEY].into_iter().find(|file| disk.esp_file(file).is_ok())
        {
            return Err(CardError::Used { path: image.display().to_string(), file: file.to_owned() });
        }
        let fat = disk.place(names::ESP.name)?;
        let map = image.with_added_extension("bmap");
        let (size, ranges) = match std::fs::read_to_string(&map) {
            Ok(text) => {
                let map = BlockMap::parse(&map.display().to_string(), &text)?;
                (map.size, map.extents.into_iter().map(|extent| extent.bytes).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (disk.size(), std::iter::once(0..disk.size()).collect())
            }
            Err(source) => return Err(CardError::Io { path: map.display().to_string(), source }),
        };
        Ok(Self { image: image.to_owned(), size, ranges, fat })
    }

    /// Writes a card with `files` on it, and its block map.
    pub fn write(&self, files: &Tree, path: &Path, map: &Path) -> Result<(), CardError> {
        let io = |path: &Path| {
            let path = path.display().to_string();
            move |source| CardError::Io { path, source }
        };
        let mut card = seed::create(path).map_err(io(path))?;
        self.copy(&card).map_err(io(path))?;
        let written = self.add(files, &card, path)?;
        card.sync_all().map_err(io(path))?;
        let ranges: Vec<Range<u64>> = self.ranges.iter().cloned().chain(written).collect();
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

    /// Puts the files onto the FAT partition; gives the bytes that this changed.
    fn add(&self, files: &Tree, card: &File, path: &Path) -> Result<Vec<Range<u64>>, CardError> {
        let fail = |file: &Path| {
            let (path, file) = (path.display().to_string(), file.display().to_string());
            move |source| CardError::Fat { path, file, source }
        };
        let written = RefCell::new(Vec::new());
        let window = Window { file: card, place: self.fat.clone(), at: 0, written: &written };
        let fat = fatfs::FileSystem::new(window, fatfs::FsOptions::new().update_accessed_date(false))
            .map_err(fail(Path::new("/")))?;
        for (name, entry) in files.iter() {
            let text = name.to_str().unwrap_or_default();
            match &entry.node {
                Node::Directory => drop(fat.root_dir().create_dir(text).map_err(fail(name))?),
                Node::File(content) => {
                    let bytes = content.read().map_err(fail(name))?;
                    let mut file = fat.root_dir().create_file(text).map_err(fail(name))?;
                    file.write_all(&bytes).and_then(|()| file.flush()).map_err(fail(name))?;
                }
                Node::Symlink(_) | Node::Character { .. } | Node::Block { .. } | Node::Fifo => {}
            }
        }
        fat.unmount().map_err(fail(Path::new("/")))?;
        Ok(written.into_inner())
    }
}

/// A part of a file as if it were a file of its own, which remembers where it was written to.
struct Window<'f> {
    file: &'f File,
    place: Range<u64>,
    at: u64,
    written: &'f RefCell<Vec<Range<u64>>>,
}

impl Window<'_> {
    fn left(&self) -> usize {
        usize::try_from((self.place.end - self.place.start).saturating_sub(self.at)).unwrap_or(usize::MAX)
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(self.left());
        let count = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.place.start + self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wanted = bytes.len().min(self.left());
        let from = self.place.start + self.at;
        let count = self.file.write_at(bytes.get(..wanted).unwrap_or_default(), from)?;
        self.written.borrow_mut().push(from..from + count as u64);
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => (self.place.end - self.place.start).checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start"))?;
        Ok(self.at)
    }
}
