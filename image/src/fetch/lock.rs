//! The lock file beside a board file: which packages, in which version, with which digest. It makes an image of today the image of
//! tomorrow; only `--update-lock` changes it.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const HEAD: &str = "# Packages the board is built from. Written by `kedge-image build --update-lock`.\n";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lock {
    pub suite: String,
    /// When it was written, in seconds since 1970: the time of images where nothing else tells one.
    pub epoch: u64,
    pub packages: Vec<Locked>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Locked {
    /// What the board file asks for; `name` differs where that is a meta package, and there are several where it is split up.
    pub wanted: String,
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub sha256: String,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("{path} is no lock file ({source}); write a new one with --update-lock")]
    Parse { path: String, source: serde_yaml::Error },
    #[error("{path}: \"{value}\" is no {what}; write a new lock file with --update-lock")]
    Value { path: String, what: &'static str, value: String },
}

impl Lock {
    /// `board-configs/NAME.lock` for `board-configs/NAME.yaml`.
    pub fn path_for(board: &Path) -> PathBuf {
        board.with_extension("lock")
    }

    /// `None` when there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>, LockError> {
        let name = || path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LockError::Io { path: name(), source }),
        };
        let lock: Self = serde_yaml::from_str(&text).map_err(|source| LockError::Parse { path: name(), source })?;
        for package in &lock.packages {
            let wrong = |what, value: &String| Err(LockError::Value { path: name(), what, value: value.clone() });
            if !package.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) || package.sha256.len() != 64 {
                return wrong("SHA-256 digest", &package.sha256);
            }
            // These become arguments and file names.
            for (what, value) in [("package name", &package.name), ("package version", &package.version)] {
                let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.~:".contains(&byte);
                if !value.starts_with(|c: char| c.is_ascii_alphanumeric()) || !value.bytes().all(fits) {
                    return wrong(what, value);
                }
            }
        }
        Ok(Some(lock))
    }

    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let name = || path.display().to_string();
        let text = serde_yaml::to_string(self).map_err(|source| LockError::Parse { path: name(), source })?;
        std::fs::write(path, format!("{HEAD}{text}")).map_err(|source| LockError::Io { path: name(), source })
    }

    /// What `wanted` stands for, in order.
    pub fn packages(&self, wanted: &str) -> impl Iterator<Item = &Locked> {
        self.packages.iter().filter(move |package| package.wanted == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        let package = Locked {
            wanted: "linux-image-cloud-amd64".into(),
            name: "linux-image-6.12+deb13-cloud-amd64".into(),
            version: "1:6.12.1-1~x".into(),
            architecture: "amd64".into(),
            sha256: "0".repeat(64),
        };
        Lock { suite: "trixie".into(), epoch: 1, packages: vec![package] }
    }

    #[test]
    fn a_lock_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = Lock::path_for(&folder.path().join("b.yaml"));
        assert!(Lock::read(&path).unwrap().is_none());
        lock().write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), Some(lock()));
        assert!(path.ends_with("b.lock"));
    }

    #[test]
    fn a_wrong_lock_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.lock");
        let mut wrong = lock();
        wrong.packages[0].sha256 = "zz".into();
        wrong.write(&path).unwrap();
        assert!(Lock::read(&path).unwrap_err().to_string().contains("\"zz\" is no SHA-256 digest"));
        let mut wrong = lock();
        wrong.packages[0].version = "-o=x".into();
        wrong.write(&path).unwrap();
        assert!(Lock::read(&path).unwrap_err().to_string().contains("\"-o=x\" is no package version"));
        std::fs::write(&path, "suite: [").unwrap();
        assert!(Lock::read(&path).unwrap_err().to_string().contains("--update-lock"));
    }
}
