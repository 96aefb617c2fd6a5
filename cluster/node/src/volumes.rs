//! Volumes of a pod on this node.
//!
//! Owns `RUN/pods/UID/volumes` (what is written from the API: on tmpfs, never on flash) and `STATE/pods/UID/empty`.
//!
//! ```text
//! Volume ─▶ payload::plan (pure) ─┬─ Host ─▶ check
//!                                 ├─ Empty ─▶ directory or tmpfs
//!                                 └─ Files (+ tokens) ─▶ atomic::write
//! ```

pub mod atomic;
pub mod host_path;
pub mod payload;
pub mod sub_path;
pub mod token;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::ground::{Ground, GroundError};
use crate::pod::sooner;
use crate::translate;
use crate::translate::env::Objects;
use crate::translate::fields::Facts;
use kedge_api::{Client, Status};
use payload::{Payload, Plan};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Translate(#[from] translate::Error),
    #[error("hostPath type check failed: {path} is not {expected}", path = path.display())]
    HostPath { path: PathBuf, expected: &'static str },
    #[error("{doing} {path}: {source}", path = path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("subPath {path} leads out of its volume", path = path.display())]
    Escape { path: PathBuf },
    #[error("failed to fetch token: {0}")]
    Token(Status),
    #[error(transparent)]
    Ground(#[from] GroundError),
}

/// Adds what was being done to an I/O error.
pub(crate) fn doing<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io { doing: what, path: path.to_owned(), source }
}

/// Which volume could not be set up, and why.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {source}")]
pub struct VolumeError {
    pub volume: String,
    pub source: Error,
}

/// Where the volumes of one pod stand.
#[derive(Clone, Debug)]
pub struct Room {
    /// On tmpfs.
    pub run: PathBuf,
    /// On disk.
    pub state: PathBuf,
}

/// What setting volumes up needs to know and may ask.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub pod: &'a Pod,
    pub room: &'a Room,
    pub objects: Objects<'a>,
    pub facts: &'a Facts,
    pub client: &'a dyn Client,
    pub ground: &'a dyn Ground,
    pub now: Timestamp,
    /// Ask for new tokens even where there are some.
    pub tokens: bool,
}

/// Host path of each volume, and whether it is read-only.
pub type Paths = BTreeMap<String, (PathBuf, bool)>;

impl Room {
    fn run(&self, volume: &str) -> PathBuf {
        self.run.join("volumes").join(volume)
    }

    fn empty(&self, volume: &str) -> PathBuf {
        self.state.join("empty").join(volume)
    }

    /// Where each volume is, without touching it.
    pub fn paths(&self, pod: &Pod) -> Paths {
        let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
        volumes.iter().map(|v| (v.name.clone(), self.path(v))).collect()
    }

    fn path(&self, volume: &Volume) -> (PathBuf, bool) {
        if let Some(host) = &volume.host_path {
            return (host.path.clone().into(), false);
        }
        match &volume.empty_dir {
            Some(empty) if empty.medium.as_deref() == Some("Memory") => (self.run(&volume.name), false),
            Some(_) => (self.empty(&volume.name), false),
            None => (self.run(&volume.name), true),
        }
    }
}

impl Setup<'_> {
    /// Makes or refreshes all volumes. Answers when tokens have to be renewed.
    pub async fn all(&self) -> Result<Option<Timestamp>, VolumeError> {
        let mut refresh = None;
        for volume in self.pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
            let failed = |source| VolumeError { volume: volume.name.clone(), source };
            refresh = sooner(refresh, self.one(volume).await.map_err(failed)?);
        }
        Ok(refresh)
    }

    async fn one(&self, volume: &Volume) -> Result<Option<Timestamp>, Error> {
        let group = self.pod.spec.as_ref().and_then(|s| s.security_context.as_ref()?.fs_group);
        let group = group.and_then(|g| u32::try_from(g).ok());
        let (path, _) = self.room.path(volume);
        match payload::plan(self.pod, volume, self.objects, self.facts)? {
            Plan::Host { path, kind } => host_path::check(&path, &kind).map(|()| None),
            Plan::Empty { memory, size } => {
                std::fs::create_dir_all(&path).map_err(doing("make", &path))?;
                if memory {
                    self.ground.tmpfs(&path, size)?;
                }
                atomic::own_directory(&path, group).map(|()| None)
            }
            Plan::Files(payload) => self.files(&path, payload, group).await,
        }
    }

    async fn files(&self, path: &Path, mut payload: Payload, group: Option<u32>) -> Result<Option<Timestamp>, Error> {
        let mut refresh = None;
        for ask in std::mem::take(&mut payload.tokens) {
            let known = if self.tokens { None } else { std::fs::read(path.join(&ask.path)).ok() };
            let data = match known {
                Some(data) => data,
                None => {
                    let token = token::request(self.client, self.pod, &ask, self.now).await.map_err(Error::Token)?;
                    refresh = sooner(refresh, Some(token.renew));
                    token.text.into_bytes()
                }
            };
            payload.files.insert(ask.path, payload::File { data, mode: ask.mode });
        }
        atomic::write(path, &payload.files, group, self.now)?;
        Ok(refresh)
    }
}

/// Removes everything of a pod's volumes. What is not there is not an error.
pub fn remove(room: &Room, ground: &dyn Ground) -> Result<(), Error> {
    let volumes = room.run.join("volumes");
    for entry in std::fs::read_dir(&volumes).into_iter().flatten().flatten() {
        ground.unmount(&entry.path())?;
    }
    for path in [&volumes, &room.state] {
        match std::fs::remove_dir_all(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(doing("remove", path)(e)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
