//! Containers on one Linux machine: create, start, exec, kill, remove, their logs, images and cgroups.
//!
//! Owns: `/run/kedge/containers`, `/run/kedge/ns`, the cgroup directories it is told to make, and every wait for a pid.
//! Never knows: what a Pod is, what Kubernetes is, how a network is attached. Labels are carried and never read.
//!
//! ```text
//! Runtime::create ─▶ spec::config (pure) ─▶ helper (own process, libcontainer) ─▶ container init = child of this process
//! Runtime::start  ─▶ the init's notify socket ─▶ execve in the container
//! reaper          ─▶ exit record on tmpfs ─▶ ContainerEvent::Exited
//! ```
//! Start reading at [`door`], then `engine`.

pub mod cgroup;
pub mod container;
pub mod door;
pub mod engine;
pub mod error;
pub mod helper;
pub mod images;
pub mod logs;
pub mod overlay;
pub mod reaper;
pub mod sandbox;
pub mod session;
pub mod spec;
mod sys;

pub use container::{ContainerSpec, LogLimit, Mount, Namespace, Namespaces, Resources, Rlimit, Rootfs, User};
pub use door::{ContainerEvent, ContainerState, Exit, Runtime, Status};
pub use error::Error;
pub use session::{ExecReader, ExecSession, ExecSpec, ExecWriter, Resizer};
