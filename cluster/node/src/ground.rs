//! What a pod stands on beside its containers: shared namespaces, cgroups, images, memory-backed directories.
//!
//! One trait, so that the agent is tested without Linux; [`Linux`] is the machine.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kedge_runtime::cgroup::{self, Cgroups, Usage};
use kedge_runtime::images::{self, Image, Store};
use kedge_runtime::sandbox::{self, Request, Sandbox, Sandboxes};
use kedge_runtime::{Resources, User};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::translate::container::ImageFacts;

#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    #[error(transparent)]
    Sandbox(#[from] Box<sandbox::Error>),
    #[error(transparent)]
    Cgroup(#[from] Box<cgroup::Error>),
    #[error("{doing} {path}: {source}", path = path.display())]
    Mount { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("a blocking call panicked while it was to {0}")]
    Panicked(&'static str),
}

#[async_trait]
pub trait Ground: Send + Sync {
    /// Makes the namespaces, or finds those made before under the same id.
    async fn sandbox(&self, request: Request) -> Result<Sandbox, GroundError>;
    /// An unknown id is success.
    async fn remove_sandbox(&self, id: &str) -> Result<(), GroundError>;
    /// One made before; `None` for an unknown id.
    fn known_sandbox(&self, id: &str) -> Option<Sandbox>;
    /// Ids of all sandboxes there are.
    fn sandboxes(&self) -> Vec<String>;
    async fn cgroup(&self, path: &str, limits: &Resources) -> Result<(), GroundError>;
    async fn remove_cgroup(&self, path: &str) -> Result<(), GroundError>;
    fn usage(&self, cgroup: &str) -> Usage;
    fn image(&self, reference: &str) -> Result<ImageFacts, images::Error>;
    /// Names and size of every image.
    fn images(&self) -> Vec<(Vec<String>, u64)>;
    fn user(&self, layers: &[PathBuf], asked: &str) -> Result<User, images::UserError>;
    /// Makes the directory a memory-backed file system, unless it is one already.
    fn tmpfs(&self, path: &Path, size: Option<u64>) -> Result<(), GroundError>;
    /// Undoes [`Ground::tmpfs`]. A directory that is no mount is success.
    fn unmount(&self, path: &Path) -> Result<(), GroundError>;
}

/// The machine itself.
pub struct Linux {
    sandboxes: Sandboxes,
    cgroups: Arc<Cgroups>,
    images: Store,
}

impl Linux {
    pub fn new(sandboxes: Sandboxes, cgroups: Cgroups, images: Store) -> Self {
        Self { sandboxes, cgroups: Arc::new(cgroups), images }
    }
}

/// Runs what blocks away from the tasks.
async fn blocking<T: Send + 'static, E>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, GroundError>
where
    E: Send + 'static,
    GroundError: From<E>,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(GroundError::from),
        Err(_) => Err(GroundError::Panicked(what)),
    }
}

#[async_trait]
impl Ground for Linux {
    async fn sandbox(&self, request: Request) -> Result<Sandbox, GroundError> {
        let sandboxes = self.sandboxes.clone();
        blocking("make a sandbox", move || sandboxes.create(&request).map_err(Box::new)).await
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), GroundError> {
        let (sandboxes, id) = (self.sandboxes.clone(), id.to_owned());
        blocking("remove a sandbox", move || sandboxes.remove(&id).map_err(Box::new)).await
    }

    fn known_sandbox(&self, id: &str) -> Option<Sandbox> {
        self.sandboxes.get(id)
    }

    fn sandboxes(&self) -> Vec<String> {
        self.sandboxes.list()
    }

    async fn cgroup(&self, path: &str, limits: &Resources) -> Result<(), GroundError> {
        let (cgroups, path, limits) = (self.cgroups.clone(), path.to_owned(), limits.clone());
        blocking("make a cgroup", move || cgroups.create(&path, &limits).map_err(Box::new)).await
    }

    async fn remove_cgroup(&self, path: &str) -> Result<(), GroundError> {
        let (cgroups, path) = (self.cgroups.clone(), path.to_owned());
        blocking("remove a cgroup", move || cgroups.remove(&path).map_err(Box::new)).await
    }

    fn usage(&self, cgroup: &str) -> Usage {
        self.cgroups.usage(cgroup)
    }

    fn image(&self, reference: &str) -> Result<ImageFacts, images::Error> {
        self.images.resolve(reference).map(facts)
    }

    fn images(&self) -> Vec<(Vec<String>, u64)> {
        self.images.list().iter().map(|i| (i.names.clone(), i.size)).collect()
    }

    fn user(&self, layers: &[PathBuf], asked: &str) -> Result<User, images::UserError> {
        images::resolve_user(layers, asked)
    }

    fn tmpfs(&self, path: &Path, size: Option<u64>) -> Result<(), GroundError> {
        let failed = |source: rustix::io::Errno| GroundError::Mount {
            doing: "mount tmpfs on",
            path: path.to_owned(),
            source: source.into(),
        };
        // The directory's file system differs from its parent's: it is mounted.
        let device = |p: &Path| std::fs::metadata(p).map(|m| std::os::unix::fs::MetadataExt::dev(&m)).ok();
        if path.parent().and_then(device) != device(path) {
            return Ok(());
        }
        let options = match size {
            Some(size) => format!("mode=0777,size={size}"),
            None => "mode=0777".to_owned(),
        };
        let options = std::ffi::CString::new(options).unwrap_or_default();
        rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
            .map_err(failed)
    }

    fn unmount(&self, path: &Path) -> Result<(), GroundError> {
        match rustix::mount::unmount(path, UnmountFlags::DETACH) {
            // EINVAL: not a mount.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
            Err(source) => Err(GroundError::Mount { doing: "unmount", path: path.to_owned(), source: source.into() }),
        }
    }
}

fn facts(image: &Image) -> ImageFacts {
    let config = &image.config;
    // Upstream names an image by its repository and digest.
    let name = image.names.first().map(|n| n.rsplit_once(':').map_or(n.as_str(), |(name, _)| name));
    let digest = name.map_or_else(|| image.digest.clone(), |name| format!("{name}@{}", image.digest));
    ImageFacts {
        digest,
        layers: image.layers.clone(),
        entrypoint: config.entrypoint.clone().unwrap_or_default(),
        cmd: config.cmd.clone().unwrap_or_default(),
        env: config.env.clone().unwrap_or_default(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        stop_signal: config.stop_signal.clone(),
    }
}
