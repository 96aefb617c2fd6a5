//! The node agent: runs the pods that are bound to this node and tells the API how they fare; serves the kubelet's API.
//!
//! Owns: the Node object and its Lease, the status of the node's pods, `/var/lib/kedge/{pods,logs}`, `/run/kedge/pods`, port 10250.
//! Never knows: how a container or a network is made (runtime, net), how objects are stored or served.
//! Invariant: only [`translate`], [`services`] and [`dns`] turn Kubernetes objects into values of runtime and net.
//!
//! ```text
//! Informer ─▶ agent ─▶ worker (one task a pod) ─▶ pod::plan (pure) ─▶ actions ─▶ translate ─▶ Runtime, Network
//!                │                 ▲                                                  │
//!                │                 └──────── events, results ◀────────────────────────┘
//!                ├─▶ services ─▶ Network::converge        └─▶ pod::status ─▶ Client
//!                └─▶ node (object, lease)
//! ```
//! Start reading at [`pod`], then `worker`.
#![forbid(unsafe_code)]

mod actions;
pub mod agent;
mod converge;
pub mod dns;
pub mod ground;
pub mod host;
pub mod machine;
mod node;
pub mod pod;
mod pods;
pub mod serve;
pub mod services;
pub mod site;
mod tell;
pub mod translate;
pub mod volumes;
mod worker;

pub use agent::{Agent, AgentError, AgentOptions};
pub use host::{Host, Unmanaged};
pub use machine::Machine;
pub use serve::Tls;

#[cfg(test)]
mod fake;
