//! The controllers: each brings the cluster one step nearer to what its objects ask for.
//!
//! Owns the decisions of all workload and cluster controllers, and one loop that runs them. Invariant: never learns how an object is
//! stored or served; it reads [`kedge_api::Snapshot`]s and writes through [`kedge_api::Client`].
//! Start reading at [`controller::Controller`], then [`runner`], then one controller, e.g. [`replicaset`].
#![forbid(unsafe_code)]

pub mod act;
pub mod controller;
pub mod deployment;
mod hash;
mod owner;
mod pods;
pub mod queue;
pub mod replicaset;
pub mod runner;
