//! Taking a container away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Entry, Shared, lock, path_error, start};
use crate::cgroup::Cgroups;
use crate::{Error, Status};

const SIGKILL: i32 = 9;

pub async fn remove(shared: &Shared, entry: &Arc<Entry>) -> Result<(), Error> {
    let _gate = entry.gate.lock().await;
    // Another caller was first.
    if shared.entry(&entry.id).is_err() {
        return Ok(());
    }
    if !matches!(entry.status(), Status::Exited(_)) {
        start::kill(entry, SIGKILL)?;
        let mut exited = entry.exited.subscribe();
        // Fails only when the entry is gone, and it is held here.
        let _ = exited.wait_for(|exited| *exited).await;
    }
    let cgroup = lock(&entry.record).cgroup.clone();
    clean(shared, &entry.directory, &cgroup).await?;
    lock(&shared.table).entries.remove(&entry.id);
    Ok(())
}

/// Ends whatever is in the cgroup, then removes cgroup, writable layer and bundle; the record goes last, so that this can be
/// repeated by a successor.
pub async fn clean(shared: &Shared, directory: &Path, cgroup: &str) -> Result<(), Error> {
    let writable = directory.file_name().map(|name| shared.config.writable.join(name));
    let work =
        Work { cgroups: shared.cgroups.clone(), cgroup: cgroup.to_owned(), writable, directory: directory.to_owned() };
    match tokio::task::spawn_blocking(move || work.carry_out()).await {
        Ok(done) => done,
        Err(error) => Err(path_error("remove", directory)(io::Error::other(error))),
    }
}

struct Work {
    cgroups: Cgroups,
    cgroup: String,
    writable: Option<PathBuf>,
    directory: PathBuf,
}

impl Work {
    fn carry_out(&self) -> Result<(), Error> {
        self.cgroups
            .remove(&self.cgroup)
            .map_err(|error| path_error("remove the cgroup of", &self.directory)(io::Error::other(error)))?;
        for path in self.writable.iter().chain([&self.directory]) {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(path_error("remove", path)(error)),
                _ => {}
            }
        }
        Ok(())
    }
}
