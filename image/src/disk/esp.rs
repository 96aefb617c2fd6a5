//! The EFI system partition: FAT32, with fixed times, so that the same files give the same bytes.

use crate::tree::{Node, Tree};
use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use std::io::{self, Cursor, Write};
use std::path::Path;

#[derive(Debug, thiserror::Error)]
pub enum EspError {
    #[error("ESP, formatting {size} bytes: {source}")]
    Format { size: u64, source: io::Error },
    #[error("ESP, \"{path}\": {source}")]
    File { path: String, source: io::Error },
    #[error("ESP of {size} bytes is too small: its files have {needed} bytes; raise partitions.esp of the board")]
    Full { size: u64, needed: u64 },
}

/// FAT knows no time before this; a real one would tell nobody anything.
#[derive(Debug)]
struct Epoch;

impl TimeProvider for Epoch {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }
    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

static EPOCH: Epoch = Epoch;

/// A FAT32 file system of `size` bytes with the tree's files in it.
pub fn make(tree: &Tree, size: u64, volume_id: u32) -> Result<Vec<u8>, EspError> {
    let needed = tree
        .iter()
        .filter_map(|(_, entry)| if let Node::File(content) = &entry.node { content.len().ok() } else { None })
        .sum();
    // The tables take less than a fiftieth.
    if needed > size / 50 * 49 {
        return Err(EspError::Full { size, needed });
    }
    let format = |source| EspError::Format { size, source };
    let sectors = u32::try_from(size / super::layout::SECTOR).map_err(|_| format(io::Error::other("too large")))?;
    let length = usize::try_from(size).map_err(|_| format(io::Error::other("too large")))?;
    let mut disk = Cursor::new(vec![0; length]);
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .total_sectors(sectors)
        .bytes_per_cluster(512)
        .volume_id(volume_id)
        .volume_label(*b"KEDGE-ESP  ");
    fatfs::format_volume(&mut disk, options).map_err(format)?;
    {
        let options = FsOptions::new().time_provider(&EPOCH).update_accessed_date(false);
        let files = FileSystem::new(&mut disk, options).map_err(format)?;
        for (path, entry) in tree.iter() {
            add(&files, path, &entry.node)
                .map_err(|source| EspError::File { path: path.display().to_string(), source })?;
        }
        files.unmount().map_err(format)?;
    }
    Ok(disk.into_inner())
}

fn add(files: &FileSystem<&mut Cursor<Vec<u8>>>, path: &Path, node: &Node) -> io::Result<()> {
    let name = path.to_str().ok_or_else(|| io::Error::other("not UTF-8"))?;
    match node {
        Node::Directory => files.root_dir().create_dir(name).map(|_| ()),
        Node::File(content) => {
            let mut file = files.root_dir().create_file(name)?;
            file.write_all(&content.read()?)?;
            file.flush()
        }
        Node::Symlink(_) | Node::Character { .. } | Node::Block { .. } | Node::Fifo => {
            Err(io::Error::other("FAT holds files and folders only"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Content;
    use std::io::Read;

    #[test]
    fn files_are_there_and_bytes_are_the_same() {
        let mut tree = Tree::new();
        tree.file("loader/entries/kedge-a.conf", 0o644, Content::bytes("title x"), &"test".into()).unwrap();
        let made = [0, 1].map(|_| make(&tree, 34 << 20, 7).unwrap());
        assert!(made[0] == made[1]);
        let files = FileSystem::new(Cursor::new(made[0].clone()), FsOptions::new()).unwrap();
        assert_eq!((files.fat_type(), files.volume_id()), (FatType::Fat32, 7));
        let mut text = String::new();
        files.root_dir().open_file("loader/entries/kedge-a.conf").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "title x");
    }

    #[test]
    fn too_much_is_told_before() {
        let mut tree = Tree::new();
        tree.file("big", 0o644, Content::bytes(vec![0; 34 << 20]), &"test".into()).unwrap();
        assert!(matches!(make(&tree, 34 << 20, 0), Err(EspError::Full { .. })));
    }
}
