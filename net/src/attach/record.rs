//! What is attached, one JSON file each, so that a successor of this process finds it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::nft::Attached;
use crate::{Attachment, Error, HostPort};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub id: String,
    pub host_ports: Vec<HostPort>,
    pub attachment: Attachment,
}

impl Record {
    pub fn attached(&self) -> Attached {
        let addresses = self.attachment.addresses.iter().map(|net| net.address()).collect();
        Attached { addresses, host_ports: self.host_ports.clone() }
    }
}

/// The files, and their content in memory.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
    by_id: BTreeMap<String, Record>,
}

const SUFFIX: &str = ".json";
const HALF_WRITTEN: &str = ".new";
/// A file name has at most 255 bytes on Linux, suffixes included.
const LONGEST_ID: usize = 240;

/// An id becomes a file name, so it must be one.
pub fn check_id(id: &str) -> Result<(), Error> {
    let fits = !id.is_empty() && id.len() <= LONGEST_ID && !id.starts_with('.');
    if fits && id.chars().all(|c| c.is_ascii_graphic() && c != '/') { Ok(()) } else { Err(Error::BadId(id.to_owned())) }
}

impl Records {
    pub fn open(dir: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&dir).map_err(failed("create the directory", &dir))?;
        let mut by_id = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(failed("read the directory", &dir))? {
            let path = entry.map_err(failed("read the directory", &dir))?.path();
            if path.extension().is_some_and(|extension| extension == "new") {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
                continue;
            }
            let text = fs::read(&path).map_err(failed("read", &path))?;
            match serde_json::from_slice::<Record>(&text) {
                Ok(record) => drop(by_id.insert(record.id.clone(), record)),
                // Attaching again writes it anew; the address is still reserved under its id.
                Err(error) => tracing::warn!(path = %path.display(), %error, "not an attachment: left alone"),
            }
        }
        Ok(Self { dir, by_id })
    }

    pub fn all(&self) -> impl Iterator<Item = &Record> {
        self.by_id.values()
    }

    pub fn get(&self, id: &str) -> Option<&Record> {
        self.by_id.get(id)
    }

    pub fn insert(&mut self, record: Record) -> Result<(), Error> {
        if self.by_id.get(&record.id) == Some(&record) {
            return Ok(());
        }
        let path = self.path(&record.id);
        let temporary = self.dir.join(format!("{}{HALF_WRITTEN}", record.id));
        let text = serde_json::to_vec(&record).map_err(|error| failed("write", &path)(error.into()))?;
        fs::write(&temporary, text).map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("rename", &temporary))?;
        self.by_id.insert(record.id.clone(), record);
        Ok(())
    }

    pub fn remove(&mut self, id: &str) -> Result<(), Error> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path)(error)),
            Ok(()) | Err(_) => {}
        }
        self.by_id.remove(id);
        Ok(())
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}{SUFFIX}"))
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Record { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        let attachment =
            Attachment { addresses: vec!["10.42.0.2/24".parse().unwrap()], mac: "02:6b:0a:2a:00:02".parse().unwrap() };
        Record { id: id.into(), host_ports: Vec::new(), attachment }
    }

    #[test]
    fn records_are_found_again_and_broken_ones_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut records = Records::open(dir.path().into()).unwrap();
        records.insert(record("a")).unwrap();
        records.insert(record("b")).unwrap();
        records.remove("b").unwrap();
        records.remove("never there").unwrap();
        fs::write(dir.path().join("c.json"), "{").unwrap();
        fs::write(dir.path().join("d.new"), "half").unwrap();
        let records = Records::open(dir.path().into()).unwrap();
        assert_eq!(records.all().collect::<Vec<_>>(), [&record("a")]);
        assert!(!dir.path().join("d.new").exists());
    }

    #[test]
    fn ids_that_are_no_file_names_are_refused() {
        for bad in ["", "..", ".hidden", "a/b", "a b", "ä", &"x".repeat(241)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
        assert!(check_id("8f2c1f1e-5a0c-4a53-9d6e-1b1f5f1d8a11_2").is_ok());
    }
}
