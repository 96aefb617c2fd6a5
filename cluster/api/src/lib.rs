//! The types at Kubernetes' doors: objects, keys, requests, answers, selectors, quantities, the resource table's row.
//!
//! Owns what two rooms of `cluster/` both have to say. Invariant: no HTTP, no SQLite, no Linux.
//! Start reading at [`request`] (what comes in), then [`snapshot`] (what controllers, scheduler and agent see).
//!
//! ```text
//! serve ──Request──▶ registry ──Change──▶ store ──Event──▶ watch ──Snapshot──▶ control · schedule · node
//!   ▲                                                                             │
//!   └──────────────────────────────── Client::call(Request) ◀────────────────────┘
//! ```
#![forbid(unsafe_code)]

pub mod client;
pub mod event;
pub mod findings;
pub mod groups;
pub mod metrics;
pub mod object;
pub mod placement;
pub mod quantity;
pub mod quota;
pub mod rbac;
pub mod request;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod snapshot;
pub mod status;

pub use client::{Client, ClientExt, User};
pub use object::{Key, Object, Revision};
pub use request::{Answer, Body, Options, PatchType, Request, Target};
pub use resource::{GroupResource, Resource, Verb};
pub use snapshot::{Change, Informer, Snapshot};
pub use status::{Reason, Status};
