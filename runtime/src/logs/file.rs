//! A log file that is renamed when it has grown enough.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::LogLimit;

/// `NAME` is written; `NAME.1` is the one before, `NAME.2` older still. A reader that follows sees the inode change.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    limit: LogLimit,
    /// Bytes that could not be written since the last success, so that a full disk is told once.
    lost: u64,
}

impl LogFile {
    pub fn open(path: &Path, limit: LogLimit) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, limit, lost: 0 })
    }

    /// Whole entries. A container must not stop because its log cannot be written: then the entries are lost, and that is told.
    pub fn write(&mut self, entries: &[u8]) {
        let length = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        if self.size > 0 && self.size.saturating_add(length) > self.limit.bytes {
            self.rotate();
        }
        match self.file.write_all(entries) {
            Ok(()) => {
                self.size += length;
                if self.lost > 0 {
                    tracing::warn!(log = %self.path.display(), bytes = self.lost, "log is written again; these bytes of it were lost");
                    self.lost = 0;
                }
            }
            Err(error) => {
                if self.lost == 0 {
                    tracing::warn!(log = %self.path.display(), %error, "log cannot be written");
                }
                self.lost += length;
                // No half entries: what was written of them goes.
                let _ = self.file.set_len(self.size);
            }
        }
    }

    fn rotate(&mut self) {
        let old = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        // The oldest is overwritten by the rename; with one file allowed there is none before.
        for number in (1..self.limit.files.saturating_sub(1)).rev() {
            let _ = fs::rename(old(number), old(number + 1));
        }
        let moved = if self.limit.files > 1 { fs::rename(&self.path, old(1)) } else { fs::remove_file(&self.path) };
        match moved.and_then(|()| append(&self.path)) {
            Ok(file) => {
                self.file = file;
                self.size = 0;
            }
            Err(error) => tracing::warn!(log = %self.path.display(), %error, "log cannot be rotated and grows on"),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_stays_within_its_limit_and_loses_the_oldest() {
        let directory = std::env::temp_dir().join(format!("kedge-log-{}", std::process::id()));
        let path = directory.join("0.log");
        let limit = LogLimit { bytes: 100, files: 3 };
        let mut log = LogFile::open(&path, limit).unwrap();
        for n in 0..20 {
            log.write(format!("{n:039}\n").as_bytes());
        }
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
        let numbers = |name: &str| read(name).lines().map(|line| line.parse().unwrap()).collect::<Vec<u32>>();
        assert_eq!(numbers("0.log"), [18, 19]);
        assert_eq!(numbers("0.log.1"), [16, 17]);
        assert_eq!(numbers("0.log.2"), [14, 15]);
        assert!(!directory.join("0.log.3").exists());
        // Opened again, it goes on where it was.
        drop(log);
        LogFile::open(&path, limit).unwrap().write(b"x\n");
        assert_eq!(read("0.log").lines().count(), 3);
        fs::remove_dir_all(&directory).unwrap();
    }
}
