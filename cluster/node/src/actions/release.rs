//! Giving back what a pod stood on.

use std::time::Duration;

use kedge_api::event::Severity;

use super::Job;
use crate::pod::Event;
use crate::translate::container;
use crate::{site::Site, volumes};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Tries until everything is given back: a pod whose remains stay must not be told gone.
pub async fn release(job: &Job) -> Event {
    let mut pause = FIRST_PAUSE;
    while let Err(error) = once(job).await {
        tracing::warn!(pod = ?job.pod.metadata.name, namespace = ?job.pod.metadata.namespace, %error, "remains of a pod cannot be removed yet");
        job.site.note(&job.pod, None, Severity::Warning, "FailedKillPod", format!("error killing pod: {error}")).await;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
    Event::Released
}

async fn once(job: &Job) -> Result<(), String> {
    let site = &job.site;
    let cgroup: Vec<String> = job.pod.spec.iter().map(|spec| container::pod_cgroup(&job.pod, spec)).collect();
    remove(site, job.uid(), &cgroup).await?;
    volumes::remove(&site.room(&job.pod), &*site.ground).map_err(|e| e.to_string())
}

/// Containers, network, namespaces and cgroups of a pod's uid, whatever there is of them.
pub async fn remove(site: &Site, uid: &str, cgroups: &[String]) -> Result<(), String> {
    let own = |id: &str| container::parse_id(id).is_some_and(|(prefix, _, _)| prefix == uid.replace('-', ""));
    for state in site.runtime.list().into_iter().filter(|s| own(&s.id)) {
        site.runtime.remove(&state.id).await.map_err(|e| e.to_string())?;
    }
    site.network.detach(uid).await.map_err(|e| e.to_string())?;
    site.ground.remove_sandbox(uid).await.map_err(|e| e.to_string())?;
    for cgroup in cgroups {
        site.ground.remove_cgroup(cgroup).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Removes a directory with all below; what is not there is not an error, and what stays is told.
pub fn remove_dir(path: &std::path::Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "directory of a pod is not removed");
        }
        Ok(()) | Err(_) => {}
    }
}
