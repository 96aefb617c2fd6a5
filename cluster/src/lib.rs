//! Kubernetes in this process: puts store, registry, API server, controllers, scheduler and node agent together.
//!
//! Owns how the rooms of `cluster/` are connected. Invariant: never knows that it runs in PID 1, nor what supervises it. Start reading
//! at [`ControlPlane::open`].
//!
//! ```text
//! Settings ─▶ ControlPlane::open ─▶ serve · follow_addresses · controllers · scheduler     (one service each)
//! Node::open ─▶ dns · agent ─▶ runtime, net                                               (one service each)
//! ```
#![forbid(unsafe_code)]

mod control_plane;
mod encryption;
mod kubernetes_service;
mod node;
mod own_node;
mod settings;
pub mod snapshots;

pub use control_plane::{ControlPlane, Error};
pub use http::Method;
pub use k8s_openapi::api::core::v1::Taint;
pub use kedge_api::metrics;
pub use kedge_net::IpNet;
pub use kedge_node::Host;
pub use kedge_serve::audit::log::LogOptions;
pub use kedge_serve::reach::Error as AdminError;
pub use kedge_serve::reach::admin::Admin;
pub use kedge_store::Summary;
pub use node::{Node, NodeError, NodeOptions};
pub use settings::{Access, AuditSettings, Encryption, Given, Rules, Settings};
