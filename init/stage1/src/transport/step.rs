//! What is done to a FAT partition: each step is on the medium before the next one begins.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Paths are from the partition's root on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The whole file: it is the old one or the new one at any time.
    Write {
        path: String,
        text: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { path, .. } => write!(out, "write {path}"),
            Self::Rename { from, to } => write!(out, "rename {from} to {to}"),
            Self::Remove { path } => write!(out, "remove {path}"),
        }
    }
}

impl Step {
    pub fn apply(&self, root: &Path) -> io::Result<()> {
        match self {
            Self::Write { path, text } => {
                let path = root.join(path);
                let new = self.unfinished(root);
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder)?;
                }
                let mut file = File::create(&new)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                fs::rename(&new, &path)?;
                sync_folder(&path)
            }
            Self::Rename { from, to } => {
                let to = root.join(to);
                fs::rename(root.join(from), &to)?;
                sync_folder(&to)
            }
            Self::Remove { path } => {
                let path = root.join(path);
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => {}
                }
                sync_folder(&path)
            }
        }
    }

    /// What a file is called until it is whole: no boot loader takes it for one of its own.
    fn unfinished(&self, root: &Path) -> std::path::PathBuf {
        match self {
            Self::Write { path, .. } | Self::Remove { path } | Self::Rename { to: path, .. } => {
                root.join(path).with_extension("new")
            }
        }
    }

    /// Leaves the step where power may fail: as much as `bytes` of a file written under its other name.
    #[cfg(test)]
    pub fn cut(&self, root: &Path, bytes: usize) {
        if let Self::Write { text, .. } = self {
            let new = self.unfinished(root);
            fs::create_dir_all(new.parent().unwrap()).unwrap();
            fs::write(new, &text[..bytes.min(text.len())]).unwrap();
        }
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
