//! Boot files as the one string of bytes that a bundle knows them as.

use crate::difference::Old;
use crate::install::Target;
use kedge_config::slot_manifest::SlotManifest;
use std::io;
use std::ops::Range;

/// The files of a manifest, in its order; between them zeros.
pub struct Files<'f, F> {
    places: Vec<(Range<u64>, &'f F)>,
    bytes: u64,
}

impl<'f, F> Files<'f, F> {
    /// `files` are as long as `manifest` says; where one is missing, nothing can be read.
    pub fn new(manifest: &SlotManifest, files: &'f [F]) -> Self {
        let (layout, bytes) = manifest.boot_layout();
        Self { places: layout.into_iter().zip(files).collect(), bytes }
    }

    /// Those that have bytes of `at..at + length`: the file, from where on within it, and which of the bytes.
    fn within(&self, at: u64, length: usize) -> impl Iterator<Item = (&'f F, u64, Range<usize>)> {
        let wanted = at..at.saturating_add(length as u64);
        self.places.iter().filter_map(move |(place, file)| {
            let (start, end) = (place.start.max(wanted.start), place.end.min(wanted.end));
            // Both lie within `length`.
            (start < end).then(|| (*file, start - place.start, (start - at) as usize..(end - at) as usize))
        })
    }
}

impl<F: Old> Old for Files<'_, F> {
    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        if at.checked_add(to.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.fill(0);
        for (file, from, part) in self.within(at, to.len()) {
            file.read_at(to.get_mut(part).unwrap_or_default(), from)?;
        }
        Ok(())
    }
}

impl<F: Target> Target for Files<'_, F> {
    /// What would lie between files is dropped: it is zeros, which the hashes tell.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.within(at, bytes.len())
            .try_for_each(|(file, from, part)| file.write_at(bytes.get(part).unwrap_or_default(), from))
    }

    fn sync(&self) -> io::Result<()> {
        self.places.iter().try_for_each(|(_, file)| file.sync())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_config::boot_files::{BootFile, Role};
    use kedge_config::slot_manifest::{Blob, Digest};
    use std::fs::File;
    use std::io::Write;

    fn manifest(lengths: &[u64]) -> SlotManifest {
        let digest = Digest([1; 32]);
        let file = |(n, bytes): (usize, &u64)| BootFile {
            role: Role::Other,
            path: format!("f{n}"),
            blob: Blob { bytes: *bytes, sha256: digest },
        };
        SlotManifest {
            board: "test".into(),
            version: "1".into(),
            kernel_release: "6.12".into(),
            rollback_index: 0,
            boot_id: digest,
            boot: lengths.iter().enumerate().map(file).collect(),
            system_bytes: 4096,
            tree_offset: 8192,
            root_hash: digest,
            salt: digest,
            epoch: 0,
        }
    }

    #[test]
    fn bytes_come_from_the_files_and_go_to_them() {
        let lengths = [5000, 0, 4096, 3];
        let files: Vec<File> = lengths.iter().map(|_| tempfile::tempfile().unwrap()).collect();
        for ((file, length), byte) in files.iter().zip(lengths).zip(1..) {
            (&mut &*file).write_all(&vec![byte; length as usize]).unwrap();
        }
        let manifest = manifest(&lengths);
        let all = Files::new(&manifest, &files);
        assert_eq!(all.size().unwrap(), 8192 + 4096 + 4096);
        let mut expected = [vec![1; 5000], vec![0; 3192], vec![3; 4096], vec![4; 3], vec![0; 4093]].concat();
        let read = |at: usize, length: usize| {
            let mut bytes = vec![9; length];
            all.read_at(&mut bytes, at as u64).map(|()| bytes)
        };
        assert_eq!(read(0, expected.len()).unwrap(), expected);
        assert_eq!(read(4990, 20).unwrap(), expected[4990..5010]);
        assert!(read(1, expected.len()).is_err() && all.read_at(&mut [0], u64::MAX).is_err());

        // A chunk with what lies between files: they do not grow.
        all.write_at(&[7; 8200], 4999).unwrap();
        expected[4999] = 7;
        expected[8192..12288].fill(7);
        expected[12288..12291].fill(7);
        assert_eq!(read(0, expected.len()).unwrap(), expected);
        let grown: Vec<u64> = files.iter().map(|file| file.metadata().unwrap().len()).collect();
        assert_eq!(grown, lengths);
        all.sync().unwrap();
    }
}
