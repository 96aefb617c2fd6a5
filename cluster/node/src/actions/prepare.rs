//! Volumes, cgroup, namespaces, network, and the files every container of a pod has.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use kedge_api::event::Severity;

use super::Job;
use crate::ground::GroundError;
use crate::pod::Event;
use crate::translate::env::Objects;
use crate::translate::{self, container, files, resources};
use crate::volumes::{Setup, VolumeError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Ground(#[from] GroundError),
    #[error(transparent)]
    Translate(#[from] translate::Error),
    #[error("{doing} {path}: {source}", path = path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("failed to set up the pod's network: {0}")]
    Network(#[from] kedge_net::Error),
}

pub async fn prepare(job: &Job) -> Event {
    match all(job).await {
        Ok((addresses, refresh)) => Event::Prepared { addresses, refresh },
        Err(error) => {
            let (reason, message) = match &error {
                Error::Volume(e) => ("FailedMount", e.to_string()),
                Error::Ground(_) | Error::Translate(_) | Error::Io { .. } | Error::Network(_) => {
                    ("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}"))
                }
            };
            tracing::warn!(pod = ?job.pod.metadata.name, namespace = ?job.pod.metadata.namespace, %error, "pod cannot be prepared");
            job.site.note(&job.pod, None, Severity::Warning, reason, message).await;
            Event::PrepareFailed
        }
    }
}

async fn all(job: &Job) -> Result<(Vec<IpAddr>, Option<Timestamp>), Error> {
    let (site, pod) = (&job.site, &*job.pod);
    let Some(spec) = pod.spec.as_ref() else { return Ok((Vec::new(), None)) };
    let room = site.room(pod);
    for dir in [room.run.join("words"), room.run.join("volumes"), site.logs(pod)] {
        std::fs::create_dir_all(&dir).map_err(|source| Error::Io { doing: "make", path: dir.clone(), source })?;
    }
    let refresh = volumes(job, true).await?;
    site.ground.cgroup(&container::pod_cgroup(pod, spec), &resources::of_pod(spec)).await?;
    let (hostname, full) = translate::hostname(pod, &site.domain);
    let addresses = connect(job, &hostname).await?;
    let host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    write(&room.run.join("hosts"), &files::hosts(pod, &hostname, &full, &addresses, &host))?;
    write(&room.run.join("resolv.conf"), &files::resolv_conf(pod, &site.dns()))?;
    write(&room.run.join("hostname"), &format!("{hostname}\n"))?;
    Ok((addresses, refresh))
}

/// Namespaces and network, new or as they are.
async fn connect(job: &Job, hostname: &str) -> Result<Vec<IpAddr>, Error> {
    let (site, pod) = (&job.site, &*job.pod);
    let sandbox = site.ground.sandbox(container::sandbox(pod, hostname)).await?;
    let Some(path) = &sandbox.net else { return Ok(Vec::new()) };
    let open = std::fs::File::open(path);
    let netns = open.map_err(|source| Error::Io { doing: "open", path: path.clone(), source })?;
    let attachment = site.network.attach(netns.as_fd(), translate::attach(pod)?).await?;
    Ok(attachment.addresses.iter().map(kedge_net::IpNet::address).collect())
}

/// Tells the network of a pod that was prepared before this process came: it goes on with the same addresses.
pub async fn reconnect(job: &Job) {
    let (hostname, _) = translate::hostname(&job.pod, &job.site.domain);
    match connect(job, &hostname).await {
        Ok(addresses) if addresses == job.addresses => {}
        Ok(addresses) => {
            tracing::error!(pod = ?job.pod.metadata.name, had = ?job.addresses, has = ?addresses, "a running pod's addresses changed");
        }
        Err(error) => {
            tracing::error!(pod = ?job.pod.metadata.name, %error, "a running pod's network is not taken over");
            job.site.note(&job.pod, None, Severity::Warning, "NetworkNotReady", error.to_string()).await;
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|source| Error::Io { doing: "write", path: path.to_owned(), source })
}

async fn volumes(job: &Job, tokens: bool) -> Result<Option<Timestamp>, VolumeError> {
    let (site, pod) = (&job.site, &*job.pod);
    let snapshot = site.informer.snapshot();
    let setup = Setup {
        pod,
        room: &site.room(pod),
        objects: Objects { snapshot: &snapshot, namespace: pod.metadata.namespace.as_deref().unwrap_or_default() },
        facts: &site.facts(&job.addresses),
        client: &*site.client,
        ground: &*site.ground,
        now: site.now(),
        tokens,
    };
    setup.all().await
}

pub async fn refresh(job: &Job, tokens: bool) -> Event {
    match volumes(job, tokens).await {
        Ok(refresh) => Event::Refreshed { refresh },
        Err(error) => {
            job.site.note(&job.pod, None, Severity::Warning, "FailedMount", error.to_string()).await;
            Event::RefreshFailed
        }
    }
}
