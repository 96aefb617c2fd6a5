//! The controllers end to end, against a cluster in memory.
#![forbid(unsafe_code)]

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod workloads;
#[cfg(test)]
mod world;
