//! The API server's front: who asks, whether they may, what they ask for, and the answer's bytes.
//!
//! Owns TLS and the cluster's certificates, HTTP, authentication, authorization, discovery, OpenAPI, and the way to kubelets. Never knows
//! what a Pod's fields mean: rows and verbs are the registry's. Start reading at [`server`].
//!
//! ```text
//! server::listen ─▶ TLS ─▶ authn ─▶ authz ─▶ wire (path, body) ─▶ backend (the registry) ─▶ http (answer)
//!                                     ▲        ├▶ describe · review
//!              server::InProcess ─────┘        ├▶ proxy ─▶ a node's kubelet
//!                                             └▶ webhook ◀─ (the registry's admission)
//! ```
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod backend;
pub mod clock;
pub mod describe;
pub mod document;
#[cfg(test)]
mod fixture;
pub mod flow;
pub mod http;
mod kept;
pub mod pki;
pub mod proxy;
pub mod reach;
pub mod registry;
pub mod review;
pub mod server;
pub mod tls;
pub mod webhook;
pub mod wire;
