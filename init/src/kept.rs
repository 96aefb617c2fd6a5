//! Small documents on STATE, each written whole: after a power cut there is the old one or the new one.

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Longer than a config with its frame in JSON, where each byte may be escaped.
const MOST: u64 = 8 * kedge_config::document::MAX_BYTES as u64;

/// A folder of them.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// `None` if there is none of this name.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.0.join(name);
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(MOST).read_to_string(&mut text)) {
            Ok(_) => serde_json::from_str(&text).map(Some).with_context(|| format!("read {}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Is on the medium when this returns.
    pub fn write(&self, name: &str, what: &impl Serialize) -> anyhow::Result<()> {
        let (path, new) = (self.0.join(name), self.0.join(format!("{name}.new")));
        let write = || {
            fs::create_dir_all(&self.0)?;
            // It may hold secrets.
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(what)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            self.sync()
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.0.join(name);
        fs::remove_file(&path).and_then(|()| self.sync()).with_context(|| format!("remove {}", path.display()))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}
