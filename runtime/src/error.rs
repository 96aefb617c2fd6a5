//! What can go wrong, by operation and object.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("container {id}: {field}: {reason}")]
    Invalid { id: String, field: &'static str, reason: String },
    #[error("container {id} does not exist")]
    NotFound { id: String },
    #[error("container {id} exists already")]
    Exists { id: String },
    #[error("container {id} is {is}: it must be {must_be}")]
    State { id: String, is: &'static str, must_be: &'static str },
    #[error("create container {id}: {reason}")]
    Create { id: String, reason: String },
    #[error("start container {id}: {reason}")]
    Start { id: String, reason: String },
    #[error("exec in container {id}: {reason}")]
    Exec { id: String, reason: String },
    #[error("{doing} {path}", path = path.display())]
    Path { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{doing}")]
    System { doing: &'static str, source: io::Error },
    #[error("runtime helper: {reason}")]
    Helper { reason: String },
    #[error("exit of process {pid} was lost")]
    ExitLost { pid: u32 },
}
