//! The short-lived process in which libcontainer runs, and the one module that knows about it.
//!
//! libcontainer clones and then runs Rust in the child, and changes working directory, dumpability and OOM score of the whole
//! process: in a process with threads it hangs and races. So this program executes itself again as `kedge runtime-helper`, with one
//! thread and nothing inherited, once for each container created and each process run in one. The container's process is cloned as
//! a sibling (CLONE_PARENT): it is a child of the process that started the helper, which alone can wait for it.
//!
//! ```text
//!  this process                                 helper (single-threaded)
//!  client::Helpers::call ─ Request + fds ─▶ main ─ container::create ─▶ clone ─▶ clone ─▶ container's init
//!        reaper.hold                            │   container::exec                          command::Payload
//!        Reply + fds ◀──────────────────────────┘
//! ```
//! Request and reply are one message each on a socket pair (the helper's standard input), descriptors beside them.

mod client;
mod command;
mod container;
mod root;
mod trace;
mod wire;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use client::{Called, Helpers};

use crate::sys;

/// How the process is told to be the helper: its first argument.
pub const ARGUMENT: &str = "runtime-helper";

/// The id by which libcontainer knows every container: its files are in `BUNDLE/oci`, so that paths of sockets stay short.
pub(crate) const OCI_ID: &str = "oci";

/// Descriptors beside it: without a terminal standard input, output and error; then, for `Create`, the start report's.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Makes the container whose `config.json` is in `bundle`. With a terminal, its other end comes back beside the reply.
    Create { bundle: PathBuf, overlay: Option<Overlay>, tty: bool },
    /// Runs what the file `process` says (an OCI `process` object).
    Exec { bundle: PathBuf, process: PathBuf, tty: bool },
}

/// The root file system to be mounted, and a directory to be made in it when it is missing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overlay {
    pub options: String,
    pub cwd: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    Done { pid: i32 },
    Failed { reason: String },
}

/// The helper's whole program. To be called from `main` before any thread is started, when the first argument is [`ARGUMENT`].
/// Returns the process' exit code; what went wrong is in the reply.
pub fn main() -> u8 {
    sys::close_inherited();
    let trace = trace::install();
    let (reply, fds) = match wire::receive::<Request>(rustix::stdio::stdin()) {
        Ok((request, fds)) => carry_out(request, fds, &trace),
        Err(error) => (Reply::Failed { reason: format!("read the request: {error}") }, None),
    };
    let code = u8::from(matches!(reply, Reply::Failed { .. }));
    match wire::send(rustix::stdio::stdin(), &reply, fds.as_slice()) {
        Ok(()) => code,
        Err(_) => 2,
    }
}

fn carry_out(request: Request, fds: Vec<OwnedFd>, trace: &trace::Trace) -> (Reply, Option<OwnedFd>) {
    let done = match request {
        Request::Create { bundle, overlay, tty } => container::create(&bundle, overlay.as_ref(), tty, fds),
        Request::Exec { bundle, process, tty } => container::exec(&bundle, &process, tty, fds),
    };
    match done {
        Ok((pid, terminal)) => (Reply::Done { pid }, terminal),
        // What was traced first is nearest to the cause; libcontainer's own errors name the step only.
        Err(error) => (Reply::Failed { reason: wire::cut(trace.first().unwrap_or_else(|| error.to_string())) }, None),
    }
}
