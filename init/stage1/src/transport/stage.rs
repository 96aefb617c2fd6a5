//! The boot files of the idle slot, in the place where its boot loader finds them. They are written where they lie: nothing starts the slot until
//! they are whole, and what is there already need not come again.

use super::{Mounted, TransportError};
use kedge_config::slot_manifest::SlotManifest;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Folders deeper than this are not looked into: no boot file lies there.
const DEPTH: usize = 32;

/// Open boot files.
#[derive(Debug)]
pub struct Staged {
    /// Those of the manifest, in its order, as long as it says.
    pub files: Vec<File>,
    /// Those of the slot that runs, if all of them are there.
    pub running: Option<Vec<File>>,
    pub(super) own: Mounted,
    pub(super) _other: Option<Mounted>,
}

impl Staged {
    /// When this returns `Ok` a power cut does not undo what was written.
    pub fn finish(self) -> Result<(), TransportError> {
        for file in &self.files {
            file.sync_all().map_err(|source| self.own.failed("sync boot files", source))?;
        }
        // Before the unmounting: an open file would hold it.
        drop(self.files);
        drop(self.running);
        self.own.close()
    }
}

#[derive(Debug)]
pub(super) enum StageError {
    Full { needed: u64, source: io::Error },
    Io { path: String, source: io::Error },
}

/// Opens the files of `manifest` in `folder`, in its order and each as long as it says, and removes what else is there.
pub(super) fn prepare(folder: &Path, manifest: &SlotManifest) -> Result<Vec<File>, StageError> {
    let failed = |path: &Path, source| StageError::Io { path: path.display().to_string(), source };
    fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
    let wanted: BTreeSet<PathBuf> = manifest.boot.iter().map(|file| folder.join(&file.path)).collect();
    clear(folder, &wanted, DEPTH).map_err(|source| failed(folder, source))?;
    let mut files = Vec::with_capacity(manifest.boot.len());
    for known in &manifest.boot {
        let path = folder.join(&known.path);
        let open = || {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            file.set_len(known.blob.bytes)?;
            Ok(file)
        };
        files.push(open().map_err(|source: io::Error| match Errno::from_io_error(&source) {
            Some(Errno::NOSPC) => StageError::Full { needed: manifest.boot_layout().1, source },
            Some(_) | None => failed(&path, source),
        })?);
    }
    Ok(files)
}

/// Removes files and folders that are none of `wanted` and lead to none.
fn clear(folder: &Path, wanted: &BTreeSet<PathBuf>, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        match (entry.file_type()?.is_dir(), wanted.contains(&path)) {
            (true, false) if depth > 0 => {
                clear(&path, wanted, depth - 1)?;
                if !wanted.iter().any(|wanted| wanted.starts_with(&path)) {
                    fs::remove_dir(&path)?;
                }
            }
            (true, _) => fs::remove_dir_all(&path)?,
            (false, false) => fs::remove_file(&path)?,
            (false, true) => {}
        }
    }
    Ok(())
}

/// The files of `manifest` in `folder`, to be read; `None` where they are not all there.
pub(super) fn existing(folder: &Path, manifest: &SlotManifest) -> Option<Vec<File>> {
    let open = |known: &kedge_config::boot_files::BootFile| {
        let file = File::open(folder.join(&known.path)).ok()?;
        (file.metadata().ok()?.len() == known.blob.bytes).then_some(file)
    };
    manifest.boot.iter().map(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::tests::manifest;
    use kedge_config::boot_files::{BootFile, Role};
    use kedge_config::slot_manifest::Blob;

    #[test]
    fn a_folder_has_the_files_of_the_manifest_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("kedge/b");
        let mut made = manifest(Role::Unified, 1);
        let blob = |bytes| Blob { bytes, ..made.boot[0].blob };
        let file = |path: &str, bytes| BootFile { role: Role::Other, path: path.into(), blob: blob(bytes) };
        let boot = vec![file("a.dtb", 3), file("overlays/x.dtbo", 10), file("was-folder", 1)];
        made.boot = boot;
        for (path, text) in
            [("a.dtb", "longer"), ("old", "x"), ("overlays/y.dtbo", "x"), ("gone/deep/er", "x"), ("was-folder/x", "x")]
        {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        }
        assert!(existing(&root, &made).is_none());
        let lengths = |files: &[File]| files.iter().map(|file| file.metadata().unwrap().len()).collect::<Vec<_>>();
        assert_eq!(lengths(&prepare(&root, &made).unwrap()), [3, 10, 1]);
        assert_eq!(fs::read(root.join("a.dtb")).unwrap(), b"lon");
        let names = |folder: &Path| {
            let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&root), ["a.dtb", "overlays", "was-folder"]);
        assert_eq!(names(&root.join("overlays")), ["x.dtbo"]);
        assert_eq!(lengths(&existing(&root, &made).unwrap()), [3, 10, 1]);
    }
}
