//! The scheduler: finds a node for each pod that has none.
//!
//! Owns the queues of waiting pods, what each node still has room for, and the choice; never starts a pod and never learns how an
//! object is stored. Start reading at [`plugins`] (what makes a node fit and which fits best), then [`decide`], then [`run`].
//!
//! ```text
//! Informer ──change──▶ Cache ─────────────┐
//!     └──▶ Queue (active · back-off · unschedulable) ──pod──▶ decide ──node──▶ assume, bind ──▶ Scheduled
//!              ▲                                                └──none──▶ FailedScheduling, PodScheduled=False
//!              └────────── woken by changes that may help ◀──────────────────┘
//! ```
#![forbid(unsafe_code)]

mod bind;
pub mod cache;
pub mod decide;
pub mod plugins;
pub mod pod;
pub mod queue;
mod run;

pub use run::{Options, run};
