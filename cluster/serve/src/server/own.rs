//! Paths below `/kedge`, which upstream has not: authorized as all paths are, answered by whoever put the server together.

use std::fs::File;
use std::sync::Arc;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use http::Response;
use http::header::{CONTENT_DISPOSITION, HeaderValue};
use kedge_api::Status;
use serde_json::Value;
use tokio_util::io::ReaderStream;

use crate::http::respond::{self, Body};
use crate::wire::media::Accepted;

const CHUNK: usize = 64 * 1024;

pub enum OwnAnswer {
    Value(Value),
    /// The rest of a file, under a name that a client may keep it by.
    File {
        name: String,
        file: File,
    },
}

#[async_trait]
pub trait Own: Send + Sync + 'static {
    /// `verb` as roles have it, `path` behind `/kedge/`; `None` where there is nothing of that name.
    async fn answer(&self, verb: &str, path: &[&str]) -> Option<Result<OwnAnswer, Status>>;
}

/// Whoever knows the path first answers.
#[async_trait]
impl Own for Vec<Arc<dyn Own>> {
    async fn answer(&self, verb: &str, path: &[&str]) -> Option<Result<OwnAnswer, Status>> {
        for own in self {
            if let Some(answer) = own.answer(verb, path).await {
                return Some(answer);
            }
        }
        None
    }
}

pub(super) async fn answer(own: &dyn Own, verb: &str, path: &str) -> Result<Response<Body>, Status> {
    let path: Vec<&str> = path.split('/').collect();
    match own.answer(verb, &path).await.transpose()? {
        None => Ok(respond::page_not_found()),
        Some(OwnAnswer::Value(value)) => Ok(respond::value(200, &value, Accepted::JSON, false)),
        Some(OwnAnswer::File { name, file }) => {
            let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK);
            let body = respond::stream(chunks.into_stream());
            let mut response = respond::respond(200, "application/octet-stream", body);
            if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
                response.headers_mut().insert(CONTENT_DISPOSITION, value);
            }
            Ok(response)
        }
    }
}
