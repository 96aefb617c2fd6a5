//! Loading kernel modules in the order of a list that was computed when the image was built.

use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// What became of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    pub loaded: usize,
    /// Each with its reason. One missing module is not the end: what needs it will say so.
    pub failed: Vec<ModuleError>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("module {path}: {why}")]
pub struct ModuleError {
    pub path: PathBuf,
    pub why: Why,
}

impl std::fmt::Display for Why {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(kind) => write!(out, "cannot be opened: {kind}"),
            Self::Refused(errno) => write!(out, "refused by the kernel: {errno}"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Why {
    Open(io::ErrorKind),
    Refused(Errno),
}

/// The paths of a list: one a line, relative ones below `base`; empty lines and comments are skipped.
pub fn paths(list: &str, base: &Path) -> Vec<PathBuf> {
    list.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| base.join(line))
        .collect()
}

/// Loads the modules that the file `list` names; relative paths are below `base`.
pub fn load_list(list: &Path, base: &Path) -> io::Result<Loaded> {
    Ok(load(&paths(&std::fs::read_to_string(list)?, base), insert))
}

/// Loads modules in order. A module that is there already (built in, or loaded by an earlier stage) counts as loaded. A driver that looks for
/// its hardware and finds none (`ENODEV`) is as it should be: a board's list names what its machines may have.
pub fn load(paths: &[PathBuf], insert: impl Fn(&Path) -> Result<(), Why>) -> Loaded {
    let mut outcome = Loaded::default();
    for path in paths {
        match insert(path) {
            Ok(()) | Err(Why::Refused(Errno::EXIST)) => outcome.loaded += 1,
            Err(Why::Refused(Errno::NODEV)) => {}
            Err(why) => outcome.failed.push(ModuleError { path: path.clone(), why }),
        }
    }
    outcome
}

/// Inserts one raw `.ko`.
pub fn insert(path: &Path) -> Result<(), Why> {
    let file = File::open(path).map_err(|error| Why::Open(error.kind()))?;
    rustix::system::finit_module(file, c"", 0).map_err(Why::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_comments_and_relative_paths() {
        let list = "# order matters\n\n/modules/a.ko\n kernel/b.ko \n";
        assert_eq!(
            paths(list, Path::new("/usr/lib/modules/6.12")),
            [PathBuf::from("/modules/a.ko"), PathBuf::from("/usr/lib/modules/6.12/kernel/b.ko")]
        );
    }

    #[test]
    fn one_failure_does_not_stop_the_rest_and_is_told() {
        let paths: Vec<PathBuf> =
            ["/a.ko", "/there.ko", "/idle.ko", "/bad.ko", "/c.ko"].iter().map(PathBuf::from).collect();
        let outcome = load(&paths, |path| match path.to_str() {
            Some("/there.ko") => Err(Why::Refused(Errno::EXIST)),
            Some("/idle.ko") => Err(Why::Refused(Errno::NODEV)),
            Some("/bad.ko") => Err(Why::Refused(Errno::NOENT)),
            _ => Ok(()),
        });
        assert_eq!(outcome.loaded, 3);
        let told: Vec<String> = outcome.failed.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("module /bad.ko: refused by the kernel: "), "{told:?}");
    }

    #[test]
    fn a_missing_file_is_told() {
        assert_eq!(insert(Path::new("/does/not/exist.ko")), Err(Why::Open(io::ErrorKind::NotFound)));
    }
}
