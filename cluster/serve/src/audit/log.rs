//! The audit log: a file of JSON lines that is set aside when it has grown, and thrown away when it is old.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use super::outlet::{Inlet, Message, Outlet, pair};

/// Lines that are written at once.
const BATCH: usize = 256 * 1024;
const MEGABYTE: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Where, and how much is kept. Upstream's options `--audit-log-…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    pub path: PathBuf,
    /// A file is set aside before it grows over this.
    pub max_megabytes: u64,
    /// Files set aside that are kept; all, if 0.
    pub max_backups: u64,
    /// They are kept for so long; for ever, if 0.
    pub max_days: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("the audit log {path}: {source}")]
pub struct LogError {
    path: PathBuf,
    source: io::Error,
}

/// Opens the file, and writes to it in a thread of its own as long as there is someone to put events in.
pub fn open(options: LogOptions) -> Result<Outlet, LogError> {
    let wrong = |source| LogError { path: options.path.clone(), source };
    let mut log = Log { file: None, size: 0, options: options.clone() };
    log.file().map_err(wrong)?;
    let (outlet, inlet) = pair("log");
    std::thread::Builder::new().name("audit-log".to_owned()).spawn(move || run(log, inlet)).map_err(wrong)?;
    Ok(outlet)
}

fn run(mut log: Log, mut inlet: Inlet) {
    let mut told = false;
    while let Some(first) = inlet.blocking_next() {
        let (mut lines, mut count, mut flushed) = (Vec::new(), 0, Vec::new());
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Event(event) => {
                    lines.extend_from_slice(&event);
                    lines.push(b'\n');
                    count += 1;
                }
                Message::Flush(done) => flushed.push(done),
            }
            next = if lines.len() < BATCH { inlet.ready() } else { None };
        }
        match log.write(&lines) {
            Ok(()) => told = false,
            Err(error) => {
                inlet.counts.failed.fetch_add(count, Ordering::Relaxed);
                if !told {
                    let path = log.options.path.display();
                    tracing::error!(%path, %error, "cannot write the audit log; events are lost");
                }
                told = true;
            }
        }
        for done in flushed {
            let _gone = done.send(());
        }
    }
}

struct Log {
    options: LogOptions,
    file: Option<File>,
    size: u64,
}

impl Log {
    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            if let Some(folder) = self.options.path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.options.path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file()?;
        let added = lines.len() as u64;
        if self.size > 0 && self.size + added > self.options.max_megabytes.max(1) * MEGABYTE {
            self.set_aside(Timestamp::now())?;
        }
        let written = self.file()?.write_all(lines);
        self.size += added;
        if written.is_err() {
            // Opened anew next time: the disk may have been another.
            self.file = None;
        }
        written
    }

    fn set_aside(&mut self, now: Timestamp) -> io::Result<()> {
        self.file = None;
        let path = &self.options.path;
        std::fs::rename(path, aside(path, now))?;
        for old in outdated(&self.options, backups(path)?, now) {
            std::fs::remove_file(old)?;
        }
        Ok(())
    }
}

/// `audit-2026-11-26T07-39-44.123.log` beside `audit.log`.
fn aside(path: &Path, now: Timestamp) -> PathBuf {
    let (stem, ending) = parts(path);
    path.with_file_name(format!("{stem}-{}{ending}", now.strftime("%Y-%m-%dT%H-%M-%S.%3f")))
}

fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|t| t.to_string_lossy().into_owned()).unwrap_or_default();
    let ending = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    (text(path.file_stem()), ending)
}

/// Files that were set aside, with when, the newest first.
fn backups(path: &Path) -> io::Result<Vec<(Timestamp, PathBuf)>> {
    let (stem, ending) = parts(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        let when = name.to_str().and_then(|name| name.strip_prefix(&stem)?.strip_prefix('-')?.strip_suffix(&ending));
        let when = when.and_then(|when| Timestamp::strptime("%Y-%m-%dT%H-%M-%S%.f%z", format!("{when}+0000")).ok());
        found.extend(when.map(|when| (when, path)));
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

fn outdated(options: &LogOptions, backups: Vec<(Timestamp, PathBuf)>, now: Timestamp) -> Vec<PathBuf> {
    let kept = usize::try_from(options.max_backups).ok().filter(|n| *n > 0).unwrap_or(usize::MAX);
    let age = u32::try_from(options.max_days).unwrap_or(u32::MAX);
    let oldest = (age > 0).then(|| now.checked_sub(DAY * age).ok()).flatten();
    let old =
        |(at, (when, _)): &(usize, (Timestamp, PathBuf))| *at >= kept || oldest.is_some_and(|oldest| *when < oldest);
    backups.into_iter().enumerate().filter(old).map(|(_, (_, path))| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(folder: &Path) -> LogOptions {
        LogOptions { path: folder.join("deep/audit.log"), max_megabytes: 1, max_backups: 2, max_days: 3 }
    }

    #[tokio::test]
    async fn files_are_set_aside_and_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let outlet = open(options.clone()).unwrap();
        let line = bytes::Bytes::from(vec![b'x'; 300 * 1024]);
        for n in 1..=12 {
            outlet.offer(line.clone());
            outlet.flush().await;
            let whole = std::fs::metadata(&options.path).unwrap().len();
            assert!((300 * 1024..=MEGABYTE).contains(&whole), "{n}: {whole}");
            // Names tell milliseconds.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let kept = backups(&options.path).unwrap();
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(kept[0].0 > kept[1].0);
        assert_eq!(outlet.counts.failed.load(Ordering::Relaxed), 0);
        // A second start goes on where the first ended.
        let before = std::fs::metadata(&options.path).unwrap().len();
        drop(outlet);
        let outlet = open(options.clone()).unwrap();
        outlet.offer(bytes::Bytes::from_static(b"{}"));
        outlet.flush().await;
        assert_eq!(std::fs::metadata(&options.path).unwrap().len(), before + 3);
    }

    #[test]
    fn old_files_go_by_number_and_by_age() {
        let now: Timestamp = "2026-11-26T08:00:00Z".parse().unwrap();
        let of = |days: u32| (now.checked_sub(DAY * days).unwrap(), PathBuf::from(format!("{days}")));
        let gone = |max_backups, max_days| {
            let options = LogOptions { max_backups, max_days, ..options(Path::new("/x")) };
            outdated(&options, [0, 1, 2, 5, 9].map(of).into(), now)
        };
        assert!(gone(0, 0).is_empty());
        assert_eq!(gone(4, 0), [PathBuf::from("9")]);
        assert_eq!(gone(0, 3), [PathBuf::from("5"), PathBuf::from("9")]);
        assert_eq!(gone(1, 3).len(), 4);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_counted() {
        let outlet = open(LogOptions { path: "/dev/full".into(), ..options(Path::new("/x")) }).unwrap();
        outlet.offer(bytes::Bytes::from_static(b"{}"));
        outlet.flush().await;
        assert_eq!(outlet.counts.failed.load(Ordering::Relaxed), 1);
    }
}
