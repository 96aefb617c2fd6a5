//! What the door's operations can fail with: the failures of the engines behind it.

use std::io;
use std::path::PathBuf;

use crate::{HostPort, address, ipam, link, nft};

/// Why an attachment or a service table could not be made real.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("attachment id `{0}` is empty, too long, or has characters that cannot be in a file name")]
    BadId(String),
    #[error("host port {}/{} is in use by `{by}`", .port.host_port, .port.proto.name())]
    HostPortInUse { port: HostPort, by: String },
    #[error("cannot {action} {path}: {source}")]
    Record { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the thread that commits was interrupted: {0}")]
    Interrupted(String),
    #[error(transparent)]
    Link(#[from] link::Error),
    #[error(transparent)]
    Addresses(#[from] ipam::Error),
    #[error(transparent)]
    Rules(#[from] nft::Error),
    #[error(transparent)]
    Range(#[from] address::ParseError),
}
