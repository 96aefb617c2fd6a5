//! Logs of containers: which file, what of it, and what comes later.

pub mod entries;
pub mod follow;
pub mod reader;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::Pod;
use kedge_api::Key;
use kedge_api::resource::known::PODS;
use tokio::sync::mpsc;

use super::route::{Container, LogOptions};
use super::{Body, text};
use crate::site::Site;

/// Chunks on their way to one client.
const QUEUE: usize = 4;

/// Why there is no log, as upstream's kubelet tells it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    #[error("pod {0:?} not found")]
    Pod(String),
    #[error("container {0:?} not found in pod {1:?}")]
    Container(String, String),
    #[error("container {0:?} in pod {1:?} is waiting to start: {2}")]
    Waiting(String, String, String),
    #[error("previous terminated container {0:?} in pod {1:?} not found")]
    Previous(String, String),
}

impl Missing {
    fn code(&self) -> StatusCode {
        match self {
            Self::Pod(_) => StatusCode::NOT_FOUND,
            Self::Container(..) | Self::Waiting(..) | Self::Previous(..) => StatusCode::BAD_REQUEST,
        }
    }
}

/// The log files of a container by attempt, newest last.
fn attempts(dir: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    let mut all: Vec<u32> = names.filter_map(|n| n.strip_suffix(".log")?.parse().ok()).collect();
    all.sort_unstable();
    all
}

/// A log, and the container that writes it.
struct Found {
    path: PathBuf,
    id: String,
}

fn find(site: &Site, container: &Container, previous: bool) -> Result<Found, Missing> {
    let Container { namespace, pod: pod_name, name } = container;
    let snapshot = site.informer.snapshot();
    let object = snapshot.get(&Key::new(PODS, namespace, pod_name));
    let pod = object.and_then(|o| o.pod().ok()).ok_or_else(|| Missing::Pod(pod_name.clone()))?;
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default().iter().position(|c| c.name == *name);
    let main = spec.and_then(|s| s.containers.iter().position(|c| c.name == *name));
    let slot = match (init, main) {
        (Some(i), _) => crate::pod::SlotId::Init(i),
        (None, Some(i)) => crate::pod::SlotId::Main(i),
        (None, None) => return Err(Missing::Container(name.clone(), pod_name.clone())),
    };
    let dir = site.log(&pod, name, 0);
    let attempts = attempts(dir.parent().unwrap_or(&dir));
    let chosen = if previous { attempts.iter().rev().nth(1) } else { attempts.last() };
    let Some(attempt) = chosen else {
        return Err(if previous {
            Missing::Previous(name.clone(), pod_name.clone())
        } else {
            Missing::Waiting(name.clone(), pod_name.clone(), waiting(&pod, name))
        });
    };
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let id = crate::translate::container::id(uid, slot, *attempt);
    Ok(Found { path: site.log(&pod, name, *attempt), id })
}

/// Why a container has not started, as its status says.
fn waiting(pod: &Pod, name: &str) -> String {
    let status = pod.status.as_ref();
    let main = status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let init = status.and_then(|s| s.init_container_statuses.as_deref()).unwrap_or_default();
    let waiting = main.iter().chain(init).find(|s| s.name == name).and_then(|s| s.state.as_ref()?.waiting.as_ref());
    waiting.and_then(|w| w.reason.clone()).unwrap_or_else(|| "ContainerCreating".to_owned())
}

pub async fn answer(site: &Arc<Site>, container: &Container, options: LogOptions) -> Response<Body> {
    let found = match find(site, container, options.previous) {
        Ok(found) => found,
        Err(missing) => return text(missing.code(), missing.to_string()),
    };
    let (chunks, queue) = mpsc::channel::<Result<Bytes, std::io::Error>>(QUEUE);
    let now = site.now();
    // Before the file is read: no end of the container falls between.
    let source = follow::Source { events: site.runtime.subscribe(), runtime: site.runtime.clone(), id: found.id };
    tokio::spawn(async move {
        let follow = options.follow.then_some(source);
        if let Err(error) = reader::send(&found.path, &options, now, follow, &chunks).await {
            let _ = chunks.send(Err(error)).await;
        }
    });
    let frames = futures::stream::unfold(queue, |mut queue| async move { Some((queue.recv().await?, queue)) });
    let mut response = Response::new(StreamBody::new(frames.map(|chunk| chunk.map(Frame::data))).boxed_unsync());
    let kind = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}
